/** How a watcher comes into a feed: pages of what it has missed, then the live events, without gap or double. */
import { addressOf, type FeedName, streamsOf } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Cursor, Gap, SubscribeAnswer, SubscribeRequest } from "../protocol/types.ts";
import type { Page, Store } from "../store/store.ts";
import { Join } from "./feed.ts";
import type { Feeds } from "./feeds.ts";
import { concerns, type Filter, type Item, itemsOf, toClient, visible, wants } from "./page.ts";
import { type Subscriber, Subscription } from "./subscription.ts";

/** The beginning of a feed, whatever its epoch is. */
export const START: Cursor = { epoch: "", seq: 0 };

export interface ReadOptions {
  store: Store;
  name: FeedName;
  filter: Filter;
  request: SubscribeRequest;
  /** Events of the page at most. */
  limit?: number;
  /** Whether all newest values follow what was missed: one may have been held back, and lie before the cursor. */
  repeat?: boolean;
  snapshot(name: FeedName): Promise<Gap["snapshot"]>;
}

export interface OpenOptions extends ReadOptions {
  feeds: Feeds;
  subscriber: Subscriber;
  timeoutMs: number;
}

/** A page that has been read, with the feed's events kept since. */
export interface Opening {
  /** The answer's `events` as they came from the store. */
  readonly items: readonly Item[];
  /** The answer. From now until `start` or `abandon` nothing may be awaited. */
  finish(): SubscribeAnswer;
  /** Joins the feed: what came meanwhile is delivered at once. `undefined` when there are more pages. */
  start(): Subscription | undefined;
  /** The watcher has gone. */
  abandon(): void;
}

interface PageRead {
  answer: SubscribeAnswer;
  /** The answer's `events` as they came from the store. */
  items: Item[];
  /** The job does not exist yet, and the watcher waits for it. */
  waiting: boolean;
}

export async function openPage(options: OpenOptions): Promise<Opening> {
  const { feeds, name, filter, subscriber, request } = options;
  const feed = feeds.get(name);
  const join = new Join();
  feed.joins.add(join);
  const abandon = () => {
    feed.joins.delete(join);
    feed.idleSince = Date.now();
  };
  try {
    await within(options.timeoutMs, feed.opened);
    const isNew = feed.epoch === null;
    const { answer, items, waiting } = await readPage({ ...options, repeat: true });
    return {
      items,
      abandon,
      finish() {
        // It came too much meanwhile, or the feed was reset: the next page tells.
        const epoch = answer.epoch ?? feed.epoch;
        const strayed = isNew && feed.epoch !== null && epoch !== feed.epoch;
        if ((join.broken || strayed) && !answer.more && epoch !== null) {
          answer.more = true;
          answer.next = { epoch, seq: answer.seq };
        }
        return answer;
      },
      start() {
        abandon();
        if (answer.more) return undefined;
        const { epoch, seq } = answer;
        const wait = waiting && { waitUntil: Date.now() + waitMs(request.wait) };
        const subscription = new Subscription({
          name,
          ...filter,
          subscriber,
          epoch,
          seq,
          maxRate: request.max_rate,
          ...wait,
        });
        // A feed that was there before has a history that the store no longer knows.
        if (epoch === null && isNew && feed.epoch !== null) subscription.begin(feed.epoch);
        for (const event of join.events) subscription.offer(event);
        feed.subscriptions.add(subscription);
        return subscription;
      },
    };
  } catch (error) {
    abandon();
    throw error;
  }
}

export type FollowOptions = Omit<OpenOptions, "request" | "snapshot">;

/**
 * Follows a feed from now on, for those who only want to hear what comes.
 *
 * @throws HubError `job_not_found`, `unavailable`.
 */
export async function follow(options: FollowOptions): Promise<Subscription> {
  for (;;) {
    const opening = await openPage({ ...options, request: {}, snapshot: async () => null });
    opening.finish();
    const subscription = opening.start();
    // It has missed something while it was opened; only what comes from now on is of interest.
    if (subscription) return subscription;
  }
}

