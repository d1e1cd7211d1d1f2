import { expect } from "chai";
import type { DeliveredEvent, EventType } from "../../src/protocol/types.ts";
import {
  type Complaint,
  judgeLog,
  judgeSameLog,
  judgeStored,
  judgeTenant,
  judgeTenantLog,
  judgeView,
} from "./checker.ts";
import { crcOf } from "./events.ts";
import {
  type Answered,
  type FeedLog,
  type GapTold,
  type Mark,
  type Merged,
  mergeInto,
  type Newest,
  type Sent,
  type Told,
  toldOf,
  type View,
} from "./history.ts";
import { compareNewest, comparePart, judgeNewest, judgeTenantNewest } from "./newest.ts";
import { judgeThroughResets, pastsOf } from "./resets.ts";
import { judgeHub } from "./verdict.ts";

const EPOCH = "epoch-1";
const JOB = "job-0";
/** Durable events of the log, 1 to 12; log lines at even positions. Progress is at 5 and 9, so not among them. */
const SEQS = [1, 2, 3, 4, 6, 7, 8, 10, 11, 12];

describe("the checker", () => {
  it("has nothing to say of a good history", () => {
    expect(rules(judgeStored(sent(), [log()]))).to.be.empty;
    expect(rules(judgeView(view(), log()))).to.be.empty;
    expect(rules(judgeSameLog([log(), log(), log()]))).to.be.empty;
    expect(rules(judgeLog(log()))).to.be.empty;
    expect(rules(judgeTenantLog(tenantLog(), [log()], new Set(["training_status"])))).to.be.empty;
    expect(rules(judgeTenant([view()], ["mark-of-others"]))).to.be.empty;
  });

  describe("of what is stored complains about", () => {
    it("an acknowledged event that is not there", () => {
      expect(rules(judgeStored(sent(), [without(log(), 6)]))).to.deep.equal(["I1"]);
    });

    it("nothing when an event without acknowledgement is not there, or once", () => {
      const unacked = sent().map((one) => (one.n === 4 ? { ...one, acked: false } : one));
      expect(rules(judgeStored(unacked, [without(log(), 6)]))).to.be.empty;
      expect(rules(judgeStored(unacked, [log()]))).to.be.empty;
    });

    it("an event that is there twice, acknowledged or not", () => {
      const twice = log();
      twice.events.push(durable(13, { n: 4 }));
      expect(rules(judgeStored(sent(), [twice]))).to.include("I2");
      const unacked = sent().map((one) =>
        one.n === 4 ? { ...one, acked: false, guard: "none" as const } : one,
      );
      expect(rules(judgeStored(unacked, [twice]))).to.include("I8");
    });

    it("an event that nobody sent", () => {
      const more = log();
      more.events.push(durable(13, { n: 99 }));
      expect(rules(judgeStored(sent(), [more]))).to.deep.equal(["I8"]);
    });

    it("an event of another job", () => {
      expect(rules(judgeStored(sent(), [{ ...log(), jobId: "job-1" }]))).to.include.members(["I8", "I1"]);
    });

    it("changed data, with the mark's sum or against it", () => {
      const changed = replaced(log(), 6, durable(6, { n: 4, message: "changed", crc: crcOf(dataOf(6)) }));
      expect(rules(judgeStored(sent(), [changed]))).to.deep.equal(["bytes"]);
      const forged = replaced(log(), 6, durable(6, { n: 4, message: "changed" }));
      expect(rules(judgeStored(sent(), [forged]))).to.deep.equal(["bytes"]);
    });

    it("a producer's events out of order", () => {
      const swapped = log();
      swapped.events[4] = durable(6, { n: 5, like: 7 });
      swapped.events[5] = durable(7, { n: 4, like: 6 });
      expect(rules(judgeStored(sent(), [swapped]))).to.deep.equal(["I3"]);
    });

    it("hubs that read different events or different bytes", () => {
      expect(rules(judgeSameLog([log(), without(log(), 6)]))).to.deep.equal(["I3"]);
      const changed = replaced(log(), 6, durable(6, { n: 4, message: "changed" }));
      expect(rules(judgeSameLog([log(), changed]))).to.deep.equal(["bytes"]);
    });

    it("a log that is read with a repetition or backwards", () => {
      const { events } = log();
      expect(
        rules(judgeLog({ ...log(), events: [...events.slice(0, 3), ...events.slice(2)] })),
      ).to.deep.equal(["I3"]);
    });

    it("a tenant's feed that lacks, repeats or changes a job's event, or gives it another position", () => {
      const types = new Set<EventType>(["training_status"]);
      const judge = (tenant: FeedLog) => rules(judgeTenantLog(tenant, [log()], types));
      const { events, ...rest } = tenantLog();
      expect(judge({ ...rest, events: events.slice(1) })).to.include("I1");
      expect(judge({ ...rest, events: [...events, events[0] as Told] })).to.include("I2");
      expect(judge({ ...rest, events: [...events].reverse() })).to.include("I3");
      const [first] = events as [Told];
      const moved = first.text.replace(
        '"job_position":{"epoch":"epoch-1","seq":3}',
        '"job_position":{"epoch":"epoch-1","seq":4}',
      );
      expect(moved).to.not.equal(first.text);
      expect(judge({ ...rest, events: [{ ...first, text: moved }, ...events.slice(1)] })).to.include("I3");
    });
  });

  describe("of a watcher complains about", () => {
    it("an event that is lost in the middle, at the start, at the end", () => {
      for (const seq of [1, 6, 12])
        expect(rules(judgeView(without(view(), seq), log())), `${seq}`).to.deep.equal(["I1"]);
    });

    it("nothing at the end when the hub had not confirmed so far", () => {
      expect(rules(judgeView({ ...without(view(), 12), until: 11 }, log()))).to.be.empty;
    });

    it("an event that comes twice, also in the page after a reconnect", () => {
      expect(rules(judgeView(inserted(view(), 6, durable(6)), log()))).to.deep.equal(["I2"]);
      const page = [
        answer(8, { since: { epoch: EPOCH, seq: 6 }, events: 2 }),
        durable(6),
        durable(7),
        durable(8),
      ];
      const again = { ...view(), entries: [answer(0), ...told(1, 6), ...page, ...told(10, 12)] };
      expect(rules(judgeView(again, log()))).to.deep.equal(["I2"]);
    });

    it("events that change places", () => {
      const swapped = view();
      const at = swapped.entries.findIndex((entry) => entry.kind === "event" && entry.seq === 6);
      [swapped.entries[at], swapped.entries[at + 1]] = [
        swapped.entries[at + 1] as Told,
        swapped.entries[at] as Told,
      ];
      expect(rules(judgeView(swapped, log()))).to.deep.equal(["I3"]);
    });

    it("a changed byte", () => {
      const { text } = durable(6);
      const changed = { ...durable(6), text: text.replace('"message":"event 6"', '"message":"event 6" ') };
      expect(changed.text).to.not.equal(text);
      expect(rules(judgeView(replaced(view(), 6, changed), log()))).to.deep.equal(["bytes"]);
    });

    it("an event that is not stored", () => {
      expect(rules(judgeView(inserted(view(), 12, durable(13)), log()))).to.deep.equal(["I8"]);
    });

    it("a gap, and a reconnect that was not recovered", () => {
      const gap = {
        type: "gap",
        feed: "job",
        job_id: JOB,
        epoch: EPOCH,
        seq: 6,
        reason: "overflow",
      } as const;
      const told = { kind: "gap", gap } as const;
      expect(rules(judgeView(inserted(view(), 6, told), log()))).to.deep.equal(["I1"]);
      const lost = answer(6, { since: { epoch: EPOCH, seq: 6 }, recovered: false });
      expect(rules(judgeView(inserted(view(), 6, lost), log()))).to.deep.equal(["I1"]);
    });

    it("another epoch", () => {
      const other = { ...durable(6), epoch: "epoch-2" };
      expect(rules(judgeView(replaced(view(), 6, other), log()))).to.include("I3");
      const moved = answer(6, { since: { epoch: EPOCH, seq: 6 }, epoch: "epoch-2" });
      expect(rules(judgeView(inserted(view(), 6, moved), log()))).to.deep.equal(["I3"]);
    });

    it("a type that was not asked for, and only of the others that one is missing", () => {
      const types = new Set<EventType>(["training_status"]);
      const statuses = log().events.filter(({ type }) => type === "training_status");
      const typed = { ...view(), types, entries: [answer(0), ...statuses] };
      expect(rules(judgeView(typed, log()))).to.be.empty;
      expect(rules(judgeView(without(typed, 7), log()))).to.deep.equal(["I1"]);
      expect(rules(judgeView({ ...typed, entries: view().entries }, log()))).to.include("wire");
    });

    it("what its answer covered already, and what came before it", () => {
      const joined = { ...view(), entries: [answer(6), ...told(7, 12)] };
      expect(rules(judgeView(joined, log()))).to.be.empty;
      expect(rules(judgeView(without(joined, 7), log()))).to.deep.equal(["I1"]);
      expect(rules(judgeView(inserted(joined, 7, durable(4)), log()))).to.deep.equal(["I2"]);
      expect(rules(judgeView({ ...joined, entries: [durable(6), ...joined.entries] }, log()))).to.include(
        "wire",
      );
    });

    it("a history that is shorter than asked for", () => {
      const asked = { ...view(), entries: [answer(8, { history: 3, events: 3 }), ...told(6, 12)] };
      expect(rules(judgeView(asked, log()))).to.be.empty;
      const short = { ...asked, entries: [answer(8, { history: 3, events: 2 }), ...told(7, 12)] };
      expect(rules(judgeView(short, log()))).to.deep.equal(["I1"]);
      const paged = [
        answer(6, { history: 3, events: 1, more: true }),
        durable(6),
        answer(8, { since: { epoch: EPOCH, seq: 6 }, events: 2 }),
      ];
      expect(rules(judgeView({ ...asked, entries: [...paged, ...told(7, 12)] }, log()))).to.be.empty;
    });

    it("a job that it follows with all others, but not from the start", () => {
      const followed = { ...view(), fromStart: true, entries: told(1, 12) };
      expect(rules(judgeView(followed, log()))).to.be.empty;
      expect(rules(judgeView(without(followed, 1), log()))).to.deep.equal(["I1"]);
    });

    it("a conflation key that falls, but not one that repeats", () => {
      const both = [progress(5, { step: 1 }), progress(9, { step: 2 })] as const;
      const repeated = { ...view(), entries: [...view().entries, both[0], both[1], both[1]] };
      expect(rules(judgeView(repeated, log()))).to.be.empty;
      expect(
        rules(judgeView({ ...view(), entries: [...view().entries, both[1], both[0]] }, log())),
      ).to.deep.equal(["I3"]);
    });

    it("a snapshot that counts otherwise than the log", () => {
      const snapshot = {
        seq: 6,
        counts: { log: 3, training_status: 1, job_created: 1 },
        latest: { training_status: event(3), job_created: event(1) },
        newest: [],
      } as unknown as NonNullable<Answered["snapshot"]>;
      const judge = (given: typeof snapshot) =>
        rules(judgeView({ ...view(), entries: [answer(6, { snapshot: given }), ...told(7, 12)] }, log()));
      expect(judge(snapshot)).to.be.empty;
      expect(judge({ ...snapshot, counts: { ...snapshot.counts, log: 2 } })).to.deep.equal(["snapshot"]);
      expect(judge({ ...snapshot, latest: {} })).to.deep.equal(["snapshot", "snapshot"]);
    });

    it("another tenant's mark or name", () => {
      const foreign = { ...durable(6), text: durable(6).text.replace("mark-of-home", "mark-of-others") };
      expect(rules(judgeTenant([replaced(view(), 6, foreign)], ["mark-of-others"]))).to.deep.equal(["I4"]);
      const named = {
        ...durable(6),
        text: durable(6).text.replace('"tenant_id":"home"', '"tenant_id":"others"'),
      };
      expect(rules(judgeTenant([replaced(view(), 6, named)], ["mark-of-others"]))).to.deep.equal(["I4"]);
    });
  });

  describe("of progress complains about", () => {
    const published: Newest = new Map();
    mergeInto(published, "/", { step: 1, loss: 0.5, stage: "warm-up", metrics: { a: 1, b: 1 } });
    mergeInto(published, "/", { step: 2, loss: 0.25, metrics: { a: 2 } });
    const all = [
      progress(5, { step: 1, loss: 0.5, stage: "warm-up", metrics: { a: 1, b: 1 } }),
      progress(9, { step: 2, loss: 0.25, metrics: { a: 2 } }),
    ];

    it("nothing when it ends as published, whether each came or the merged one", () => {
      expect(rules(judgeNewest({ ...view(), entries: all }, published))).to.be.empty;
      const merged = progress(9, published.get("/") as Merged);
      expect(rules(judgeNewest({ ...view(), entries: [merged] }, published))).to.be.empty;
      const snapshot = { seq: 9, counts: {}, latest: {}, newest: [JSON.parse(merged.text)] };
      expect(rules(judgeNewest({ ...view(), entries: [answer(9, { snapshot })] }, published))).to.be.empty;
    });

    it("an older end, a lost field, a lost key, a key too many", () => {
      expect(rules(judgeNewest({ ...view(), entries: all.slice(0, 1) }, published))).to.deep.equal([
        "newest",
      ]);
      expect(rules(judgeNewest({ ...view(), entries: all.slice(1) }, published))).to.deep.equal(["newest"]);
      expect(rules(compareNewest(new Map(), published, "it"))).to.deep.equal(["newest"]);
      expect(rules(compareNewest(published, new Map(), "it"))).to.deep.equal(["newest"]);
    });

    it("a terminal status that comes before the last progress", () => {
      const end = toldFrom({ ...event(11), seq: 13, data: { status: "completed" } } as DeliveredEvent);
      expect(rules(judgeNewest({ ...view(), entries: [...all, end] }, published))).to.be.empty;
      const early = { ...view(), entries: [...all.slice(0, 1), end, ...all.slice(1)] };
      expect(rules(judgeNewest(early, published))).to.deep.equal(["newest"]);
      const expected: Newest = new Map([[JOB, { step: 2, loss: 0.25, metrics: { a: 2 } }]]);
      expect(rules(judgeTenantNewest({ ...view(), entries: [...all, end] }, expected))).to.be.empty;
      expect(rules(judgeTenantNewest(early, expected))).to.deep.equal(["newest"]);
    });

    it("a tenant's feed that ends with another value", () => {
      const expected: Newest = new Map([[JOB, { step: 2, loss: 0.25, metrics: { a: 2 } }]]);
      expect(rules(judgeTenantNewest({ ...view(), entries: all }, expected))).to.be.empty;
      expect(rules(judgeTenantNewest({ ...view(), entries: all.slice(0, 1) }, expected))).to.deep.equal([
        "newest",
      ]);
    });
  });

  describe("of a feed that has begun anew complains about", () => {
    const judge = (given: View, { others = [view()] }: { others?: View[] } = {}, end = anew()) =>
      rules(judgeThroughResets(given, end, pastsOf([given, ...others], end).pasts));

    it("nothing when the watcher was told, by a gap or by an answer, and went on from there", () => {
      expect(judge(through(reset(20)), {})).to.be.empty;
      expect(judge(through(notRecovered(20)), {})).to.be.empty;
      expect(judge(through(reset(null), ANEW), {})).to.be.empty;
    });

    it("a watcher that stayed and was not told", () => {
      expect(judge({ ...view(), stayed: true })).to.deep.equal(["I1"]);
      expect(judge(view())).to.be.empty;
    });

    it("events of the new history that come without a word", () => {
      const silent = { ...view(), entries: [...view().entries, ...ANEW], until: 23, untilEpoch: "epoch-2" };
      expect(judge({ ...silent, stayed: true })).to.include.members(["I3", "I1"]);
    });

    it("events of the old history after the new one has begun", () => {
      const { entries, ...rest } = through(reset(20));
      expect(judge({ ...rest, entries: [...entries, durable(12)] })).to.deep.equal(["I3"]);
      const back = [...entries, reset(12, EPOCH), durable(12), reset(23)];
      expect(judge({ ...rest, entries: back })).to.include("I3");
    });

    it("what is missing before and after it was told", () => {
      expect(judge(without(through(reset(20)), 6))).to.deep.equal(["I1"]);
      expect(judge(without(through(reset(20)), 22))).to.deep.equal(["I1"]);
      expect(judge(without(through(reset(null), ANEW), 21))).to.deep.equal(["I1"]);
    });

    it("nothing when the end of the old history did not come: that is what it was told", () => {
      expect(judge(without(without(through(reset(20)), 12), 11))).to.be.empty;
    });

    it("an event that comes twice, in either history", () => {
      expect(judge(inserted(through(reset(20)), 6, durable(6)))).to.deep.equal(["I2"]);
      expect(judge(inserted(through(reset(20)), 22, ANEW[1] as Told))).to.deep.equal(["I2"]);
    });

    it("a gap for another reason", () => {
      const gap = { ...reset(20).gap, reason: "overflow" as const };
      const told = through({ kind: "gap", gap });
      expect(judge(told)).to.include("I1");
    });

    it("two events at one position of a history that is gone", () => {
      const other = replaced(view(), 6, durable(6, { n: 4, message: "another" }));
      expect(rules(pastsOf([view(), other], anew()).complaints)).to.deep.equal(["I3"]);
      expect(rules(pastsOf([view(), view()], anew()).complaints)).to.be.empty;
    });

    it("an acknowledged event that is gone without another epoch, but not one of the epoch before", () => {
      const all = (epoch: string) => sent().map((one) => ({ ...one, epoch }));
      const begun = () => true;
      expect(rules(judgeStored(all(EPOCH), [{ ...log(), events: [], epoch: "epoch-2" }], begun))).to.be.empty;
      expect(rules(judgeStored(all(EPOCH), [without(log(), 6)], begun))).to.deep.equal(["I1"]);
      expect(rules(judgeStored(all("epoch-2"), [{ ...log(), events: [], epoch: "epoch-2" }]))).to.include(
        "I1",
      );
      expect(rules(judgeStored(all(EPOCH), [{ ...log(), events: [], epoch: "epoch-2" }]))).to.include("I1");
    });

    it("a feed that is gone for good and a watcher that was told something else", () => {
      const gone = { ...log(), epoch: "", seq: 0, events: [] };
      const told = { ...view(), entries: [...view().entries, reset(null)], stayed: true };
      expect(judge(told, {}, gone)).to.be.empty;
      expect(judge({ ...view(), stayed: true }, {}, gone)).to.deep.equal(["I1"]);
    });

    it("progress of before the reset, and a value that was never published", () => {
      const published: Newest = new Map([
        ["/", { step: 2, loss: 0.25, stage: "warm-up", metrics: { a: 2, b: 1 } }],
      ]);
      const since = new Map([["/", { step: 2, loss: 0.25, metrics: { a: 2 } }]]);
      const entries = [
        progress(5, { step: 1, stage: "warm-up" }),
        reset(20),
        progress(9, { step: 2, loss: 0.25, metrics: { a: 2 } }),
      ];
      expect(rules(judgeNewest({ ...view(), entries }, since))).to.be.empty;
      const silent = { ...view(), entries: entries.filter(({ kind }) => kind === "event") };
      expect(rules(judgeNewest(silent, since))).to.deep.equal(["newest"]);
      expect(rules(comparePart(since, published, "it"))).to.be.empty;
      expect(rules(comparePart(new Map([["/", { step: 1 }]]), published, "it"))).to.deep.equal(["newest"]);
    });
  });

  it("of hubs complains about an end by itself, an error, and what is not a log line", () => {
    const fine = { name: "hub-0", deaths: [], output: ['{"level":"info","msg":"closing"}'] };
    expect(rules(judgeHub(fine))).to.be.empty;
    expect(rules(judgeHub({ ...fine, deaths: [{ code: 1, signal: null }] }))).to.deep.equal(["I7"]);
    expect(rules(judgeHub({ ...fine, output: ['{"level":"error","msg":"append failed"}'] }))).to.deep.equal([
      "I7",
    ]);
    expect(rules(judgeHub({ ...fine, output: ["Error: unhandled"] }))).to.deep.equal(["I7"]);
  });
});

