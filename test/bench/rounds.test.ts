import { expect } from "chai";
import { alternate } from "../../bench/rounds.ts";

describe("alternate", () => {
  const systems = ["a", "b", "c", "d"];

  it("gives each system one turn in each round, in orders that change", async () => {
    const turns: string[][] = [];
    await alternate(systems, 9, ["x"], async (system, round) => {
      turns[round] ??= [];
      turns[round].push(system);
      return { x: 1 };
    });
    expect(turns).to.have.length(9);
    for (const turn of turns) expect([...turn].sort()).to.deep.equal(systems);
    expect(new Set(turns.map(String)).size).to.be.above(3);
  });

  it("repeats its orders", async () => {
    const order = async () => {
      const seen: string[] = [];
      await alternate(systems, 5, [], async (system) => {
        seen.push(system);
        return {};
      });
      return seen;
    };
    expect(await order()).to.deep.equal(await order());
  });

  it("keeps the rounds of each target, also what a system cannot", async () => {
    const found = await alternate(["a", "b"], 2, ["x", "y"], async (system, round) =>
      system === "a" ? { x: round, y: 10 + round } : { x: 5 },
    );
    expect(found).to.deep.equal({
      x: [
        { a: 0, b: 5 },
        { a: 1, b: 5 },
      ],
      y: [
        { a: 10, b: undefined },
        { a: 11, b: undefined },
      ],
    });
  });
});
