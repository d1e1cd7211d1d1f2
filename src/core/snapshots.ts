/**
 * What begins a feed for those who come in, read once for each position: at the same position of the same history it is
 * the same, but for the trainer's signs of life and, on the tenant's feed, progress that is not told there yet. For
 * those, and so that nothing is kept that nobody asks for, none is older than a quarter of a second.
 */
import { type FeedName, feedId } from "../bus/bus.ts";
import type { Cursor, Gap } from "../protocol/types.ts";

type Snapshot = Gap["snapshot"];

const LIFE_MS = 250;
/** Feeds of which one is kept. */
const MAX = 256;

interface Kept {
  /** The head that was known before it was read. */
  readonly head: Cursor;
  /** The last position at which it is right. */
  upTo: number;
  readonly snapshot: Promise<Snapshot>;
  readonly timer: NodeJS.Timeout;
}

export class Snapshots {
  readonly #read: (name: FeedName) => Promise<Snapshot>;
  readonly #kept = new Map<string, Kept>();

  constructor(read: (name: FeedName) => Promise<Snapshot>) {
    this.#read = read;
  }

  /** At this head of the feed, which was read before, or at a newer one. It is shared: not to be changed. */
  at(name: FeedName, head: Cursor): Promise<Snapshot> {
    const id = feedId(name);
    const kept = this.#kept.get(id);
    if (kept && isWithin(head, kept)) return kept.snapshot;
    this.#forget(id, kept);
    const fresh: Kept = {
      head,
      upTo: head.seq,
      snapshot: this.#read(name),
      timer: setTimeout(() => this.#forget(id, fresh), LIFE_MS),
    };
    this.#kept.set(id, fresh);
    if (this.#kept.size > MAX) this.#forget(...(this.#kept.entries().next().value as [string, Kept]));
    fresh.snapshot.then(
      (snapshot) => {
        if (!snapshot) this.#forget(id, fresh);
        else if ("seq" in snapshot && snapshot.epoch === head.epoch)
          fresh.upTo = Math.max(head.seq, snapshot.seq);
      },
      () => this.#forget(id, fresh),
    );
    return fresh.snapshot;
  }

  #forget(id: string, kept: Kept | undefined): void {
    if (!kept || this.#kept.get(id) !== kept) return;
    clearTimeout(kept.timer);
    this.#kept.delete(id);
  }

  close(): void {
    for (const { timer } of this.#kept.values()) clearTimeout(timer);
    this.#kept.clear();
  }
}

function isWithin({ epoch, seq }: Cursor, { head, upTo }: Kept): boolean {
  return epoch === head.epoch && head.seq <= seq && seq <= upTo;
}