function rules(complaints: readonly Complaint[]): string[] {
  return complaints.map(({ rule }) => rule);
}

function typeOf(seq: number): EventType {
  if (seq === 1) return "job_created";
  return seq % 2 === 0 ? "log" : "training_status";
}

function dataOf(seq: number, message = `event ${seq}`): object {
  if (seq === 1) return { created_by: "trainer" };
  return seq % 2 === 0 ? { message } : { status: "running", message };
}

interface Changes {
  n?: number;
  message?: string;
  crc?: number;
  /** Type and data of this one. */
  like?: number;
}

function event(
  seq: number,
  { n = SEQS.indexOf(seq), message, crc, like = seq }: Changes = {},
): DeliveredEvent {
  const data = dataOf(like, message);
  const mark: Mark = { producer: "p", n, crc: crc ?? crcOf(data), marker: "mark-of-home" };
  return {
    ...{ feed: "job", epoch: EPOCH, seq, type: typeOf(like), tenant_id: "home", job_id: JOB },
    ...{ timestamp: "2026-01-01T00:00:00Z", received_at: "2026-01-01T00:00:00Z" },
    ...(seq !== 1 && { metadata: { ...mark } }),
    data,
  } as DeliveredEvent;
}

function durable(seq: number, changes?: Changes): Told {
  return toldFrom(event(seq, changes));
}

