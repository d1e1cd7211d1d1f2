import { expect } from "chai";
import { Limits } from "../../bench/traffic.ts";

const WHY = "generator 1 took 95 % of a core";

describe("Limits", () => {
  const limits = (...turns: Array<[system: string, limit: string | undefined]>) => {
    const made = new Limits({ ours: { name: "ours" }, references: ["reference"] });
    for (const [system, limit] of turns) made.add("key", system, { limit });
    return made;
  };

  it("void what was limited in more than half of the turns", () => {
    expect(limits(["ours", WHY], ["reference", undefined]).reason("key")).to.equal(undefined);
    expect(limits(["ours", WHY], ["reference", undefined], ["ours", WHY]).reason("key")).to.equal(WHY);
    expect(limits(["ours", WHY]).reason("another")).to.equal(undefined);
  });

  it("do not count those that no ratio is made of", () => {
    expect(limits(["ours", undefined], ["peer", WHY], ["peer", WHY]).reason("key")).to.equal(undefined);
    expect(limits(["ours", WHY], ["peer", undefined], ["peer", undefined]).reason("key")).to.equal(WHY);
  });
});
