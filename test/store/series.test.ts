/** Curves without a store: what they hold after any run, folded at any moments. */
import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import { answerOf, bucketsOf, type Curve, Curves, pointOf, textOf } from "../../src/store/series.ts";
import { Random } from "../cluster/random.ts";
import { check, Run, type Told } from "./series-oracle.ts";

const JOB = { job_id: "job", epoch: "e", seq: 0 };

function curvesOf(told: readonly Told[], curves = new Curves()): Curves {
  for (const [i, one] of told.entries()) curves.add(pointOf(i + 1, JSON.stringify(one)));
  return curves;
}
const answer = (told: readonly Told[], wanted = {}) => answerOf(JOB, curvesOf(told), wanted);
const buckets = (told: readonly Told[], wanted = {}) => answer(told, wanted).series[0]?.buckets ?? [];
const losses = (n: number, more: (i: number) => Omit<Told, "metrics"> = (step) => ({ step })): Told[] =>
  Array.from({ length: n }, (_, i) => ({ ...more(i), metrics: { loss: i } }));

describe("series: curves", () => {
  it("a short run has a bucket for each point", () => {
    expect(buckets([{ step: 3, metrics: { loss: 0.1 } }])).to.deep.equal([
      { attempt: 1, first_step: 3, last_step: 3, min: 0.1, max: 0.1, last: 0.1, count: 1, nan: 0 },
    ]);
    expect(buckets(losses(LIMITS.seriesBuckets as number))).to.have.length(1_024);
  });

  it("one point more, and buckets are twice as wide", () => {
    const all = buckets(losses(1_025));
    expect(all).to.have.length(513);
    expect(all[1]).to.deep.equal({
      ...{ attempt: 1, first_step: 2, last_step: 3, min: 2, max: 3, last: 3, count: 2, nan: 0 },
    });
    expect(buckets(losses(100_000)).length).to.be.within(512, 1_024);
  });

  it("whatever happens in a run, buckets say the truth of their points", function () {
    this.timeout(120_000);
    for (let seed = 1; seed <= 60; seed++) {
      const run = new Run(new Random(seed));
      run.many(new Random(seed).int(1, 8_000));
      check(answer(run.told), run.told);
    }
  });

  it("points that come again change nothing", () => {
    const run = new Run(new Random(7));
    run.many(5_000);
    const once = curvesOf(run.told);
    const before = answerOf(JOB, once, {});
    expect(answerOf(JOB, curvesOf(run.told, once), {})).to.deep.equal(before);
  });

  it("a step that goes back, or another attempt, begins a bucket", () => {
    const told = losses(3_000, (i) => ({
      step: i < 1_501 ? i : i - 1_000,
      ...(i >= 2_203 && { attempt: 2 }),
    }));
    check(answer(told), told);
    const all = buckets(told);
    const back = all.findIndex(({ first_step }) => first_step === 501);
    expect(all[back - 1]?.last_step).to.equal(1_500);
    expect(all.find(({ attempt }) => attempt === 2)?.first_step).to.equal(1_203);
  });

  it("a run that breaks at every point is still whole, and evenly so", () => {
    const told = losses(50_000, (i) => ({ step: i % 2 }));
    check(answer(told), told);
    const all = buckets(told);
    expect(all.length).to.be.within(256, 1_024);
    expect(Math.max(...all.map(({ count }) => count))).to.be.at.most(256);
  });

  it("a thousand short attempts leave room for a long one", () => {
    const told = losses(11_000, (i) => ({ step: i, attempt: Math.min(i + 1, 1_001) }));
    check(answer(told), told);
    const last = buckets(told).filter(({ attempt }) => attempt === 1_001);
    expect(last.length).to.be.at.least(256);
  });

  it("many series share an answer; each alone has all of its buckets", () => {
    const names = Array.from({ length: LIMITS.seriesMetrics }, (_, i) => `m${i}`);
    const told = losses(1_000).map(({ step }, i) => ({
      ...(step !== undefined && { step }),
      metrics: Object.fromEntries(names.map((name) => [name, i])),
    }));
    const { series } = answer(told);
    expect(series.map(({ metric }) => metric)).to.deep.equal(names);
    const lengths = series.map((one) => one.buckets.length);
    expect(Math.max(...lengths)).to.be.at.most(LIMITS.seriesAnswer / names.length);
    expect(Math.min(...lengths)).to.be.at.least(LIMITS.seriesAnswer / names.length / 2 - 1);
    expect(buckets(told, { metric: "m7" })).to.have.length(1_000);
  });

  it("without an attempt a point is of the newest", () => {
    const told: Told[] = [{ attempt: 3, metrics: { loss: 1 } }, { metrics: { loss: 2 } }];
    expect(buckets(told).map(({ attempt }) => attempt)).to.deep.equal([3, 3]);
  });

  it("what is no number is counted, and is no value", () => {
    const metrics: Told["metrics"][] = [
      { loss: "NaN" },
      { loss: 2 },
      { loss: "Infinity" },
      { loss: "-Infinity" },
    ];
    const all = buckets(
      metrics.map((one) => ({ metrics: one })),
      { points: 1 },
    );
    expect(all).to.deep.equal([
      { attempt: 1, first_step: null, last_step: null, min: 2, max: 2, last: 2, count: 4, nan: 3 },
    ]);
  });

  it("beyond so many series points are dropped, and counted", () => {
    const names = Array.from({ length: 70 }, (_, i) => `m${i}`);
    const told = [0, 1, 2].map((step) => ({
      step,
      metrics: Object.fromEntries(names.slice(step).map((name) => [name, 1])),
    }));
    check(answer(told), told);
    expect(answer(told).dropped).to.equal(18);
  });

  it("from and to keep the buckets that have such steps", () => {
    const told = losses(100);
    const steps = (wanted: object) => buckets(told, wanted).map(({ first_step }) => first_step);
    expect(steps({ from: 97 })).to.deep.equal([97, 98, 99]);
    expect(steps({ to: 1 })).to.deep.equal([0, 1]);
    expect(steps({ from: 5, to: 6 })).to.deep.equal([5, 6]);
    expect(steps({ from: 100 })).to.deep.equal([]);
    expect(answer(told, { from: 100 }).series).to.deep.equal([]);
    const wide = buckets(losses(4_096), { from: 1_001, to: 1_001 });
    expect(wide.map((one) => [one.first_step, one.last_step])).to.deep.equal([[1_000, 1_003]]);
    expect(
      buckets(
        losses(3, () => ({})),
        { from: 0 },
      ),
    ).to.deep.equal([]);
    // Merged over a step back: 90 is in it, though it is neither first nor last.
    const back = losses(4, (i) => ({ step: [1, 90, 2, 3][i] as number }));
    expect(answerOf(JOB, curvesOf(back), { points: 1 }).series[0]?.buckets).to.have.length(1);
    const restless = losses(20_000, (i) => ({ step: i % 10 === 5 ? 1_000 + i : i % 10 }));
    const found = buckets(restless, { from: 1_000 }).reduce((sum, { count }) => sum + count, 0);
    expect(found).to.be.at.least(2_000);
  });

  it("fewer buckets are the same points in wider ones", () => {
    const run = new Run(new Random(3), 0.001);
    run.many(9_000);
    const whole = answer(run.told).series;
    for (const points of [1, 2, 100, 1_000, 1_024]) {
      for (const [i, { buckets: some }] of answer(run.told, { points }).series.entries()) {
        expect(some.length).to.be.at.most(points);
        const all = whole[i]?.buckets ?? [];
        const sum = (list: typeof some, of: "count" | "nan") =>
          list.reduce((total, one) => total + one[of], 0);
        expect([sum(some, "count"), sum(some, "nan")]).to.deep.equal([sum(all, "count"), sum(all, "nan")]);
        expect(some.at(-1)?.last).to.equal(all.at(-1)?.last);
        expect(Math.min(...some.flatMap(({ min }) => min ?? []))).to.equal(
          Math.min(...all.flatMap(({ min }) => min ?? [])),
        );
      }
    }
  });

  it("buckets are the same when they come back from text", () => {
    for (let seed = 1; seed <= 10; seed++) {
      const run = new Run(new Random(seed));
      run.many(4_000);
      for (const curve of curvesOf(run.told))
        expect(bucketsOf(textOf(curve.buckets))).to.deep.equal(curve.buckets);
    }
    const odd = [5e-324, 1.7976931348623157e308, 9_007_199_254_740_991, 0.1 + 0.2, -0];
    const [curve] = curvesOf(odd.map((loss) => ({ metrics: { loss } })));
    expect(bucketsOf(textOf((curve as Curve).buckets))).to.deep.equal((curve as Curve).buckets);
  });
});
