import { expect } from "chai";
import { apartFinding } from "../../bench/scale.ts";

describe("scale: apartFinding(system, apart)", () => {
  it("is 1 only where the other hub was never told of the job", () => {
    const key = "scale_apart";
    expect(apartFinding("ours", { events: 100, watching: 104, other: 0 })).to.deep.equal({
      ...{ key, rounds: [{ ours: 1 }] },
    });
    expect(apartFinding("ours", { events: 100, watching: 104, other: 1 }).rounds).to.deep.equal([
      { ours: 0.99 },
    ]);
    expect(apartFinding("ours", { events: 100, watching: 104, other: 400 }).rounds).to.deep.equal([
      { ours: 0 },
    ]);
  });

  it("is void when the counter missed what certainly came", () => {
    expect(apartFinding("ours", { events: 100, watching: 99, other: 0 }).void).to.include("did not see");
  });
});
