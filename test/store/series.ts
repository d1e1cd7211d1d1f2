import { expect } from "chai";
import type { SeriesRequest } from "../../src/protocol/types.ts";
import type { Entry } from "../../src/store/store.ts";
import { Random } from "../cluster/random.ts";
import { created, FEED, JOB, log, progress, TENANT } from "./entries.ts";
import { check, Run, type Told } from "./series-oracle.ts";
import type { Client, Open, Subject } from "./subject.ts";

function entryOf({ step, metrics, ...envelope }: Told): Entry {
  return progress({ metrics, ...(step !== undefined && { step }) }, envelope);
}

/** The curves of a job, whole at any moment of its run. */
export function series(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());
  const append = (told: readonly Told[], { store }: Client = subject) =>
    store.append(FEED, [...told.map(entryOf), log()], created());
  const read = async (wanted: Omit<SeriesRequest, "job_id"> = {}) =>
    (await subject.store.series(TENANT, JOB, wanted))?.series ?? [];

  it("are the truth after every batch of any run, and the answer's seq is the head", async () => {
    for (let seed = 1; seed <= 3; seed++) {
      await subject.close();
      subject = await open();
      const random = new Random(seed);
      const run = new Run(random.fork());
      for (let i = 0; i < 12; i++) {
        const { position } = await append(run.many(random.int(1, 400)));
        const answer = await subject.store.series(TENANT, JOB, {});
        expect(answer).to.include({ job_id: JOB, ...position });
        check(answer, run.told);
      }
    }
  });

  it("hold what two clients have appended, each point once", async () => {
    await subject.close();
    // They all come before the first of them can be folded.
    subject = await open({ maxPoints: 3_000 });
    const both = [subject, await subject.second()];
    const batch = Array.from({ length: 100 }, (_, step) => ({ step, metrics: { loss: 1 } }));
    await Promise.all(Array.from({ length: 30 }, (_, i) => append(batch, both[i % 2])));
    const [loss] = await read();
    expect(loss?.buckets.reduce((sum, { count }) => sum + count, 0)).to.equal(3_000);
    expect(loss?.buckets.length).to.be.at.most(1_024);
  });

  it("are of a metric, a rank and a product; rank 0 and none are the same", async () => {
    const metrics = { loss: 1, acc: 2 };
    await append([
      { metrics },
      { metrics, rank: 0 },
      { metrics, rank: 1 },
      { metrics, product: "p", rank: 1 },
    ]);
    const short = (all: Awaited<ReturnType<typeof read>>) =>
      all.map(({ metric, rank, product, buckets }) => [metric, rank, product, buckets.length]);
    expect(short(await read())).to.deep.equal([
      ["loss", undefined, undefined, 2],
      ["acc", undefined, undefined, 2],
      ["loss", 1, undefined, 1],
      ["acc", 1, undefined, 1],
      ["loss", 1, "p", 1],
      ["acc", 1, "p", 1],
    ]);
    expect(short(await read({ metric: "acc", rank: 0 }))).to.deep.equal([["acc", undefined, undefined, 2]]);
    expect(short(await read({ rank: 1, metric: "loss" }))).to.deep.equal([
      ["loss", 1, undefined, 1],
      ["loss", 1, "p", 1],
    ]);
    expect(short(await read({ product: "p" }))).to.deep.equal([
      ["loss", 1, "p", 1],
      ["acc", 1, "p", 1],
    ]);
    expect(await read({ product: "other" })).to.deep.equal([]);
  });

  it("are cut by step, and to so many buckets, folded or not", async () => {
    for (let i = 0; i < 6; i++) {
      await append(Array.from({ length: 100 }, (_, k) => ({ step: i * 100 + k, metrics: { loss: k } })));
    }
    const [some] = await read({ from: 90, to: 109 });
    expect(some?.buckets.map(({ first_step }) => first_step)).to.deep.equal(
      Array.from({ length: 20 }, (_, i) => 90 + i),
    );
    const [few] = await read({ points: 10 });
    expect(few?.buckets.length).to.be.within(1, 10);
    expect(few?.buckets.reduce((sum, { count }) => sum + count, 0)).to.equal(600);
    expect(few?.buckets.at(-1)).to.include({ last_step: 599, last: 99 });
  });

  it("are so many at most: what is dropped is counted, once", async () => {
    const metrics = (from: number) =>
      Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`m${from + i}`, 1]));
    const run: Told[] = [];
    for (let i = 0; i < 6; i++) {
      const batch = Array.from({ length: 50 }, (_, k) => ({ step: k, metrics: metrics(k % 2 ? 0 : 35) }));
      await append(batch);
      run.push(...batch);
      check(await subject.store.series(TENANT, JOB, {}), run);
    }
  });

  it("of a job without metrics there are none", async () => {
    await append([]);
    expect(await subject.store.series(TENANT, JOB, {})).to.deep.include({ seq: 2, series: [], dropped: 0 });
    expect(await subject.store.series(TENANT, "none", {})).to.equal(undefined);
  });
}
