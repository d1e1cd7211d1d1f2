/**
 * Everybody comes back at once: the hub of all watchers is killed, events are published by the other hub, and the
 * watchers go there with the back-off of Socket.IO's own clients (0.5 to 1.5 s, which is part of the time) and resume.
 */
import { Redis } from "ioredis";
import { HubProcess } from "../test/cluster/hub-process.ts";
import { startRedis } from "../test/support/redis.ts";
import { nowUs } from "./clock.ts";
import type { Outgoing } from "./driver.ts";
import { Generators, type Group, generatorLimit } from "./generators.ts";
import { Monitor, mostReads, readsPerWindow } from "./log-reads.ts";
import type { Bench, Finding, Measure, Round } from "./measure.ts";
import { CpuClock } from "./processes.ts";
import { median } from "./statistics.ts";
import { type Stops, settled, withStops } from "./stops.ts";
import type { System } from "./system.ts";
import { hubEnv } from "./systems.ts";

interface Size {
  watchers: number;
  jobs: number;
  generators: number;
  rounds(alternations: number): number;
}

const FULL: Size = { watchers: 5_000, jobs: 50, generators: 2, rounds: (alternations) => alternations };
/** Two seconds, most of them the back-off. */
const QUICK: Size = { watchers: 500, jobs: 10, generators: 1, rounds: () => 1 };
const BEHIND = 100;
const BATCH = 50;
/** What the hub promises: reads of a feed within this share one. */
const WINDOW_MS = 50;
const TARGET_S = 5;
/** Who has not caught up by then counts as if then. */
const LIMIT_S = 30;

const TARGETS = [
  {
    key: "storm",
    title:
      "5 000 watchers (quick: 500) after kill -9 of their hub, 100 events behind: until each has all, p99, s",
    target: TARGET_S,
    kind: "absolute",
  },
  {
    key: "storm_whole",
    title: "share of the events that came to each of them, once and in order",
    target: 1,
    kind: "absolute",
    higherIsBetter: true,
  },
  {
    key: "storm_reads",
    title: "log reads of the job with most of them, for each 50 ms",
    target: 1,
    kind: "absolute",
  },
] as const;

export const storm: Measure = { name: "storm", targets: TARGETS, run };

/** What one storm has found. */
export interface Storm {
  /** Whether everybody has caught up. */
  complete: boolean;
  p50S: number;
  p99S: number;
  whole: number;
  reads: number;
  /** Most reads of a job in any 50 ms. */
  most: number;
  /** Share of a core that the hub took to which all came. */
  cpu: number;
  /** Why the generators were the limit, if so. */
  limit: string | undefined;
}

function run(bench: Bench): Promise<Finding[]> {
  return withStops(async (stops) => {
    const size = bench.quick ? QUICK : FULL;
    const stage = await Stage.open(bench, size, stops);
    const storms: Storm[] = [];
    const rounds = size.rounds(bench.alternations);
    for (let round = 1; round <= rounds; round++) {
      const found = await stage.storm();
      storms.push(found);
      bench.say(`storm ${round} of ${rounds}: ${lineOf(found)}`);
      if (round < rounds) await stage.restart();
    }
    return findingsOf(bench.ours.name, storms);
  });
}

function lineOf({ complete, p50S, p99S, whole, most, cpu, limit }: Storm): string {
  return [
    complete ? `caught up after ${p50S.toFixed(2)} s (p50), ${p99S.toFixed(2)} s (p99)` : "not all caught up",
    whole === 1 ? "everything once and in order" : `${((1 - whole) * 100).toFixed(3)} % wrong`,
    `at most ${most} reads of a log in ${WINDOW_MS} ms`,
    `the hub took ${Math.round(cpu * 100)} % of a core`,
    ...(limit === undefined ? [] : [limit]),
  ].join(", ");
}

export function findingsOf(system: string, storms: readonly Storm[]): Finding[] {
  const rounds = (of: (storm: Storm) => number): Round[] => storms.map((each) => ({ [system]: of(each) }));
  const late = (median(storms.map(({ p99S }) => p99S)) ?? 0) > TARGET_S;
  const limit = storms.find((each) => each.limit !== undefined)?.limit;
  return [
    // Where the generators were slow and it was soon enough all the same, it was.
    { key: "storm", rounds: rounds(({ p99S }) => p99S), ...(late && limit !== undefined && { void: limit }) },
    { key: "storm_whole", rounds: rounds(({ whole }) => whole) },
    { key: "storm_reads", rounds: rounds(({ reads }) => reads) },
  ];
}

