import { expect } from "chai";
import {
  ALL,
  created,
  dataset,
  entryOf,
  FEED,
  inShort,
  JOB,
  log,
  product,
  progress,
  readAll,
  sample,
  seqsOf,
  status,
  TENANT,
  TENANT_FEED,
  told,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

/** Feeds: epochs, positions, streams, and how a job comes to be. */
export function feeds(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());

  describe("a feed", () => {
    it("has an epoch, and a seq that rises by one per event of either class", async () => {
      const { store } = subject;
      const first = await store.append(
        FEED,
        [log(), progress({ step: 1 }), sample(), progress({ step: 2 })],
        created(),
      );
      expect(seqsOf(first.stored)).to.deep.equal([2, 3, 4, 5]);
      const second = await store.append(FEED, [entryOf("system_stats", { host: "a" }), log()], created());
      expect(seqsOf(second.stored)).to.deep.equal([6, 7]);
      expect(first.position).to.deep.equal({ epoch: second.position?.epoch, seq: 5 });
      expect(second.position?.seq).to.equal(7);
      expect(second.position?.epoch).to.match(/^[A-Za-z0-9_-]{12}$/);
    });

    it("of another job has another epoch", async () => {
      const { store } = subject;
      const one = await store.append(FEED, [log()], created());
      const other = await store.append({ ...FEED, jobId: "job-2" }, [log()], created("job-2"));
      const tenants = (await readAll(store, TENANT_FEED)).epoch;
      expect(new Set([one.position?.epoch, other.position?.epoch, tenants]).size).to.equal(3);
    });

    it("keeps log lines apart; in each stream an event names the one before it", async () => {
      const { store } = subject;
      await store.append(FEED, [log("a"), sample(1), progress({}), log("b"), log("c"), sample(2)], created());
      await store.append(FEED, [sample(3), log("d")], created());
      const links = (streams: Array<"events" | "log">) =>
        store
          .read(FEED, { ...ALL, streams })
          .then(({ logged }) => logged.map(({ seq, prev }) => [seq, prev]));
      expect(await links(["events"])).to.deep.equal([
        [1, 0],
        [3, 1],
        [7, 3],
        [8, 7],
      ]);
      expect(await links(["log"])).to.deep.equal([
        [2, 0],
        [5, 2],
        [6, 5],
        [9, 6],
      ]);
      expect(await links(["events", "log"])).to.have.length(8);
    });

    it("is read in the order in which it was appended", async () => {
      const { store } = subject;
      for (let i = 0; i < 100; i += 10) {
        await store.append(
          FEED,
          Array.from({ length: 10 }, (_, k) => (k % 3 ? log(`${i + k}`) : sample(i + k))),
          created(),
        );
      }
      const { logged, trimmed } = await readAll(store);
      expect(logged.map(({ seq }) => seq)).to.deep.equal(Array.from({ length: 101 }, (_, i) => i + 1));
      expect(logged.slice(1).map(({ data }) => Number(/\d+/.exec(data)?.[0]))).to.deep.equal(
        Array.from({ length: 100 }, (_, i) => i),
      );
      expect(trimmed).to.deep.equal([]);
    });

    it("keeps type, head and data as they were given", async () => {
      const { store } = subject;
      const entry = entryOf(
        "custom",
        { name: "x", data: { deep: [1, { a: null }] } },
        { rank: 3, metadata: { a: "ä" } },
      );
      await store.append(FEED, [entry], created());
      const { logged } = await readAll(store);
      const { type, head, data } = entry;
      expect(logged[1]).to.deep.equal({ seq: 2, prev: 1, type, head, data });
    });

    it("that nobody has written has no epoch, and no head", async () => {
      const { store } = subject;
      const nothing = { epoch: null, seq: 0, reset: false, logged: [], trimmed: [], newest: [], upTo: 0 };
      expect(await readAll(store)).to.deep.equal(nothing);
      expect(await readAll(store, TENANT_FEED)).to.deep.equal(nothing);
      expect(await store.read(FEED, { ...ALL, epoch: "gone", after: 7 })).to.deep.equal({
        ...nothing,
        reset: true,
      });
      expect(await store.heads(TENANT, [FEED, TENANT_FEED])).to.deep.equal([undefined, undefined]);
      expect(await store.job(TENANT, JOB)).to.equal(undefined);
      expect(await store.series(TENANT, JOB, {})).to.equal(undefined);
      expect(await store.jobs(TENANT, { limit: 10 })).to.deep.equal([]);
      expect(await store.tail(FEED, 10, undefined)).to.equal(0);
      await store.flushTenant(TENANT);
    });

    it("refuses a cursor of another epoch, and one above its head", async () => {
      const { store } = subject;
      const { position } = await store.append(FEED, [log(), log()], created());
      const epoch = position?.epoch as string;
      const reset = { epoch, seq: 3, reset: true, logged: [], trimmed: [], newest: [], upTo: 3 };
      expect(await store.read(FEED, { ...ALL, epoch: "other", after: 1 })).to.deep.equal(reset);
      expect(await store.read(FEED, { ...ALL, epoch, after: 4 })).to.deep.equal(reset);
      expect(await store.read(FEED, { ...ALL, after: 4 })).to.deep.equal(reset);
      expect(await store.read(FEED, { ...ALL, epoch, after: 3 })).to.deep.include({
        reset: false,
        logged: [],
        upTo: 3,
      });
    });

    it("tells its head with those of a hundred others", async () => {
      const { store } = subject;
      const names = Array.from({ length: 99 }, (_, i) => ({ tenantId: TENANT, jobId: `j${i}` }));
      for (const [i, feed] of names.entries()) {
        if (i % 2)
          await store.append(
            feed,
            Array.from({ length: i }, () => log()),
            created(feed.jobId),
          );
      }
      const heads = await store.heads(TENANT, [...names, TENANT_FEED]);
      expect(heads.map((head) => head?.seq)).to.deep.equal([
        ...names.map((_, i) => (i % 2 ? i + 1 : undefined)),
        49,
      ]);
      expect(heads[1]?.epoch).to.equal((await readAll(store, names[1])).epoch);
      expect(await store.heads(TENANT, [])).to.deep.equal([]);
    });
  });

  describe("a job", () => {
    it("is created before its first event, once", async () => {
      const { store } = subject;
      const { stored } = await store.append(FEED, [log("first")], created());
      expect(told(stored)).to.deep.equal([2]);
      await store.append(FEED, [log("second")], created());
      expect(inShort(await readAll(store))).to.deep.equal([
        `1 job_created ${created().data}`,
        `2 log ${log("first").data}`,
        `3 log ${log("second").data}`,
      ]);
    });

    it("is created once by many who begin at the same time", async () => {
      const clients = [subject, await subject.second()];
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) => clients[i % 2]?.store.append(FEED, [log(`${i}`)], created())),
      );
      expect(answers.flatMap((answer) => seqsOf(answer?.stored ?? [])).sort((a, b) => a - b)).to.deep.equal(
        Array.from({ length: 20 }, (_, i) => i + 2),
      );
      const { logged } = await readAll(subject.store);
      expect(logged.filter(({ type }) => type === "job_created").map(({ seq }) => seq)).to.deep.equal([1]);
      expect((await readAll(subject.store, TENANT_FEED)).logged).to.have.length(1);
      expect(await subject.store.jobs(TENANT, { limit: 10 })).to.deep.equal([JOB]);
    });

    it("is created by its first event if that says so", async () => {
      const { store } = subject;
      const mine = entryOf("job_created", { name: "mine" });
      const { stored } = await store.append(FEED, [mine, log()], created());
      expect(told(stored)).to.deep.equal([1, 2]);
      expect(inShort(await readAll(store))[0]).to.equal(`1 job_created ${mine.data}`);
      expect((await store.job(TENANT, JOB))?.fields.get("name")).to.equal('"mine"');
    });

    it("needs no `created`", async () => {
      const { store } = subject;
      expect(told((await store.append(FEED, [entryOf("job_created", {}), log()])).stored)).to.deep.equal([
        1, 2,
      ]);
      expect(told((await store.append({ ...FEED, jobId: "bare" }, [log()])).stored)).to.deep.equal([1]);
      expect(await store.jobs(TENANT, { limit: 10 })).to.have.members([JOB, "bare"]);
    });

    it("that is there refuses job_created alone", async () => {
      const { store } = subject;
      await store.append(FEED, [log()], created());
      const { stored } = await store.append(
        FEED,
        [log("a"), entryOf("job_created", {}), log("b")],
        created(),
      );
      expect(told(stored)).to.deep.equal([3, "job_exists", 4]);
      const another = await store.append(
        { ...FEED, jobId: "job-2" },
        [log(), entryOf("job_created", {})],
        created("job-2"),
      );
      expect(told(another.stored)).to.deep.equal([2, "job_exists"]);
    });

    it("answers no position when everything was refused, and stores nothing", async () => {
      const { store } = subject;
      await store.append(FEED, [log()], created());
      const before = await readAll(store);
      const answer = await store.append(FEED, [entryOf("job_created", {})], created());
      expect(answer).to.deep.equal({ stored: [{ refused: "job_exists" }] });
      expect(await readAll(store)).to.deep.equal(before);
    });
  });

  describe("the tenant's feed", () => {
    it("has copies of the jobs' events that concern the tenant, with the job's own position", async () => {
      const { store } = subject;
      const alert = entryOf("alert", { level: "error", title: "hot" });
      const entries = [
        status("running"),
        log(),
        sample(),
        alert,
        product("a"),
        entryOf("job_updated", { name: "b" }),
      ];
      const { position } = await store.append(FEED, entries, created());
      const { epoch, seq, logged } = await readAll(store, TENANT_FEED);
      expect(epoch).to.not.equal(position?.epoch);
      expect(seq).to.equal(4);
      expect(logged).to.deep.equal(
        [
          { seq: 1, from: created(), at: 1 },
          { seq: 2, from: status("running"), at: 2 },
          { seq: 3, from: alert, at: 5 },
          { seq: 4, from: entryOf("job_updated", { name: "b" }), at: 7 },
        ].map(({ seq, from: { type, head, data }, at }) => ({
          ...{ seq, prev: seq - 1, type, head, data },
          job: { jobId: JOB, position: { epoch: position?.epoch, seq: at } },
        })),
      );
    });

    it("has the tenant's own events, which belong to no job", async () => {
      const { store } = subject;
      const { stored, position } = await store.append(TENANT_FEED, [dataset("a"), dataset("b")]);
      expect(told(stored)).to.deep.equal([1, 2]);
      await store.append(FEED, [log()], created());
      const { epoch, logged } = await readAll(store, TENANT_FEED);
      expect(position).to.deep.equal({ epoch, seq: 2 });
      expect(logged.map(({ type, job }) => [type, job?.jobId])).to.deep.equal([
        ["dataset_update", undefined],
        ["dataset_update", undefined],
        ["job_created", JOB],
      ]);
    });

    it("is another for every tenant", async () => {
      const { store } = subject;
      const other = { tenantId: "other", jobId: JOB };
      await store.append(FEED, [log("acme's")], created());
      await store.append(other, [log("other's")], created());
      for (const [feed, text] of [
        [FEED, "acme's"],
        [other, "other's"],
      ] as const) {
        expect((await readAll(store, feed)).logged.map(({ data }) => data)).to.deep.equal([
          created().data,
          log(text).data,
        ]);
        expect(await store.jobs(feed.tenantId, { limit: 10 })).to.deep.equal([JOB]);
        expect((await readAll(store, { tenantId: feed.tenantId })).seq).to.equal(1);
      }
    });
  });
}
