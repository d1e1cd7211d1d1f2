import { expect } from "chai";
import type { DeliveredEvent, EventType } from "../../src/protocol/types.ts";
import { judgeLog, judgeSameLog, judgeStored, judgeTenant, judgeTenantLog, judgeView } from "./checker.ts";
import { crcOf } from "./events.ts";
import { type Answered, type FeedLog, type Merged, mergeInto, type Newest, type Told } from "./history.ts";
import { compareNewest, judgeNewest, judgeTenantNewest } from "./newest.ts";
import {
  answer,
  dataOf,
  durable,
  EPOCH,
  event,
  inserted,
  JOB,
  log,
  progress,
  replaced,
  rules,
  sent,
  tenantLog,
  told,
  toldFrom,
  view,
  without,
} from "./planted.ts";
import { judgeHub } from "./verdict.ts";

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