/** Two hubs, and everybody on one of them. */
class Stage {
  readonly #ours: System;
  readonly #size: Size;
  readonly #redis: Redis;
  readonly #hubs: readonly HubProcess[];
  readonly #generators: Generators;
  readonly #jobs: readonly string[];
  #group!: Group;
  /** Whose turn it is to be killed. */
  #victim = 0;
  /** Number of each job's last event. */
  #n = 0;

  private constructor(
    { ours }: Bench,
    size: Size,
    redis: Redis,
    hubs: readonly HubProcess[],
    generators: Generators,
  ) {
    this.#ours = ours;
    this.#size = size;
    this.#redis = redis;
    this.#hubs = hubs;
    this.#generators = generators;
    this.#jobs = Array.from({ length: size.jobs }, (_, i) => `storm-${i}`);
  }

  static async open(bench: Bench, size: Size, stops: Stops): Promise<Stage> {
    const server = await startRedis();
    stops.add(() => server.stop());
    const redis = new Redis(server.url);
    stops.add(() => redis.disconnect());
    const env = hubEnv(server.url);
    const hubs = await Promise.all(
      ["hub-1", "hub-2"].map((name) => HubProcess.create({ build: bench.build, name, env })),
    );
    for (const hub of hubs) stops.add(() => hub.kill());
    const starting = Generators.start(size.generators, bench.say);
    stops.add(async () => (await starting).stop());
    await settled([starting, ...hubs.map((hub) => hub.start())]);
    const stage = new Stage(bench, size, redis, hubs, await starting);
    await stage.#fill(bench.say);
    return stage;
  }

  async #fill(say: Bench["say"]): Promise<void> {
    const { watchers, jobs } = this.#size;
    say(`${watchers} watchers of ${jobs} jobs come`);
    const [first, second] = this.#hubs as [HubProcess, HubProcess];
    this.#group = await this.#generators.watch({
      ...{ driver: this.#ours.driver, targets: [{ url: first.url }], others: [second.url], reconnect: true },
      ...{ watchers, jobs: { kind: "spread", jobs: this.#jobs, perJob: watchers / jobs } },
    });
    await this.#publish(first, 1, nowUs());
    if (!(await this.#group.waitFor(1, LIMIT_S * 1_000)))
      throw new Error("not everybody got the first event");
  }

  async storm(): Promise<Storm> {
    const group = this.#group;
    const other = this.#hubs[1 - this.#victim] as HubProcess;
    await group.reset();
    const monitor = await Monitor.start(this.#redis);
    const cpu = new CpuClock([other.pid as number]);
    let reads: ReadonlyMap<string, readonly number[]>;
    let complete: boolean;
    const killedUs = nowUs();
    try {
      await this.#hubs[this.#victim]?.kill();
      await this.#publish(other, BEHIND, killedUs);
      complete = await group.waitFor(BEHIND, LIMIT_S * 1_000);
    } finally {
      reads = await monitor.stop();
    }
    const [cpuUs, tookUs] = [cpu.spentUs(), nowUs() - killedUs];
    const times = [...reads.values()];
    const lasts = await group.lasts(killedUs);
    const { lost, doubled, misordered, processes } = await group.figures(this.#n);
    const seconds = (share: number) => (complete ? lasts.percentile(share) / 1_000_000 : LIMIT_S);
    return {
      ...{ complete, p50S: seconds(50), p99S: seconds(99), cpu: cpuUs / tookUs },
      whole: 1 - (lost + doubled + misordered) / (this.#size.watchers * BEHIND),
      reads: Math.max(0, ...times.map((each) => readsPerWindow(each, WINDOW_MS))),
      most: Math.max(0, ...times.map((each) => mostReads(each, WINDOW_MS))),
      limit: generatorLimit(processes),
    };
  }

  /** The hub that was killed serves again, and the other one is next. */
  async restart(): Promise<void> {
    await this.#hubs[this.#victim]?.start();
    this.#victim = 1 - this.#victim;
  }

  async #publish(hub: HubProcess, count: number, sentUs: number): Promise<void> {
    const publisher = await this.#generators.publisher({
      driver: this.#ours.driver,
      target: { url: hub.url },
    });
    const numbers = Array.from({ length: count }, (_, i): Outgoing => ({ n: this.#n + 1 + i, sentUs }));
    this.#n += count;
    const publishAll = async (job: string) => {
      for (let i = 0; i < count; i += BATCH) await publisher.publish(job, numbers.slice(i, i + BATCH));
    };
    await Promise.all(this.#jobs.map(publishAll));
    publisher.close();
  }
}
