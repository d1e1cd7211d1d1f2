/**
 * How the log is read for those who come in. When a hub has died, thousands come back to the same feed, each a few events
 * behind: no part of a feed's log is read twice within 50 ms. Who asks for what was read less than that long ago waits
 * for the next read, which begins at the lowest cursor of all who wait, and each gets his cut of it. Who reads on where
 * his last page ended, or far from everybody else, never waits.
 *
 * Every read begins after all who share it have asked, and they are told when. So a shared page is what a read of one's
 * own would have been in that moment, and what holds for that holds for it.
 */
import { type FeedName, feedId } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { Cursor, EventType } from "../protocol/types.ts";
import { cutPage, serves } from "../store/page.ts";
import type { Page, ReadOptions, Store } from "../store/store.ts";
import { SHARE_MS, type Shares } from "./shares.ts";
import { Slice } from "./slice.ts";

/** A page of one's own. `newestAfter` has no default here. */
export interface Wanted extends Required<ReadOptions> {
  /** It has waited for others already. */
  now?: boolean;
  /** Called just before each read that the page may come from, or when it has been read already. */
  onBegin?: (() => void) | undefined;
  /** Where the feed stands at this moment, for those who follow it here. Default: it is not followed. */
  standing?: Cursor | null | undefined;
}

/** Where cursors differ, twice a page is read, so that those ahead get a whole one too. */
const WIDE = 2;
/** How long a page up to the head is kept for those who come after each other. */
const KEEP_MS = 2_000;

export class Reads {
  /** Pages that were read from the store. */
  pages = 0;
  readonly #store: Pick<Store, "read" | "heads" | "tail">;
  readonly #ms: number;
  readonly #shares: Shares;
  readonly #feeds = new Map<string, FeedReads>();

  /** `shares` is the caller's to close. With `ms` 0, only those who ask in the same moment share a page. */
  constructor(store: Pick<Store, "read" | "heads" | "tail">, shares: Shares, ms = SHARE_MS) {
    this.#store = store;
    this.#ms = ms;
    this.#shares = shares;
  }

