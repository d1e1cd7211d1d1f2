import { expect } from "chai";
import { Appends } from "../../src/core/appends.ts";
import { HubError } from "../../src/protocol/codes.ts";
import type { AppendResult, Entry, Store } from "../../src/store/store.ts";
import {
  created,
  dataset,
  FEED,
  log,
  product,
  progress,
  readAll,
  status,
  TENANT,
  TENANT_FEED,
  told,
  withId,
  withN,
} from "../store/entries.ts";
import { type Open, openMemory, openRedis, type Subject } from "../store/subject.ts";
import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { line, scripted, status as statusEvent, TRAINER } from "./scripted.ts";

appendsSuite("memory", openMemory);
appendsSuite("Redis", async (options) => openRedis(await plainRedis(), options));
appendsSuite("Redis with cluster-enabled", async (options) => openRedis(await clusterRedis(), options));

function appendsSuite(name: string, open: Open): void {
  describe(`core/appends: ${name}`, () => {
    let subject: Subject;
    let appends: Appends;
    /** Entries of each call of the store. */
    let calls: number[];
    /** Called before each call of the store; a throw is the call's. */
    let before: () => void | Promise<void>;
    beforeEach(async () => {
      subject = await open();
      calls = [];
      before = () => {};
      const append: Store["append"] = async (feed, entries, first) => {
        calls.push(entries.length);
        await before();
        return await subject.store.append(feed, entries, first);
      };
      appends = new Appends({ append });
    });
    afterEach(() => subject.close());

    const append = (...entries: Entry[]) => appends.append(FEED, entries, created);
    const seqs = (results: readonly AppendResult[]) => results.map(({ stored }) => told(stored));
    const failing = (promise: Promise<AppendResult>) =>
      promise.then(
        () => "stored",
        (error) => error.code,
      );

    it("appends of one turn are one call, in their order, each with its own answer", async () => {
      const results = await Promise.all([append(log("a"), log("b")), append(log("c")), append(log("d"))]);
      expect(calls).to.deep.equal([4]);
      expect(seqs(results)).to.deep.equal([[2, 3], [4], [5]]);
      const { epoch, logged } = await readAll(subject.store);
      expect(results.map(({ position }) => position)).to.deep.equal([
        { epoch, seq: 3 },
        { epoch, seq: 4 },
        { epoch, seq: 5 },
      ]);
      expect(logged.map(({ data }) => data)).to.deep.equal([
        JSON.stringify({ created_by: "tester" }),
        ...["a", "b", "c", "d"].map((message) => JSON.stringify({ message })),
      ]);
    });

    it("a lone append does not wait for others, and one that comes later is a call of its own", async () => {
      await append(log("a"));
      await append(log("b"));
      expect(calls).to.deep.equal([1, 1]);
    });

    it("what waited while the process stood still is not carried out any more", async () => {
      let wokeAt = Number.NEGATIVE_INFINITY;
      appends = new Appends({ append: (...call) => stopped(...call) }, (since) => since < wokeAt);
      let late: Promise<string> | undefined;
      const stopped: Store["append"] = async (...call) => {
        late ??= failing(append(log("late")));
        wokeAt = performance.now() + 0.001;
        return await subject.store.append(...call);
      };
      await append(log("before"));
      expect(await late).to.equal("unavailable");
      await new Promise((resolve) => setTimeout(resolve, 2));
      expect(seqs([await append(log("after"))])).to.deep.equal([[3]]);
    });

    it("what comes while a call is under way gathers, and goes when it has ended", async () => {
      let go = () => {};
      const held = new Promise<void>((resolve) => {
        go = resolve;
      });
      before = () => held;
      const first = append(log("a"));
      await Promise.resolve();
      const rest = [append(log("b")), append(log("c"))];
      before = () => {};
      go();
      expect(seqs(await Promise.all([first, ...rest]))).to.deep.equal([[2], [3], [4]]);
      expect(calls).to.deep.equal([1, 2]);
    });

    it("feeds do not wait for each other", async () => {
      let go = () => {};
      const held = new Promise<void>((resolve) => {
        go = resolve;
      });
      before = () => (calls.length === 1 ? held : undefined);
      const slow = append(log("a"));
      await Promise.resolve();
      const other = await appends.append({ tenantId: TENANT, jobId: "job-2" }, [log()], () =>
        created("job-2"),
      );
      const tenant = await appends.append(TENANT_FEED, [dataset()]);
      expect([...seqs([other]), tenant.stored.length]).to.deep.equal([[2], 1]);
      go();
      expect(seqs([await slow])).to.deep.equal([[2]]);
    });

    it("a call has so many entries and bytes; one append is never taken apart", async () => {
      const many = (count: number) => Array.from({ length: count }, (_, i) => log(`line ${i}`));
      const counts = [100, 28, 1, 500, 2, 3];
      const results = await Promise.all(counts.map((count) => append(...many(count))));
      expect(calls).to.deep.equal([128, 1, 500, 5]);
      expect(results.map(({ stored }) => stored.length)).to.deep.equal(counts);
      expect(results.map(({ position }) => position?.seq)).to.deep.equal([101, 129, 130, 630, 632, 635]);
      calls = [];
      await Promise.all(Array.from({ length: 6 }, () => append(log("x".repeat(60_000)))));
      expect(calls).to.deep.equal([4, 2]);
    });

    it("duplicates and refusals are each one's own", async () => {
      await append(withId("early"), withN(7), status("completed"));
      const results = await Promise.all([
        append(withId("early"), withId("x")),
        append(withId("x")),
        append(status("running")),
        append(withN(7), withN(8)),
        append(withN(8), withN(6, { incarnation: 0 })),
      ]);
      expect(calls).to.deep.equal([3, 8]);
      const fates = [["=2", 5], ["=5"], ["invalid_transition"], ["=3", 6], ["=6", "producer_fenced"]];
      expect(seqs(results)).to.deep.equal(fates);
      expect(results.map(({ position }) => position?.seq)).to.deep.equal([5, 5, undefined, 6, 6]);
    });

    it("progress that the hub adds shifts the numbers of what follows in other appends", async () => {
      const results = await Promise.all([
        append(product("a", { total: 2 })),
        append(log("between")),
        append(product("b")),
        append(progress({ step: 1 })),
      ]);
      expect(calls).to.deep.equal([4]);
      expect(seqs(results)).to.deep.equal([[2], [4], [5], [7]]);
    });

    it("a new job is created by the first of them", async () => {
      const by = (name: string) => () => ({ ...created(), data: JSON.stringify({ created_by: name }) });
      const entry = log();
      await Promise.all(["ann", "bob"].map((name) => appends.append(FEED, [entry], by(name))));
      const { logged } = await readAll(subject.store);
      expect(logged.map(({ data }) => data)).to.deep.equal([
        JSON.stringify({ created_by: "ann" }),
        entry.data,
        entry.data,
      ]);
    });

    it("that the trainer of a stale job lives is told once", async () => {
      await append(log());
      const stale = { ...status("running"), patch: { set: [["liveness", '"stale"']] as const } };
      const { alive: _, ...silent } = stale;
      await appends.append(FEED, [silent]);
      const results = await Promise.all([append(log("a")), append(log("b")), append(log("c"))]);
      expect(results.map(({ wakes }) => wakes)).to.deep.equal([true, undefined, undefined]);
    });

    for (const code of ["storage_full", "unavailable"] as const) {
      it(`${code} is told to each of a call and to those behind it; what comes later is stored`, async () => {
        const early = await append(withN(1));
        before = () => {
          throw new HubError(code);
        };
        const failed = [append(withN(2)), append(withN(3))].map(failing);
        await Promise.resolve();
        const behind = [append(withN(4)), appends.append(TENANT_FEED, [dataset()])].map(failing);
        expect(await Promise.all([...failed, behind[0]])).to.deep.equal([code, code, code]);
        expect(calls).to.deep.equal([1, 2, 1]);
        before = () => {};
        // No later `n` was stored before an earlier one: sent again, none of them is taken for a duplicate.
        const again = await Promise.all([
          append(withN(1)),
          append(withN(2)),
          append(withN(3)),
          append(withN(4)),
        ]);
        expect(seqs([early, ...again])).to.deep.equal([[2], ["=2"], [3], [4], [5]]);
        expect(await behind[1]).to.equal(code);
      });
    }

    it("of many senders each one's order stays, and each is told the truth", async () => {
      const senders = Array.from({ length: 12 }, async (_, sender) => {
        const told: Array<{ data: string; seq: number }> = [];
        const under = new Set<Promise<void>>();
        for (let i = 0; i < 25; i++) {
          const entries = Array.from({ length: 1 + ((sender + i) % 3) }, (_, k) =>
            log(`${sender} ${i} ${k}`),
          );
          const call = append(...entries).then(({ stored }) => {
            for (const [k, one] of stored.entries()) {
              told.push({ data: entries[k]?.data as string, seq: (one as { seq: number }).seq });
            }
          });
          under.add(call.finally(() => under.delete(call)));
          // Some wait for the answer, some send on.
          if ((sender * 7 + i) % 4 === 0) await call;
        }
        await Promise.all(under);
        return told;
      });
      const all = await Promise.all(senders);
      for (const told of all) {
        const sent = told.map(({ seq }) => seq);
        expect(sent).to.deep.equal([...sent].sort((a, b) => a - b));
      }
      const { logged } = await readAll(subject.store);
      const bySeq = new Map(logged.map(({ seq, data }) => [seq, data]));
      const flat = all.flat();
      expect(flat.length).to.equal(logged.length - 1);
      for (const { seq, data } of flat) expect(bySeq.get(seq)).to.equal(data);
      expect(calls.length).to.be.below(12 * 25);
    });
  });
}

