import { expect } from "chai";
import { judgeStored } from "./checker.ts";
import type { Newest, Told, View } from "./history.ts";
import { comparePart, judgeNewest, judgeTenantNewest } from "./newest.ts";
import {
  ANEW,
  anew,
  durable,
  EPOCH,
  inserted,
  JOB,
  log,
  notRecovered,
  progress,
  replaced,
  reset,
  rules,
  sent,
  through,
  view,
  without,
} from "./planted.ts";
import { judgeThroughResets, pastsOf } from "./resets.ts";

describe("the checker of a feed that has begun anew complains about", () => {
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

  it("what is missing beyond what an overflow has told, but not that", () => {
    const [first, , third] = ANEW as [Told, Told, Told];
    const missing = (from: number): View => {
      const { gap } = reset(22);
      const told = { kind: "gap" as const, gap: { ...gap, reason: "overflow" as const, from, to: 22 } };
      return through(
        reset(20),
        [first, third].flatMap((one) => (one === third ? [told, one] : [one])),
      );
    };
    expect(judge(missing(22))).to.be.empty;
    expect(judge(without(missing(22), 21))).to.deep.equal(["I1"]);
    expect(judge(without(missing(22), 23))).to.deep.equal(["I1"]);
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
    expect(rules(judgeStored(all("epoch-2"), [{ ...log(), events: [], epoch: "epoch-2" }]))).to.include("I1");
    expect(rules(judgeStored(all(EPOCH), [{ ...log(), events: [], epoch: "epoch-2" }]))).to.include("I1");
  });

  it("a feed that is gone for good and a watcher that was told something else", () => {
    const gone = { ...log(), epoch: "", seq: 0, events: [] };
    const told = { ...view(), entries: [...view().entries, reset(null)], stayed: true };
    expect(judge(told, {}, gone)).to.be.empty;
    expect(judge({ ...view(), stayed: true }, {}, gone)).to.deep.equal(["I1"]);
  });

  it("what is missing of a feed that came again after it was gone, but not that nothing of it was wanted", () => {
    const told = { ...view(), entries: [...view().entries, reset(null)], stayed: true };
    const confirmed = { until: 23, untilEpoch: "epoch-2" };
    expect(judge({ ...told, ...confirmed })).to.deep.equal(["I1"]);
    const types: View["types"] = new Set(["alert"]);
    expect(judge({ ...told, ...confirmed, types, entries: [reset(null)] })).to.be.empty;
  });

  it("the tenant's progress of before the reset, but not what came with the word of it", () => {
    const value = { step: 2, loss: 0.25 };
    const expected: Newest = new Map([[JOB, value]]);
    const before = progress(5, value);
    const jobs = [{ job_id: JOB, progress: value }];
    const judgeTenant = (entries: View["entries"]) =>
      rules(judgeTenantNewest({ ...view(), feed: "tenant", entries }, expected));
    expect(judgeTenant([before, { ...reset(20), jobs }])).to.be.empty;
    expect(judgeTenant([before, reset(20)])).to.deep.equal(["newest"]);
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
