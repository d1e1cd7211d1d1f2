/**
 * How much one core of a hub takes in: events that were acknowledged and are stored, for each second of its CPU. Ten
 * trainers publish to a job each, with ids, and do not wait for one answer before they send the next.
 */
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { Keys } from "../src/redis/keys.ts";
import { AskedProcess } from "../test/support/asked.ts";
import { startRedis } from "../test/support/redis.ts";
import type { FloodCounts, FloodOrders, FloodRequest } from "./flood.ts";
import type { Bench, Finding, Measure, Round, Target } from "./measure.ts";
import { CpuClock } from "./processes.ts";
import { median } from "./statistics.ts";
import { type Stops, withStops } from "./stops.ts";
import type { ServerProcess } from "./system.ts";
import { TENANT } from "./token.ts";

const PROGRAM = fileURLToPath(new URL("flood.ts", import.meta.url));
const PREFIX = "bench-ingest";
const JOBS = Array.from({ length: 10 }, (_, i) => `ingest-${i}`);
const SECONDS = { full: 1, quick: 0.3 } as const;
const WARM_SECONDS = 0.5;
/** What a flood may take beyond its time. */
const MARGIN_MS = 20_000;
/** Of a core. Above it not the hub is what limits. */
const CPU_LIMIT = 0.9;

interface Way {
  readonly target: Target;
  readonly flood: Omit<FloodRequest, "seconds">;
}

/** Publishes under way for each job; of batches fewer, because each is larger. */
const SINGLE = { batch: 1, window: 16 } as const;
const BATCH = { batch: 50, window: 2 } as const;
/** As fast as batches can go, Redis would be the limit. Events a second. */
const FAST = { log: 80_000, progress: 40_000 } as const;

const WAYS: readonly Way[] = [
  way("ingest", "log lines of 260 bytes, one a publish", 10_000, { ...SINGLE, kind: "log" }),
  way("ingest_batch", "the same, 50 a publish", 60_000, { ...BATCH, kind: "log", perSecond: FAST.log }),
  way("ingest_progress", "progress with 5 metrics, one a publish", 8_000, { ...SINGLE, kind: "progress" }),
  way("ingest_progress_batch", "the same, 50 a publish", 25_000, {
    ...BATCH,
    kind: "progress",
    perSecond: FAST.progress,
  }),
];

function way(key: string, what: string, target: number, flood: Way["flood"]): Way {
  const title = `${what}: stored and acknowledged for each second of hub CPU, events`;
  return { target: { key, title, target, kind: "absolute", higherIsBetter: true }, flood };
}

/** What one flood has found. */
export interface Flooded extends FloodCounts {
  stored: number;
  hubUs: number;
  /** Shares of a core. */
  redis: number;
  generator: number;
}

export const ingest: Measure = { name: "ingest", targets: WAYS.map(({ target }) => target), run };

function run(bench: Bench): Promise<Finding[]> {
  return withStops(async (stops) => {
    const seconds = SECONDS[bench.quick ? "quick" : "full"];
    const found = new Map<Way, Flooded[]>(WAYS.map((each) => [each, []]));
    const trainers = await Trainers.start(bench, stops);
    for (const each of WAYS) await trainers.flood({ ...each.flood, seconds: WARM_SECONDS });
    for (let round = 1; round <= bench.alternations; round++) {
      bench.say(`round ${round} of ${bench.alternations}`);
      for (const each of WAYS) found.get(each)?.push(await trainers.flood({ ...each.flood, seconds }));
    }
    return WAYS.map((each) => findingOf(each.target.key, bench.ours.name, found.get(each) ?? []));
  });
}

/** Redis, a hub, and a process that publishes to it. */
class Trainers {
  readonly #flooding: AskedProcess<FloodOrders>;
  readonly #redis: Redis;
  /** Of hub, Redis and generator. */
  readonly #cpu: CpuClock;

  private constructor(flooding: AskedProcess<FloodOrders>, redis: Redis, pids: readonly number[]) {
    this.#flooding = flooding;
    this.#redis = redis;
    this.#cpu = new CpuClock(pids);
  }

  static async start({ ours }: Bench, stops: Stops): Promise<Trainers> {
    const redis = await startRedis();
    stops.add(() => redis.stop());
    const client = new Redis(redis.url);
    stops.add(() => client.disconnect());
    const hub = await ours.start({ redisUrl: redis.url, env: { TRAINWIRE_KEY_PREFIX: PREFIX } });
    stops.add(() => hub.stop());
    const flooding = new AskedProcess<FloodOrders>("trainers", PROGRAM);
    stops.add(() => flooding.stop());
    const { url, pid } = hub.servers[0] as ServerProcess;
    await flooding.ask("open", { driver: ours.driver, target: { url }, jobs: JOBS }, MARGIN_MS);
    return new Trainers(flooding, client, [pid, redis.pid, flooding.pid]);
  }

  async flood(request: FloodRequest): Promise<Flooded> {
    const before = await this.#heads();
    const cpuBefore = this.#cpu.each();
    const started = performance.now();
    const counts = await this.#flooding.ask("flood", request, request.seconds * 1_000 + MARGIN_MS);
    const us = (performance.now() - started) * 1_000;
    const spent = this.#cpu.each().map((total, i) => total - (cpuBefore[i] as number));
    const [hubUs, redis, generator] = spent as [number, number, number];
    const stored = (await this.#heads()) - before;
    return { ...counts, stored, hubUs, redis: redis / us, generator: generator / us };
  }

  /** Events of all jobs, as Redis has them: each has a number in its job's feed. */
  async #heads(): Promise<number> {
    const keys = new Keys(PREFIX);
    const heads = await Promise.all(JOBS.map((job) => this.#redis.hget(keys.job(TENANT, job).meta, "n")));
    return heads.reduce((sum, head) => sum + Number(head ?? 0), 0);
  }
}

export function findingOf(key: string, system: string, floods: readonly Flooded[]): Finding {
  const rounds: Round[] = floods.map(({ acknowledged, stored, hubUs }) => ({
    [system]: (Math.min(acknowledged, stored) / hubUs) * 1_000_000,
  }));
  const why = faultOf(floods);
  return { key, rounds, ...(why !== undefined && { void: why }) };
}

/** Why the figures say nothing of the hub. */
function faultOf(floods: readonly Flooded[]): string | undefined {
  for (const { acknowledged, stored, refused, fault } of floods) {
    if (refused > 0) return `${refused} events were refused: ${fault}`;
    if (stored < acknowledged) return `${acknowledged} events were acknowledged, and ${stored} are stored`;
  }
  for (const name of ["redis", "generator"] as const) {
    const share = median(floods.map((flood) => flood[name])) ?? 0;
    if (share > CPU_LIMIT)
      return `${name === "redis" ? "Redis" : "the generator"} took ${Math.round(share * 100)} % of a core`;
  }
  return undefined;
}
