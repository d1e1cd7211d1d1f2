/** A script of the store that fails at any of its calls leaves nothing that could be taken for stored, or for a duplicate. */
import { expect } from "chai";
import { listen, type Recorder } from "../bus/recorder.ts";
import { plainRedis } from "../support/hooks.ts";
import { type Breakable, breakable } from "./breakable.ts";
import {
  ALL,
  created,
  dataset,
  entryOf,
  FEED,
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
  withId,
  withN,
} from "./entries.ts";
import { check } from "./series-oracle.ts";
import { openRedis, type RedisSubject } from "./subject.ts";

type Entries = Parameters<RedisSubject["store"]["append"]>[1];

/** One of everything, each event with what makes a resend safe. */
const BATCH: Entries = [
  withId("log", log("of the batch")),
  withId("sample", sample(100)),
  withId("status", status("running")),
  withN(10, {}, product("a")),
  withN(11, {}, progress({ step: 100, loss: 1 })),
  withId("rank", progress({ step: 101 }, { rank: 1 })),
  withId("alert", entryOf("alert", { level: "info", title: "of the batch" })),
  withN(12, {}, log("the last of the batch")),
  withId("end", status("completed")),
];
const BEFORE: Entries = [
  withN(8, {}, log("before")),
  withId("early", sample(1)),
  withN(9, {}, product("b")),
  withN(1, { id: "q" }, progress({ step: 1, loss: 2, stage: "early" })),
  status("pending"),
];
/** Goes to both feeds. */
const AFTER: Entries = [
  withId("after", log("after")),
  withN(13, {}, entryOf("alert", { level: "info", title: "after" })),
];
/** Small enough that every append of the batch trims. */
const TRIMS = { maxEvents: 4, maxLogLines: 2, maxPoints: 2 };

