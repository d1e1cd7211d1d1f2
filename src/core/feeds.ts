/** The feeds that this instance follows, and the timers that keep them true: one each for all feeds, none per feed. */
import { type FeedName, feedId } from "../bus/bus.ts";
import type { Cursor } from "../protocol/types.ts";
import { Feed, type FeedContext } from "./feed.ts";
import type { Subscription } from "./subscription.ts";

export interface FeedsOptions extends FeedContext {
  checkIntervalMs: number;
  releaseMs: number;
  positionIntervalMs: number;
}

/** Feeds in one comparison with the store. */
const CHECK_FEEDS = 100;
/** A message that is on its way when the store is asked arrives within this, or counts as lost. */
const IN_FLIGHT_MS = 200;
const SECOND = 1_000;

export class Feeds {
  readonly #feeds = new Map<string, Feed>();
  readonly #options: FeedsOptions;
  readonly #timers: NodeJS.Timeout[];
  #checking = false;
  #flushing = false;

  constructor(options: FeedsOptions) {
    this.#options = options;
    this.#timers = [
      setInterval(() => void this.#check(), options.checkIntervalMs),
      setInterval(() => this.#tellPositions(), options.positionIntervalMs),
      setInterval(() => this.#sweep(), SECOND),
      setInterval(() => void this.#flush(), SECOND),
    ];
  }

  get size(): number {
    return this.#feeds.size;
  }

  get subscriptions(): number {
    let count = 0;
    for (const feed of this.#feeds.values()) count += feed.subscriptions.size;
    return count;
  }

  /** Follows a feed from now on; after nobody has needed it for a while it is let go. */
  get(name: FeedName): Feed {
    const id = feedId(name);
    let feed = this.#feeds.get(id);
    if (!feed) {
      feed = new Feed(name, this.#options);
      this.#feeds.set(id, feed);
    }
    feed.idleSince = Date.now();
    return feed;
  }

  /** Whether a feed is there, as far as this instance knows; `undefined` for one that it does not follow. */
  exists(name: FeedName): boolean | undefined {
    const feed = this.#feeds.get(feedId(name));
    return feed && feed.epoch !== null;
  }

  leave(subscription: Subscription): void {
    subscription.end();
    const feed = this.#feeds.get(feedId(subscription.name));
    if (feed?.subscriptions.delete(subscription)) feed.idleSince = Date.now();
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const feed of this.#feeds.values()) feed.close();
    this.#feeds.clear();
  }

  /** Finds what no message told: another epoch, or a head that stays ahead of us. */
  async #check(): Promise<void> {
    if (this.#checking) return;
    this.#checking = true;
    try {
      const behind: Array<{ feed: Feed; head: Cursor }> = [];
      for (const [tenantId, feeds] of this.#byTenant()) {
        for (let i = 0; i < feeds.length; i += CHECK_FEEDS) {
          behind.push(...(await this.#compare(tenantId, feeds.slice(i, i + CHECK_FEEDS))));
        }
      }
      if (behind.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, IN_FLIGHT_MS));
      for (const { feed, head } of behind) {
        if (feed.epoch === head.epoch && feed.seq < head.seq) feed.heal("head");
      }
    } catch {
      // The store is away; the next check comes.
    } finally {
      this.#checking = false;
    }
  }

  async #compare(tenantId: string, feeds: readonly Feed[]): Promise<Array<{ feed: Feed; head: Cursor }>> {
    const before = feeds.map((feed) => feed.position());
    const heads = await this.#options.store.heads(
      tenantId,
      feeds.map(({ name }) => name),
    );
    const behind: Array<{ feed: Feed; head: Cursor }> = [];
    for (const [i, feed] of feeds.entries()) {
      const head = heads[i];
      const verdict = feed.compare(head, before[i] ?? null);
      if (verdict === "differs") feed.heal("head");
      else if (verdict === "behind" && head) behind.push({ feed, head });
    }
    return behind;
  }

  #byTenant(): Map<string, Feed[]> {
    const tenants = new Map<string, Feed[]>();
    for (const feed of this.#feeds.values()) {
      const list = tenants.get(feed.name.tenantId);
      if (list) list.push(feed);
      else tenants.set(feed.name.tenantId, [feed]);
    }
    return tenants;
  }

  /** Merged progress reaches the tenant feed only while somebody follows it. */
  async #flush(): Promise<void> {
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      const watched = [...this.#feeds.values()].filter((feed) => feed.name.jobId === undefined && !feed.idle);
      await Promise.all(watched.map(({ name }) => this.#options.store.flushTenant(name.tenantId)));
    } catch {
      // The store is away; the next second comes.
    } finally {
      this.#flushing = false;
    }
  }

  #tellPositions(): void {
    for (const feed of this.#feeds.values()) {
      for (const subscription of feed.subscriptions) subscription.tellPosition();
    }
  }

  #sweep(): void {
    const now = Date.now();
    for (const [id, feed] of this.#feeds) {
      if (feed.epoch === null) this.#endWaits(feed, now);
      if (!feed.idle) feed.idleSince = now;
      else if (now - feed.idleSince >= this.#options.releaseMs) {
        this.#feeds.delete(id);
        feed.close();
      }
    }
  }

  #endWaits(feed: Feed, now: number): void {
    for (const subscription of feed.subscriptions) {
      if (subscription.epoch !== null || subscription.waitUntil === undefined || subscription.waitUntil > now)
        continue;
      feed.subscriptions.delete(subscription);
      subscription.subscriber.waitExpired(feed.name.jobId as string);
    }
  }
}
