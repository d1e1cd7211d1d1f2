/** Too many points held back: what stays is bounded, tells the shape of the curve, and says what is left out. */
import { expect } from "chai";
import { newPoint, Points } from "../../src/core/points.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { MetricPoint } from "../../src/protocol/types.ts";

const WHEN = "2026-03-01T12:00:00.000Z";
const most = LIMITS.mergedPoints;

const of = (count: number, metrics: (step: number) => MetricPoint["metrics"], from = 0): Points => {
  let points = Points.NONE;
  for (let i = from; i < from + count; i++) {
    const point: MetricPoint = { seq: i + 1, step: i, timestamp: WHEN, metrics: metrics(i) };
    points = points.with(newPoint(JSON.stringify(point)));
  }
  return points;
};
const shown = (points: Points, bytes = Number.POSITIVE_INFINITY) => {
  const text = points.members(bytes);
  const { points: list, points_omitted: omitted = 0 } = JSON.parse(`{${text}}`) as {
    points: MetricPoint[];
    points_omitted?: number;
  };
  return { list, omitted, steps: list.map(({ step }) => step as number), text };
};

describe("core/points", () => {
  it("are all there up to the limit, in order, and nothing is said of others", () => {
    const { steps, text } = shown(of(most, (loss) => ({ loss })));
    expect(steps).to.deep.equal(Array.from({ length: most }, (_, i) => i));
    expect(text).to.not.include("omitted");
  });

  for (const count of [most + 1, 2 * most, 1_000, 20_000]) {
    it(`of ${count} some stay: the first, the last, the extremes, and evenly; it says how many do not`, () => {
      // Two peaks of one step each in a slow wave, and one value that is none.
      const wave = (step: number) => {
        if (step === Math.floor(count / 3)) return 9;
        if (step === Math.floor(count / 5)) return -9;
        return step === Math.floor(count / 2) ? "NaN" : Math.sin((step / count) * 20);
      };
      const { list, steps, omitted } = shown(
        of(count, (step) => ({ loss: wave(step), lr: 1 - step / count })),
      );
      expect(list.length).to.be.within(most / 3, most);
      expect(list.length + omitted).to.equal(count);
      expect(steps).to.deep.equal([...new Set(steps)].sort((a, b) => a - b));
      expect([steps[0], steps.at(-1)]).to.deep.equal([0, count - 1]);
      for (const share of [3, 5, 2]) expect(steps).to.include(Math.floor(count / share));
      const widest = Math.max(...steps.map((step, i) => step - (steps[i - 1] ?? 0)));
      expect(widest).to.be.below(Math.max(8, count / 16));
    });
  }

  it("keeps the points of a metric that is seldom told", () => {
    const count = 2_000;
    const { list } = shown(
      of(count, (step) => ({ loss: Math.cos(step), ...(step % 200 === 0 && { "val/acc": step }) })),
    );
    const seldom = list.filter(({ metrics }) => "val/acc" in metrics).map(({ step }) => step);
    expect(seldom).to.deep.equal([0, 200, 400, 600, 800, 1_000, 1_200, 1_400, 1_600, 1_800]);
  });

  it("fit into their bytes, whatever is in them", () => {
    const wide = (step: number) =>
      Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`${"名".repeat(60)}${i}`, step * i]));
    const points = of(30, wide);
    for (const bytes of [LIMITS.mergedPointBytes, 30_000, 14_000]) {
      const { list, steps, omitted, text } = shown(points, bytes);
      expect(Buffer.byteLength(text)).to.be.at.most(bytes + 64);
      expect(list.length).to.be.at.least(1);
      expect(list.length + omitted).to.equal(30);
      expect(steps.at(-1)).to.equal(29);
    }
    expect(shown(points, 100)).to.deep.include({ list: [], omitted: 30 });
    expect(shown(points, -1)).to.deep.include({ list: [], omitted: 30 });
  });
});
