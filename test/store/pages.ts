import { expect } from "chai";
import fc from "fast-check";
import { size } from "../../src/store/page.ts";
import type { Logged, Page, ReadOptions, Store, Trimmed } from "../../src/store/store.ts";
import { ALL, created, entryOf, FEED, log, progress, readAll, sample } from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

type Kind = "event" | "log" | "progress" | "stats";

/** What is asked for and appended, all of it random. */
interface Plan {
  caps: { maxEvents: number; maxLogLines: number; maxFeedBytes: number };
  batches: Kind[][];
  /** Appended while pages are read: before each, one of these. */
  meanwhile: Kind[][];
  /** Share of the head. */
  cursor: number;
  limits: number[];
  bytes: number[];
  streams: ReadOptions["streams"];
}

const kind = fc.constantFrom<Kind>("event", "log", "log", "progress", "stats");
const batch = fc.array(kind, { minLength: 1, maxLength: 12 });
const plans: fc.Arbitrary<Plan> = fc.record({
  caps: fc.record({
    maxEvents: fc.integer({ min: 1, max: 20 }),
    maxLogLines: fc.integer({ min: 1, max: 20 }),
    maxFeedBytes: fc.oneof(fc.constant(1_000_000), fc.integer({ min: 1, max: 5_000 })),
  }),
  batches: fc.array(batch, { minLength: 1, maxLength: 8 }),
  meanwhile: fc.array(fc.oneof(fc.constant<Kind[]>([]), batch), { maxLength: 3 }),
  cursor: fc.double({ min: 0, max: 1, noNaN: true }),
  limits: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 3 }),
  bytes: fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 3 }),
  streams: fc.constantFrom<ReadOptions["streams"]>(["events", "log"], ["events"], ["log"], ["log", "events"]),
});

/** Every durable event that was ever stored, in order. */
type Model = Array<{ seq: number; stream: "events" | "log"; data: string }>;

