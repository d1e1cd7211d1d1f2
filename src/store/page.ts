/** What both stores share: answers to an append, and how two streams of one feed become one page. */
import { randomBytes } from "node:crypto";
import {
  type AppendResult,
  ENTRY_OVERHEAD,
  type Logged,
  type Page,
  type ReadOptions,
  type Stored,
  type Trimmed,
} from "./store.ts";

/** Names a new history of a feed. */
export function newEpoch(): string {
  return randomBytes(9).toString("base64url");
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
