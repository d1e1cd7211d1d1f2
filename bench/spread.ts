/** `spread`: what many jobs with a hundred watchers each cost two hubs, events coming evenly or some at once. */
import { availableParallelism } from "node:os";
import type { Bench, Finding, Measure } from "./measure.ts";
import { alternate } from "./rounds.ts";
import { type Stops, withStops } from "./stops.ts";
import { check, Limits, type Load, openTraffic, type Traffic, warm } from "./traffic.ts";

const WATCHERS_PER_JOB = 100;
const PER_SECOND = 10;
/** 100 jobs are 100 000 deliveries a second: the generator alone needs three cores for them beside hubs and Redis. */
const CORES = 8;
const JOBS = availableParallelism() >= CORES ? 100 : 20;
const QUICK_JOBS = 4;

interface Size {
  jobs: number;
  generators: number;
  /** Before the first turn, of each system and load. */
  warmSeconds: number;
  /** At a turn, while others are on the machine. */
  attempts: number;
  loads: Record<Key, Load>;
}

type Key = "spread" | "spread_burst";
const KEYS: readonly Key[] = ["spread", "spread_burst"];

const FULL: Size = {
  jobs: JOBS,
  generators: Math.ceil(JOBS / 30),
  warmSeconds: 4,
  attempts: 2,
  loads: {
    spread: { perSecond: PER_SECOND, pattern: "even", seconds: 1 },
    spread_burst: { perSecond: PER_SECOND, pattern: { burst: PER_SECOND }, seconds: 1 },
  },
};
/** Four times the rate in a quarter of the time. */
const QUICK: Size = {
  jobs: QUICK_JOBS,
  generators: 1,
  warmSeconds: 0,
  attempts: 1,
  loads: {
    spread: { perSecond: 4 * PER_SECOND, pattern: "even", seconds: 0.25 },
    spread_burst: { perSecond: 4 * PER_SECOND, pattern: { burst: PER_SECOND }, seconds: 0.25 },
  },
};

export const spread: Measure = {
  name: "spread",
  targets: [
    {
      key: "spread",
      title: `hub CPU per delivery, ${JOBS} jobs (${QUICK_JOBS} when quick) × ${WATCHERS_PER_JOB} watchers, 2 hubs, ${PER_SECOND} events/s a job evenly, µs`,
      target: 1.15,
    },
    { key: "spread_burst", title: `the same, ${PER_SECOND} at once each second, µs`, target: 0.5 },
  ],
  run: (bench) => withStops((stops) => run(bench, stops)),
};

async function run(bench: Bench, stops: Stops): Promise<Finding[]> {
  const size = bench.quick ? QUICK : FULL;
  const all = await openTraffic(bench, stops, {
    generators: size.generators,
    jobs: Array.from({ length: size.jobs }, (_, i) => `spread-${i + 1}`),
    watchersPerJob: WATCHERS_PER_JOB,
    watchAt: (instances) => instances,
    publishAt: (instances) => instances,
  });
  bench.say(`${all.size} systems with ${size.jobs} jobs and ${size.jobs * WATCHERS_PER_JOB} watchers each`);
  await warm(all.values(), Object.values(size.loads), size.warmSeconds, bench);
  const limits = new Limits(bench);
  const found = await alternate([...all.keys()], bench.alternations, KEYS, async (name, round) => {
    const figures: Partial<Record<Key, number>> = {};
    for (const key of KEYS) {
      const played = await (all.get(name) as Traffic).playUndisturbed(size.loads[key], size.attempts);
      check(played, name, bench);
      limits.add(key, name, played);
      figures[key] = played.cpuUs / played.watchers.received;
    }
    const [even, burst] = KEYS.map((key) => figures[key]?.toFixed(2));
    bench.say(`${round + 1}: ${name} ${even} µs evenly, ${burst} µs in bursts`);
    return figures;
  });
  return KEYS.map((key) => {
    const reason = limits.reason(key);
    return { key, rounds: found[key], ...(reason !== undefined && { void: reason }) };
  });
}
