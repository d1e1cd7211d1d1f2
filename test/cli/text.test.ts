import { expect } from "chai";
import { columns, cut, harmless, harmlessAll, harmlessJson } from "../../src/cli/text.ts";

describe("harmless", () => {
  it("removes colours and other commands to the terminal, and shows what is left of them", () => {
    expect(harmless("\u001b[31mred\u001b[0m \u001b]0;title\u0007text")).to.equal("red text");
    expect(harmless("bell \u0007 escape \u001b")).to.equal("bell ␇ escape ␛");
    expect(harmless("del \u007f, C1 \u009f, right to left \u202e, line \u2028.")).to.equal(
      "del \ufffd, C1 \ufffd, right to left \ufffd, line \ufffd.",
    );
  });

  it("makes one line of several", () => {
    expect(harmless("a\r\n  b\nc\n")).to.equal("a ⏎ b ⏎ c");
    expect(harmless("a\tb")).to.equal("a  b");
  });

  it("leaves other scripts and emoji", () => {
    for (const text of ["Grüße", "日本語", "👩‍🚀 עברית"]) expect(harmless(text)).to.equal(text);
  });

  it("holds for every text and name in a value", () => {
    expect(harmlessAll({ "a\u0000": ["\u001b[2J", { b: 1, c: null }] })).to.deep.equal({
      "a␀": ["", { b: 1, c: null }],
    });
  });
});

describe("harmlessJson", () => {
  it("is the same value in one line of printable characters", () => {
    const value = { text: "\u001b[2J\u009b2J\u007f\n\u2028", number: 1e20 };
    const line = harmlessJson(value);
    expect(line).to.match(/^[\x20-\x7e]+$/);
    expect(JSON.parse(line)).to.deep.equal(value);
  });
});

describe("columns and cut", () => {
  it("count what the terminal shows", () => {
    expect(columns("abc")).to.equal(3);
    expect(columns("日本")).to.equal(4);
    expect(columns("e\u0301")).to.equal(1);
    expect(columns("🎉")).to.equal(2);
    expect(columns("▁▂█ … ● ⏎")).to.equal(9);
  });

  it("cut never exceeds the room", () => {
    expect(cut("abcdef", 6)).to.equal("abcdef");
    expect(cut("abcdefg", 6)).to.equal("abcde…");
    expect(cut("日本語", 5)).to.equal("日本…");
    expect(cut("日本語", 4)).to.equal("日…");
    expect(cut("abc", 0)).to.equal("");
  });
});
