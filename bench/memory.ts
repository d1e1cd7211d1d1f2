/** `memory`: what an idle watcher costs. */
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { startRedis } from "../test/support/redis.ts";
import { until } from "../test/support/until.ts";
import { nowUs } from "./clock.ts";
import type { Endpoint } from "./driver.ts";
import { Generators, type Group } from "./generators.ts";
import type { Bench, Finding, Measure, Round } from "./measure.ts";
import type { WatchRequest } from "./orders.ts";
import { residentBytes } from "./processes.ts";
import { withStops } from "./stops.ts";
import { endpointsOf, type RunningSystem, type System, startAll } from "./system.ts";

const KB = 1_024;
/** A process may have 20 000 open files. */
const GENERATORS = 2;
/** Each watcher is on one of them, in turn. */
const JOBS = Array.from({ length: 100 }, (_, i) => `memory-${i + 1}`);
/** Until those who have come are idle: what is told of their coming is told once a second. */
const SETTLE_MS = 1_200;

/** Fewer say a little less: what a heap grows by at first is shared by all of them. */
const WATCHERS = 5_000;
const QUICK_WATCHERS = 1_500;
/** Connected and gone before the base is taken: what the first connections load stays. */
const WARM = 500;
/** Each starts every system anew; figures differ by a few per cent only, and a round takes half a minute. */
const ROUNDS = 5;
const QUICK_ROUNDS = 1;

export const memory: Measure = {
  name: "memory",
  targets: [
    {
      key: "memory",
      title:
        "resident memory per idle watcher, 5 000 (quick: 1 500) of one job each, after two collections, KB",
      target: 1.1,
    },
  ],
  run,
};

async function run(bench: Bench): Promise<Finding[]> {
  const count = Math.min(bench.quick ? QUICK_ROUNDS : ROUNDS, bench.alternations);
  const watchers = bench.quick ? QUICK_WATCHERS : WATCHERS;
  return withStops(async (stops) => {
    const redis = await startRedis();
    stops.add(() => redis.stop());
    const generators = await Generators.start(GENERATORS);
    stops.add(() => generators.stop());
    const rounds: Round[] = [];
    while (rounds.length < count) {
      const found = await round([bench.ours, ...bench.peers], watchers, generators, redis.url);
      rounds.push(found);
      const texts = Object.entries(found).map(
        ([name, kilobytes]) => `${name} ${kilobytes?.toFixed(2) ?? "–"}`,
      );
      bench.say(`${rounds.length}: ${texts.join(", ")} KB`);
    }
    return [{ key: "memory", rounds }];
  });
}

/** All systems side by side: memory does not mind, and everybody settles at once. */
function round(
  systems: readonly System[],
  watchers: number,
  generators: Generators,
  redisUrl: string,
): Promise<Round> {
  return withStops(async (stops) => {
    const all: IdleSystem[] = [];
    const found: Round = {};
    for (const running of await startAll(systems, { redisUrl }, stops)) {
      if (await collects(running)) all.push(new IdleSystem(running, generators));
      else found[running.system.name] = undefined;
    }
    for (const each of all) await each.warm(WARM);
    await sleep(SETTLE_MS);
    for (const each of all) await each.takeBase();
    for (const each of all) await each.connect(watchers);
    await sleep(SETTLE_MS);
    for (const each of all) found[each.name] = (await each.grown()) / watchers / KB;
    for (const each of all) await each.disconnect();
    return found;
  });
}

class IdleSystem {
  readonly name: string;
  readonly #running: RunningSystem;
  readonly #generators: Generators;
  readonly #watch: Pick<WatchRequest, "driver" | "targets" | "jobs">;
  #base = 0;
  #group: Group | undefined;

  constructor(running: RunningSystem, generators: Generators) {
    this.name = running.system.name;
    this.#running = running;
    this.#generators = generators;
    this.#watch = {
      driver: running.system.driver,
      targets: endpointsOf(running),
      jobs: { kind: "spread", jobs: JOBS, perJob: 1 },
    };
  }

  /** Makes the jobs, and has so many watchers come and go. */
  async warm(watchers: number): Promise<void> {
    const { driver, targets } = this.#watch;
    const publisher = await this.#generators.publisher({ driver, target: targets[0] as Endpoint });
    for (const job of JOBS) await publisher.publish(job, [{ n: 1, sentUs: nowUs() }]);
    const before = this.#openFiles();
    publisher.close();
    await this.connect(watchers);
    await this.disconnect();
    await until(() => this.#openFiles() <= before);
  }

  async takeBase(): Promise<void> {
    this.#base = await this.#resident();
  }

  async connect(watchers: number): Promise<void> {
    this.#group = await this.#generators.watch({ ...this.#watch, watchers });
  }

  async disconnect(): Promise<void> {
    await this.#group?.close();
    this.#group = undefined;
  }

  /** Bytes since the base was taken. */
  async grown(): Promise<number> {
    return (await this.#resident()) - this.#base;
  }

  /** Without garbage. */
  async #resident(): Promise<number> {
    await this.#running.collect();
    return this.#running.servers.reduce((sum, { pid }) => sum + residentBytes(pid), 0);
  }

  #openFiles(): number {
    return this.#running.servers.reduce((sum, { pid }) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
  }
}

/** External systems cannot be told to. */
async function collects(running: RunningSystem): Promise<boolean> {
  try {
    await running.collect();
    return true;
  } catch {
    return false;
  }
}
