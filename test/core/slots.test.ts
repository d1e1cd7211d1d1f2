import { expect } from "chai";
import { Slots } from "../../src/core/turns.ts";

describe("core/turns: Slots", () => {
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
