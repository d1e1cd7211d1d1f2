/** Whether a hub hears of a job that nobody watches there: everything that Redis tells each hub goes by a counter. */
import { HubProcess } from "../test/cluster/hub-process.ts";
import { startRedis } from "../test/support/redis.ts";
import { CountingRelay } from "./counting-relay.ts";
import { Generators } from "./generators.ts";
import type { Bench } from "./measure.ts";
import { type Stops, withStops } from "./stops.ts";
import { hubEnv } from "./systems.ts";

/** A name that nothing else has. */
const JOB = "a-job-that-is-watched-elsewhere";
const PER_SECOND = 100;
const ARRIVE_MS = 5_000;

export interface Apart {
  events: number;
  /** How often Redis has named the job to the hub that has its watchers: each event does at least once. */
  watching: number;
  /** The same to the hub that has none. */
  other: number;
}

/** The job's trainer and watchers are on the one hub, and a watcher of another job on the other. */
export function apart(bench: Bench, seconds: number): Promise<Apart> {
  return withStops(async (stops) => {
    const redis = await startRedis();
    stops.add(() => redis.stop());
    const [watching, other] = await Promise.all([
      hubBehindCounter(bench, redis.port, "hub-1", stops),
      hubBehindCounter(bench, redis.port, "hub-2", stops),
    ]);
    const generators = await Generators.start(1, bench.say);
    stops.add(() => generators.stop());
    const { driver } = bench.ours;
    const watch = (url: string, job: string) =>
      generators.watch({ driver, targets: [{ url }], watchers: 10, jobs: { kind: "same", job } });
    const group = await watch(watching.url, JOB);
    await watch(other.url, "another-job");
    const { sent } = await generators.schedule({
      ...{ driver, targets: [{ url: watching.url }], jobs: [JOB] },
      ...{ perSecond: PER_SECOND, pattern: "even", seconds },
    });
    if (!(await group.waitFor(sent, ARRIVE_MS))) throw new Error("the watchers did not get every event");
    return { events: sent, watching: watching.relay.mentions, other: other.relay.mentions };
  });
}

async function hubBehindCounter(
  { build }: Bench,
  redisPort: number,
  name: string,
  stops: Stops,
): Promise<{ url: string; relay: CountingRelay }> {
  const relay = await CountingRelay.open(redisPort, JOB);
  stops.add(() => relay.close());
  const env = hubEnv(`redis://127.0.0.1:${relay.port}`);
  const hub = await HubProcess.create({ build, name, env });
  stops.add(() => hub.kill());
  await hub.start();
  return { url: hub.url, relay };
}
