/** `fanout`: what a delivery costs a hub when many watch one job. */
import { startRedis } from "../test/support/redis.ts";
import { nowUs } from "./clock.ts";
import type { Endpoint, Outgoing, Publisher } from "./driver.ts";
import { Generators, type Group } from "./generators.ts";
import type { Bench, Finding, Measure } from "./measure.ts";
import { CpuClock } from "./processes.ts";
import { alternate } from "./rounds.ts";
import { type Stops, withStops } from "./stops.ts";
import { endpointsOf, type RunningSystem, startAll } from "./system.ts";

const BURST = 20;
const JOB = "fanout";
/** For what nobody publishes any more. */
const ARRIVAL_LIMIT_MS = 10_000;
const KEYS = ["fanout", "fanout_single"] as const;

interface Size {
  watchers: number;
  /** Of one system's turn, for each of the targets. */
  sliceMs: number;
}

const FULL: Size = { watchers: 1_000, sliceMs: 600 };
const QUICK: Size = { watchers: 1_000, sliceMs: 150 };

export const fanout: Measure = {
  name: "fanout",
  targets: [
    {
      key: "fanout",
      title: `hub CPU per delivery, one job, 1 000 watchers, bursts of ${BURST}, µs`,
      target: 0.25,
    },
    {
      key: "fanout_single",
      title: "hub CPU per delivery, one job, 1 000 watchers, one event a publish, µs",
      target: 1.15,
    },
  ],
  run: (bench) => withStops((stops) => run(bench, stops)),
};

async function run(bench: Bench, stops: Stops): Promise<Finding[]> {
  const { watchers, sliceMs } = bench.quick ? QUICK : FULL;
  const all = await openAll(bench, watchers, stops);
  bench.say(`${all.size} systems with ${watchers} watchers each`);
  // What runs for the first time runs slowly.
  for (const each of all.values()) for (const burst of [BURST, 1]) await each.slice(burst, sliceMs);
  const found = await alternate([...all.keys()], bench.alternations, KEYS, async (name, round) => {
    const watched = all.get(name) as WatchedSystem;
    const figures = {
      fanout: await watched.slice(BURST, sliceMs),
      fanout_single: await watched.slice(1, sliceMs),
    };
    const [burst, single] = [figures.fanout, figures.fanout_single].map((us) => us.toFixed(2));
    bench.say(`${round + 1}: ${name} ${burst} µs in bursts, ${single} µs one by one`);
    return figures;
  });
  return KEYS.map((key) => ({ key, rounds: found[key] }));
}

/** All of them stand ready at once. Watchers come when all have started: connections that compete with a start are slow. */
async function openAll(
  { ours, peers }: Bench,
  watchers: number,
  stops: Stops,
): Promise<Map<string, WatchedSystem>> {
  const redis = await startRedis();
  stops.add(() => redis.stop());
  const generators = await Generators.start(1);
  stops.add(() => generators.stop());
  const all = new Map<string, WatchedSystem>();
  for (const running of await startAll([ours, ...peers], { redisUrl: redis.url }, stops)) {
    const watched = await WatchedSystem.open(running, generators, watchers);
    stops.add(() => watched.close());
    all.set(running.system.name, watched);
  }
  return all;
}

/** One running system with its watchers and a trainer. */
class WatchedSystem {
  readonly #running: RunningSystem;
  readonly #group: Group;
  readonly #publisher: Publisher;
  /** Number of the last event. */
  #last = 0;

  private constructor(running: RunningSystem, group: Group, publisher: Publisher) {
    this.#running = running;
    this.#group = group;
    this.#publisher = publisher;
  }

  /** Resolves when everybody is connected. */
  static async open(
    running: RunningSystem,
    generators: Generators,
    watchers: number,
  ): Promise<WatchedSystem> {
    const { driver } = running.system;
    const targets = endpointsOf(running);
    const group = await generators.watch({ driver, targets, watchers, jobs: { kind: "same", job: JOB } });
    const publisher = await generators.publisher({ driver, target: targets[0] as Endpoint });
    return new WatchedSystem(running, group, publisher);
  }

  /**
   * Publishes of so many events, each when all watchers have the one before, for so long; µs per delivery. A generator
   * that is slow makes a slice of fewer publishes, and does not change what one costs.
   */
  async slice(burst: number, ms: number): Promise<number> {
    const { system, servers } = this.#running;
    const group = this.#group;
    await group.reset();
    const cpu = new CpuClock(servers.map(({ pid }) => pid));
    const end = performance.now() + ms;
    let published = 0;
    do {
      published += burst;
      const arrived = group.waitFor(published, ARRIVAL_LIMIT_MS);
      await this.#publisher.publish(JOB, this.#events(burst));
      if (!(await arrived)) throw new Error(`${system.name}: not everybody has got everything`);
    } while (performance.now() < end);
    return cpu.spentUs() / (published * group.watchers);
  }

  /** Its clients go; the system stays. */
  async close(): Promise<void> {
    this.#publisher.close();
    await this.#group.close();
  }

  #events(count: number): Outgoing[] {
    const sentUs = nowUs();
    return Array.from({ length: count }, () => ({ n: ++this.#last, sentUs }));
  }
}
