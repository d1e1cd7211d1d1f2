import { expect } from "chai";
import { type Flooded, findingOf } from "../../bench/ingest.ts";

const FLOODED: Flooded = {
  ...{ acknowledged: 1_000, stored: 1_000, refused: 0, hubUs: 100_000, redis: 0.5, generator: 0.5 },
};

const found = (...floods: Partial<Flooded>[]) =>
  findingOf(
    "ingest",
    "ours",
    floods.map((each) => ({ ...FLOODED, ...each })),
  );

describe("ingest: findingOf(key, system, floods)", () => {
  it("is events for each second of the hub's CPU", () => {
    expect(found({}, { hubUs: 50_000 })).to.deep.equal({
      key: "ingest",
      rounds: [{ ours: 10_000 }, { ours: 20_000 }],
    });
  });

  it("is void when less is stored than was acknowledged", () => {
    const { rounds, void: why } = found({ stored: 999 });
    expect(why).to.equal("1000 events were acknowledged, and 999 are stored");
    expect(rounds).to.deep.equal([{ ours: 9_990 }]);
  });

  it("does not count what is stored and was not acknowledged", () => {
    expect(found({ stored: 1_010 })).to.deep.equal({ key: "ingest", rounds: [{ ours: 10_000 }] });
  });

  it("is void when something was refused", () => {
    expect(found({}, { refused: 50, fault: "storage_full: no room" }).void).to.equal(
      "50 events were refused: storage_full: no room",
    );
  });

  it("is void where Redis or the generator was the limit, in the median", () => {
    expect(found({ redis: 0.95 }, { redis: 0.96 }, {}).void).to.equal("Redis took 95 % of a core");
    expect(found({ generator: 0.92 }).void).to.equal("the generator took 92 % of a core");
    expect(found({ redis: 0.99 }, {}, {}).void).to.equal(undefined);
  });
});
