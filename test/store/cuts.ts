import { expect } from "chai";
import fc from "fast-check";
import { cutPage, serves } from "../../src/store/page.ts";
import type { Page, ReadOptions } from "../../src/store/store.ts";
import { created, entryOf, FEED, log, progress, sample } from "./entries.ts";
import type { Open } from "./subject.ts";

type Kind = "event" | "log" | "progress" | "stats";

interface Plan {
  caps: { maxEvents: number; maxLogLines: number; maxFeedBytes: number };
  kinds: Kind[];
  /** Shares of the head, and sometimes above it. */
  cursors: number[];
  limit: number;
  bytes: number;
  /** How much larger the read for all of them is. */
  wide: number;
  streams: ReadOptions["streams"];
  newestAfter: "all" | "cursor";
  epoch: "own" | "any" | "another";
}

const kind = fc.constantFrom<Kind>("event", "log", "log", "progress", "stats");
const plans: fc.Arbitrary<Plan> = fc.record({
  caps: fc.record({
    maxEvents: fc.integer({ min: 1, max: 20 }),
    maxLogLines: fc.integer({ min: 1, max: 20 }),
    maxFeedBytes: fc.oneof(fc.constant(1_000_000), fc.integer({ min: 1, max: 5_000 })),
  }),
  kinds: fc.array(kind, { minLength: 1, maxLength: 60 }),
  cursors: fc.array(fc.double({ min: 0, max: 1.1, noNaN: true }), { minLength: 2, maxLength: 6 }),
  limit: fc.integer({ min: 1, max: 30 }),
  bytes: fc.oneof(fc.constant(100_000), fc.integer({ min: 1, max: 6_000 })),
  wide: fc.constantFrom(1, 2),
  streams: fc.constantFrom<ReadOptions["streams"]>(["events", "log"], ["events"], ["log"]),
  newestAfter: fc.constantFrom("all", "cursor"),
  epoch: fc.constantFrom("own", "own", "any", "another"),
});

/** What a cut of a larger page says is what the store says of the same cursor. */
export function cuts(open: Open): void {
  it("a cut is the page that a read of its own would have been, or the first part of it", async function () {
    this.timeout(60_000);
    let whole = 0;
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        whole += await checkCuts(open, plan);
      }),
      { numRuns: 300 },
    );
    expect(whole, "cuts that were whole pages").to.be.above(300);
  });

  it("of a feed that is not there is lost for those who have a history of it", async () => {
    const { store, close } = await open();
    const own = { limit: 5, bytes: 100, streams: ["events", "log"] as const, newestAfter: 0, after: 3 };
    for (const epoch of [null, "gone"]) {
      const page = await store.read(FEED, { ...own, epoch: null, after: 0 });
      expect(cutPage(page, { ...own, epoch })).to.deep.equal(await store.read(FEED, { ...own, epoch }));
    }
    await close();
  });
}

async function checkCuts(open: Open, plan: Plan): Promise<number> {
  const subject = await open(plan.caps);
  try {
    const { store } = subject;
    const entries = plan.kinds.map((one, i) => {
      const text = `${i} ${"x".repeat((i * 131) % 400)}`;
      if (one === "event") return i % 2 ? sample(i) : entryOf("alert", { level: "info", title: text });
      if (one === "log") return log(text);
      return one === "progress"
        ? progress({ step: i }, { rank: i % 3 })
        : entryOf("system_stats", { host: `h${i % 3}` });
    });
    const { position } = await store.append(FEED, entries, created());
    const head = position?.seq as number;
    const epoch =
      plan.epoch === "own" ? (position?.epoch as string) : plan.epoch === "any" ? null : "another";
    const cursors = plan.cursors.map((share) => Math.floor(share * head)).sort((a, b) => a - b);
    const { streams, limit, bytes, wide } = plan;
    const page = await store.read(FEED, {
      ...{ streams, limit: limit * wide, bytes: bytes * wide, after: cursors[0] as number },
      ...{ epoch: plan.epoch === "another" ? null : epoch, newestAfter: 0 },
    });
    let whole = 0;
    for (const after of cursors) {
      const newestAfter = plan.newestAfter === "all" ? 0 : after;
      const own = { streams, limit, bytes, after, epoch, newestAfter };
      if (!serves(page, own)) continue;
      if (compare(cutPage(page, own), await store.read(FEED, own), own)) whole++;
    }
    return whole;
  } finally {
    await subject.close();
  }
}

/** Answers whether the cut is the whole page. */
function compare(cut: Page, direct: Page, { after, newestAfter }: Required<ReadOptions>): boolean {
  // What a store adds of values before the cursor to a page that ends before the head is up to it.
  const sure = ({ seq }: { seq: number }) => seq > (direct.upTo === direct.seq ? newestAfter : after);
  if (cut.upTo === direct.upTo) {
    expect(cut).to.deep.equal({ ...direct, newest: direct.newest.filter(sure) });
    return true;
  }
  const { upTo } = cut;
  expect(upTo).to.be.within(after + 1, direct.upTo - 1);
  expect(cut.logged).to.deep.equal(direct.logged.filter(({ seq }) => seq <= upTo));
  expect(cut.trimmed).to.deep.equal(
    direct.trimmed
      .filter(({ from }) => from <= upTo)
      .map((range) => ({ ...range, to: Math.min(range.to, upTo) })),
  );
  const within = (page: Page) => page.newest.filter(({ seq }) => seq > after && seq <= upTo);
  expect(within(cut)).to.deep.equal(within(direct));
  return false;
}