describe("store: Redis, when a script breaks", function () {
  this.timeout(60_000);
  let subject: RedisSubject;
  let breaking: Breakable;

  async function open(options = {}): Promise<void> {
    subject = await openRedis(await plainRedis(), {
      ...options,
      wrap: (link) => {
        breaking = breakable(link);
        return breaking.link;
      },
    });
  }
  afterEach(() => subject.close());

  /** Appends with a break at this call; answers whether it came that far. */
  async function brokenAt(
    call: number,
    entries: Entries = BATCH,
    feed: { tenantId: string; jobId?: string } = FEED,
  ): Promise<boolean> {
    breaking.breakAt(call);
    try {
      await subject.store.append(feed, entries, feed.jobId === undefined ? undefined : created());
      return false;
    } catch (error) {
      expect((error as Error).message).to.match(/broken at call/);
      return true;
    } finally {
      breaking.breakAt(0);
    }
  }

  async function forEveryCall(round: (call: number, jobId: string) => Promise<boolean>): Promise<void> {
    let call = 1;
    while (await round(call, JOB)) {
      await subject.raw.unlink(...(await subject.allKeys()));
      call++;
    }
    expect(call).to.be.above(15);
  }

  /** Reads everything, and that it hangs together. */
  async function view(feed: { tenantId: string; jobId?: string } = FEED) {
    const page = await readAll(subject.store, feed);
    const chain = { events: 0, log: 0 };
    let seq = 0;
    for (const event of page.logged) {
      expect(event.seq).to.be.above(seq);
      const stream = event.type === "log" ? "log" : "events";
      expect(event.prev, `${event.seq} in ${stream}`).to.equal(chain[stream]);
      chain[stream] = seq = event.seq;
    }
    expect(page.trimmed).to.deep.equal([]);
    expect(page.seq).to.be.at.least(seq);
    return { page, data: page.logged.map(({ type, data }) => `${type} ${data}`) };
  }
  const named = (entries: Entries) =>
    entries.filter(({ durable }) => durable).map(({ type, data }) => `${type} ${data}`);
  const tenants = (entries: Entries) => named(entries.filter(({ tenantFeed }) => tenantFeed === true));

  /** What the bus brought is in the log, as it came. */
  async function checkHeard(
    recorder: Recorder,
    feed: { tenantId: string; jobId?: string } = FEED,
  ): Promise<void> {
    const { logged } = await readAll(subject.store, feed);
    await recorder.reach(logged.at(-1)?.seq as number);
    for (const event of recorder.received) {
      if (!event.durable) continue;
      const stored = logged.find((one) => one.seq === event.seq);
      expect(
        event.wire.endsWith(`,"data":${stored?.data}}`),
        `${event.seq} on the bus is in the log`,
      ).to.equal(true);
    }
    expect(recorder.seqs).to.deep.equal([...new Set(recorder.seqs)].sort((a, b) => a - b));
  }

  async function checkLives(): Promise<void> {
    for (const key of await subject.allKeys()) expect(await subject.raw.pttl(key), key).to.be.above(0);
  }

  async function checkEnd(before: Entries, ...more: Entries[]): Promise<void> {
    const all = [created(), ...before, ...more.flat()];
    const { data } = await view();
    expect([...data].sort()).to.deep.equal(named(all).sort());
    const state = await subject.store.job(TENANT, JOB);
    const counts: Record<string, number> = {};
    for (const { type } of all) counts[`type:${type}`] = (counts[`type:${type}`] ?? 0) + 1;
    const products = new Set(all.flatMap(({ patch }) => patch.product?.name ?? []));
    expect(Object.fromEntries(state?.counts ?? [])).to.deep.equal({
      ...counts,
      ...(products.size > 0 && { "products:completed": products.size }),
    });
    expect(state?.fields.get("status")).to.equal('"completed"');
    const points = all.flatMap(({ patch }) => (patch.point === undefined ? [] : [JSON.parse(patch.point)]));
    check(await subject.store.series(TENANT, JOB, {}), points);
  }

  for (const [title, before] of [
    ["a new job", []],
    ["a job that is there", BEFORE],
  ] as const) {
    it(`the same batch is stored once then, for ${title}`, async () => {
      await open();
      await forEveryCall(async (call) => {
        if (before.length > 0) await subject.store.append(FEED, before, created());
        const recorders = [await listen(subject.bus, FEED), await listen(subject.bus, TENANT_FEED)] as const;
        const head = (await readAll(subject.store)).seq;
        const broke = await brokenAt(call);
        const { data, page } = await view();
        if (page.seq === head)
          expect(data, `call ${call}: nothing of it is there`).to.deep.equal(
            named(before.length ? [created(), ...before] : []),
          );
        else expect(data, `call ${call}: all of it is there`).to.include.members(named(BATCH));
        await subject.store.append(FEED, BATCH, created());
        await checkEnd(before, BATCH);
        const tenant = await view(TENANT_FEED);
        expect([...tenant.data].sort(), `call ${call}: the tenant's feed`).to.deep.equal(
          tenants([created(), ...before, ...BATCH]).sort(),
        );
        await subject.store.append(FEED, AFTER, created());
        await checkEnd(before, BATCH, AFTER);
        await checkHeard(recorders[0]);
        await checkHeard(recorders[1], TENANT_FEED);
        await checkLives();
        subject.bus.release(FEED);
        subject.bus.release(TENANT_FEED);
        return broke;
      });
    });
  }

  it("what others append before the resend is not mixed up with it", async () => {
    await open();
    const others = [
      withId("other", log("another's")),
      withN(1, { id: "r" }, sample(300)),
      progress({ step: 5 }),
      withId("x", sample(7)),
    ];
    await forEveryCall(async (call) => {
      await subject.store.append(FEED, BEFORE, created());
      const head = (await readAll(subject.store)).seq;
      const broke = await brokenAt(call);
      const inTime = (await readAll(subject.store)).seq > head;
      const between = seqsOf((await subject.store.append(FEED, others, created())).stored);
      expect(between[0]).to.be.above(head);
      const answer = await subject.store.append(FEED, [...BEFORE.slice(0, 4), ...BATCH], created());
      expect(
        answer.stored.map((one) => "duplicate" in one && one.duplicate),
        `call ${call}`,
      ).to.deep.equal([...[true, true, true, true], ...BATCH.map(() => inTime)]);
      const { data } = await view();
      expect([...data].sort()).to.deep.equal(named([created(), ...BEFORE, ...others, ...BATCH]).sort());
      expect((await subject.store.job(TENANT, JOB))?.counts.get("products:completed")).to.equal(2);
      const tenant = await view(TENANT_FEED);
      expect([...tenant.data].sort()).to.deep.equal(tenants([created(), ...BEFORE, ...BATCH]).sort());
      return broke;
    });
  });

  it("another job of the tenant goes on, and the tenant's feed has nothing twice", async () => {
    await open();
    const other = { ...FEED, jobId: "job-2" };
    await forEveryCall(async (call) => {
      await subject.store.append(FEED, BEFORE, created());
      const broke = await brokenAt(call);
      await subject.store.append(other, [status("running"), log()], created("job-2"));
      await subject.store.append(TENANT_FEED, [withId("d", dataset())]);
      await subject.store.append(FEED, BATCH, created());
      await checkEnd(BEFORE, BATCH);
      expect((await view(other)).data).to.have.length(3);
      const { logged } = await readAll(subject.store, TENANT_FEED);
      const events = logged.map(({ type, data, job }) => `${job?.jobId} ${type} ${data}`);
      expect(events.length, events.join("\n")).to.equal(tenants([created(), ...BEFORE, ...BATCH]).length + 3);
      expect(new Set(events).size).to.equal(events.length);
      return broke;
    });
  });

  it("breaking again at the resend, and again, does no more harm", async () => {
    await open();
    for (let first = 1, broke = true; broke; first += 2) {
      for (let second = 1; second < 60; second += 3) {
        await subject.store.append(FEED, BEFORE, created());
        broke = await brokenAt(first);
        await brokenAt(second);
        await brokenAt((first * second) % 40);
        await subject.store.append(FEED, BATCH, created());
        await checkEnd(BEFORE, BATCH);
        expect([...(await view(TENANT_FEED)).data].sort()).to.deep.equal(
          tenants([created(), ...BEFORE, ...BATCH]).sort(),
        );
        await subject.raw.unlink(...(await subject.allKeys()));
      }
    }
  });

  it("the tenant's own events are stored once", async () => {
    await open();
    const batch = [withId("a", dataset("a")), withN(2, {}, dataset("b")), withId("c", dataset("c"))];
    let call = 1;
    for (let broke = true; broke; call++) {
      await subject.store.append(TENANT_FEED, [withN(1, {}, dataset("first"))]);
      broke = await brokenAt(call, batch, TENANT_FEED);
      await subject.store.append(FEED, [log()], created());
      await subject.store.append(TENANT_FEED, [withN(1, {}, dataset("first")), ...batch]);
      const { data } = await view(TENANT_FEED);
      expect([...data].sort()).to.deep.equal(named([dataset("first"), created(), ...batch]).sort());
      await checkLives();
      await subject.raw.unlink(...(await subject.allKeys()));
    }
    expect(call).to.be.above(8);
  });

  it("at the caps too: nothing is lost without a word", async () => {
    await open(TRIMS);
    await forEveryCall(async (call) => {
      await subject.store.append(FEED, BEFORE, created());
      const broke = await brokenAt(call);
      await subject.store.append(FEED, BATCH, created());
      await subject.store.append(
        FEED,
        [withId("more", log("more")), withId("more too", sample(9))],
        created(),
      );
      const page = await readAll(subject.store);
      const kept = (stream: "events" | "log") =>
        page.logged.filter(({ type }) => (type === "log") === (stream === "log"));
      expect(
        kept("events")
          .map(({ data }) => data)
          .slice(-1),
      ).to.deep.equal([sample(9).data]);
      expect(kept("log").map(({ data }) => data)).to.deep.equal([
        log("the last of the batch").data,
        log("more").data,
      ]);
      expect(kept("events")).to.have.length(4);
      for (const { stream, from, to } of page.trimmed) {
        expect({ from, to }, `call ${call}`).to.deep.equal({ from: 1, to: kept(stream)[0]?.prev });
      }
      expect(page.trimmed.map(({ stream }) => stream)).to.deep.equal(["events", "log"]);
      return broke;
    });
  });

  it("progress that was to be flushed is flushed the next time", async () => {
    await open();
    for (let call = 1, broke = true; broke; call++) {
      await subject.store.append(FEED, [progress({ step: 1 }), progress({ step: 2 })], created());
      breaking.breakAt(call);
      broke = await subject.store.flushTenant(TENANT).then(
        () => false,
        () => true,
      );
      breaking.breakAt(0);
      await subject.store.append(TENANT_FEED, [dataset()]);
      await subject.pass(1_000);
      await subject.store.flushTenant(TENANT);
      const { newest, epoch } = await readAll(subject.store, TENANT_FEED);
      expect(
        newest.map(({ fields, job }) => [job?.position.seq, ...fields]),
        `call ${call}`,
      ).to.deep.equal([[3, ['"step"', "2"]]]);
      expect((await subject.store.read(TENANT_FEED, { ...ALL, epoch, after: 1 })).reset).to.equal(false);
      await checkLives();
      await subject.raw.unlink(...(await subject.allKeys()));
    }
  });
});
