/** How a watcher comes into a feed: pages of what it has missed, then the live events, without gap or double. */
import { addressOf, type FeedName, streamsOf } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Cursor, Gap, SubscribeRequest } from "../protocol/types.ts";
import { emptyPage } from "../store/page.ts";
import type { Page } from "../store/store.ts";
import { Answer } from "./answer.ts";
import { Join } from "./feed.ts";
import type { Feeds } from "./feeds.ts";
import { concerns, type Filter, visible } from "./page.ts";
import type { Reads } from "./reads.ts";
import { Slice } from "./slice.ts";
import { type Subscriber, Subscription } from "./subscription.ts";

/** The beginning of a feed, whatever its epoch is. */
export const START: Cursor = { epoch: "", seq: 0 };

export interface ReadOptions {
  reads: Reads;
  name: FeedName;
  filter: Filter;
  request: SubscribeRequest;
  /** Events of the page at most. */
  limit?: number;
  /** Whether all newest values follow what was missed: one may have been held back, and lie before the cursor. */
  repeat?: boolean;
  /** Called just before each read that the page may come from, or when it has been read already. */
  onBegin?: () => void;
  /** Where the feed stands here, for those who follow it. */
  standing?: () => Cursor | null;
  /** What begins the feed, at this head or a newer one. */
  snapshot(name: FeedName, head: Cursor): Promise<Gap["snapshot"]>;
}

export interface OpenOptions extends ReadOptions {
  feeds: Feeds;
  subscriber: Subscriber;
  timeoutMs: number;
}

/** What everybody's coming in has in common. */
export type OpenContext = Pick<OpenOptions, "reads" | "feeds" | "timeoutMs" | "snapshot">;

/** A page that has been read, with the feed's events kept since. */
export interface Opening {
  /** The answer. From now until `start` or `abandon` nothing may be awaited. */
  finish(): Answer;
  /** Joins the feed: what came meanwhile is delivered at once. `undefined` when there are more pages. */
  start(): Subscription | undefined;
  /** The watcher has gone. */
  abandon(): void;
}

interface PageRead {
  answer: Answer;
  /** The job does not exist yet, and the watcher waits for it. */
  waiting: boolean;
}

/** Keeps nothing: it is only for the feed to stay. */
function placeholder(): Join {
  const join = new Join();
  join.broken = true;
  return join;
}

/** Waits until the feed is followed here, so that whoever has his turn with `openPage` need not. */
export async function opened({ feeds, name, timeoutMs }: Pick<OpenOptions, "feeds" | "name" | "timeoutMs">) {
  const feed = feeds.get(name);
  const join = placeholder();
  feed.join(join);
  try {
    await within(timeoutMs, feed.opened());
  } finally {
    feed.part(join);
  }
}

export async function openPage(options: OpenOptions): Promise<Opening> {
  const { feeds, name, filter, subscriber, request } = options;
  const feed = feeds.get(name);
  let join = placeholder();
  feed.join(join);
  const abandon = () => feed.part(join);
  let isNew = false;
  // Not before: the read finds what comes until then, and others may be waited for.
  const onBegin = () => {
    feed.part(join);
    join = new Join();
    feed.join(join);
    isNew = feed.epoch === null;
  };
  try {
    await within(options.timeoutMs, feed.opened());
    const standing = () => feed.standing();
    const { answer, waiting } = await readPage({ ...options, repeat: true, onBegin, standing });
    const { head } = answer;
    return {
      abandon,
      finish() {
        // It came too much meanwhile, or the feed was reset: the next page tells.
        const epoch = head.epoch ?? feed.epoch;
        const strayed = isNew && feed.epoch !== null && epoch !== feed.epoch;
        if ((join.broken || strayed) && !head.more && epoch !== null) {
          head.more = true;
          head.next = { epoch, seq: head.seq };
        }
        return answer;
      },
      start() {
        abandon();
        if (head.more) return undefined;
        const { epoch, seq } = head;
        const wait = waiting && { waitUntil: Date.now() + waitMs(request.wait) };
        const subscription = new Subscription({
          // The feed's own: one for all.
          name: feed.name,
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

type FollowOptions = Omit<OpenOptions, "request" | "snapshot">;

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
  const slice = await readFirst(options);
  const { page } = slice;
  if (page.epoch === null) {
    if (name.jobId !== undefined && !request.wait) throw new HubError("job_not_found");
    const snapshot = name.jobId === undefined ? { jobs: [] } : null;
    // Who asks for everything from the start of what has not begun has lost nothing.
    const recovered = (since?.epoch ?? "") === "";
    const answer = new Answer({ ...base, epoch: null, seq: 0, recovered, snapshot });
    return { answer, waiting: name.jobId !== undefined };
  }
  const { epoch, seq, upTo } = page;
  if (since ? isLost(page, filter) : !request.history) {
    const snapshot = await snapshotFor(options, { epoch, seq });
    const answer = new Answer({ ...base, ...at(snapshot, { epoch, seq }), recovered: !since, snapshot });
    return { answer, waiting: false };
  }
  const head = {
    ...base,
    epoch,
    seq: upTo,
    recovered: true,
    ...(!since && { snapshot: await snapshotFor(options, { epoch, seq }) }),
    ...(upTo < seq && { more: true, next: { epoch, seq: upTo } }),
  };
  return { answer: new Answer(head, slice.items(name, filter)), waiting: false };
}

/** Missing log lines are told in place; anything else makes the watcher's picture wrong. */
function isLost(page: Page, filter: Filter): boolean {
  return page.reset || page.trimmed.some(({ stream }) => stream === "events" && concerns(filter, stream));
}

/** A job's snapshot is newer than the page: what it holds need not be delivered again. */
function at(snapshot: Gap["snapshot"], head: Cursor): Cursor {
  return snapshot && "seq" in snapshot ? { epoch: snapshot.epoch, seq: snapshot.seq } : head;
}

/** After the cursor, or before the last n events; with neither only the head is of interest. */
async function readFirst(options: ReadOptions): Promise<Slice> {
  const { reads, name, request, filter, repeat } = options;
  const since = request.since as Cursor | undefined;
  if (since) {
    const { epoch, seq } = since;
    return await reads.page(name, wanted(options, epoch || null, seq, repeat ? 0 : seq));
  }
  if (request.history) {
    const from = await reads.tail(name, request.history, filter.types);
    // At once: what the caps remove in between would be missing without a word.
    const { page, made } = await reads.page(name, { ...wanted(options, null, from, from), now: true });
    // Whoever asks for the last n events has lost nothing by the caps.
    return new Slice({ ...page, trimmed: [] }, made);
  }
  const head = await reads.head(name, options.onBegin);
  const seq = head?.seq ?? 0;
  return new Slice({ ...emptyPage(), epoch: head?.epoch ?? null, seq, upTo: seq });
}

function wanted(
  { name, filter, limit = LIMITS.pageEvents, onBegin, standing }: ReadOptions,
  epoch: string | null,
  after: number,
  newestAfter: number,
) {
  const streams = streamsOf(name).filter((stream) => concerns(filter, stream));
  const bounds = { limit, bytes: LIMITS.pageBytes };
  return { epoch, after, ...bounds, streams, newestAfter, onBegin, standing: standing?.() };
}

async function snapshotFor({ snapshot, name, filter }: ReadOptions, head: Cursor): Promise<Gap["snapshot"]> {
  return visible(filter, await snapshot(name, head));
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
