/** The bus of a single process: the store calls `publish`, the handler runs in the same turn. */
import type { Bus, FeedEvent, FeedHandler, FeedName } from "./bus.ts";
import { feedId } from "./bus.ts";

export interface MemoryBusOptions {
  /** A handler that threw; written to the console if absent. */
  onError?: (error: Error) => void;
}

export class MemoryBus implements Bus {
  readonly #handlers = new Map<string, FeedHandler>();
  readonly #onError: (error: Error) => void;
  /** What handlers have caused to be published while they run: its turn comes after them. */
  readonly #waiting: Array<() => void> = [];
  #publishing = false;

  constructor({ onError = console.error }: MemoryBusOptions = {}) {
    this.#onError = onError;
  }

  /** Nothing is lost on the way. */
  get heardAt(): number {
    return performance.now();
  }

  /** Nobody else writes here. */
  readonly unreadable = 0;

  get held(): number {
    return this.#handlers.size;
  }

  hold(feed: FeedName, handler: FeedHandler): void {
    this.#handlers.set(feedId(feed), handler);
    this.#confirm(feedId(feed), handler);
  }

  release(feed: FeedName): void {
    this.#handlers.delete(feedId(feed));
  }

  /** For the memory store alone: everything that one change has stored, feed by feed. */
  publish(...changes: ReadonlyArray<readonly [FeedName, readonly FeedEvent[]]>): void {
    for (const [feed, events] of changes) {
      if (events.length === 0) continue;
      this.#waiting.push(() => this.#handlers.get(feedId(feed))?.events(events));
    }
    if (this.#publishing) return;
    this.#publishing = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) this.#guard(next);
    this.#publishing = false;
  }

  async probe(onSent?: () => void): Promise<void> {
    onSent?.();
  }

  /** There is no connection: as if it had been renewed. */
  reconnect(): void {
    for (const [id, handler] of this.#handlers) this.#confirm(id, handler);
  }

  async close(): Promise<void> {
    this.#handlers.clear();
  }

  #confirm(id: string, handler: FeedHandler): void {
    queueMicrotask(() => {
      if (this.#handlers.get(id) === handler) this.#guard(() => handler.subscribed());
    });
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#onError(error as Error);
    }
  }
}
