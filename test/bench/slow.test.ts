import { expect } from "chai";
import { findingsOf, type Outcome } from "../../bench/slow.ts";

const MB = 1_048_576;
const GOOD: Outcome = {
  stopped: 10,
  closedAsSlow: 10,
  losses: 0,
  wrong: 0,
  aloneP99: 2_000,
  p99: 2_200,
  aloneMemory: 50 * MB,
  memory: 62 * MB,
  limit: undefined,
};

const voids = (change: Partial<Outcome>) =>
  findingsOf("ours", [{ ...GOOD, ...change }]).map((finding) => finding.void);

describe("slow: findingsOf(system, outcomes)", () => {
  it("compares the good ones' p99, and shares the memory among those who stopped", () => {
    const found = findingsOf("ours", [GOOD, { ...GOOD, p99: 2_400, memory: 60 * MB }]);
    expect(found).to.deep.equal([
      { key: "slow", rounds: [{ ours: 1.1 }, { ours: 1.2 }] },
      { key: "slow_memory", rounds: [{ ours: 1.2 }, { ours: 1 }] },
    ]);
  });

  it("does not count when one who stopped was not closed as slow", () => {
    const why = "9 of 10 who stopped reading were closed as slow";
    expect(voids({ closedAsSlow: 9 })).to.deep.equal([why, why]);
  });

  it("does not count when others were closed as slow too", () => {
    const why = "11 of 10 who stopped reading were closed as slow";
    expect(voids({ closedAsSlow: 11 })).to.deep.equal([why, why]);
  });

  it("does not count when a good reader was hurt", () => {
    expect(voids({ losses: 2 })[0]).to.equal("2 good readers lost their connection");
    expect(voids({ wrong: 3 })[0]).to.equal("3 events of good readers were lost, doubled or out of order");
  });

  it("does not count when the generators were the limit", () => {
    expect(voids({ limit: "too slow" })).to.deep.equal(["too slow", "too slow"]);
  });

  it("leaves out rounds in which something else was the limit, but not what went wrong in them", () => {
    const disturbed = { ...GOOD, p99: 9_000, limit: "too slow" };
    expect(findingsOf("ours", [disturbed, GOOD])[0]).to.deep.equal({ key: "slow", rounds: [{ ours: 1.1 }] });
    expect(findingsOf("ours", [{ ...disturbed, wrong: 1 }, GOOD])[0]?.void).to.match(/^1 events/);
  });

  it("knows no memory below nothing", () => {
    expect(findingsOf("ours", [{ ...GOOD, memory: 40 * MB }])[1]?.rounds).to.deep.equal([{ ours: 0 }]);
  });
});
