import { expect } from "chai";
import { findingsOf, type Storm } from "../../bench/storm.ts";

const STORM: Storm = {
  ...{ complete: true, p50S: 1.2, p99S: 2, whole: 1, reads: 0.5, most: 2, cpu: 1, limit: undefined },
};

const found = (...storms: Partial<Storm>[]) =>
  new Map(
    findingsOf(
      "ours",
      storms.map((each) => ({ ...STORM, ...each })),
    ).map((finding) => [finding.key, finding]),
  );

describe("storm: findingsOf(system, storms)", () => {
  it("has a round for each storm", () => {
    const findings = found({}, { p99S: 3, whole: 0.99, reads: 1.5 });
    expect(findings.get("storm")).to.deep.equal({ key: "storm", rounds: [{ ours: 2 }, { ours: 3 }] });
    expect(findings.get("storm_whole")?.rounds).to.deep.equal([{ ours: 1 }, { ours: 0.99 }]);
    expect(findings.get("storm_reads")?.rounds).to.deep.equal([{ ours: 0.5 }, { ours: 1.5 }]);
  });

  it("lets slow generators excuse only what was late", () => {
    expect(found({ limit: "too slow" }).get("storm")?.void).to.equal(undefined);
    expect(found({ limit: "too slow", p99S: 6 }).get("storm")?.void).to.equal("too slow");
    expect(found({ p99S: 6 }).get("storm")?.void).to.equal(undefined);
  });
});
