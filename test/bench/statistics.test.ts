import { expect } from "chai";
import { interval, median } from "../../bench/statistics.ts";
import { Random } from "../cluster/random.ts";

describe("median", () => {
  it("is the middle one, whatever the order", () => {
    expect(median([9, 1, 5])).to.equal(5);
    expect(median([7])).to.equal(7);
  });

  it("is the mean of the two in the middle", () => {
    expect(median([4, 1, 3, 2])).to.equal(2.5);
  });

  it("is nothing of nothing", () => {
    expect(median([])).to.equal(undefined);
  });

  it("compares numbers, not their texts", () => {
    expect(median([10, 9, 100])).to.equal(10);
  });
});

describe("interval", () => {
  it("is the same for the same rounds", () => {
    const rounds = [3, 1, 4, 1, 5, 9, 2, 6, 5];
    expect(interval(rounds, median)).to.deep.equal(interval(rounds, median));
  });

  it("is one point where all rounds agree", () => {
    expect(interval([2, 2, 2], median)).to.deep.equal([2, 2]);
  });

  it("keeps what belongs to one round together", () => {
    // Each round has made both slower alike: the ratio is sure, though the figures are not.
    const rounds = [1, 5, 2, 9, 3, 7, 4, 8, 6].map((pace) => ({ ours: pace, reference: 2 * pace }));
    const [low, high] = interval(rounds, (drawn) => {
      const own = median(drawn.map(({ ours }) => ours)) as number;
      return own / (median(drawn.map(({ reference }) => reference)) as number);
    }) as [number, number];
    expect([low, high]).to.deep.equal([0.5, 0.5]);
  });

  it("holds the true median about nineteen times in twenty", () => {
    const random = new Random(7);
    let held = 0;
    const runs = 200;
    for (let run = 0; run < runs; run++) {
      const rounds = Array.from({ length: 15 }, () => random.next());
      const [low, high] = interval(rounds, median) as [number, number];
      if (low <= 0.5 && high >= 0.5) held++;
    }
    expect(held / runs).to.be.within(0.88, 1);
  });

  it("is nothing of nothing", () => {
    expect(interval([], median)).to.equal(undefined);
    expect(interval([1], () => undefined)).to.equal(undefined);
  });
});