function progress(seq: number, data: Merged): Told {
  return toldFrom({ ...event(4), seq, type: "training_progress", data } as DeliveredEvent);
}

function toldFrom(event: DeliveredEvent): Told {
  return toldOf(JSON.stringify(event), event);
}

/** Durable events from one position to another. */
function told(from: number, to: number): Told[] {
  return SEQS.filter((seq) => seq >= from && seq <= to).map((seq) => durable(seq));
}

function log(): FeedLog {
  return { feed: "job", jobId: JOB, epoch: EPOCH, seq: 12, events: told(1, 12) };
}

function tenantLog(): FeedLog {
  const statuses = log().events.filter(({ type }) => type === "training_status");
  const events = statuses.map(({ text, seq, epoch }, i) => {
    const original = JSON.parse(text);
    return toldFrom({
      ...original,
      feed: "tenant",
      epoch: "tenant-1",
      seq: i + 1,
      job_position: { epoch, seq },
    });
  });
  return { feed: "tenant", jobId: "", epoch: "tenant-1", seq: events.length, events };
}

function sent(): Sent[] {
  return SEQS.slice(1).map((seq) => ({
    ...{ producer: "p", jobId: JOB, n: SEQS.indexOf(seq), type: typeOf(seq), crc: crcOf(dataOf(seq)) },
    ...{ guard: "producer" as const, times: 1, acked: true },
  }));
}

