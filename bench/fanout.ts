/** `fanout`: what a delivery costs a hub when many watch one job. */
import { startRedis } from "../test/support/redis.ts";
import { nowUs } from "./clock.ts";
import type { Outgoing } from "./driver.ts";
import { Generators } from "./generators.ts";
import { Lane, openLanes, stopLanes } from "./lane.ts";
import type { Bench, Finding, Measure } from "./measure.ts";
import { alternate } from "./rounds.ts";

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
const QUICK: Size = { watchers: 1_000, sliceMs: 200 };

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
  run,
};

async function run(bench: Bench): Promise<Finding[]> {
  const { watchers, sliceMs } = bench.quick ? QUICK : FULL;
  const redis = await startRedis();
  const generators = await Generators.start(1);
  let lanes: Lane[] = [];
  try {
    const jobs = { kind: "same", job: JOB } as const;
    lanes = await openLanes([bench.ours, ...bench.peers], (system) =>
      Lane.open(system, generators, { redisUrl: redis.url }, { watchers, jobs }),
    );
    bench.say(`${lanes.length} systems with ${watchers} watchers each`);
    const byName = new Map(lanes.map((lane) => [lane.name, new FanoutLane(lane)]));
    // What runs for the first time runs slowly.
    for (const lane of byName.values()) for (const burst of [BURST, 1]) await lane.slice(burst, sliceMs);
    const found = await alternate([...byName.keys()], bench.alternations, KEYS, async (name, round) => {
      const lane = byName.get(name) as FanoutLane;
      const figures = {
        fanout: await lane.slice(BURST, sliceMs),
        fanout_single: await lane.slice(1, sliceMs),
      };
      const [burst, single] = [figures.fanout, figures.fanout_single].map((us) => us.toFixed(2));
      bench.say(`${round + 1}: ${name} ${burst} µs in bursts, ${single} µs one by one`);
      return figures;
    });
    return KEYS.map((key) => ({ key, rounds: found[key] }));
  } finally {
    await generators.stop();
    await stopLanes(lanes);
    await redis.stop();
  }
}

class FanoutLane {
  readonly #lane: Lane;
  /** Number of the last event. */
  #last = 0;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /**
   * Publishes of so many events, each when all watchers have the one before, for so long; µs per delivery. A generator
   * that is slow makes a slice of fewer publishes, and does not change what one costs.
   */
  async slice(burst: number, ms: number): Promise<number> {
    const { group, publisher, name } = this.#lane;
    await group.reset();
    const cpu = this.#lane.cpu();
    const end = performance.now() + ms;
    let published = 0;
    do {
      published += burst;
      const arrived = group.waitFor(published, ARRIVAL_LIMIT_MS);
      await publisher.publish(JOB, this.#events(burst));
      if (!(await arrived)) throw new Error(`${name}: not everybody has got everything`);
    } while (performance.now() < end);
    return cpu.spentUs() / (published * group.watchers);
  }

  #events(count: number): Outgoing[] {
    const sentUs = nowUs();
    return Array.from({ length: count }, () => ({ n: ++this.#last, sentUs }));
  }
}
