import type { Answer, AnswerError, PublishAnswer } from "../src/protocol/types.ts";
import type { Backlog } from "./backlog.ts";
import type { Item } from "./conflate.ts";
import type { Connection } from "./connection.ts";
import { TrainwireError } from "./errors.ts";
import { KEPT_LIMITS } from "./event-table.ts";

/** Half of what the hub takes in one message, so that the envelope of the call and a proxy's limit do not matter. */
const BATCH_BYTES = 524_288;
/** So often the connection may break with the same events on the way before one of them is suspected. */
const STRIKES = 3;
/** Refusals of a whole call that one event in it may cause. */
const ONE_TO_BLAME: ReadonlySet<string> = new Set([
  "malformed",
  "too_deep",
  "message_too_large",
  "batch_too_large",
  "binary_not_supported",
  "invalid_request",
]);

/** What became of events. */
export interface Outcomes {
  stored(events: number, duplicates: number): void;
  /** Sent once more, because the outcome was not known or the hub said so. */
  resent(events: number): void;
  /** Refused for good. */
  refused(items: Item[], error: AnswerError): void;
  /** Dropped, because no call with it ever came through. */
  poison(item: Item, error: AnswerError): void;
  /** A call was answered. */
  settled(): void;
}

/**
 * Sends the backlog: one call at a time, so that nothing overtakes; whatever has no certain outcome goes back to its place
 * and is sent again. When a call keeps failing as a whole, its size is halved until the event to blame is alone.
 */
export class Sender {
  readonly #connection: Pick<Connection, "state" | "request" | "renew" | "backoff">;
  readonly #backlog: Backlog;
  readonly #flushIntervalMs: number;
  readonly #outcomes: Outcomes;
  #inFlight: Item[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer ends, by `performance.now()`. */
  #due = Number.POSITIVE_INFINITY;
  /** Events up to this `order` do not wait for more. */
  #urgent = 0;
  /** Not before, by `performance.now()`: the hub refused whole calls for now. */
  #pausedUntil = 0;
  #failures = 0;
  #strikes = 0;
  /** So many of the next events are known to contain the one to blame. */
  #suspects = 0;

  constructor(
    connection: Pick<Connection, "state" | "request" | "renew" | "backoff">,
    backlog: Backlog,
    flushIntervalMs: number,
    outcomes: Outcomes,
  ) {
    this.#connection = connection;
    this.#backlog = backlog;
    this.#flushIntervalMs = flushIntervalMs;
    this.#outcomes = outcomes;
  }

  get inFlight(): number {
    return this.#inFlight.length;
  }

  /** `order` of the oldest event without a certain outcome, of one job or of all; Infinity if there is none. */
  oldest(job?: string): number {
    let order = this.#backlog.oldest(job);
    for (const item of this.#inFlight) {
      if (job === undefined || item.lane === job) order = Math.min(order, item.order);
    }
    return order;
  }

