import { expect } from "chai";
import { settled, withStops } from "../../bench/stops.ts";

describe("withStops(work)", () => {
  it("ends the last first, each after the one before", async () => {
    const ended: string[] = [];
    const result = await withStops(async (stops) => {
      stops.add(async () => {
        await new Promise((resolve) => setImmediate(resolve));
        ended.push("first");
      });
      stops.add(() => ended.push("second"));
      return 7;
    });
    expect(result).to.equal(7);
    expect(ended).to.deep.equal(["second", "first"]);
  });

  it("ends what was started when the work fails, and fails as that did", async () => {
    const ended: string[] = [];
    const failed = await withStops(async (stops) => {
      stops.add(() => ended.push("first"));
      stops.add(() => Promise.reject(new Error("of the end")));
      throw new Error("of the work");
    }).catch((error: Error) => error.message);
    expect(failed).to.equal("of the work");
    expect(ended).to.deep.equal(["first"]);
  });

  it("ends everything although one end fails, and says so", async () => {
    const ended: string[] = [];
    const failed = await withStops(async (stops) => {
      stops.add(() => ended.push("first"));
      stops.add(() => Promise.reject(new Error("of the end")));
    }).catch((error: Error) => error.message);
    expect(failed).to.equal("of the end");
    expect(ended).to.deep.equal(["first"]);
  });
});

describe("settled(work)", () => {
  it("throws the first failure when all is over", async () => {
    let over = false;
    const late = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      over = true;
    });
    const work = [Promise.reject(new Error("first")), late, Promise.reject(new Error("second"))];
    const fault = await settled(work).catch((error: Error) => error.message);
    expect({ fault, over }).to.deep.equal({ fault: "first", over: true });
    expect(await settled([1, Promise.resolve(2)])).to.deep.equal([1, 2]);
  });
});
