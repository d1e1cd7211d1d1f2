import { type Item, merge } from "./conflate.ts";

interface Waiting {
  lane: string;
  pending: Item | undefined;
  timer: ReturnType<typeof setTimeout>;
}

/** Keys that are throttled at a time; what comes beyond passes at once, into a buffer with a limit of its own. */
const KEYS = 1_000;

/**
 * At most one event per conflation key and interval: the first at once, what comes within the interval merged at its
 * end. The last one is never lost.
 */
export class Throttle {
  readonly #intervalMs: number;
  readonly #pass: (item: Item) => void;
  readonly #keys = new Map<string, Waiting>();
  /** Events that became part of a later one. */
  merged = 0;

  constructor(intervalMs: number, pass: (item: Item) => void) {
    this.#intervalMs = intervalMs;
    this.#pass = pass;
  }

  add(item: Item & { key: string }): void {
    const waiting = this.#keys.get(item.key);
    if (!waiting) {
      if (this.#intervalMs > 0 && this.#keys.size < KEYS) this.#wait(item.key, item.lane);
      this.#pass(item);
      return;
    }
    const { pending } = waiting;
    const both = pending && merge(pending, item);
    if (both) this.merged += 1;
    else if (pending) this.#pass(pending);
    waiting.pending = both ?? item;
  }

  /** Passes what is held back, of one job or of all. */
  flush(lane?: string): void {
    for (const waiting of this.#keys.values()) {
      const { pending } = waiting;
      if (!pending || (lane !== undefined && waiting.lane !== lane)) continue;
      waiting.pending = undefined;
      this.#pass(pending);
    }
  }

  stop(): void {
    for (const { timer } of this.#keys.values()) clearTimeout(timer);
    this.#keys.clear();
  }

  #wait(key: string, lane: string): void {
    const timer = setTimeout(() => {
      const pending = this.#keys.get(key)?.pending;
      this.#keys.delete(key);
      if (!pending) return;
      this.#wait(key, lane);
      this.#pass(pending);
    }, this.#intervalMs);
    // The connection keeps the process until close(); a throttle alone must not.
    if (typeof timer === "object") timer.unref();
    this.#keys.set(key, { lane, pending: undefined, timer });
  }
}
