/**
 * `max_rate`: conflatable deliveries a second and conflation key. What comes too soon is merged and kept; the newest
 * always follows. One timer for all subscriptions of the process, and none while nothing is held.
 */
import type { FeedEvent } from "../bus/bus.ts";
import type { DeliveredEvent } from "../protocol/types.ts";

const SWEEP_MS = 10;
const holding = new Set<Throttle>();
let timer: NodeJS.Timeout | undefined;

export class Throttle {
  readonly #intervalMs: number;
  readonly #deliver: (event: FeedEvent) => void;
  /** When each key was delivered last, ms. Bounded by the conflation keys of the feed. */
  readonly #last = new Map<string, number>();
  readonly #held = new Map<string, FeedEvent>();

  constructor(maxRate: number, deliver: (event: FeedEvent) => void) {
    this.#intervalMs = 1_000 / maxRate;
    this.#deliver = deliver;
  }

  /** Delivers now or later. */
  offer(event: FeedEvent): void {
    const held = this.#held.get(event.key);
    if (!held && this.#isDue(event.key, performance.now())) {
      this.#send(event);
      return;
    }
    this.#held.set(event.key, held ? merged(held, event) : event);
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

/** Field by field, each its newest; a new attempt clears. The envelope and the position are the newer event's. */
export function merged(older: FeedEvent, newer: FeedEvent): FeedEvent {
  const before = JSON.parse(older.wire) as DeliveredEvent<"training_progress">;
  const after = JSON.parse(newer.wire) as DeliveredEvent<"training_progress">;
  if ((after.attempt ?? 1) > (before.attempt ?? 1)) return newer;
  if ((after.attempt ?? 1) < (before.attempt ?? 1)) return older;
  const metrics = { ...before.data.metrics, ...after.data.metrics };
  const data = { ...before.data, ...after.data, ...(Object.keys(metrics).length > 0 && { metrics }) };
  return { ...newer, wire: JSON.stringify({ ...after, data }) };
}
