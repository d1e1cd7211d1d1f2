/** The bus of a single process: the store calls `publish`, the handler runs in the same turn. */
import type { Bus, FeedEvent, FeedHandler, FeedName } from "./bus.ts";
import { feedId } from "./bus.ts";

export class MemoryBus implements Bus {
  readonly #handlers = new Map<string, FeedHandler>();

  get held(): number {
    return this.#handlers.size;
  }

  hold(feed: FeedName, handler: FeedHandler): void {
    this.#handlers.set(feedId(feed), handler);
    queueMicrotask(() => {
      if (this.#handlers.get(feedId(feed)) === handler) handler.subscribed();
    });
  }

  release(feed: FeedName): void {
    this.#handlers.delete(feedId(feed));
  }

  /** For the memory store alone. */
  publish(feed: FeedName, events: readonly FeedEvent[]): void {
    if (events.length > 0) this.#handlers.get(feedId(feed))?.events(events);
  }

  async close(): Promise<void> {
    this.#handlers.clear();
  }
}