/** @throws HubError `job_not_found` when there is no such job and nobody waits for it. */
export async function readPage(options: ReadOptions): Promise<PageRead> {
  const { name, request, filter } = options;
  const since = request.since as Cursor | undefined;
  const base = addressOf(name);
  const page = await readFirst(options);
  if (page.epoch === null) {
    if (name.jobId !== undefined && !request.wait) throw new HubError("job_not_found");
    const snapshot = name.jobId === undefined ? { jobs: [] } : null;
    // Who asks for everything from the start of what has not begun has lost nothing.
    const recovered = (since?.epoch ?? "") === "";
    const answer = { ...base, epoch: null, seq: 0, recovered, snapshot, events: [] };
    return { answer, items: [], waiting: name.jobId !== undefined };
  }
  if (since ? isLost(page, filter) : !request.history) {
    const snapshot = await snapshotFor(options);
    const answer = { ...base, ...at(snapshot, page), recovered: !since, snapshot, events: [] };
    return { answer, items: [], waiting: false };
  }
  const items = itemsOf(name, page).filter((item) => wants(filter, item));
  const answer: SubscribeAnswer = {
    ...base,
    epoch: page.epoch,
    seq: page.upTo,
    recovered: true,
    ...(!since && { snapshot: await snapshotFor(options) }),
    events: items.map(toClient),
    ...(page.upTo < page.seq && { more: true, next: { epoch: page.epoch, seq: page.upTo } }),
  };
  return { answer, items, waiting: false };
}

/** Missing log lines are told in place; anything else makes the watcher's picture wrong. */
function isLost(page: Page, filter: Filter): boolean {
  return page.reset || page.trimmed.some(({ stream }) => stream === "events" && concerns(filter, stream));
}

/** A job's snapshot is newer than the page: what it holds need not be delivered again. */
function at(snapshot: Gap["snapshot"], page: Page): Pick<SubscribeAnswer, "epoch" | "seq"> {
  return snapshot && "seq" in snapshot
    ? { epoch: snapshot.epoch, seq: snapshot.seq }
    : { epoch: page.epoch, seq: page.seq };
}

/** After the cursor, or before the last n events; with neither only the head is of interest. */
async function readFirst(options: ReadOptions): Promise<Page> {
  const { store, name, request, filter } = options;
  const since = request.since as Cursor | undefined;
  if (since) {
    const asked = readOptions(options, since.epoch || null, since.seq);
    if (!options.repeat) return await store.read(name, asked);
    const page = await store.read(name, { ...asked, newestAfter: 0 });
    // With the last page.
    const newest = page.newest.filter(({ seq }) => seq > since.seq || page.upTo === page.seq);
    return { ...page, newest };
  }
  if (request.history) {
    const from = await store.tail(name, request.history, filter.types);
    const page = await store.read(name, readOptions(options, null, from));
    // Whoever asks for the last n events has lost nothing by the caps.
    return { ...page, trimmed: [] };
  }
  const [head] = await store.heads(name.tenantId, [name]);
  const seq = head?.seq ?? 0;
  return {
    epoch: head?.epoch ?? null,
    seq,
    upTo: seq,
    reset: false,
    logged: [],
    trimmed: [],
    newest: [],
  };
}

function readOptions({ filter, name, limit }: ReadOptions, epoch: string | null, after: number) {
  return {
    epoch,
    after,
    limit: limit ?? LIMITS.pageEvents,
    bytes: LIMITS.pageBytes,
    streams: streamsOf(name).filter((stream) => concerns(filter, stream)),
  };
}

async function snapshotFor({ snapshot, name, filter }: ReadOptions): Promise<Gap["snapshot"]> {
  return visible(filter, await snapshot(name));
}

function waitMs(wait: boolean | number | undefined): number {
  return (typeof wait === "number" ? wait : LIMITS.waitSeconds) * 1_000;
}

async function within(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new HubError("unavailable")), ms);
  });
  try {
    await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
