/**
 * `latency`: from the trainer at one hub to watchers at another one. Rates are shares of what the reference carries when
 * events come in the same way, so that all systems have the same load and nobody is measured while it drowns.
 */
import { type Histogram, pooled } from "./histogram.ts";
import type { Bench, Finding, Measure } from "./measure.ts";
import { alternate } from "./rounds.ts";
import { type Stops, withStops } from "./stops.ts";
import {
  check,
  faultOf,
  Limits,
  type Load,
  openTraffic,
  type Played,
  type Traffic,
  warm,
} from "./traffic.ts";

const JOBS = Array.from({ length: 10 }, (_, i) => `latency-${i + 1}`);
/** 200 on one hub: more, and on two cores the generator's share grows as fast as the hub's. */
const WATCHERS_PER_JOB = 20;
const US_PER_MS = 1_000;

/** Where the ramp ends at the latest, upwards and downwards, events a second of all jobs. */
const HIGHEST_RATE = 100_000;
const LOWEST_RATE = 100;
/** What no longer counts as carrying the load. */
const SATURATED = { p99Us: 50_000, busiest: 0.95 } as const;

const BURST = 10;
type LoadName = "calm" | "rush";
const LOADS: readonly LoadName[] = ["calm", "rush"];
/** Of what the reference carries when events come in this way. */
const SHAPES: Record<LoadName, { share: number; pattern: Load["pattern"] }> = {
  calm: { share: 1 / 3, pattern: "even" },
  rush: { share: 0.9, pattern: { burst: BURST } },
};
/** System → how long its events took, of one round. */
type Distribution = Map<string, Histogram>;

interface Size {
  /** Of one system's turn, for each of the two loads. */
  seconds: number;
  /** Before the first turn, of each system and load. */
  warmSeconds: number;
  rampSeconds: number;
  /** How many of the references are asked what they carry; of these it is the better one that counts. */
  ramped: number;
  /** Events a second of all jobs that it begins with, and by what each step has more. */
  rampFrom: number;
  rampBy: number;
  /** Of a rate that seems too high: somebody else on the machine is no saturation. */
  rampAttempts: number;
  /** How often the last step of the ramp is halved. */
  halvings: number;
  /** At a turn, while others are on the machine. */
  attempts: number;
}

const FULL: Size = {
  ...{ seconds: 0.8, warmSeconds: 4, attempts: 2 },
  ...{
    rampSeconds: 0.5,
    ramped: Number.POSITIVE_INFINITY,
    rampFrom: 400,
    rampBy: 1.5,
    rampAttempts: 3,
    halvings: 2,
  },
};
const QUICK: Size = {
  ...{ seconds: 0.25, warmSeconds: 0.2, attempts: 1 },
  ...{ rampSeconds: 0.2, ramped: 1, rampFrom: 3_000, rampBy: 1.6, rampAttempts: 1, halvings: 0 },
};

const KEYS = ["latency", "latency_p99", "latency_p99_ms", "latency_burst"] as const;
type Key = (typeof KEYS)[number];

/** Which load each looks at, and where in its distribution. */
const LOOKS: Record<Key, { load: LoadName; percentile: number }> = {
  latency: { load: "calm", percentile: 50 },
  latency_p99: { load: "calm", percentile: 99 },
  latency_p99_ms: { load: "calm", percentile: 99 },
  latency_burst: { load: "rush", percentile: 99 },
};

export const latency: Measure = {
  name: "latency",
  targets: [
    {
      key: "latency",
      title: "trainer to watcher on another hub, at a third of the reference's saturation: p50, ms",
      target: 1.2,
    },
    { key: "latency_p99", title: "the same: p99, ms", target: 1.5 },
    {
      key: "latency_p99_ms",
      title: "the same, ours: p99, ms, while stored, in order and nothing lost",
      target: 10,
      kind: "absolute",
    },
    {
      key: "latency_burst",
      title: `events in bursts of ${BURST}, at 90 % of what the reference carries of them: p99, ms`,
      target: 1 / 3,
    },
  ],
  run: (bench) => withStops((stops) => run(bench, stops)),
};