describe("core/appends: publish", () => {
  it("publishes of one turn share a call, and each has its own answer", async () => {
    const hub = scripted();
    try {
      let calls = 0;
      hub.store.around = (call, moment) => {
        if (call === "append" && moment === "before") calls++;
      };
      const publish = (...events: object[]) =>
        hub.hub.publish(
          TRAINER,
          events.map((event) => ({ job_id: "job", ...event })),
        );
      const [first, second, third] = await Promise.all([
        publish(line("a"), { ...line("b"), id: "b" }),
        publish({ ...line("b"), id: "b" }, { type: "nothing" }),
        publish(statusEvent("running"), line("c")),
      ]);
      expect(calls).to.equal(1);
      expect(first).to.deep.include({ accepted: 2, duplicates: 0, refused: [] });
      expect(second).to.deep.include({ accepted: 0, duplicates: 1 });
      expect(second?.refused.map(({ index, code }) => [index, code])).to.deep.equal([[1, "unknown_type"]]);
      expect(third).to.deep.include({ accepted: 2, duplicates: 0, refused: [] });
      expect([first, second, third].map((answer) => answer?.positions.job?.seq)).to.deep.equal([3, 3, 5]);
    } finally {
      await hub.close();
    }
  });

  it("the store's failure refuses the events of each call, by their places", async () => {
    const hub = scripted();
    try {
      hub.store.around = (call, moment) => {
        if (call === "append" && moment === "before") throw new HubError("storage_full");
      };
      const event = { job_id: "job", ...line() };
      const answers = await Promise.all([
        hub.hub.publish(TRAINER, [event, { type: "nothing" }, event]),
        hub.hub.publish(TRAINER, event),
      ]);
      expect(answers.map(({ refused }) => refused.map(({ index, code }) => [index, code]))).to.deep.equal([
        [
          [0, "storage_full"],
          [1, "unknown_type"],
          [2, "storage_full"],
        ],
        [[0, "storage_full"]],
      ]);
    } finally {
      await hub.close();
    }
  });
});
