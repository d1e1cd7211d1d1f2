import { expect } from "chai";
import { missingRow, rowOf } from "../../bench/judge.ts";
import type { Finding, Target } from "../../bench/measure.ts";
import { pageOf, ticksUpTo } from "../../bench/page.ts";
import { type BenchResult, figure, footOf, summaryOf, tableOf } from "../../bench/report.ts";

const JUDGED = { ours: "trainwire", references: ["default", "sharded"] };
const FANOUT: Target = { key: "fanout", title: "CPU per delivery, µs", target: 0.25 };
const INGEST: Target = {
  key: "ingest",
  title: "events a second",
  target: 10_000,
  higherIsBetter: true,
  kind: "absolute",
};
const RATE: Target = { key: "rate", title: "events a second beside others", target: 2, higherIsBetter: true };

const ROUNDS = [
  { trainwire: 1, ws: 6, default: 8, sharded: 10 },
  { trainwire: 1.2, ws: 6.2, default: 8.2, sharded: 9 },
  { trainwire: 1.1, ws: undefined, default: 30, sharded: 9.5 },
];

function row(target: Target, rounds: Finding["rounds"], reason?: string) {
  return rowOf(
    "m",
    target,
    { key: target.key, rounds, ...(reason !== undefined && { void: reason }) },
    JUDGED,
  );
}

function resultOf(rows: BenchResult["rows"]): BenchResult {
  const system = (name: string, lacks: string[]) => ({ name, description: `${name} <as it is>`, lacks });
  return {
    date: "2026-01-02T03:04:05.678Z",
    commit: "abc1234",
    quick: false,
    alternations: 3,
    seconds: 60,
    machine: { cpu: "a CPU", cores: 2, memoryGb: 8, kernel: "6.1", load: 0.5 },
    versions: { node: "20.0.0", redis: "7.0.0" },
    systems: [
      system("trainwire", []),
      system("ws", ["history", "order"]),
      system("default", ["history"]),
      system("sharded", []),
    ],
    rows,
    failed: [],
  };
}

describe("rowOf", () => {
  it("takes the ratio of medians, against the faster reference", () => {
    const { ratio, reference, met, spread } = row(FANOUT, ROUNDS);
    expect(reference).to.equal("default");
    expect(ratio).to.be.closeTo(1.1 / 8.2, 1e-9);
    expect(met).to.equal(true);
    expect(spread?.[0]).to.be.at.most(ratio as number);
    expect(spread?.[1]).to.be.at.least(ratio as number);
  });

  it("is missed above the target", () => {
    expect(row({ ...FANOUT, target: 0.1 }, ROUNDS).met).to.equal(false);
  });

  it("turns round where more is better", () => {
    const rounds = [{ trainwire: 30, default: 10, sharded: 12 }];
    const { ratio, reference, met } = row(RATE, rounds);
    expect([ratio, reference, met]).to.deep.equal([2.5, "sharded", true]);
    expect(row(RATE, [{ trainwire: 20, default: 10, sharded: 12 }]).met).to.equal(false);
  });

  it("holds a figure of its own against the target itself", () => {
    const { ratio, met, reference } = row(INGEST, [{ trainwire: 12_000 }, { trainwire: 9_000 }]);
    expect([ratio, met, reference]).to.deep.equal([1.05, true, undefined]);
    expect(row(INGEST, [{ trainwire: 9_000 }]).met).to.equal(false);
  });

  it("leaves out rounds in which a system took no part", () => {
    const { figures } = row(FANOUT, ROUNDS);
    expect(figures.ws?.median).to.equal(6.1);
    expect(figures.ws?.rounds).to.deep.equal([6, 6.2]);
  });

  it("is never met when it says nothing", () => {
    const found = row(FANOUT, ROUNDS, "the generator was the limit");
    expect([found.met, found.void]).to.deep.equal([false, "the generator was the limit"]);
    for (const nothing of [row(FANOUT, []), row(FANOUT, [{ trainwire: 1 }]), row(FANOUT, [{ default: 1 }])]) {
      expect([nothing.met, nothing.ratio, nothing.void]).to.deep.equal([
        false,
        undefined,
        "nothing was found",
      ]);
    }
  });
});

