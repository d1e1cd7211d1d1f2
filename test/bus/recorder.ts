import type { Bus, FeedEvent, FeedHandler, FeedName } from "../../src/bus/bus.ts";

/** Writes down what a feed's channel brings. */
export class Recorder implements FeedHandler {
  readonly received: FeedEvent[] = [];
  subscriptions = 0;
  cuts = 0;
  unreadables = 0;
  readonly #waiting = new Set<() => void>();

  events(events: readonly FeedEvent[]): void {
    this.received.push(...events);
    this.#wake();
  }

  unreadable(): void {
    this.unreadables++;
    this.#wake();
  }

  subscribed(): void {
    this.subscriptions++;
    this.#wake();
  }

  unsubscribed(): void {
    this.cuts++;
    this.#wake();
  }

  get wires(): string[] {
    return this.received.map(({ wire }) => wire);
  }

  get seqs(): number[] {
    return this.received.map(({ seq }) => seq);
  }

  /** Resolves when it is so; asked again whenever something has come. */
  until(condition: (recorder: this) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition(this)) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** Until an event of this seq, or one after it, has come. */
  reach(seq: number): Promise<void> {
    return this.until(({ received }) => (received.at(-1)?.seq ?? 0) >= seq);
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look();
  }
}

/** Holds a feed, and waits until the subscription is in force. */
export async function listen(bus: Bus, feed: FeedName): Promise<Recorder> {
  const recorder = new Recorder();
  bus.hold(feed, recorder);
  await recorder.until(({ subscriptions }) => subscriptions > 0);
  return recorder;
}
