import { expect } from "chai";
import { Backlog } from "../../client/backlog.ts";
import { type Item, merge, newItem } from "../../client/conflate.ts";
import type { EventMap, EventType, PublishedEvent } from "../../client/index.ts";

function item<T extends EventType>(type: T, data: EventMap[T], rest: Partial<PublishedEvent> = {}): Item {
  return newItem({ type, job_id: "a", data, ...rest } as PublishedEvent);
}
const log = (message: string, job_id = "a") => item("log", { message }, { job_id });

function backlog(maxEvents = 1_000, maxBytes = 1e9) {
  const dropped: Item[] = [];
  return { backlog: new Backlog(maxEvents, maxBytes, (items) => dropped.push(...items)), dropped };
}
const texts = (items: Item[]) =>
  items.map(({ event }) => {
    const { message, step, status } = event.data as { message?: string; step?: number; status?: string };
    return message ?? step ?? status;
  });

describe("Backlog", () => {
  it("gives events in order, at most so many and so many bytes, but always one", () => {
    const { backlog: b } = backlog();
    for (const message of ["1", "2", "3", "4"]) b.push(log(message));
    expect(texts(b.take(2, 1e6, 0))).to.deep.equal(["1", "2"]);
    expect(texts(b.take(9, 1, 0))).to.deep.equal(["3"]);
    expect(b.count).to.equal(1);
    expect(texts(b.take(9, 1e6, 0))).to.deep.equal(["4"]);
    expect([b.count, b.bytes, b.oldest()]).to.deep.equal([0, 0, Number.POSITIVE_INFINITY]);
  });

  it("takes events back to their places", () => {
    const { backlog: b } = backlog();
    for (const message of ["1", "2"]) b.push(log(message));
    for (const message of ["x", "y"]) b.push(log(message, "b"));
    const taken = b.take(3, 1e6, 0);
    b.push(log("3"));
    b.putBack(taken);
    expect(b.oldest()).to.equal(1);
    expect(texts(b.takeAll())).to.deep.equal(["1", "2", "x", "y", "3"]);
  });

  it("holds back the events of one job only", () => {
    const { backlog: b } = backlog();
    b.push(log("1"));
    b.push(log("x", "b"));
    b.block("a", () => 100);
    expect(texts(b.take(9, 1e6, 50))).to.deep.equal(["x"]);
    expect(b.nextAt()).to.equal(100);
    expect(texts(b.take(9, 1e6, 100))).to.deep.equal(["1"]);
  });

  it("merges before it drops, drops the oldest log lines before others, and status events last", () => {
    const { backlog: b, dropped } = backlog(8);
    b.push(item("training_status", { status: "running" }));
    b.push(item("training_progress", { step: 1, loss: 1 }));
    b.push(log("l1"));
    b.push(item("alert", { level: "info", title: "t", message: "alert" }));
    b.push(item("training_progress", { step: 2, metrics: { a: 1 } }));
    b.push(log("l2"));
    b.push(item("training_progress", { step: 3, metrics: { b: 2 } }));
    b.push(log("l3"));
    expect(b.merged).to.equal(0);
    b.push(log("l4"));
    expect([b.merged, b.count, dropped.length]).to.deep.equal([2, 7, 0]);
    for (const message of ["l5", "l6"]) b.push(log(message));
    expect(texts(dropped)).to.deep.equal(["l1", "l2"]);
    for (let i = 0; i < 20; i++) b.push(item("training_status", { status: "running", message: `s${i}` }));
    b.push(item("training_status", { status: "completed" }));
    for (let i = 20; i < 40; i++) b.push(item("training_status", { status: "paused", message: `s${i}` }));
    expect(b.count).to.be.at.most(8);
    const kept = b.takeAll();
    expect(texts(kept)).to.include("completed");
    expect(kept.every(({ event }) => event.type === "training_status")).to.equal(true);
  });

  it("keeps to its bytes", () => {
    const { backlog: b, dropped } = backlog(1_000, 10_000);
    for (let i = 0; i < 100; i++) b.push(log("x".repeat(1_000)));
    expect(b.bytes).to.be.at.most(10_000);
    expect(b.count + dropped.length).to.equal(100);
    b.takeAll();
    expect(b.bytes).to.equal(0);
  });
});

describe("merge(older, newer)", () => {
  it("takes each field's newest, metrics one by one, in the older one's place", () => {
    const older = item("training_progress", { step: 1, loss: 1, stage: "warm-up", metrics: { a: 1, b: 1 } });
    const newer = item("training_progress", { step: 2, loss: 2, metrics: { b: 2 } }, { timestamp: "later" });
    const both = merge({ ...older, order: 3 }, { ...newer, order: 9 });
    expect(both?.order).to.equal(3);
    expect(both?.event).to.deep.equal({
      type: "training_progress",
      job_id: "a",
      timestamp: "later",
      data: { step: 2, loss: 2, stage: "warm-up", metrics: { a: 1, b: 2 } },
    });
  });

  it("makes nothing that the hub would refuse", () => {
    const metrics = (prefix: string) =>
      Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`${prefix}${i}`, i]));
    const older = item("training_progress", { metrics: metrics("a") });
    const newer = item("training_progress", { metrics: metrics("b") });
    expect(merge(older, newer)).to.equal(undefined);
  });

  it("is offered only within one job, product, rank, host and attempt", () => {
    const key = (rest: Partial<PublishedEvent>) => item("training_progress", {}, rest).key;
    const keys = [{}, { rank: 1 }, { product: "p" }, { attempt: 2 }, { job_id: "b" }].map(key);
    expect(new Set(keys).size).to.equal(5);
    expect(key({ rank: 1 })).to.equal(keys[1]);
    expect(item("system_stats", { host: "h" }).key).not.to.equal(item("system_stats", { host: "i" }).key);
    expect(log("x").key).to.equal(undefined);
  });
});