/** Pages: whatever their size, nothing is lost, doubled, or missing without a word. */
export function pages(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());

  describe("a page", () => {
    it("has at most so many events", async () => {
      await subject.store.append(
        FEED,
        Array.from({ length: 9 }, (_, i) => (i % 2 ? log() : sample(i))),
        created(),
      );
      const page = await subject.store.read(FEED, { ...ALL, limit: 4 });
      expect(seqs(page.logged)).to.deep.equal([1, 2, 3, 4]);
      expect({ upTo: page.upTo, seq: page.seq }).to.deep.equal({ upTo: 4, seq: 10 });
    });

    it("has at most so many bytes, but always one event", async () => {
      const lines = ["a".repeat(500), "b".repeat(500), "c".repeat(500)].map(log);
      await subject.store.append(FEED, lines, created());
      const one = size(lines[0] as { head: string; data: string });
      const read = (bytes: number, after = 1) => subject.store.read(FEED, { ...ALL, after, bytes });
      expect(seqs((await read(2 * one)).logged)).to.deep.equal([2, 3]);
      expect(seqs((await read(2 * one - 1)).logged)).to.deep.equal([2]);
      for (const bytes of [0, 1]) expect(seqs((await read(bytes)).logged)).to.deep.equal([2]);
      expect(seqs((await read(3 * one)).logged)).to.deep.equal([2, 3, 4]);
    });

    it("ends where one stream is not known any further", async () => {
      await subject.store.append(FEED, [log(), log(), log(), log(), sample(), log()], created());
      const page = await subject.store.read(FEED, { ...ALL, after: 1, limit: 3 });
      expect(seqs(page.logged)).to.deep.equal([2, 3, 4]);
      expect(page.upTo).to.equal(4);
    });

    it("has every newest value above the cursor, whatever its size", async () => {
      const { store } = subject;
      await store.append(
        FEED,
        [progress({ step: 1 }), progress({ step: 2 }, { rank: 1 }), log(), log()],
        created(),
      );
      await store.append(FEED, [progress({ step: 3 }, { rank: 1 })], created());
      const keys = async (after: number) =>
        (await store.read(FEED, { ...ALL, after, limit: 1 })).newest.map(({ seq }) => seq);
      expect(await keys(0)).to.deep.equal([2, 6]);
      expect(await keys(2)).to.deep.equal([6]);
      expect(await keys(6)).to.deep.equal([]);
      const again = await store.read(FEED, { ...ALL, after: 4, newestAfter: 0 });
      expect(seqs(again.logged)).to.deep.equal([5]);
      expect(seqs(again.newest), "in the same step, those before the cursor too").to.deep.equal([2, 6]);
      expect((await store.read(FEED, { ...ALL, after: 4, newestAfter: 2 })).newest).to.have.lengthOf(1);
    });

    it("tells what the caps have removed when the hole lies before its last event", async () => {
      // The other stream ends this page after the hole but before the first event that is left behind it.
      await subject.close();
      subject = await open({ maxEvents: 2, maxLogLines: 100 });
      const { store } = subject;
      await store.append(FEED, [sample(), sample(), log(), log(), log(), sample(), sample()], created());
      const first = await store.read(FEED, { ...ALL, limit: 2 });
      expect(seqs(first.logged)).to.deep.equal([4, 5]);
      expect(first.trimmed).to.deep.equal([{ stream: "events", from: 1, to: 3 }]);
      const second = await store.read(FEED, { ...ALL, after: first.upTo });
      expect({ seqs: seqs(second.logged), trimmed: second.trimmed }).to.deep.equal({
        seqs: [6, 7, 8],
        trimmed: [],
      });
    });

    it("says nothing of numbers that conflatable events have used", async () => {
      await subject.store.append(FEED, [progress({}), log(), progress({}), progress({}), log()], created());
      for (let after = 0; after <= 6; after++) {
        expect((await subject.store.read(FEED, { ...ALL, after })).trimmed, `after ${after}`).to.deep.equal(
          [],
        );
      }
    });
  });

  it("pages together are everything after the cursor, each event once, or covered by what was trimmed", async function () {
    this.timeout(60_000);
    await fc.assert(fc.asyncProperty(plans, checkPlan), { numRuns: 300 });
  });

  let events = 0;
  async function append(store: Store, model: Model, kinds: Kind[]): Promise<void> {
    const entries = kinds.map((one) => {
      const text = `${events++} ${"x".repeat((events * 131) % 400)}`;
      if (one === "event") return entryOf("alert", { level: "info", title: text });
      if (one === "log") return log(text);
      return one === "progress"
        ? progress({ step: events })
        : entryOf("system_stats", { host: `h${events % 3}` });
    });
    const { stored } = await store.append(FEED, entries, model.length === 0 ? created() : undefined);
    if (model.length === 0) model.push({ seq: 1, stream: "events", data: created().data });
    for (const [i, { durable, stream, data }] of entries.entries()) {
      if (durable) model.push({ seq: (stored[i] as { seq: number }).seq, stream, data });
    }
  }

  async function checkPlan(plan: Plan): Promise<void> {
    const own = await open(plan.caps);
    try {
      await checkStore(own.store, plan);
    } finally {
      await own.close();
    }
  }

  async function checkStore(store: Store, plan: Plan): Promise<void> {
    const model: Model = [];
    for (const kinds of plan.batches) await append(store, model, kinds);
    const { epoch, seq: head } = await readAll(store);
    const after = Math.floor(plan.cursor * head);
    const { streams } = plan;
    // One big read, and pages of the same; then pages while more is appended.
    const big = await store.read(FEED, { ...ALL, epoch, after, streams });
    expect(big.upTo).to.equal(head);
    const quiet = await readPages(store, plan, epoch, after, async () => {});
    expect(quiet.logged).to.deep.equal(big.logged);
    expect(covered(quiet.trimmed)).to.deep.equal(covered(big.trimmed));
    checkComplete(model, plan, after, head, quiet);
    const busy = await readPages(store, plan, epoch, after, async (page) => {
      const kinds = plan.meanwhile[page];
      if (kinds && kinds.length > 0) await append(store, model, kinds);
    });
    checkComplete(model, plan, after, (await readAll(store)).seq, busy);
  }
}

