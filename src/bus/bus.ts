/**
 * The bus carries what was stored to the instances that have watchers for it. The store publishes (in the same step
 * as it stores); a bus only listens.
 */
import type { EventType } from "../protocol/types.ts";

/** Which feed: a job's, or the tenant's own (no job). */
export interface FeedName {
  readonly tenantId: string;
  readonly jobId?: string;
}
/** A job's feed, and the job itself. */
export type JobName = Required<FeedName>;

/** One event on its way from the store to watchers. */
export interface FeedEvent {
  readonly epoch: string;
  readonly seq: number;
  readonly type: EventType;
  readonly durable: boolean;
  /** The job it belongs to, '' for none: on the tenant feed allow-lists apply by it, without parsing. */
  readonly jobId: string;
  /** What a conflatable event replaces: the newest value under the same key. Empty for durable events. */
  readonly key: string;
  /** The DeliveredEvent as JSON text. */
  readonly wire: string;
}

export interface FeedHandler {
  /** Events of one publish, in order. A throw is the bus's to log; it never reaches the publisher. */
  events(events: readonly FeedEvent[]): void;
  /** Something on the channel that this version cannot read. The feed reads the log instead. */
  unreadable(): void;
  /** The subscription is in force (again): what was published before may be missing. */
  subscribed(): void;
  /** The subscription has ended, and nothing comes until it is `subscribed()` again. */
  unsubscribed(): void;
}

/**
 * Order: events of one feed arrive in the order of their `seq`, each at most once per subscription. Losses are
 * allowed (a cut link, an overflown buffer); a hole in `seq` or `subscribed()` tells, and the core repairs it.
 */
export interface Bus {
  /** Listens to a feed until `release`. One handler per feed. `subscribed()` follows, now or when the link is back. */
  hold(feed: FeedName, handler: FeedHandler): void;
  release(feed: FeedName): void;
  /**
   * Sends a message to this instance itself, the way that events go, and resolves when it has come back: what is
   * published arrives here. Never resolves when it is lost. `onSent` is told before that, when it has been taken for
   * delivery.
   *
   * @throws HubError `unavailable`, when it cannot be sent.
   */
  probe(onSent?: () => void): Promise<void>;
  /** Gives up the connection that events come in by for a new one. `subscribed()` of every feed follows. */
  reconnect(): void;
  /** When the last message came, whatever it was, by `performance.now()`. */
  readonly heardAt: number;
  /** Feeds that are held, for `/api/v1/status` and the tests' base line. */
  readonly held: number;
  /** Messages that this version could not read. */
  readonly unreadable: number;
  close(): Promise<void>;
}

export function feedId(feed: FeedName): string {
  return feed.jobId === undefined ? feed.tenantId : `${feed.tenantId}/${feed.jobId}`;
}

/** How the wire names a feed. */
export function addressOf({ jobId }: FeedName): { feed: "job" | "tenant"; job_id?: string } {
  return jobId === undefined ? { feed: "tenant" } : { feed: "job", job_id: jobId };
}

/** The streams that a feed's durable events are kept in. */
export function streamsOf({ jobId }: FeedName): ReadonlyArray<"events" | "log"> {
  return jobId === undefined ? ["events"] : ["events", "log"];
}