async function run(bench: Bench, stops: Stops): Promise<Finding[]> {
  const size = bench.quick ? QUICK : FULL;
  const all = await openTraffic(bench, stops, {
    ...{ generators: 1, jobs: JOBS, watchersPerJob: WATCHERS_PER_JOB },
    watchAt: (instances) => instances.slice(1),
    publishAt: (instances) => instances.slice(0, 1),
  });
  const loads = {} as Record<LoadName, Load>;
  for (const load of LOADS) {
    const { share, pattern } = SHAPES[load];
    const rate = share * (await saturationOf(bench, all, pattern, size));
    loads[load] = { perSecond: rate / JOBS.length, pattern, seconds: size.seconds };
  }
  // The ramps were the references' alone.
  await warm(all.values(), Object.values(loads), size.warmSeconds, bench);
  const distributions = { calm: [] as Distribution[], rush: [] as Distribution[] };
  const limits = new Limits(bench);
  const found = await alternate([...all.keys()], bench.alternations, KEYS, async (name, round) => {
    const traffic = all.get(name) as Traffic;
    const turn = {} as Record<LoadName, Histogram>;
    const busy = {} as Record<LoadName, string>;
    for (const load of LOADS) {
      const played = await traffic.playUndisturbed(loads[load], size.attempts);
      check(played, name, bench);
      limits.add(load, name, played);
      turn[load] = played.watchers.latency;
      busy[load] = shareOf(played);
      distributions[load][round] ??= new Map();
      distributions[load][round].set(name, turn[load]);
    }
    const [calm, rush] = LOADS.map((load) => `${lineOf(turn[load])} (${busy[load]})`);
    bench.say(`${round + 1}: ${name} ${calm}, in a rush ${rush}`);
    return Object.fromEntries(
      KEYS.map((key) => [key, turn[LOOKS[key].load].percentile(LOOKS[key].percentile) / US_PER_MS]),
    );
  });
  return KEYS.map((key) => {
    const { load, percentile } = LOOKS[key];
    const reason = limits.reason(load);
    return {
      ...{ key, rounds: found[key], ...(reason !== undefined && { void: reason }) },
      pooled: pooled(found[key], distributions[load], percentile, US_PER_MS),
    };
  });
}

/** Events a second that the better of the references carries. */
async function saturationOf(
  { references, say }: Bench,
  all: ReadonlyMap<string, Traffic>,
  pattern: Load["pattern"],
  size: Size,
): Promise<number> {
  const how = pattern === "even" ? "one by one" : `in bursts of ${BURST}`;
  let most = 0;
  for (const name of references.slice(0, size.ramped)) {
    const traffic = all.get(name);
    if (!traffic) continue;
    const carried = await carriedBy(traffic, pattern, size, say);
    say(
      `${name} carries ${Math.round(carried)} events a second, ${how}, to ${WATCHERS_PER_JOB} watchers each`,
    );
    most = Math.max(most, carried);
  }
  if (most === 0) throw new Error(`no reference carries ${LOWEST_RATE} events a second`);
  return most;
}

async function carriedBy(
  traffic: Traffic,
  pattern: Load["pattern"],
  { rampSeconds, rampFrom, rampBy, rampAttempts, halvings }: Size,
  say: Bench["say"],
): Promise<number> {
  const carries = async (rate: number) => {
    const load: Load = { perSecond: rate / JOBS.length, pattern, seconds: rampSeconds };
    for (let attempt = 0; attempt < rampAttempts; attempt++) {
      const played = await traffic.play(load);
      say(
        `${traffic.name}, ${Math.round(rate)} a second: ${lineOf(played.watchers.latency)} (${shareOf(played)})`,
      );
      if (!isSaturated(played)) return true;
    }
    return false;
  };
  let [good, bad] = [0, rampFrom];
  while (bad < HIGHEST_RATE && (await carries(bad))) [good, bad] = [bad, bad * rampBy];
  // Where not even the first rate is carried, on a slow machine.
  while (good === 0 && bad / rampBy >= LOWEST_RATE) {
    if (await carries(bad / rampBy)) good = bad / rampBy;
    else bad /= rampBy;
  }
  for (let i = 0; i < halvings && good > 0; i++) {
    const middle = Math.sqrt(good * bad);
    if (await carries(middle)) good = middle;
    else bad = middle;
  }
  return good;
}

function isSaturated(played: Played): boolean {
  return (
    faultOf(played) !== undefined ||
    played.schedule.overloaded ||
    played.watchers.latency.percentile(99) >= SATURATED.p99Us ||
    played.busiest >= SATURATED.busiest
  );
}

function lineOf(histogram: Histogram): string {
  const [p50, p99] = [50, 99].map((share) => (histogram.percentile(share) / US_PER_MS).toFixed(2));
  return `p50 ${p50} ms, p99 ${p99} ms`;
}

/** Of a core: the busiest server, the generator with the watchers, the one that publishes; and what is not ours. */
function shareOf({ busiest, watchers, schedule, neighbours }: Played): string {
  const shares = [busiest, ...watchers.processes.map(({ cpu }) => cpu), schedule.process.cpu, neighbours];
  return shares.map((share) => `${Math.round(share * 100)} %`).join(", ");
}