  /** What follows a cursor. */
  page(name: FeedName, wanted: Wanted): Promise<Slice> {
    const id = feedId(name);
    let feed = this.#feeds.get(id);
    if (!feed) {
      const read = (options: ReadOptions) => {
        this.pages++;
        return this.#store.read(name, options);
      };
      feed = new FeedReads(read, this.#ms, () => this.#feeds.delete(id));
      this.#feeds.set(id, feed);
    }
    return feed.page(wanted);
  }

  /** Where the feed stands; `undefined`: it is not there. */
  head(name: FeedName, onBegin?: () => void): Promise<Cursor | undefined> {
    const read = async () => (await this.#store.heads(name.tenantId, [name]))[0];
    return this.#shares.take(`head ${feedId(name)}`, read, onBegin);
  }

  /** The position before the last n durable events of these types. */
  tail(name: FeedName, n: number, types: ReadonlySet<EventType> | undefined): Promise<number> {
    const key = `tail ${n} ${types ? [...types].sort().join() : "*"} ${feedId(name)}`;
    return this.#shares.take(key, () => this.#store.tail(name, n, types));
  }

  /** Who still waits gets nothing. */
  close(): void {
    for (const feed of this.#feeds.values()) feed.close();
    this.#feeds.clear();
  }
}

/** Somebody who waits for a page. */
interface Asked extends Wanted {
  resolve: (slice: Slice) => void;
  reject: (error: unknown) => void;
  /** How often a shared page did not reach his part of the log. */
  misses: number;
  /** Reads that had begun when he asked. */
  begun: number;
}

/** Cursors whose part of the log was read less than so many ms ago, from the first to the last. */
interface Recent {
  readonly from: number;
  to: number;
}

/** Then the next page begins with it, so that nobody waits for ever. */
const MISSES = 2;

/** A page that was read, and what has been cut from it. */
class Cuts {
  readonly #page: Page;
  readonly #options: ReadOptions;
  readonly #slices = new Map<string, Slice>();
  readonly #made: Slice["made"] = new Map();

  constructor(page: Page, options: ReadOptions) {
    this.#page = page;
    this.#options = options;
  }

  /** Up to the head, and not only for a cursor that leads nowhere. */
  get isWhole(): boolean {
    const { reset, upTo, seq } = this.#page;
    return !reset && upTo >= seq;
  }

  /** What somebody would have read himself; `undefined` where it does not reach so far. Nobody asks from before it. */
  of(asked: Wanted): Slice | undefined {
    const { after, epoch, limit, bytes, newestAfter } = asked;
    const key = `${after} ${limit} ${bytes} ${newestAfter} ${epoch}`;
    let slice = this.#slices.get(key);
    if (!slice && serves(this.#page, asked)) {
      slice = new Slice(cutPage(this.#page, asked), this.#made);
      this.#slices.set(key, slice);
    }
    // Events of a stream that he did not ask for have taken the place of his.
    const isCrowded = slice && slice.page.upTo < slice.page.seq && !sameStreams(asked, this.#options);
    return isCrowded ? undefined : slice;
  }

  /** Of a whole page: what somebody would read now, where he who follows the feed stands at its end. */
  still(asked: Wanted): Slice | undefined {
    const { epoch, seq } = this.#page;
    const { after, streams, newestAfter = after } = this.#options;
    const isNow = asked.standing?.epoch === epoch && asked.standing?.seq === seq;
    const isAhead = asked.after >= after && asked.newestAfter >= newestAfter;
    return isNow && isAhead && asked.streams.every((stream) => streams.includes(stream))
      ? this.of(asked)
      : undefined;
  }
}

class FeedReads {
  readonly #read: (options: ReadOptions) => Promise<Page>;
  readonly #ms: number;
  readonly #onIdle: () => void;
  #waiting: Asked[] = [];
  readonly #recent = new Map<Recent, NodeJS.Timeout>();
  #underWay = 0;
  #looks = false;
  /** Reads so far, and the last of them that is no longer recent. */
  #begun = 0;
  #past = 0;
  #kept: { cuts: Cuts; timer: NodeJS.Timeout } | undefined;
  #closed = false;

  constructor(read: (options: ReadOptions) => Promise<Page>, ms: number, onIdle: () => void) {
    this.#read = read;
    this.#ms = ms;
    this.#onIdle = onIdle;
  }

  page(wanted: Wanted): Promise<Slice> {
    const kept = this.#kept?.cuts.still(wanted);
    if (kept) {
      wanted.onBegin?.();
      return Promise.resolve(kept);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...wanted, resolve, reject, misses: 0, begun: this.#begun });
      this.#look();
    });
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#recent.values()) clearTimeout(timer);
    clearTimeout(this.#kept?.timer);
    for (const { reject } of this.#waiting) reject(new HubError("unavailable"));
    this.#waiting = [];
  }

  /** Those who have waited for the same moment ask in one turn. */
  #look(): void {
    if (this.#looks) return;
    this.#looks = true;
    queueMicrotask(() => {
      this.#looks = false;
      this.#begin();
    });
  }

  /** Reads for all whose part of the log was not read just now. */
  #begin(): void {
    if (this.#closed) {
      this.close();
      return;
    }
    const first = this.#waiting.filter((asked) => this.#isDue(asked)).sort(inOrder);
    const taken = new Set<Asked>();
    for (const asked of first) {
      if (taken.has(asked)) continue;
      const group = this.#waiting.filter((other) => !taken.has(other) && joins(asked, other));
      for (const one of group) taken.add(one);
      void this.#readFor(asked, group);
    }
    if (taken.size > 0) this.#waiting = this.#waiting.filter((asked) => !taken.has(asked));
  }

  /** Also whom a read that began after he had asked did not take along: others may come again and again. */
  #isDue({ after, now, misses, begun }: Asked): boolean {
    return now === true || misses > 0 || begun < this.#past || !this.#isRecent(after);
  }

  #isRecent(after: number): boolean {
    for (const { from, to } of this.#recent.keys()) if (from <= after && after <= to) return true;
    return false;
  }

  async #readFor(first: Asked, group: readonly Asked[]): Promise<void> {
    const options = together(first, group);
    // Until it is there, as if every position were an event. Who asks from a little before would read this part again.
    const recent: Recent = { from: first.after - first.limit, to: first.after + first.limit };
    if (this.#ms > 0) this.#remember(recent);
    this.#underWay++;
    for (const { onBegin } of group) onBegin?.();
    try {
      const page = await this.#read(options);
      recent.to = page.upTo >= page.seq ? Number.POSITIVE_INFINITY : page.upTo - 1;
      this.#share(new Cuts(page, options), group);
    } catch (error) {
      for (const { reject } of group) reject(error);
    } finally {
      this.#underWay--;
      this.#endIfIdle();
    }
  }

  #remember(recent: Recent): void {
    const number = ++this.#begun;
    const forget = () => {
      this.#past = number;
      this.#recent.delete(recent);
      this.#begin();
      this.#endIfIdle();
    };
    this.#recent.set(recent, setTimeout(forget, this.#ms));
  }

  #endIfIdle(): void {
    if (this.#underWay + this.#waiting.length + this.#recent.size > 0 || this.#kept) return;
    this.#onIdle();
  }

  #share(cuts: Cuts, group: readonly Asked[]): void {
    for (const asked of group) {
      const slice = cuts.of(asked);
      if (slice) asked.resolve(slice);
      else {
        this.#waiting.push({ ...asked, misses: asked.misses + 1 });
        this.#look();
      }
    }
    // Who reads without following the feed would not know that it is still the newest.
    if (cuts.isWhole && !this.#closed && group.some(({ standing }) => standing)) this.#keep(cuts);
  }

  #keep(cuts: Cuts): void {
    clearTimeout(this.#kept?.timer);
    const timer = setTimeout(() => {
      this.#kept = undefined;
      this.#endIfIdle();
    }, KEEP_MS);
    this.#kept = { cuts, timer };
  }
}

function inOrder(a: Asked, b: Asked): number {
  return b.misses - a.misses || a.after - b.after;
}

/** Whether a read that begins for one can serve the other. */
function joins(first: Asked, other: Asked): boolean {
  if (other.after < first.after || other.after > first.after + first.limit) return false;
  if (other.misses >= MISSES && other.after > first.after) return false;
  return sameStreams(first, other) || first.misses + other.misses === 0;
}

function sameStreams(a: Pick<ReadOptions, "streams">, b: Pick<ReadOptions, "streams">): boolean {
  return a.streams.length === b.streams.length && a.streams.every((stream) => b.streams.includes(stream));
}

/** One read for all of them. `first` has the lowest cursor. */
function together(first: Asked, group: readonly Asked[]): ReadOptions {
  const wide = group.some(({ after }) => after !== first.after) ? WIDE : 1;
  return {
    after: first.after,
    epoch: group.every(({ epoch }) => epoch === first.epoch) ? first.epoch : null,
    limit: Math.max(...group.map(({ limit }) => limit)) * wide,
    bytes: Math.max(...group.map(({ bytes }) => bytes)) * wide,
    streams: [...new Set(group.flatMap(({ streams }) => streams))],
    newestAfter: Math.min(...group.map(({ newestAfter }) => newestAfter)),
  };
}
