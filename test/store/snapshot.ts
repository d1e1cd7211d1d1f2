import { expect } from "chai";
import fc from "fast-check";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { TrainingProgress } from "../../src/protocol/types.ts";
import type { JobState, Newest } from "../../src/store/store.ts";
import { joinFields } from "../../src/store/wire.ts";
import {
  created,
  entryOf,
  FEED,
  JOB,
  log,
  product,
  progress,
  readAll,
  sample,
  status,
  TENANT,
  told,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

/** The state of a job, from its patches. */
export function snapshot(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());
  const append = async (...entries: Parameters<Subject["store"]["append"]>[1]) =>
    told((await subject.store.append(FEED, entries, created())).stored);
  const state = async () => (await subject.store.job(TENANT, JOB)) as JobState;
  const newest = async (key: string) => (await state()).newest.find((value) => value.key === key) as Newest;
  const dataOf = async (key = "training_progress\u001f\u001f") =>
    JSON.parse(joinFields((await newest(key)).fields));

  it("has the fields of the job, each its newest", async () => {
    await append(
      entryOf("job_created", { name: "first", kind: "lora", tags: ["a", "ä"] }),
      status("running"),
    );
    await append(entryOf("job_updated", { name: "second" }), log());
    const { epoch, seq, fields, createdAt, updatedAt, seenAt } = await state();
    expect({ epoch, seq }).to.deep.equal({ epoch: (await readAll(subject.store)).epoch, seq: 4 });
    expect(Object.fromEntries(fields)).to.deep.equal({
      ...{ name: '"second"', kind: '"lora"', tags: '["a","ä"]', status: '"running"' },
      ...{ status_attempt: "1", liveness: '"live"', seen: String(seenAt) },
    });
    expect(createdAt).to.be.within(Date.now() - 10_000, Date.now());
    expect(updatedAt).to.be.within(createdAt, Date.now());
  });

  it("has the newest durable event of each type but log", async () => {
    const entry = entryOf("validation_result", { metrics: { f1: 0.5 } });
    await append(sample(1), log(), sample(2), progress({}), entry);
    const { latest } = await state();
    expect(latest.map(({ type, seq, data }) => [type, seq, data]).sort()).to.deep.equal([
      ["job_created", 1, created().data],
      ["sample_generated", 4, sample(2).data],
      ["validation_result", 6, entry.data],
    ]);
    expect(latest.find(({ seq }) => seq === 6)).to.deep.equal({
      ...{ seq: 6, type: entry.type, prev: 0, head: entry.head, data: entry.data },
    });
  });

  it("counts the events of each type", async () => {
    await append(progress({}), log(), progress({}), sample());
    await append(log());
    expect(Object.fromEntries((await state()).counts)).to.deep.equal({
      ...{ "type:job_created": 1, "type:training_progress": 2, "type:log": 2, "type:sample_generated": 1 },
    });
  });

  describe("the newest value of a conflation key", () => {
    it("is merged field by field, metrics each for themselves", async () => {
      await append(progress({ loss: 1, stage: "warm-up", metrics: { a: 1, b: 1 } }));
      await append(progress({ loss: 0.5, metrics: { b: 2, "c/d e": "NaN" } }), progress({ step: 7 }));
      expect(await dataOf()).to.deep.equal({
        ...{ loss: 0.5, stage: "warm-up", step: 7, metrics: { a: 1, b: 2, "c/d e": "NaN" } },
      });
      const { seq, attempt, type, head } = await newest("training_progress\u001f\u001f");
      expect({ seq, attempt, type, head }).to.deep.equal({
        ...{ seq: 4, attempt: 1, type: "training_progress", head: progress({}).head },
      });
    });

    it("is kept by product, rank and host", async () => {
      await append(
        progress({ step: 1 }),
        progress({ step: 2 }, { rank: 0 }),
        progress({ step: 3 }, { product: "a b" }),
      );
      await append(
        progress({ step: 4 }, { product: "a b", rank: 12 }),
        entryOf("system_stats", { host: "h\u2028" }),
      );
      await append(entryOf("system_stats", { host: "h\u2028" }, { rank: 1 }), progress({ step: 5 }));
      expect((await state()).newest.map(({ key, seq }) => [key, seq])).to.deep.equal([
        ["training_progress\u001f\u001f0", 3],
        ["training_progress\u001fa b\u001f", 4],
        ["training_progress\u001fa b\u001f12", 5],
        ["system_stats\u001fh\u2028\u001f", 6],
        ["system_stats\u001fh\u2028\u001f1", 7],
        ["training_progress\u001f\u001f", 8],
      ]);
    });

    it("is cleared by a higher attempt, and a lower one is ignored", async () => {
      await append(progress({ loss: 1, step: 10 }), progress({ loss: 2 }, { attempt: 2 }));
      expect(await dataOf()).to.deep.equal({ loss: 2 });
      expect(await append(progress({ step: 11 }, { attempt: 1 }), progress({ stage: "b" }))).to.deep.equal([
        4, 5,
      ]);
      expect(await dataOf()).to.deep.equal({ loss: 2, stage: "b" });
      const { attempt, seq } = await newest("training_progress\u001f\u001f");
      expect({ attempt, seq }).to.deep.equal({ attempt: 2, seq: 5 });
    });

    it("says the same whatever the order in which its fields came", async () => {
      const fields = fc.dictionary(
        fc.constantFrom("loss", "step", "stage_progress", "progress", "eta_seconds"),
        fc.nat(9),
      );
      const metrics = fc.dictionary(fc.string({ minLength: 1, maxLength: 4, unit: "grapheme" }), fc.nat(9));
      let job = 0;
      await fc.assert(
        fc.asyncProperty(fields, metrics, fc.nat(), async (plain, extra, seed) => {
          const parts: TrainingProgress[] = [
            ...Object.entries(plain).map(([name, value]) => ({ [name]: value })),
            ...Object.entries(extra).map(([name, value]) => ({ metrics: { [name]: value } })),
          ];
          const shuffled = parts
            .map((part, i) => ({ part, at: (i * 7919 + seed) % 101 }))
            .sort((a, b) => a.at - b.at);
          const texts: string[] = [];
          for (const order of [parts, shuffled.map(({ part }) => part)]) {
            const jobId = `order-${job++}`;
            await subject.store.append(
              { ...FEED, jobId },
              [log(), ...order.map((data) => progress(data))],
              created(jobId),
            );
            const value = (await subject.store.job(TENANT, jobId))?.newest[0];
            texts.push(joinFields(value?.fields ?? new Map()));
          }
          expect(texts[1]).to.equal(texts[0]);
          const all = Object.keys(extra).length ? { ...plain, metrics: extra } : plain;
          expect(JSON.parse(texts[0] as string)).to.deep.equal(JSON.parse(JSON.stringify(all)));
        }),
        { numRuns: 40 },
      );
    });

    it("is a copy: what the reader does to it stays with him", async () => {
      await append(progress({ step: 1 }));
      (await state()).newest[0]?.fields.clear();
      (await readAll(subject.store)).newest[0]?.fields.clear();
      expect(await dataOf()).to.deep.equal({ step: 1 });
    });

    it(`has at most ${LIMITS.mergedFields} fields within an attempt`, async () => {
      const metrics = (from: number, to: number) =>
        Object.fromEntries(Array.from({ length: to - from }, (_, i) => [`m${from + i}`, i]));
      expect(
        await append(progress({ metrics: metrics(0, 60) }), progress({ metrics: metrics(50, 95) })),
      ).to.deep.equal([2, 3]);
      expect(
        await append(
          progress({ metrics: metrics(94, 97) }),
          progress({ metrics: metrics(94, 96) }),
          progress({ step: 1 }),
          progress({ metrics: metrics(0, 60) }),
          progress({ step: 1, metrics: metrics(100, 160) }, { attempt: 2 }),
        ),
      ).to.deep.equal(["too_many_metrics", 4, "too_many_metrics", 5, 6]);
    });

    it(`is refused beyond the ${LIMITS.conflationKeys}th key`, async function () {
      this.timeout(30_000);
      const ranks = Array.from({ length: LIMITS.conflationKeys }, (_, rank) =>
        progress({ step: 1 }, { rank }),
      );
      for (let i = 0; i < ranks.length; i += 500) await append(...ranks.slice(i, i + 500));
      expect(
        await append(
          progress({ step: 1 }, { rank: LIMITS.conflationKeys }),
          progress({ step: 2 }, { rank: 0 }),
          log(),
        ),
      ).to.deep.equal(["too_many_keys", LIMITS.conflationKeys + 2, LIMITS.conflationKeys + 3]);
    });

    it(`is refused beyond the ${LIMITS.conflationKeys}th product that is done`, async function () {
      this.timeout(30_000);
      const products = Array.from({ length: LIMITS.conflationKeys }, (_, i) => product(`p${i}`));
      for (let i = 0; i < products.length; i += 500) await append(...products.slice(i, i + 500));
      const after = LIMITS.conflationKeys + 2;
      expect(await append(product("one more"), product("p0"), log())).to.deep.equal([
        "too_many_keys",
        "=2",
        after,
      ]);
      expect((await state()).counts.get("products:completed")).to.equal(LIMITS.conflationKeys);
    });
  });
}
