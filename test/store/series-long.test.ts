/** A long run on Redis: its curves are true, small, and no call that folds or reads them holds up the server. */
import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { SeriesBucket } from "../../src/protocol/types.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { created, FEED, JOB, log, TENANT } from "./entries.ts";
import { folding } from "./folding.ts";
import { openRedis, type RedisSubject } from "./subject.ts";

/** SERIES_STEPS=1000000 takes a minute. */
const STEPS = Number(process.env.SERIES_STEPS ?? 200_000);
const BATCH = 500;
const METRICS = Array.from({ length: 20 }, (_, i) => `train/metric_${i}`);
const MEMORY = 4 * 1_048_576;

/** Looks random, with all digits of a double. */
function valueAt(step: number, metric: number): number {
  const x = Math.sin(step * 12.9898 + metric * 78.233) * 43_758.5453;
  return x - Math.floor(x);
}

function textAt(step: number): string {
  const values = METRICS.map((name, metric) => `"${name}":${valueAt(step, metric)}`);
  return `${step + 2} {"step":${step},"metrics":{${values.join(",")}}}`;
}

function bucketAt(metric: number, from: number, count: number): SeriesBucket {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let step = from; step < from + count; step++) {
    const value = valueAt(step, metric);
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const last = from + count - 1;
  return {
    ...{ attempt: 1, first_step: from, last_step: last, min, max, last: valueAt(last, metric) },
    ...{ count, nan: 0 },
  };
}

describe("store: Redis, the curves of a long run", function () {
  this.timeout(240_000);
  let server: RedisServer;
  let subject: RedisSubject;
  before(async () => {
    server = await startRedis({ args: ["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000000"] });
    subject = await openRedis(server);
  });
  after(async () => {
    await subject.close();
    await server.stop();
  });

  it("every bucket is true, all are within 4 MB, and folding does not hold up the server", async () => {
    const keys = subject.keys.job(TENANT, JOB);
    const { series } = folding(subject.link, subject.keys);
    await subject.store.append(FEED, [log()], created());
    for (let from = 0; from < STEPS; from += BATCH) {
      const texts = Array.from({ length: BATCH }, (_, i) => textAt(from + i));
      const head = from + BATCH + 1;
      await subject.raw
        .multi()
        .rpush(keys.points, ...texts)
        .hset(keys.meta, { n: head, w: head })
        .exec();
      await series.fold(FEED);
    }
    const took = await durations();
    expect(took.length).to.be.above((STEPS / BATCH) * METRICS.length);
    const at = (share: number) => took[Math.min(took.length - 1, Math.floor(took.length * share))] as number;
    // The longest ones are those in which the machine had other things to do.
    expect(at(0.9), "µs of nine calls of ten").to.be.below(1_000);

    const answer = await subject.store.series(TENANT, JOB, {});
    expect(answer?.series.map(({ metric }) => metric)).to.deep.equal(METRICS);
    for (const [metric, { buckets }] of (answer?.series ?? []).entries()) {
      expect(buckets.length).to.be.within(LIMITS.seriesBuckets / 2, LIMITS.seriesBuckets);
      let from = 0;
      for (const bucket of buckets) {
        expect(bucket).to.deep.equal(bucketAt(metric, from, bucket.count));
        from += bucket.count;
      }
      expect(from).to.equal(STEPS);
    }
    expect(await subject.raw.llen(keys.points)).to.be.below(256);
    let bytes = 0;
    for (const key of [keys.series, keys.buckets, keys.points]) {
      bytes += (await subject.raw.memory("USAGE", key, "SAMPLES", 0)) ?? 0;
    }
    expect(bytes).to.be.below(MEMORY);
    console.log(
      `      ${STEPS} steps of ${METRICS.length} metrics: ${bytes} bytes; ${took.length} calls of ${at(0.5)} / ${at(0.99)} / ${at(0.999)} / ${at(1)} µs (p50 / p99 / p99.9 / max)`,
    );
  });

  /** Of the commands that fold, in µs, rising. */
  async function durations(): Promise<number[]> {
    const entries = (await subject.raw.slowlog("GET", -1)) as Array<[number, number, number, string[]]>;
    return entries
      .filter(([, , , [command = ""]]) => /^(evalsha|eval|exec|lrange|hmget|hgetall)$/i.test(command))
      .map(([, , micros]) => micros)
      .sort((a, b) => a - b);
  }
});
