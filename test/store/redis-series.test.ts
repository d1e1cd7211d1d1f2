/** Curves on Redis: whenever, by whom and how far they are folded, no point is lost and none counts twice. */
import { expect } from "chai";
import { RedisStore } from "../../src/store/redis.ts";
import { Random } from "../cluster/random.ts";
import { plainRedis } from "../support/hooks.ts";
import { until } from "../support/until.ts";
import { breakable } from "./breakable.ts";
import { created, FEED, JOB, log, progress, status, TENANT } from "./entries.ts";
import { Dead, type Folding, folding } from "./folding.ts";
import { check, Run, type Told } from "./series-oracle.ts";
import { OPTIONS, openRedis, type RedisSubject } from "./subject.ts";

/** Lists that are longer are folded by the store itself; these tests want to say when. */
const BATCH = 200;

const losses = (n: number): Told[] =>
  Array.from({ length: n }, (_, step) => ({ step, metrics: { loss: 1 / (step + 1) } }));

describe("store: Redis, curves", function () {
  this.timeout(120_000);
  let subject: RedisSubject;
  beforeEach(async () => {
    subject = await openRedis(await plainRedis());
  });
  afterEach(() => subject.close());

  const keys = () => subject.keys.job(TENANT, JOB);
  const raw = () => subject.raw.llen(keys().points);
  const read = () => subject.store.series(TENANT, JOB, {});

  /** As `append` leaves them, but without beginning a fold. */
  async function push(told: readonly Told[]): Promise<void> {
    if (!(await subject.raw.exists(keys().meta))) await subject.store.append(FEED, [log()], created());
    const head = Number(await subject.raw.hget(keys().meta, "n"));
    const texts = told.map((one, i) => `${head + 1 + i} ${JSON.stringify(one)}`);
    if (texts.length > 0) await subject.raw.rpush(keys().points, ...texts);
    await subject.raw.hset(keys().meta, { n: head + told.length, w: head + told.length });
    await subject.raw.pexpireat(keys().points, (await subject.raw.hget(keys().meta, "x")) as string);
  }

  it("the store folds when there are many points, in the background", async () => {
    const run = new Run(new Random(1), 0.02);
    for (let i = 0; i < 20; i++) {
      const entries = run.many(BATCH).map(({ metrics, step, attempt, rank, product }) =>
        progress(
          { metrics, ...(step !== undefined && { step }) },
          {
            ...(attempt !== undefined && { attempt }),
            ...(rank !== undefined && { rank }),
            ...(product !== undefined && { product }),
          },
        ),
      );
      await subject.store.append(FEED, entries, created());
      check(await read(), run.told);
    }
    await until(async () => (await raw()) < 256);
    check(await read(), run.told);
    expect(await subject.raw.hlen(keys().series)).to.be.above(0);
  });

  it("folded at random moments, cut off at random commands, by one hub or two: always the truth", async () => {
    for (let seed = 1; seed <= 12; seed++) {
      await subject.raw.unlink(...(await subject.allKeys()), "nothing");
      const random = new Random(seed);
      const run = new Run(random.fork());
      const other = await subject.second();
      const hubs: Folding[] = [subject.link, other.link].map((link) => folding(link, subject.keys));
      const fold = ({ series }: Folding) =>
        series.fold(FEED).catch((error: Error) => {
          if (!(error instanceof Dead)) throw error;
        });
      for (let i = 0; i < 15; i++) {
        await push(run.many(random.int(0, 700)));
        for (const hub of hubs)
          hub.dieAfter(random.chance(0.5) ? random.int(0, 12) : Number.POSITIVE_INFINITY);
        const [one, both] = [random.pick(hubs), random.chance(0.5)];
        await Promise.all([...(both ? hubs : [one]).map(fold), random.chance(0.3) && push(run.many(50))]);
        check(await read(), run.told);
      }
      other.link.close();
    }
  });

  it("a script that breaks at any of its calls leaves a series as it was, or folded", async () => {
    let broken = breakable(subject.link);
    await subject.close();
    subject = await openRedis(await plainRedis(), {
      wrap: (link) => {
        broken = breakable(link);
        return broken.link;
      },
    });
    const { series } = folding(broken.link, subject.keys);
    for (const existed of [false, true]) {
      for (let call = 1; call <= 8; call++) {
        await subject.raw.unlink(...(await subject.allKeys()), "nothing");
        const run = new Run(new Random(5), 0.02);
        if (existed) {
          await push(run.many(400));
          await series.fold(FEED);
        }
        await push(run.many(400));
        broken.breakAt(call);
        const fold = series.fold(FEED).then(() => "whole");
        const how = await fold.catch(({ message }: Error) => message);
        expect(how).to.match(call < (existed ? 6 : 7) ? /broken at call/ : /whole/);
        broken.breakAt(0);
        check(await read(), run.told);
        await series.fold(FEED);
        check(await read(), run.told);
        expect(await raw()).to.be.below(256);
      }
    }
  });

  it("a reader sees head and curves of one moment, while they are folded", async () => {
    const { series } = folding(subject.link, subject.keys);
    const run = new Run(new Random(2), 0.02);
    await push(run.many(3_000));
    let over = false;
    const begun = Number(await subject.raw.hget(keys().meta, "n")) - run.told.length;
    const reading = (async () => {
      for (let n = 0; !over || n === 0; n++) {
        const answer = await read();
        check(answer, run.told.slice(0, (answer?.seq as number) - begun));
      }
    })();
    const writing = (async () => {
      for (let i = 0; i < 8; i++) {
        await series.fold(FEED);
        await push(run.many(300));
      }
      over = true;
    })();
    await Promise.all([reading, writing]);
  });

  it("points above the head, of a script that broke, are not in it, and are not folded", async () => {
    const run = new Run(new Random(3), 0);
    await push(run.many(200));
    const head = Number(await subject.raw.hget(keys().meta, "n"));
    await subject.raw.rpush(keys().points, `${head + 1} {"metrics":{"ghost":1}}`);
    await folding(subject.link, subject.keys).series.fold(FEED);
    check(await read(), run.told);
    expect(await raw()).to.equal(1);
  });

  it("a fold of a feed that has begun anew writes nothing", async () => {
    const run = new Run(new Random(4), 0);
    await push(run.many(600));
    const hub = folding(subject.link, subject.keys);
    const { commands } = subject.link;
    const multi = commands.multi.bind(commands);
    // The feed changes its epoch after the points were read.
    let calls = 0;
    commands.multi = ((...args: []) => {
      const transaction = multi(...args);
      const exec = transaction.exec.bind(transaction);
      transaction.exec = (async () => {
        const replies = await exec();
        if (calls++ === 0) await subject.raw.hset(keys().meta, "e", "another");
        return replies;
      }) as typeof transaction.exec;
      return transaction;
    }) as typeof commands.multi;
    await hub.series.fold(FEED);
    commands.multi = multi;
    expect(calls).to.be.above(0);
    expect(await subject.raw.exists(keys().series, keys().buckets)).to.equal(0);
    expect(await raw()).to.equal(600);
  });

  it("every key expires with the feed, and another life begins without the curves of the one before", async () => {
    await push(new Run(new Random(6), 0).many(600));
    await folding(subject.link, subject.keys).series.fold(FEED);
    const expiry = Number(await subject.raw.hget(keys().meta, "x"));
    for (const key of [keys().series, keys().buckets])
      expect(await subject.raw.pexpiretime(key)).to.equal(expiry);
    await subject.store.append(FEED, [status("completed")], created());
    const sooner = Number(await subject.raw.hget(keys().meta, "x"));
    expect(sooner).to.be.below(expiry);
    for (const key of [keys().series, keys().buckets])
      expect(await subject.raw.pexpiretime(key)).to.equal(sooner);
    await subject.raw.unlink(keys().meta);
    await subject.store.append(FEED, [log()], created());
    expect((await read())?.series).to.deep.equal([]);
    expect(await subject.raw.exists(keys().series, keys().buckets, keys().points)).to.equal(0);
  });

  it("what is lost of the curves is gone from them, and the rest goes on", async () => {
    const { series } = folding(subject.link, subject.keys);
    for (const lost of [["series"], ["buckets"], ["series", "buckets"]] as const) {
      await push(losses(600));
      await series.fold(FEED);
      await subject.raw.unlink(...lost.map((name) => keys()[name]), keys().points);
      const later = losses(400);
      await push(later);
      check(await read(), later);
      await series.fold(FEED);
      check(await read(), later);
      await subject.raw.unlink(...(await subject.allKeys()));
    }
  });

  it("while nothing can be folded the newest raw points are kept, and somebody is told once a second", async () => {
    const errors: Error[] = [];
    const store = new RedisStore({
      ...{ ...OPTIONS, maxPoints: 300, redis: subject.link, keys: subject.keys },
      onFoldError: (error) => errors.push(error),
    });
    await store.append(FEED, [log()], created());
    await subject.raw.set(keys().buckets, "a stranger's");
    const batch = Array.from({ length: 100 }, (_, i) => progress({ step: i, loss: 1 }));
    for (let i = 0; i < 9; i++) await store.append(FEED, batch, created());
    expect(await raw()).to.equal(300);
    await until(() => errors.length > 0);
    expect(errors[0]?.message).to.match(/^WRONGTYPE/);
    await subject.raw.del(keys().buckets);
    const buckets = (await store.series(TENANT, JOB, {}))?.series[0]?.buckets;
    expect(buckets?.map(({ first_step }) => first_step)).to.deep.equal(
      [0, 1, 2].flatMap(() => batch.map((_, i) => i)),
    );
    // It is tried again.
    await until(async () => {
      await store.append(FEED, [progress({ step: 1, loss: 1 })], created());
      return (await raw()) < 256;
    });
    expect(errors.length).to.be.below(4);
  });

  it("after close nothing is folded any more", async () => {
    await push(new Run(new Random(1), 0).many(600));
    const errors: Error[] = [];
    const { series, dieAfter } = folding(subject.link, subject.keys, (error) => errors.push(error));
    series.close();
    dieAfter(0);
    series.grown(FEED, 600);
    await series.fold(FEED);
    expect(await raw()).to.equal(600);
    expect(errors).to.deep.equal([]);
  });
});
