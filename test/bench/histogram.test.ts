import { expect } from "chai";
import { Histogram, pooled } from "../../bench/histogram.ts";
import { rowOf } from "../../bench/judge.ts";

function histogram(...us: number[]): Histogram {
  const made = Histogram.empty();
  for (const each of us) made.record(each);
  return made;
}

describe("pooled", () => {
  // Each round has its worst event; of all events together it is one in a hundred only of the peer's.
  const rounds = [
    { ours: 1, peer: 2 },
    { ours: 1, peer: 2 },
  ];
  const many = Array.from({ length: 150 }, () => 1_000);
  const distributions = [
    new Map([
      ["ours", histogram(...many, 9_000)],
      ["peer", histogram(...many, 50_000, 50_000, 50_000)],
    ]),
    new Map([
      ["ours", histogram(...many, 9_000)],
      ["peer", histogram(...many, 4_000)],
    ]),
  ];
  const p99 = pooled(rounds, distributions, 99, 1_000);

  it("is the percentile of all rounds' values together", () => {
    expect(p99(rounds, "ours")).to.be.closeTo(1, 0.001);
    expect(p99(rounds, "peer")).to.be.closeTo(4, 0.01);
    expect(p99([rounds[0] as object, rounds[0] as object] as typeof rounds, "peer")).to.be.closeTo(50, 0.1);
    expect(p99(rounds, "nobody")).to.equal(undefined);
  });

  it("is what the ratio is made of", () => {
    const target = { key: "p99", title: "p99, ms", target: 0.5 };
    const row = rowOf(
      "m",
      target,
      { key: "p99", rounds, pooled: p99 },
      { ours: "ours", references: ["peer"] },
    );
    expect(row.ratio).to.be.closeTo(0.25, 0.001);
    expect(row.figures.peer).to.deep.include({ rounds: [2, 2], median: p99(rounds, "peer") });
    expect(row.spread?.[0]).to.be.closeTo(1 / 50, 0.001);
    expect(row.met).to.equal(true);
  });
});
