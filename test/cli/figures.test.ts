import { expect } from "chai";
import { extended, NO_CURVE, thinned } from "../../src/cli/curve.ts";
import { bar, bytes, duration, number, sparkline } from "../../src/cli/figures.ts";

describe("figures", () => {
  it("number has four significant digits", () => {
    const texts = [0, 12, 0.5, 0.00123456, 5.2e-5, 31.256, 1e20, -0.25, "NaN"] as const;
    expect(texts.map(number)).to.deep.equal([
      "0",
      "12",
      "0.5000",
      "0.001235",
      "5.200e-5",
      "31.26",
      "1.000e+20",
      "-0.2500",
      "NaN",
    ]);
  });

  it("duration has the two largest units", () => {
    expect([0, 59.4, 65, 7_380, 273_600].map(duration)).to.deep.equal([
      "0s",
      "59s",
      "1m 05s",
      "2h 03m",
      "3d 4h",
    ]);
  });

  it("bytes has a unit", () => {
    expect([0, 812, 6_246, 25_276_502_016].map(bytes)).to.deep.equal(["0 B", "812 B", "6.1 KiB", "23.5 GiB"]);
  });

  it("bar is always as wide as asked", () => {
    expect(bar(0.5, 10).join("")).to.equal("█████░░░░░");
    expect(bar(0.56, 10).join("")).to.equal("█████▋░░░░");
    for (const share of [-1, 0, 0.001, 0.999, 1, 7]) expect(bar(share, 10).join("")).to.have.length(10);
  });

  it("sparkline compares positive values by their logarithms", () => {
    expect(sparkline([1, 0.1, 0.01])).to.equal("█▅▁");
    expect(sparkline([1, -1])).to.equal("█▁");
    expect(sparkline([3, 3])).to.equal("▁▁");
    expect(sparkline([])).to.equal("");
  });
});

describe("a curve", () => {
  it("keeps the shape of a long run in few points", () => {
    let curve = NO_CURVE;
    for (let step = 0; step < 100_000; step++) curve = extended(curve, step);
    expect(curve.points.length).to.be.within(64, 256);
    expect([...curve.points]).to.deep.equal([...curve.points].sort((a, b) => a - b));
    expect(curve.points.at(-1)).to.be.closeTo(100_000, 2_000);
  });

  it("is thinned to means", () => {
    expect(thinned([1, 3, 5, 7], 2)).to.deep.equal([2, 6]);
    expect(thinned([1, 2], 5)).to.deep.equal([1, 2]);
  });
});
