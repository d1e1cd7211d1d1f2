/** What both stores share: answers to an append, and how two streams of one feed become one page. */
import { randomFillSync } from "node:crypto";
import {
  type AppendResult,
  ENTRY_OVERHEAD,
  type Logged,
  type Page,
  type ReadOptions,
  type Stored,
  type Trimmed,
} from "./store.ts";

const EPOCH_BYTES = 9;
/** Every append may begin a history: asking the system each time would cost more than all else that names it. */
const random = Buffer.alloc(EPOCH_BYTES * 256);
let used = random.length;

/** Names a new history of a feed. */
export function newEpoch(): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  used += EPOCH_BYTES;
  return random.toString("base64url", used - EPOCH_BYTES, used);
}

/** What an event counts against byte limits. */
export function size(event: { head: string; data: string }): number {
  return Buffer.byteLength(event.head) + Buffer.byteLength(event.data) + ENTRY_OVERHEAD;
}

/** Where the feed stands after what became of the entries. */
export function resultOf(epoch: string, stored: Stored[]): AppendResult {
  const seqs = stored.flatMap((entry) => ("seq" in entry ? [entry.seq] : []));
  return seqs.length === 0 ? { stored } : { stored, position: { epoch, seq: Math.max(...seqs) } };
}

/** Of a feed that is not there. */
export function emptyPage(): Page {
  return { epoch: null, seq: 0, reset: false, logged: [], trimmed: [], newest: [], upTo: 0 };
}

/** The seq before the n-th newest of what was found; with fewer than n, before the oldest. */
export function tailCursor(found: number[], n: number, head: number): number {
  if (n === 0) return head;
  const newestFirst = found.sort((a, b) => b - a).slice(0, n);
  const oldest = newestFirst.at(-1);
  return oldest === undefined ? head : oldest - 1;
}

/** One page from both streams: in order, within the limits, with the holes that the caps have left. */
export function mergeStreams(
  head: number,
  options: ReadOptions,
  streams: ReadonlyArray<{ stream: "events" | "log"; last: number; logged: Logged[] }>,
): Pick<Page, "logged" | "trimmed" | "upTo"> {
  const all = streams.flatMap(({ logged }) => logged).sort((a, b) => a.seq - b.seq);
  const logged: Logged[] = [];
  let bytes = 0;
  for (const event of all) {
    bytes += size(event);
    if (logged.length === options.limit || (bytes > options.bytes && logged.length > 0)) break;
    logged.push(event);
  }
  // A stream that was cut by its own limit ends the page at its last event: what follows there is not known yet.
  let upTo = logged.length < all.length ? (logged.at(-1)?.seq ?? options.after) : head;
  for (const { last, logged: own } of streams) {
    const end = own.at(-1)?.seq;
    if (end !== undefined && end < last) upTo = Math.min(upTo, end);
  }
  const trimmed: Trimmed[] = [];
  for (const { stream, last, logged: own } of streams) {
    let before = options.after;
    const lost = (to: number) => {
      // What lies behind the end of this page is told by the next one.
      if (to > before && before < upTo) trimmed.push({ stream, from: before + 1, to: Math.min(to, upTo) });
    };
    for (const event of own) {
      lost(event.prev);
      if (event.seq > upTo) break;
      before = event.seq;
    }
    if (own.length === 0) lost(last);
  }
  return { logged: logged.filter(({ seq }) => seq <= upTo), trimmed, upTo };
}

/** A page that was read for many, as one of them would have read it: its cursor is not below that of the page. */
export function cutPage(page: Page, options: Omit<ReadOptions, "streams">): Page {
  const { epoch, after, limit, bytes, newestAfter = after } = options;
  if (page.epoch === null) return { ...page, reset: epoch !== null };
  if (after > page.seq || (epoch !== null && epoch !== page.epoch)) {
    return { ...emptyPage(), epoch: page.epoch, seq: page.seq, upTo: page.seq, reset: true };
  }
  const logged: Logged[] = [];
  let used = 0;
  let { upTo } = page;
  for (const event of page.logged) {
    if (event.seq <= after) continue;
    used += size(event);
    if (logged.length === limit || (used > bytes && logged.length > 0)) {
      upTo = (logged.at(-1) as Logged).seq;
      break;
    }
    logged.push(event);
  }
  const trimmed = page.trimmed
    .map(({ stream, from, to }) => ({ stream, from: Math.max(from, after + 1), to: Math.min(to, upTo) }))
    .filter(({ from, to }) => from <= to);
  const newest = page.newest.filter(({ seq }) => seq > (upTo === page.seq ? newestAfter : after));
  return { ...page, logged, trimmed, newest, upTo };
}

/** Whether something for this cursor is in a page that begins at or before it. */
export function serves(page: Page, { epoch, after }: Pick<ReadOptions, "epoch" | "after">): boolean {
  const { upTo, seq } = page;
  return upTo === seq || after < upTo || (epoch !== null && epoch !== page.epoch);
}