function answer(seq: number, changes: Partial<Answered> = {}): Answered {
  return { kind: "answer", epoch: EPOCH, seq, recovered: true, events: 0, more: false, ...changes };
}

/** From before the first event to the end. */
function view(): View {
  return {
    ...{
      watcher: "a watcher",
      tenantId: "home",
      feed: "job",
      jobId: JOB,
      types: undefined,
      fromStart: false,
    },
    ...{ entries: [answer(0), ...told(1, 12)], until: 12 },
  };
}

/** What a feed holds that has begun anew: positions 21 to 23. */
const ANEW: readonly Told[] = [21, 22, 23].map((seq) =>
  toldFrom({ ...event(seq, { like: 2, n: seq }), epoch: "epoch-2" }),
);

function anew(): FeedLog {
  return { ...log(), epoch: "epoch-2", seq: 23, events: [...ANEW] };
}

function reset(seq: number | null, epoch = "epoch-2"): GapTold {
  const at = { epoch: seq === null ? null : epoch, seq: seq ?? 0 };
  return { kind: "gap", gap: { type: "gap", feed: "job", job_id: JOB, ...at, reason: "reset" } };
}

function notRecovered(seq: number): Answered {
  return answer(seq, { since: { epoch: EPOCH, seq: 12 }, recovered: false, epoch: "epoch-2" });
}

/** A watcher that has seen both histories, and was told in between. */
function through(said: Answered | GapTold, after: readonly Told[] = ANEW): View {
  const entries = [...view().entries, said, ...after];
  return { ...view(), entries, until: 23, untilEpoch: "epoch-2", stayed: true };
}

type History = { entries: View["entries"] } | { events: Told[] };

function without<H extends History>(history: H, seq: number): H {
  return changed(history, (entry) => (isAt(entry, seq) ? [] : [entry]));
}

function replaced<H extends History>(history: H, seq: number, by: Told): H {
  return changed(history, (entry) => [isAt(entry, seq) ? by : entry]);
}

/** Behind the event at this position. */
function inserted(history: View, seq: number, more: View["entries"][number]): View {
  return changed(history, (entry) => (isAt(entry, seq) ? [entry, more] : [entry]));
}

function changed<H extends History>(
  history: H,
  change: (entry: View["entries"][number]) => View["entries"],
): H {
  const name = "entries" in history ? "entries" : "events";
  const list = ("entries" in history ? history.entries : history.events) as View["entries"];
  return { ...history, [name]: list.flatMap(change) };
}

function isAt(entry: View["entries"][number], seq: number): boolean {
  return entry.kind === "event" && entry.seq === seq;
}
