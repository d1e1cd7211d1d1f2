/**
 * How the log is read for those who come in. When a hub has died, thousands come back to the same feed, each a few events
 * behind: no part of a feed's log is read twice within 50 ms. Who asks for what was read less than that long ago waits
 * for the next read, which begins at the lowest cursor of all who wait, and each gets his cut of it. Who reads on where
 * his last page ended, or far from everybody else, never waits.
 *
 * Every read begins after all who share it have asked, and they are told when. So a shared page is what a read of one's
 * own would have been in that moment, and what holds for that holds for it. A page up to the head also serves who asks
 * later, as long as the feed stands where the page ends: whoever then goes on from there is where all who follow it are.
 * The store may know more by then, so only whoever is behind that page, in its history, is served so.
 */
import { type FeedName, feedId } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { Cursor, EventType } from "../protocol/types.ts";
import { cutPage, serves } from "../store/page.ts";
import type { Page, ReadOptions, Store } from "../store/store.ts";
import type { Shares } from "./shares.ts";
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
/** How long a page up to the head is kept for those who come after each other, and of how many feeds. */
const KEEP_MS = 2_000;
const KEPT = 256;
/** Newest values of a page that is kept: the limits of a page do not count them. */
const KEPT_NEWEST = 256;
/** Cuts of one page that are kept for the next one who asks for the same. */
const SLICES = 64;

export class Reads {
  /** Pages that were read from the store. */
  pages = 0;
  readonly #store: Pick<Store, "read" | "heads" | "tail">;
  readonly #shares: Shares;
  readonly #feeds = new Map<string, FeedReads>();
  /** Of each feed the last page up to its head, the oldest first. */
  readonly #kept = new Map<string, Cuts>();
  #forgetting: NodeJS.Timeout | undefined;

  /** `shares` is the caller's to close. */
  constructor(store: Pick<Store, "read" | "heads" | "tail">, shares: Shares) {
    this.#store = store;
    this.#shares = shares;
  }

  /** What follows a cursor. */
  page(name: FeedName, wanted: Wanted): Promise<Slice> {
    const id = feedId(name);
    const kept = this.#kept.get(id)?.still(wanted);
    if (kept) {
      wanted.onBegin?.();
      return Promise.resolve(kept);
    }
    let feed = this.#feeds.get(id);
    if (!feed) {
      const read = (options: ReadOptions) => {
        this.pages++;
        return this.#store.read(name, options);
      };
      feed = new FeedReads({
        ...{ read, ms: this.#shares.ms },
        onRead: (cuts) => this.#keep(id, cuts),
        onIdle: () => this.#feeds.delete(id),
      });
      this.#feeds.set(id, feed);
    }
    return feed.page(wanted);
  }

  #keep(id: string, cuts: Cuts): void {
    const before = this.#kept.get(id);
    if (before?.endsAs(cuts) && (!cuts.mayBeKept || before.covers(cuts.options))) return;
    this.#kept.delete(id);
    if (!cuts.mayBeKept) return;
    this.#kept.set(id, cuts);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT) this.#kept.delete(oldest as string);
    this.#forgetting ??= setTimeout(() => this.#forget(), KEEP_MS);
  }

  #forget(): void {
    this.#forgetting = undefined;
    for (const [id, cuts] of this.#kept) if (cuts.isOld) this.#kept.delete(id);
    if (this.#kept.size > 0) this.#forgetting = setTimeout(() => this.#forget(), KEEP_MS);
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
    clearTimeout(this.#forgetting);
    this.#kept.clear();
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
  readonly options: ReadOptions;
  readonly #page: Page;
  readonly #slices = new Map<string, Slice>();
  readonly #made: Slice["made"] = new Map();
  readonly #since = Date.now();

  constructor(page: Page, options: ReadOptions) {
    this.options = options;
    this.#page = page;
  }

  /** Up to the head, not only for a cursor that leads nowhere, and not large. */
  get mayBeKept(): boolean {
    const { reset, upTo, seq, newest } = this.#page;
    return !reset && upTo >= seq && newest.length <= KEPT_NEWEST;
  }

  /** Not by a timer alone: the process may have stood still. */
  get isOld(): boolean {
    return Date.now() - this.#since >= KEEP_MS;
  }

  /** Whether both were read where the feed stood at the same position. */
  endsAs(other: Cuts): boolean {
    return this.#page.epoch === other.#page.epoch && this.#page.seq === other.#page.seq;
  }

  /** Whether it has, up to its end, all that these ask for. */
  covers({ after, newestAfter = after, streams }: ReadOptions): boolean {
    const own = this.options;
    const isBefore = own.after <= after && (own.newestAfter ?? own.after) <= newestAfter;
    return isBefore && !this.isOld && streams.every((stream) => own.streams.includes(stream));
  }

  /** What somebody would have read himself; `undefined` where it does not reach so far. Nobody asks from before it. */
  of(asked: Wanted): Slice | undefined {
    const { after, epoch, limit, bytes, newestAfter } = asked;
    const key = JSON.stringify([after, limit, bytes, newestAfter, epoch]);
    let slice = this.#slices.get(key);
    if (!slice && serves(this.#page, asked)) {
      slice = new Slice(cutPage(this.#page, asked), this.#made);
      if (this.#slices.size < SLICES) this.#slices.set(key, slice);
    }
    // Events of a stream that he did not ask for have taken the place of his.
    const isCrowded = slice && slice.page.upTo < slice.page.seq && !sameStreams(asked, this.options);
    return isCrowded ? undefined : slice;
  }

  /**
   * Of a page that is kept: what somebody would read now, where he who follows the feed stands at its end. Never for a
   * cursor beyond it: the feed here may not have heard yet of what that one has.
   */
  still(asked: Wanted): Slice | undefined {
    const { epoch, seq } = this.#page;
    const { standing } = asked;
    const isNow = standing?.epoch === epoch && standing?.seq === seq && !asked.now;
    const isBehind = asked.after <= seq && (asked.epoch === null || asked.epoch === epoch);
    return isNow && isBehind && this.covers(asked) ? this.of(asked) : undefined;
  }
}

interface FeedReadsOptions {
  read: (options: ReadOptions) => Promise<Page>;
  ms: number;
  /** Told of every page before those who share it. */
  onRead: (cuts: Cuts) => void;
  onIdle: () => void;
}

class FeedReads {
  readonly #read: FeedReadsOptions["read"];
  readonly #ms: number;
  readonly #onRead: FeedReadsOptions["onRead"];
  readonly #onIdle: FeedReadsOptions["onIdle"];
  #waiting: Asked[] = [];
  readonly #recent = new Map<Recent, NodeJS.Timeout>();
  #underWay = 0;
  #looks = false;
  /** Reads so far, and the last of them that is no longer recent. */
  #begun = 0;
  #past = 0;
  #closed = false;

  constructor({ read, ms, onRead, onIdle }: FeedReadsOptions) {
    this.#read = read;
    this.#ms = ms;
    this.#onRead = onRead;
    this.#onIdle = onIdle;
  }

  page(wanted: Wanted): Promise<Slice> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...wanted, resolve, reject, misses: 0, begun: this.#begun });
      this.#look();
    });
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#recent.values()) clearTimeout(timer);
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
      const cuts = new Cuts(page, options);
      if (!this.#closed) this.#onRead(cuts);
      this.#share(cuts, group);
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
    if (this.#underWay + this.#waiting.length + this.#recent.size === 0) this.#onIdle();
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
