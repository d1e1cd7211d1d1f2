/**
 * `max_rate`: conflatable deliveries a second and conflation key. What comes too soon, or while the watcher is behind
 * with reading, is merged and kept; the newest always follows. One timer for all subscriptions of the process, and none
 * while nothing is held.
 */
import type { FeedEvent } from "../bus/bus.ts";
import { merged } from "./merge.ts";

const SWEEP_MS = 10;
const holding = new Set<Throttle>();
let timer: NodeJS.Timeout | undefined;

export class Throttle {
  readonly #intervalMs: number;
  readonly #deliver: (event: FeedEvent) => void;
  readonly #isBehind: () => boolean;
  readonly #onMerged: () => void;
  /** When each key was delivered last, ms. Bounded by the conflation keys of the feed. */
  readonly #last = new Map<string, number>();
  readonly #held = new Map<string, FeedEvent>();

  /** `Infinity` only holds what comes while the watcher is behind. */
  constructor(
    maxRate: number,
    deliver: (event: FeedEvent) => void,
    isBehind: () => boolean = () => false,
    onMerged: () => void = () => {},
  ) {
    this.#intervalMs = 1_000 / maxRate;
    this.#deliver = deliver;
    this.#isBehind = isBehind;
    this.#onMerged = onMerged;
  }

  /** Delivers now or later. */
  offer(event: FeedEvent): void {
    const held = this.#held.get(event.key);
    if (!held && !this.#isBehind() && this.#isDue(event.key, performance.now())) {
      this.#send(event);
      return;
    }
    this.#held.set(event.key, held ? merged(held, event) : event);
    if (held) this.#onMerged();
    hold(this);
  }

  /** Delivers everything held: before a status, and before the end. */
  flush(): void {
    for (const event of this.#held.values()) this.#send(event);
    this.clear();
  }

  /** Forgets what is held: its history is gone. */
  clear(): void {
    this.#held.clear();
    release(this);
  }

  sweep(now: number): void {
    for (const [key, event] of this.#held) {
      if (this.#isBehind()) return;
      if (!this.#isDue(key, now)) continue;
      this.#held.delete(key);
      this.#send(event);
    }
    if (this.#held.size === 0) release(this);
  }

  #isDue(key: string, now: number): boolean {
    return now - (this.#last.get(key) ?? Number.NEGATIVE_INFINITY) >= this.#intervalMs;
  }

  #send(event: FeedEvent): void {
    this.#last.set(event.key, performance.now());
    this.#deliver(event);
  }
}

function hold(throttle: Throttle): void {
  holding.add(throttle);
  timer ??= setInterval(() => {
    const now = performance.now();
    for (const each of holding) each.sweep(now);
  }, SWEEP_MS);
}

function release(throttle: Throttle): void {
  holding.delete(throttle);
  if (holding.size > 0) return;
  clearInterval(timer);
  timer = undefined;
}
