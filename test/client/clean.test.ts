import { expect } from "chai";
import fc from "fast-check";
import { clean } from "../../client/clean.ts";
import { TrainwireError } from "../../client/errors.ts";

function refusal(value: unknown): string {
  try {
    clean(value);
  } catch (error) {
    if (error instanceof TrainwireError) return error.code;
    throw error;
  }
  throw new Error("was not refused");
}

describe("clean(value)", () => {
  it("spells numbers that JSON has no form for", () => {
    expect(
      clean({ a: Number.NaN, b: [Number.POSITIVE_INFINITY], c: { d: Number.NEGATIVE_INFINITY } }),
    ).to.deep.equal({
      a: "NaN",
      b: ["Infinity"],
      c: { d: "-Infinity" },
    });
    expect(clean({ a: Number.NaN, b: 1 }, { omitNumbers: true })).to.deep.equal({ b: 1 });
  });

  it("makes JSON of what a training loop holds", () => {
    expect(
      clean({
        big: 12n,
        huge: 2n ** 70n,
        when: new Date(0),
        never: new Date(Number.NaN),
        losses: new Float32Array([0.5, Number.NaN]),
        counts: new BigInt64Array([3n]),
        map: new Map<unknown, unknown>([
          ["a", 1],
          [2, new Set(["b"])],
        ]),
        boxed: new Number(4),
        error: new RangeError("out"),
        url: new URL("http://a/b"),
        left: undefined,
        out: () => 1,
        holes: [undefined, Symbol("s")],
      }),
    ).to.deep.equal({
      big: 12,
      huge: "1180591620717411303424",
      when: "1970-01-01T00:00:00.000Z",
      never: null,
      losses: [0.5, "NaN"],
      counts: [3],
      map: { a: 1, "2": ["b"] },
      boxed: 4,
      error: { type: "RangeError", message: "out" },
      url: "http://a/b",
      holes: [null, null],
    });
  });

  it("copies, so that the caller may go on changing the original", () => {
    const original = { metrics: { loss: 1 } };
    const copy = clean(original);
    original.metrics.loss = 2;
    expect(copy).to.deep.equal({ metrics: { loss: 1 } });
  });

  it("refuses cycles, `__proto__`, depth and size, and takes the same object twice side by side", () => {
    const ring: { self?: unknown } = {};
    ring.self = ring;
    expect(refusal(ring)).to.equal("invalid_event");
    expect(refusal(JSON.parse('{"__proto__": 1}'))).to.equal("invalid_event");
    let deep: unknown = 1;
    for (let i = 0; i < 100; i++) deep = [deep];
    expect(refusal(deep)).to.equal("too_deep");
    expect(refusal(new Array(1e9))).to.equal("event_too_large");
    expect(refusal("x".repeat(70_000))).to.equal("event_too_large");
    const shared = { a: 1 };
    expect(clean([shared, shared])).to.deep.equal([{ a: 1 }, { a: 1 }]);
  });

  it("gives JSON for anything, or throws", () => {
    fc.assert(
      fc.property(
        fc.anything({
          withBigInt: true,
          withDate: true,
          withMap: true,
          withSet: true,
          withTypedArray: true,
          withSparseArray: true,
          withBoxedValues: true,
          withNullPrototype: true,
        }),
        (value) => {
          let cleaned: unknown;
          try {
            cleaned = clean(value);
          } catch (error) {
            expect(error).to.be.instanceOf(Error);
            return;
          }
          if (cleaned === undefined) return;
          const text = JSON.stringify(cleaned);
          expect(JSON.stringify(JSON.parse(text))).to.equal(text);
        },
      ),
    );
  });
});