  /** There is something to send; `urgent`: without waiting for more. Never sends within the call. */
  wake(urgent = false): void {
    if (urgent) this.#urgent = this.#backlog.last;
    if (this.#inFlight.length > 0 || this.#connection.state !== "connected") return;
    const now = performance.now();
    const soon = this.#full || this.#backlog.oldest() <= this.#urgent ? now : now + this.#flushIntervalMs;
    const at = Math.max(soon, this.#pausedUntil, this.#backlog.nextAt());
    if (at >= this.#due) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#due = Number.POSITIVE_INFINITY;
    if (at === Number.POSITIVE_INFINITY) return;
    this.#due = at;
    this.#timer = setTimeout(() => this.#send(), at - now);
  }

  /** There is another connection: that a hub refused calls for now says nothing of this one. */
  connected(): void {
    this.#pausedUntil = 0;
    this.wake(true);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#due = Number.POSITIVE_INFINITY;
  }

  get #limit(): number {
    return this.#suspects > 0 ? Math.ceil(this.#suspects / 2) : KEPT_LIMITS.batchEvents;
  }

  get #full(): boolean {
    return this.#backlog.count >= this.#limit || this.#backlog.bytes >= BATCH_BYTES;
  }

  #send(): void {
    this.stop();
    if (this.#inFlight.length > 0 || this.#connection.state !== "connected") return;
    const items = this.#backlog.take(this.#limit, BATCH_BYTES, performance.now());
    if (items.length === 0) {
      this.wake();
      return;
    }
    this.#inFlight = items;
    this.#outcomes.resent(items.filter(({ sent }) => sent).length);
    if (this.#strikes === 0 && this.#suspects === 0) {
      this.#publish(items);
      return;
    }
    // A hub that is dying anyway must not count against the events: it has to answer first.
    this.#connection.request("ping", {}, (answer) => {
      if (answer.ok || !answer.error.temporary) this.#publish(items);
      else this.#settle(() => this.#again(items, answer.error));
    });
  }

  #publish(items: Item[]): void {
    for (const item of items) item.sent = true;
    const events = items.map(({ event }) => event);
    this.#connection.request<PublishAnswer>("publish", events, (answer) => {
      this.#settle(() => this.#answered(items, answer));
    });
  }

  #settle(settle: () => void): void {
    this.#inFlight = [];
    settle();
    this.#outcomes.settled();
    this.wake();
  }

  #answered(items: Item[], answer: Answer<PublishAnswer>): void {
    if (answer.ok) {
      this.#accepted(items, answer.data);
      return;
    }
    const { error } = answer;
    if (error.code === "token_expired") {
      this.#backlog.putBack(items);
      this.#connection.renew(TrainwireError.from(error));
    } else if (error.code === "disconnected") {
      this.#strikes += 1;
      if (this.#strikes >= STRIKES) this.#suspect(items, error);
      else this.#backlog.putBack(items);
    } else if (error.temporary) this.#again(items, error);
    else if (ONE_TO_BLAME.has(error.code)) this.#suspect(items, error);
    else this.#outcomes.refused(items, error);
  }

  #again(items: Item[], error: AnswerError): void {
    this.#backlog.putBack(items);
    if (error.code === "disconnected") return;
    this.#pausedUntil = performance.now() + this.#connection.backoff(this.#failures++);
  }

  /** One of them is to blame: with half of them next time, or alone it is dropped. */
  #suspect(items: Item[], error: AnswerError): void {
    this.#strikes = 0;
    const [first] = items;
    if (items.length === 1 && first) {
      this.#suspects = Math.max(0, this.#suspects - 1);
      this.#outcomes.poison(first, error);
      return;
    }
    this.#suspects = items.length;
    this.#backlog.putBack(items);
  }

  #accepted(items: Item[], data: PublishAnswer): void {
    this.#strikes = 0;
    this.#failures = 0;
    this.#suspects = Math.max(0, this.#suspects - items.length);
    const later: Item[] = [];
    const refused = new Map<string, { error: AnswerError; items: Item[] }>();
    for (const refusal of Array.isArray(data.refused) ? data.refused : []) {
      const item = items[refusal.index];
      if (!item) continue;
      if (refusal.temporary) later.push(item);
      else {
        const same = refused.get(refusal.code) ?? { error: refusal, items: [] };
        same.items.push(item);
        refused.set(refusal.code, same);
      }
    }
    this.#outcomes.stored(data.accepted, data.duplicates);
    for (const { error, items: own } of refused.values()) this.#outcomes.refused(own, error);
    this.#postpone(items, later);
  }

  /** What was refused for now keeps its place, and nothing of the same job passes it: a lower `n` would be lost. */
  #postpone(items: Item[], later: Item[]): void {
    const blocked = new Set(later.map(({ lane }) => lane));
    for (const { lane } of items) if (!blocked.has(lane)) this.#backlog.unblock(lane);
    this.#backlog.putBack(later.sort((a, b) => a.order - b.order));
    for (const lane of blocked) {
      this.#backlog.block(lane, (refusals) => performance.now() + this.#connection.backoff(refusals));
    }
  }
}
