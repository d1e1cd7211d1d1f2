/** Reads of the log that many share: how many there are, who waits for whom, and that nobody waits for ever. */
import { expect } from "chai";
import fc from "fast-check";
import { Reads, type Wanted } from "../../src/core/reads.ts";
import { SHARE_MS, Shares } from "../../src/core/shares.ts";
import type { Slice } from "../../src/core/slice.ts";
import { HubError } from "../../src/protocol/codes.ts";
import type { ReadOptions } from "../../src/store/store.ts";
import {
  JOB,
  line,
  pass,
  type Scripted,
  sample,
  scripted,
  settle,
  startClock,
  stopClock,
} from "./scripted.ts";

const LIMIT = 10;
const BOTH: Wanted["streams"] = ["events", "log"];

describe("core/reads", () => {
  let hub: Scripted;
  let shares: Shares;
  let reads: Reads;
  /** Of each read of the store, when it began, by a clock that the test moves. */
  let begun: Array<ReadOptions & { at: number }>;

  beforeEach(() => {
    stopClock();
    hub = scripted({ store: { maxEvents: 40, maxLogLines: 40 } });
    shares = new Shares();
    begun = [];
    reads = new Reads(
      {
        read: (name, options) => {
          begun.push({ ...options, at: Date.now() });
          return hub.store.read(name, options);
        },
        heads: (tenantId, feeds) => hub.store.heads(tenantId, feeds),
        tail: (name, n, types) => hub.store.tail(name, n, types),
      },
      shares,
    );
  });
  afterEach(async () => {
    reads.close();
    shares.close();
    await hub.close();
    startClock();
  });

  const wanted = (after: number, more: Partial<Wanted> = {}): Wanted => ({
    ...{ after, epoch: null, limit: LIMIT, bytes: 100_000, streams: BOTH, newestAfter: after },
    ...more,
  });
  const page = (after: number, more: Partial<Wanted> = {}) => reads.page(JOB, wanted(after, more));
  const seqs = ({ page: { logged } }: Slice) => logged.map(({ seq }) => seq);
  const lines = (count: number) => hub.publish(...Array.from({ length: count }, (_, i) => line(String(i))));
  const between = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

  it("who is alone waits for nothing, also when he reads on", async () => {
    await lines(34);
    let after = 0;
    for (const upTo of [10, 20, 30, 35]) {
      const { page: own } = await page(after);
      expect(own.upTo).to.equal(upTo);
      after = own.upTo;
    }
    expect(begun).to.have.length(4);
  });

  it("those who ask in one turn share one read, and then those who ask within 50 ms", async () => {
    await lines(8);
    const first = await Promise.all([page(5), page(2), page(7), page(2)]);
    expect(first.map(seqs)).to.deep.equal([between(6, 9), between(3, 9), between(8, 9), between(3, 9)]);
    expect(begun).to.have.length(1);
    let later: Slice[] | undefined;
    const asked = [page(9), page(1), page(8)];
    void Promise.all(asked).then((slices) => {
      later = slices;
    });
    await lines(1);
    await pass(SHARE_MS - 1, 7);
    expect(later).to.equal(undefined);
    await pass(1);
    expect(later?.map(seqs)).to.deep.equal([[10], between(2, 10), between(9, 10)]);
    expect(begun).to.have.length(2);
  });

  it("who is behind those who never wait gets his page too, however often they come", async () => {
    await lines(39);
    let got: number[] | undefined;
    await page(35, { now: true });
    void page(32).then((slice) => {
      got = seqs(slice);
    });
    for (let i = 0; i < 5; i++) {
      await pass(SHARE_MS / 2, SHARE_MS / 2);
      await page(35, { now: true });
    }
    expect(got).to.deep.equal(between(33, 40));
  });

  it("the same cut of a read is the same object, and events of one read are made once", async () => {
    await lines(5);
    const [a, b, c] = await Promise.all([page(2), page(2), page(4)]);
    const filter = { types: undefined, maySee: undefined };
    const items = (slice: Slice | undefined) => slice?.items(JOB, filter) ?? [];
    expect(a).to.equal(b);
    expect(items(a)).to.equal(items(b));
    expect(items(c)).to.have.length(2);
    expect(items(a).at(-1)).to.equal(items(c).at(-1));
    const logs = { types: new Set(["log"] as const), maySee: undefined };
    expect(a?.items(JOB, logs)).to.equal(b?.items(JOB, logs));
  });

  it("who is far from the others reads apart, and at once", async () => {
    await lines(39);
    const slices = await Promise.all([page(0), page(1), page(30)]);
    expect(slices.map(seqs)).to.deep.equal([between(1, 10), between(2, 11), between(31, 40)]);
    expect(begun.map(({ after }) => after)).to.have.members([0, 30]);
  });

  it("a cursor of another history, or above the head, is answered so, and does not disturb the others", async () => {
    await lines(5);
    const [head] = await hub.store.heads("acme", [JOB]);
    const slices = await Promise.all([
      page(4, { epoch: "gone" }),
      page(3, { epoch: head?.epoch as string }),
      page(9, { epoch: head?.epoch as string }),
    ]);
    expect(slices.map((slice) => slice.page.reset)).to.deep.equal([true, false, true]);
    expect(slices.map(seqs)).to.deep.equal([[], [4, 5, 6], []]);
    expect(begun).to.have.length(1);
  });

  it("who wants one stream shares a read of both that comes to the head, and else reads his own", async () => {
    await hub.publish(sample(), ...Array.from({ length: 5 }, () => line()), sample());
    const near = await Promise.all([page(0), page(0, { streams: ["events"] })]);
    expect(near.map((slice) => slice.page.upTo)).to.deep.equal([8, 8]);
    expect(begun).to.have.length(1);
    await lines(30);
    await hub.publish(sample());
    await pass(SHARE_MS);
    const far = await Promise.all([page(2), page(2, { streams: ["events"] })]);
    expect(far.map(seqs)).to.deep.equal([between(3, 12), [8, 39]]);
    expect(begun).to.have.length(3);
  });

  it("a page up to the head serves who comes later, as long as the feed stands at its end", async () => {
    await lines(8);
    const [head] = (await hub.store.heads("acme", [JOB])) as [{ epoch: string; seq: number }];
    const told: string[] = [];
    const follow = (name: string, after: number, more: Partial<Wanted> = {}) => {
      const onBegin = () => told.push(name);
      return page(after, { standing: head, onBegin, ...more }).then((slice) => told.push(seqs(slice).join()));
    };
    await follow("first", 4);
    await follow("same", 4);
    await follow("ahead", 7);
    await follow("one stream", 7, { streams: ["log"] });
    await follow("at its end", 9, { epoch: head.epoch });
    expect(begun).to.have.length(1);
    expect(told).to.deep.equal([
      ...["first", "5,6,7,8,9", "same", "5,6,7,8,9", "ahead", "8,9", "one stream", "8,9", "at its end", ""],
    ]);
    const others = [
      follow("from before", 2),
      follow("all newest", 6, { newestAfter: 0 }),
      follow("not followed", 4, { standing: null }),
      follow("of another history", 4, { standing: { epoch: "new", seq: head.seq } }),
      follow("further on", 4, { standing: { ...head, seq: head.seq + 1 } }),
      follow("has heard of more", 10),
      follow("another history", 7, { epoch: "gone" }),
    ];
    expect(told, "none at once").to.have.length(10);
    await pass(SHARE_MS);
    await Promise.all(others);
    expect(begun.length).to.be.within(2, 3);
  });

  it("a page that others have passed is kept no longer, and one with more is not replaced by one with less", async () => {
    await lines(30);
    const [old] = (await hub.store.heads("acme", [JOB])) as [{ epoch: string; seq: number }];
    const at = (after: number, seq: number) => page(after, { standing: { epoch: old.epoch, seq } });
    await at(25, old.seq);
    await page(30, { now: true });
    await at(25, old.seq);
    expect(begun, "the wider one").to.have.length(2);
    await lines(1);
    await page(5, { now: true });
    await pass(SHARE_MS);
    await at(25, old.seq);
    expect(begun, "passed by a page that does not reach the head").to.have.length(4);
  });

  it("who wants the last n events reads them: the feed here may not have heard of them", async () => {
    await lines(8);
    const [standing] = (await hub.store.heads("acme", [JOB])) as [{ epoch: string; seq: number }];
    await page(4, { standing });
    await lines(2);
    expect(seqs(await page(8, { standing, now: true }))).to.deep.equal([9, 10, 11]);
  });

  it("of many cuts of a page each is right, and a history named null is none", async () => {
    await lines(30);
    const [standing] = (await hub.store.heads("acme", [JOB])) as [{ epoch: string; seq: number }];
    await page(22, { standing });
    for (let i = 0; i < 200; i++) {
      const slice = await page(22 + (i % 9), { standing, bytes: 100_000 + i });
      expect(seqs(slice)).to.deep.equal(between(23 + (i % 9), 31));
    }
    expect(begun).to.have.length(1);
    const both = await Promise.all([page(1, { epoch: "null" }), page(1, { epoch: null })]);
    expect(both.map(({ page: own }) => own.reset)).to.deep.equal([true, false]);
  });

  it("a page is not kept for long, nor where it ends before the head, nor with many newest values", async () => {
    await lines(39);
    const standing = (await hub.store.heads("acme", [JOB]))[0] as { epoch: string; seq: number };
    const again = async (after: number, ms: number, own: typeof standing | null) => {
      await page(after, { standing: own });
      await pass(ms);
      const before = begun.length;
      await page(after, { standing });
      return begun.length - before;
    };
    expect(await again(35, 1_999, standing)).to.equal(0);
    await pass(1);
    expect(await again(35, 2_000, standing)).to.equal(1);
    await pass(2_000);
    expect(await again(20, SHARE_MS, standing)).to.equal(1);
    await pass(2_000);
    const { read } = hub.store;
    const value = {
      key: "k",
      seq: 1,
      attempt: 1,
      type: "training_progress" as const,
      head: "",
      fields: new Map(),
    };
    hub.store.read = async (name, options) => ({
      ...(await read.call(hub.store, name, options)),
      newest: Array.from({ length: 257 }, () => value),
    });
    expect(await again(35, SHARE_MS, standing)).to.equal(1);
  });

  it("a read that fails fails for those who share it, and the next is made anew", async () => {
    await lines(2);
    hub.store.around = () => {
      throw new HubError("unavailable");
    };
    const failed = await Promise.allSettled([page(0), page(1)]);
    expect(failed.map(({ status }) => status)).to.deep.equal(["rejected", "rejected"]);
    hub.store.around = () => {};
    const again = page(1);
    await pass(SHARE_MS);
    expect(seqs(await again)).to.deep.equal([2, 3]);
  });

  it("heads and tails are shared likewise", async () => {
    await lines(3);
    let calls = 0;
    hub.store.around = (call, moment) => {
      if (moment === "before" && (call === "heads" || call === "tail")) calls++;
    };
    const heads = await Promise.all([reads.head(JOB), reads.head(JOB)]);
    expect(heads.map((head) => head?.seq)).to.deep.equal([4, 4]);
    const types = new Set(["log"] as const);
    const tails = [reads.tail(JOB, 2, types), reads.tail(JOB, 2, types), reads.tail(JOB, 3, undefined)];
    expect(await Promise.all(tails)).to.deep.equal([2, 2, 1]);
    expect(calls).to.equal(3);
    const late = reads.head(JOB);
    await lines(1);
    await pass(SHARE_MS);
    expect((await late)?.seq).to.equal(5);
    expect(calls).to.equal(4);
  });

  it("close() refuses those who wait", async () => {
    await lines(2);
    await page(0);
    const waiting = page(0).catch((error: HubError) => error.code);
    reads.close();
    expect(await waiting).to.equal("unavailable");
  });

  const asks = fc.record({
    /** Share of the head. */
    cursor: fc.double({ min: 0, max: 1.05, noNaN: true }),
    epoch: fc.constantFrom("own", "own", "own", "any", "another"),
    limit: fc.constantFrom(1, 3, LIMIT),
    bytes: fc.constantFrom(1, 1_000, 100_000),
    streams: fc.constantFrom<Wanted["streams"]>(BOTH, BOTH, ["events"], ["log"]),
    follows: fc.boolean(),
  });
  const steps = fc.oneof(
    { weight: 5, arbitrary: fc.record({ ask: fc.array(asks, { minLength: 1, maxLength: 8 }) }) },
    { weight: 3, arbitrary: fc.record({ publish: fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }) }) },
    { weight: 2, arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 70 }) }) },
  );

  it("whoever asks when: each gets what follows his cursor, in his own limits", async function () {
    this.timeout(60_000);
    await fc.assert(
      fc.asyncProperty(
        fc.array(steps, { minLength: 3, maxLength: 20 }),
        fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 8 }),
        async (all, delays) => {
          let calls = 0;
          hub.store.around = async (call) => {
            if (call === "read") await settle(delays[calls++ % delays.length]);
          };
          await hub.store.lose();
          begun.length = 0;
          await lines(1);
          const stored: Array<{ seq: number; stream: "events" | "log" }> = [];
          const answers: Array<Promise<void>> = [];
          const [{ epoch, seq }] = (await hub.store.heads("acme", [JOB])) as [{ epoch: string; seq: number }];
          let head = seq;
          for (const step of all) {
            if ("pass" in step) await pass(step.pass, 10);
            else if ("publish" in step) {
              for (const isLine of step.publish) {
                await hub.publish(isLine ? line("x".repeat(200)) : sample());
                stored.push({ seq: ++head, stream: isLine ? "log" : "events" });
              }
            } else {
              for (const ask of step.ask) {
                const own = {
                  ...wanted(Math.floor(ask.cursor * head), ask),
                  epoch: ask.epoch === "own" ? epoch : ask.epoch === "any" ? null : ask.epoch,
                  standing: ask.follows ? { epoch, seq: head } : null,
                };
                const known = head;
                answers.push(reads.page(JOB, own).then((slice) => check(slice, own, known, epoch)));
              }
            }
          }
          let over = false;
          const done = Promise.all(answers).finally(() => {
            over = true;
          });
          for (let i = 0; i < 100 && !over; i++) await pass(10, 10);
          expect(over, "all are answered").to.equal(true);
          await done;

          function check({ page: got }: Slice, own: Wanted, known: number, of: string): void {
            expect(got.epoch).to.equal(of);
            expect(got.seq, "read after it was asked for").to.be.at.least(known);
            const isReset = own.after > got.seq || (own.epoch !== null && own.epoch !== of);
            expect(got.reset).to.equal(isReset);
            if (isReset) return;
            expect(got.logged.length).to.be.at.most(own.limit);
            if (got.upTo < got.seq) expect(got.upTo).to.be.above(own.after);
            for (const { seq: at, stream } of stored) {
              if (at <= own.after || at > got.upTo || !own.streams.includes(stream)) continue;
              const isThere = got.logged.some((event) => event.seq === at);
              const isTold = got.trimmed.some(
                (each) => each.stream === stream && each.from <= at && at <= each.to,
              );
              expect([isThere, isTold], `${at} after ${own.after}`).to.include(true);
            }
            for (const event of got.logged) expect(event.seq).to.be.within(own.after + 1, got.upTo);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it("at most one read in 50 ms serves any number of cursors that are at most a page apart", async () => {
    await lines(30);
    const answers: Array<Promise<Slice>> = [];
    for (let ms = 0; ms < 400; ms++) {
      for (const cursor of [25, 31, 24, 28]) {
        answers.push(page(cursor + (ms % 3)));
      }
      if (ms % 20 === 0) await lines(1);
      await pass(1, 1);
    }
    await pass(100);
    await Promise.all(answers);
    const times = begun.map(({ at }) => at);
    for (const [i, at] of times.entries()) {
      if (i > 0) expect(at - (times[i - 1] as number)).to.be.at.least(SHARE_MS);
    }
    expect(times.length).to.be.within(7, 9);
  });
});
