/** One watcher's place in one feed. */
import { addressOf, type FeedEvent, type FeedName } from "../bus/bus.ts";
import type { EventType, Gap, Position } from "../protocol/types.ts";
import { type Filter, visible, wants, wantsEvent } from "./page.ts";
import { Throttle } from "./throttle.ts";

/** What a door gives the core: how this watcher is reached. None of it may throw. */
export interface Subscriber {
  /** It reads more slowly than its events come: conflatable values are held back meanwhile. Absent: never. */
  readonly behind?: boolean;
  /** A value has been merged into a newer one, and does not come by itself. */
  conflated?(): void;
  deliver(event: FeedEvent): void;
  gap(gap: Gap): void;
  position(position: Position): void;
  /** A `wait` is over and the job has not come; the subscription is gone. */
  waitExpired(jobId: string): void;
}

export interface SubscriptionOptions extends Filter {
  name: FeedName;
  subscriber: Subscriber;
  epoch: string | null;
  seq: number;
  /** Conflatable deliveries a second and key. */
  maxRate?: number | undefined;
  /** ms since 1970; only while the job does not exist. */
  waitUntil?: number;
}

export class Subscription implements Filter {
  readonly name: FeedName;
  readonly types: ReadonlySet<EventType> | undefined;
  /** Changes with the watcher's token. */
  maySee: ((jobId: string) => boolean) | undefined;
  readonly subscriber: Subscriber;
  waitUntil: number | undefined;
  /** With a `max_rate`, or from the first time that the watcher was behind. */
  #throttle: Throttle | undefined;
  #epoch: string | null;
  #start: number;
  #seq: number;
  /** The last position that the watcher can know of. */
  #told: number;

  constructor({ name, types, maySee, subscriber, epoch, seq, maxRate, waitUntil }: SubscriptionOptions) {
    this.name = name;
    this.types = types;
    this.maySee = maySee;
    this.subscriber = subscriber;
    this.waitUntil = waitUntil;
    this.#epoch = epoch;
    this.#start = seq;
    this.#seq = seq;
    this.#told = seq;
    if (maxRate !== undefined) this.#throttle = this.#throttled(maxRate);
  }

  get epoch(): string | null {
    return this.#epoch;
  }

  /** The position that its answer, or the last gap, covered: live events lie above. */
  get start(): number {
    return this.#start;
  }

  get seq(): number {
    return this.#seq;
  }

  /** Delivers what is new and wanted. An instance that lags behind this watcher's page repeats nothing to it. */
  offer(event: FeedEvent): boolean {
    if (event.seq <= this.#seq || event.epoch !== this.#epoch) return false;
    this.#seq = event.seq;
    if (!wantsEvent(this, event)) return false;
    if (!this.#throttle && (event.durable || !this.subscriber.behind)) this.#deliver(event);
    else if (event.durable) {
      // The last progress comes before the status that ends it.
      if (event.type === "training_status" || event.type === "job_updated") this.#throttle?.flush();
      this.#deliver(event);
    } else {
      this.#throttle ??= this.#throttled(Number.POSITIVE_INFINITY);
      this.#throttle.offer(event);
    }
    return true;
  }

  #throttled(maxRate: number): Throttle {
    return new Throttle(
      maxRate,
      (event) => this.#deliver(event),
      () => this.subscriber.behind === true,
      () => this.subscriber.conflated?.(),
    );
  }

  /** The watcher has left. */
  end(): void {
    this.#throttle?.clear();
  }

  #deliver(event: FeedEvent): void {
    // It may have been held back since the watcher could still see it.
    if (this.maySee && !this.maySee(event.jobId)) return;
    if (event.seq > this.#told) this.#told = event.seq;
    this.subscriber.deliver(event);
  }

  /** The feed is complete up to here, whether or not something was for this watcher. */
  pass(epoch: string, seq: number): void {
    if (epoch === this.#epoch && seq > this.#seq) this.#seq = seq;
  }

  /** `previous` is the epoch that the feed leaves. Who has joined in the new one already is told only what it misses. */
  gap(gap: Gap, previous: string | null): void {
    const ahead = gap.epoch === this.#epoch;
    if (gap.reason === "trimmed") {
      // Nothing is passed here: events of the other stream may lie beside the gap, and follow.
      if (ahead && (gap.to ?? 0) > this.#seq && wants(this, gap)) this.#tell(gap);
      return;
    }
    // In the epoch that it already had, the feed has lost its end.
    const lostEnd = gap.reason === "reset" && previous === gap.epoch && gap.seq < this.#seq;
    if (ahead && !lostEnd && gap.seq <= this.#seq) return;
    const skips = ahead && gap.reason === "reset" && !lostEnd;
    const told: Gap = skips ? { ...gap, from: this.#seq + 1, to: gap.seq, reason: "overflow" } : gap;
    this.#epoch = gap.epoch;
    this.#start = gap.seq;
    this.#seq = gap.seq;
    this.#told = gap.seq;
    this.#throttle?.clear();
    this.#tell(told);
  }

  #tell(gap: Gap): void {
    this.subscriber.gap(
      this.maySee && gap.snapshot ? { ...gap, snapshot: visible(this, gap.snapshot) } : gap,
    );
  }

  /** The feed that it waited for is there. */
  begin(epoch: string): void {
    if (this.#epoch !== null) return;
    this.waitUntil = undefined;
    this.#epoch = epoch;
    this.#seq = 0;
    this.#told = 0;
  }

  /** Tells a watcher that saw nothing for a while where it stands, so that its cursor does not fall out of the log. */
  tellPosition(): void {
    if (this.#epoch === null || this.#told >= this.#seq) return;
    this.#told = this.#seq;
    this.subscriber.position(this.position() as Position);
  }

  position(): Position | undefined {
    if (this.#epoch === null) return undefined;
    return {
      ...addressOf(this.name),
      epoch: this.#epoch,
      seq: this.#seq,
    };
  }
}