interface Read {
  logged: Logged[];
  trimmed: Trimmed[];
}

async function readPages(
  store: Store,
  plan: Plan,
  epoch: string | null,
  after: number,
  before: (page: number) => Promise<void>,
): Promise<Read> {
  const read: Read = { logged: [], trimmed: [] };
  let page: Page;
  let at = after;
  let number = 0;
  do {
    await before(number);
    const limit = plan.limits[number % plan.limits.length] as number;
    const bytes = plan.bytes[number % plan.bytes.length] as number;
    page = await store.read(FEED, { epoch, after: at, limit, bytes, streams: plan.streams });
    number++;
    expect(page.reset).to.equal(false);
    expect(page.logged.length).to.be.at.most(limit);
    if (page.logged.length > 1)
      expect(page.logged.reduce((sum, event) => sum + size(event), 0)).to.be.at.most(bytes);
    for (const { seq } of page.logged) expect(seq).to.be.within(at + 1, page.upTo);
    for (const { from, to } of page.trimmed) {
      expect(from).to.be.within(at + 1, page.upTo);
      expect(to).to.be.within(from, page.upTo);
    }
    expect(seqs(page.newest)).to.deep.equal(seqs(page.newest).sort((a, b) => a - b));
    for (const { seq } of page.newest) expect(seq).to.be.within(at + 1, page.seq);
    if (page.upTo < page.seq) expect(page.upTo, "a page goes on").to.be.above(at);
    read.logged.push(...page.logged);
    read.trimmed.push(...page.trimmed);
    at = page.upTo;
  } while (page.upTo < page.seq || number < plan.meanwhile.length);
  return read;
}

/** No durable event is lost without a word, none is doubled or changed, and only what is gone is called trimmed. */
function checkComplete(
  model: Model,
  plan: Plan,
  after: number,
  head: number,
  { logged, trimmed }: Read,
): void {
  expect(seqs(logged), "in order, each once").to.deep.equal([...new Set(seqs(logged))].sort((a, b) => a - b));
  const read = new Map(logged.map((event) => [event.seq, event]));
  const missing = new Map<string, Set<number>>([
    ["events", new Set()],
    ["log", new Set()],
  ]);
  for (const { seq, stream, data } of model) {
    if (seq <= after || seq > head || !plan.streams.includes(stream)) continue;
    const told = trimmed.some((range) => range.stream === stream && range.from <= seq && seq <= range.to);
    const event = read.get(seq);
    if (event) expect({ data: event.data, told }).to.deep.equal({ data, told: false });
    else expect(told, `event ${seq} is lost without a word`).to.equal(true);
    if (!event) missing.get(stream)?.add(seq);
    read.delete(seq);
  }
  expect([...read.keys()], "events that nobody stored").to.deep.equal([]);
  for (const [range, from, to] of covered(trimmed)) {
    const lost = [...(missing.get(range) ?? [])].some((seq) => from <= seq && seq <= to);
    expect(lost, `nothing is missing from ${from} to ${to}`).to.equal(true);
  }
}

/** Ranges that follow each other are one, wherever a page ended. */
function covered(trimmed: readonly Trimmed[]): Array<[string, number, number]> {
  const all: Array<[string, number, number]> = [];
  for (const stream of ["events", "log"] as const) {
    const own = trimmed.filter((range) => range.stream === stream).sort((a, b) => a.from - b.from);
    for (const { from, to } of own) {
      const last = all.at(-1);
      if (last?.[0] === stream && from <= last[2] + 1) last[2] = Math.max(last[2], to);
      else all.push([stream, from, to]);
    }
  }
  return all;
}

function seqs(events: ReadonlyArray<{ seq: number }>): number[] {
  return events.map(({ seq }) => seq);
}
