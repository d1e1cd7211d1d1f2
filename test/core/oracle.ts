/** What a watcher may conclude from what it was told, by PROTOCOL.md alone, and whether that is true. */
import type { FeedEvent } from "../../src/bus/bus.ts";
import { EVENTS } from "../../src/protocol/events.ts";
import type {
  Cursor,
  DeliveredEvent,
  EventType,
  Gap,
  Position,
  Snapshot,
  SubscribeAnswer,
} from "../../src/protocol/types.ts";
import { conflationKey } from "../../src/store/reduce.ts";
import type { Received } from "./scripted.ts";

interface Covered {
  epoch: string | null;
  from: number;
  to: number;
  stream?: "events" | "log";
}

interface Value {
  seq: number;
  data: Record<string, unknown>;
}

export class Oracle {
  readonly faults: string[] = [];
  readonly #types: ReadonlySet<EventType> | undefined;
  /** What the watcher was told not to wait for: gaps, and what a snapshot holds. */
  readonly #covered: Covered[] = [];
  readonly #delivered = new Map<string, number[]>();
  #newest = new Map<string, Value>();
  /** Up to here a snapshot holds everything. */
  #held = 0;
  epoch: string | null = null;
  seq = 0;

  constructor(types?: readonly EventType[]) {
    this.#types = types && new Set(types);
  }

  take(received: readonly Received[]): this {
    for (const one of received) {
      if ("answer" in one) {
        const since = one.request.since as Cursor | undefined;
        // What it had before it began here.
        if (since && one === received[0]) this.#covered.push({ epoch: since.epoch, from: 1, to: since.seq });
        this.#answer(one.answer, since !== undefined);
      } else if ("event" in one) this.#event(JSON.parse(one.event.wire), "live");
      else if ("gap" in one) this.#gap(one.gap);
      else if ("position" in one) this.#position(one.position);
    }
    return this;
  }

  /** Compares with everything that was ever published, and the feed's newest values. */
  check(
    history: readonly FeedEvent[],
    head: { epoch: string; seq: number } | undefined,
    newest: Value[],
  ): string[] {
    if (head && this.epoch !== head.epoch)
      this.faults.push(`it stands in ${this.epoch}, the feed in ${head.epoch}`);
    for (const event of history) {
      if (!event.durable || event.epoch !== head?.epoch || !this.#wants(event.type)) continue;
      const got = this.#delivered.get(event.epoch)?.includes(event.seq);
      if (!got && !this.#isCovered(event))
        this.faults.push(`${event.type} ${event.seq} is missing without a gap`);
    }
    for (const { seq, data } of newest) {
      const own = [...this.#newest.values()].find((value) => sameJson(value.data, data));
      if (!own) this.faults.push(`it has not ended on the newest value ${seq} ${JSON.stringify(data)}`);
    }
    return this.faults;
  }

  #position({ epoch, seq }: Position): void {
    // It waited for the job, of which nothing was for it yet.
    this.epoch ??= epoch;
    if (epoch !== this.epoch) this.faults.push(`position in ${epoch} comes in ${this.epoch}`);
    this.seq = Math.max(this.seq, seq);
  }

  #wants(type: EventType): boolean {
    return !this.#types || this.#types.has(type);
  }

  #isCovered({ epoch, seq, type }: FeedEvent): boolean {
    const stream = EVENTS[type].stream;
    return this.#covered.some(
      (one) =>
        one.epoch === epoch && one.from <= seq && seq <= one.to && (!one.stream || one.stream === stream),
    );
  }

  #answer(answer: SubscribeAnswer, resumed: boolean): void {
    if (!resumed || !answer.recovered) {
      this.epoch = answer.epoch;
      this.seq = 0;
      this.#held = 0;
      this.#newest = new Map();
      const first = answer.events.find(({ type }) => type !== "gap");
      const to = first ? first.seq - 1 : answer.seq;
      this.#covered.push({ epoch: answer.epoch, from: 1, to });
      if (answer.epoch) this.#delivered.set(answer.epoch, []);
    }
    this.epoch ??= answer.epoch;
    for (const item of answer.events) {
      if (item.type === "gap") this.#gap(item);
      else this.#event(item, "answered");
    }
    if (answer.snapshot && "job_id" in answer.snapshot) this.#snapshot(answer.snapshot);
    this.seq = answer.seq;
  }

  #event(event: DeliveredEvent, how: "live" | "answered"): void {
    const { type, epoch, seq } = event;
    // It waited for the job: whatever comes first begins it.
    if (this.epoch === null) this.epoch = epoch;
    if (epoch !== this.epoch) this.faults.push(`${type} ${seq} of epoch ${epoch} comes in ${this.epoch}`);
    if (!this.#wants(type)) this.faults.push(`${type} ${seq} was not asked for`);
    if (EVENTS[type].class === "conflatable") {
      const key = conflationKey(event as Parameters<typeof conflationKey>[0]);
      const before = this.#newest.get(key);
      if (before && before.seq > seq && seq > this.#held) {
        this.faults.push(`${type} falls from ${before.seq} to ${seq}`);
      }
      if (seq > this.#held) this.#newest.set(key, { seq, data: { ...before?.data, ...event.data } });
    } else {
      const own = this.#delivered.get(epoch) ?? [];
      if (seq <= (own.at(-1) ?? 0)) this.faults.push(`${type} ${seq} comes after ${own.at(-1)}`);
      if (how === "live" && seq <= this.seq && !own.includes(seq)) {
        this.faults.push(`${type} ${seq} comes although the watcher stood at ${this.seq}`);
      }
      own.push(seq);
      this.#delivered.set(epoch, own);
    }
    this.seq = Math.max(this.seq, seq);
  }

  #gap(gap: Gap): void {
    const { epoch, seq, from = 1, to = seq, stream, reason, snapshot } = gap;
    this.#covered.push({ epoch, from, to, ...(stream && { stream }) });
    if (reason !== "trimmed") {
      this.epoch = epoch;
      this.seq = seq;
      this.#held = 0;
      if (reason === "reset") this.#newest = new Map();
      // It begins anew, whatever it had.
      if (reason === "reset") this.#delivered.clear();
    }
    if (snapshot && "job_id" in snapshot) this.#snapshot(snapshot);
  }

  #snapshot(snapshot: Snapshot): void {
    // Of a history that came after: the next gap tells.
    if (snapshot.epoch !== this.epoch) return;
    this.#held = snapshot.seq;
    for (const event of snapshot.newest) {
      const key = conflationKey(event as Parameters<typeof conflationKey>[0]);
      const before = this.#newest.get(key);
      if (!before || before.seq <= event.seq)
        this.#newest.set(key, { seq: event.seq, data: { ...event.data } });
    }
  }
}

function sameJson(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  const names = Object.keys(a).sort();
  if (names.join() !== Object.keys(b).sort().join()) return false;
  return names.every((name) => JSON.stringify(a[name]) === JSON.stringify(b[name]));
}