describe("summaryOf", () => {
  it("has ratio, spread, target and met for every target", () => {
    const rows = [row(FANOUT, ROUNDS), row(INGEST, [{ trainwire: 12_000 }]), row(RATE, [])];
    expect(summaryOf(resultOf(rows))).to.deep.equal({
      fanout: {
        ratio: 0.1341,
        spread: rows[0]?.spread?.map((each) => Number(each.toPrecision(4))),
        target: 0.25,
        met: true,
      },
      ingest: {
        ratio: 1.2,
        spread: [1.2, 1.2],
        target: 1,
        met: true,
        higher_is_better: true,
        value: 12_000,
        value_target: 10_000,
      },
      rate: {
        ratio: null,
        spread: null,
        target: 2,
        met: false,
        higher_is_better: true,
        void: "nothing was found",
      },
    });
  });
});

describe("tableOf", () => {
  it("has a column for each system, and says what was not met", () => {
    const rows = [row(FANOUT, ROUNDS), missingRow("m", RATE, "no time was left", JUDGED)];
    const lines = tableOf(resultOf(rows));
    expect(lines[0]).to.match(/^ +trainwire +ws +default +sharded +ratio \(95 %\) +target$/);
    expect(lines[1]).to.match(/^fanout +1\.10 +6\.10 +8\.20 +9\.50 +0\.13 \([\d.]+–[\d.]+\) +≤ 0\.25 +met$/);
    expect(lines[2]).to.equal("  CPU per delivery, µs");
    expect(lines[3]).to.match(/^rate +– +– +– +– +– +≥ 2 +void$/);
    expect(lines[4]).to.equal("  events a second beside others; says nothing: no time was left");
  });

  it("says below it what each peer does not do", () => {
    const foot = footOf(resultOf([]));
    expect(foot).to.include("ws: ws <as it is>");
    expect(foot).to.include("  does not do: history, order");
    expect(foot.join("\n")).to.include("a CPU, 2 cores, 8 GB").and.to.include("redis 7.0.0");
  });
});

describe("figure", () => {
  it("has the digits that count", () => {
    const texts = [12_345.6, 100.4, 12.34, 1.234, 0.1234, 0.0123, 3, 0].map(figure);
    expect(texts).to.deep.equal(["12346", "100", "12.3", "1.23", "0.12", "0.012", "3", "0"]);
  });
});

describe("pageOf", () => {
  it("is one page that loads nothing, with every system in every plot", () => {
    const page = pageOf(resultOf([row(FANOUT, ROUNDS), row(INGEST, [{ trainwire: 12_000 }])]), ["default"]);
    expect(page).to.match(/^<!doctype html>/);
    expect(page).to.not.match(/<script|<link|\bsrc=|https?:|NaN|undefined/);
    expect(page.match(/<svg/g)).to.have.length(2);
    expect(page.match(/<rect class="bar/g)).to.have.length(5);
    expect(page).to.include("ws &lt;as it is>");
  });
});

describe("ticksUpTo", () => {
  it("ends at or above the highest, in steps that people count in", () => {
    expect(ticksUpTo(8)).to.deep.equal([0, 2, 4, 6, 8]);
    expect(ticksUpTo(8.1)).to.deep.equal([0, 2.5, 5, 7.5, 10]);
    expect(ticksUpTo(43_000)).to.deep.equal([0, 20_000, 40_000, 60_000]);
    for (const most of [1e-4, 0.3, 0.99, 1, 7, 99, 101, 12_345]) {
      const ticks = ticksUpTo(most);
      expect(ticks.at(-1)).to.be.at.least(most);
      expect(ticks.length).to.be.within(3, 6);
    }
    expect(ticksUpTo(0)).to.deep.equal([0, 1]);
  });
});
