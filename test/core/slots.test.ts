import { expect } from "chai";
import { FairSlots, Slots } from "../../src/core/slots.ts";

describe("core/slots: Slots", () => {
  it("does so many at a time, the others in order, whatever becomes of those before", async () => {
    const slots = new Slots(2);
    const begun: number[] = [];
    const ends: Array<(error?: Error) => void> = [];
    const all = Array.from({ length: 5 }, (_, i) =>
      slots.take(() => {
        begun.push(i);
        return new Promise<number>((resolve, reject) => {
          ends[i] = (error) => (error ? reject(error) : resolve(i));
        });
      }),
    );
    const outcomes = Promise.allSettled(all);
    const turn = () => new Promise(setImmediate);
    await turn();
    expect(begun).to.deep.equal([0, 1]);
    ends[1]?.(new Error("failed"));
    await turn();
    expect(begun).to.deep.equal([0, 1, 2]);
    ends[0]?.();
    ends[2]?.();
    await turn();
    expect(begun).to.deep.equal([0, 1, 2, 3, 4]);
    ends[3]?.();
    ends[4]?.();
    expect((await outcomes).map(({ status }) => status)).to.deep.equal([
      ...["fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled"],
    ]);
    expect(await slots.take(async () => "free again")).to.equal("free again");
  });
});

describe("core/slots: FairSlots", () => {
  /** Takes a slot for each, and answers the order in which they got it. */
  async function order(
    slots: FairSlots,
    asks: Array<readonly [tenant: string, asker: object, name: string]>,
  ) {
    const begun: string[] = [];
    await Promise.all(
      asks.map(([tenant, asker, name]) =>
        slots.take(tenant, asker, async () => {
          begun.push(name);
          await new Promise(setImmediate);
        }),
      ),
    );
    return begun;
  }

  it("goes round the tenants, and round those of a tenant who ask", async () => {
    const [a, b, c] = [{}, {}, {}];
    const slots = new FairSlots(1);
    const asks = [
      ...["a1", "a2", "a3", "a4"].map((name) => ["one", a, name] as const),
      ...["b1", "b2"].map((name) => ["one", b, name] as const),
      ["two", c, "c1"] as const,
    ];
    expect(await order(slots, asks)).to.deep.equal(["a1", "a2", "c1", "b1", "a3", "b2", "a4"]);
    expect(slots.waiting).to.equal(0);
  });

  it("does so many at a time, whatever becomes of them, and is free again", async () => {
    const slots = new FairSlots(3);
    let underWay = 0;
    let most = 0;
    const outcomes = await Promise.allSettled(
      Array.from({ length: 50 }, (_, i) =>
        slots.take(`tenant ${i % 4}`, {}, async () => {
          most = Math.max(most, ++underWay);
          await new Promise(setImmediate);
          underWay--;
          if (i % 3 === 0) throw new Error("failed");
        }),
      ),
    );
    expect(most).to.equal(3);
    expect(outcomes.filter(({ status }) => status === "rejected")).to.have.length(17);
    const again = Array.from({ length: 3 }, (_, i) => ["one", {}, `${i}`] as const);
    expect(await order(slots, again)).to.deep.equal(["0", "1", "2"]);
    expect(slots.waiting).to.equal(0);
  });
});
