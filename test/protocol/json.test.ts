import { expect } from "chai";
import fc from "fast-check";
import { HubError } from "../../src/protocol/codes.ts";
import { isShallow, parseJson } from "../../src/protocol/json.ts";
import { LIMITS } from "../../src/protocol/limits.ts";

/** Nesting of objects and arrays, counted the naive way. */
function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

function codeOf(text: string): string | undefined {
  try {
    parseJson(text);
    return undefined;
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    return error.code;
  }
}

const nested = (depth: number, inner = "1") => `${"[".repeat(depth)}${inner}${"]".repeat(depth)}`;
const objects = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;

describe("protocol/json", () => {
  it("isShallow agrees with a naive depth on any JSON", () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ maxDepth: 8, depthSize: "max" }),
        fc.integer({ min: 0, max: 10 }),
        fc.constantFrom(0, 2),
        (value, limit, indent) => {
          expect(isShallow(JSON.stringify(value, null, indent), limit)).to.equal(depthOf(value) <= limit);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  it("isShallow does not count brackets, quotes and escapes in strings", () => {
    const hostile = fc.array(fc.constantFrom("[", "{", "]", "}", '"', "\\", '\\"', "a", "\u2028", "\ud800"));
    fc.assert(
      fc.property(hostile, hostile, (key, value) => {
        const text = JSON.stringify({ [key.join("")]: [value.join("")] });
        expect(isShallow(text, 2)).to.equal(true);
        expect(isShallow(text, 1)).to.equal(false);
      }),
      { numRuns: 1_000 },
    );
    expect(isShallow(JSON.stringify("[".repeat(10_000)), 0)).to.equal(true);
  });

  it("isShallow ends on any text, JSON or not", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        expect(isShallow(text, 3)).to.be.a("boolean");
      }),
    );
    for (const text of ['"', '"\\', "\\", "", "]]]]", '"\\"'])
      expect(isShallow(text, 0), text).to.equal(true);
    // Closing brackets that nothing opened buy no depth beyond: JSON.parse refuses such a text anyway.
    expect(codeOf(`${"]".repeat(100)}${nested(100)}`)).to.be.oneOf(["malformed", "too_deep"]);
  });

  it("parseJson takes what is as deep as the limit and refuses one more", () => {
    expect(parseJson(nested(LIMITS.depth))).to.deep.equal(JSON.parse(nested(LIMITS.depth)));
    expect(codeOf(nested(LIMITS.depth + 1))).to.equal("too_deep");
    expect(codeOf(objects(LIMITS.depth))).to.equal(undefined);
    expect(codeOf(objects(LIMITS.depth + 1))).to.equal("too_deep");
  });

  it("trap 1: parseJson refuses 6 000 and a million levels before it parses them", () => {
    expect(codeOf(nested(6_000))).to.equal("too_deep");
    expect(codeOf(objects(6_000))).to.equal("too_deep");
    expect(codeOf("[".repeat(1_000_000))).to.equal("too_deep");
  });

  it("parseJson refuses what is not JSON, bare NaN too, without repeating it", () => {
    for (const text of [
      "",
      "NaN",
      '{"loss":NaN}',
      '{"loss":Infinity}',
      "{secret",
      "{'a':1}",
      "[1,]",
      "\u0000",
    ]) {
      expect(codeOf(text), text).to.equal("malformed");
    }
    expect(() => parseJson("{my-password"))
      .to.throw(HubError)
      .with.property("message")
      .not.contain("password");
  });

  it("parseJson gives what JSON.parse gives", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (text) => {
        expect(parseJson(text)).to.deep.equal(JSON.parse(text));
      }),
    );
  });
});
