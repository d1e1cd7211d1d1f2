/** What the memory store keeps: streams within their caps, the feeds of jobs and tenants. */
import { LIMITS } from "../protocol/limits.ts";
import type { EventType } from "../protocol/types.ts";
import { MemoryJob } from "./memory-job.ts";
import { newEpoch, size } from "./page.ts";
import { Curves, FOLD_FROM, pointOf } from "./series.ts";
import type { Entry, Logged, Newest, Stored, StoreOptions } from "./store.ts";
import { fieldsIn } from "./wire.ts";

/** A stream of logged events within its caps. */
class Stream {
  readonly #events: Logged[] = [];
  #bytes = 0;
  #maxEvents: number;
  #maxBytes: number;
  last = 0;

  constructor(maxEvents: number, maxBytes: number) {
    this.#maxEvents = maxEvents;
    this.#maxBytes = maxBytes;
  }

  add(event: Omit<Logged, "prev">): void {
    this.#events.push({ ...event, prev: this.last });
    this.last = event.seq;
    this.#bytes += size(event);
    while (
      this.#events.length > this.#maxEvents ||
      (this.#bytes > this.#maxBytes && this.#events.length > 1)
    ) {
      this.#bytes -= size(this.#events.shift() as Logged);
    }
  }

  after(seq: number, limit: number, bytes: number): Logged[] {
    const found: Logged[] = [];
    for (let i = this.#indexAfter(seq), used = 0; i < this.#events.length && found.length < limit; i++) {
      const event = this.#events[i] as Logged;
      used += size(event);
      if (used > bytes && found.length > 0) break;
      found.push(event);
    }
    return found;
  }

  /** Newest first. */
  *backwards(): Iterable<Logged> {
    for (let i = this.#events.length - 1; i >= 0; i--) yield this.#events[i] as Logged;
  }

  #indexAfter(seq: number): number {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#events[middle] as Logged).seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What a job's feed and the tenant's have in common. */
export class Feed {
  readonly epoch = newEpoch();
  seq = 0;
  life: number;
  expiresAt: number;
  readonly streams: Record<"events" | "log", Stream>;
  readonly newest = new Map<string, Newest>();
  readonly ids = new Map<string, number>();
  readonly producers = new Map<string, { incarnation: number; n: number; seq: number }>();

  constructor(options: StoreOptions, now: number) {
    this.life = options.ttlSilent * 1_000;
    this.expiresAt = now + this.life;
    this.streams = {
      events: new Stream(options.maxEvents, options.maxFeedBytes),
      log: new Stream(options.maxLogLines, options.maxFeedBytes),
    };
  }

  /** What was stored of the entry before, or why it must not be. */
  known(entry: Entry): Stored | undefined {
    if (entry.id !== undefined) {
      const seq = this.ids.get(entry.id);
      return seq === undefined ? undefined : { seq, duplicate: true };
    }
    if (!entry.producer) return undefined;
    const known = this.producers.get(entry.producer.id);
    if (!known)
      return this.producers.size >= LIMITS.producers ? { refused: "too_many_producers" } : undefined;
    if (entry.producer.incarnation < known.incarnation) return { refused: "producer_fenced" };
    if (entry.producer.incarnation > known.incarnation || entry.producer.n > known.n) return undefined;
    return { seq: known.seq, duplicate: true };
  }

  remember(entry: Entry, seq: number): void {
    if (entry.id !== undefined) {
      this.ids.set(entry.id, seq);
      if (this.ids.size > LIMITS.ids) this.ids.delete(this.ids.keys().next().value as string);
    }
    if (entry.producer) this.producers.set(entry.producer.id, { ...entry.producer, seq });
  }
}

export class JobFeed extends Feed {
  createdAt: number;
  updatedAt: number;
  progressFlushedAt = 0;
  readonly job = new MemoryJob();
  readonly latest = new Map<EventType, Logged>();
  readonly counts = new Map<string, number>();
  readonly #curves = new Curves();
  /** Points that are not in the curves yet. */
  #raw: Array<{ seq: number; text: string }> = [];

  readonly #options: StoreOptions;

  constructor(options: StoreOptions, now: number) {
    super(options, now);
    this.#options = options;
    this.createdAt = now;
    this.updatedAt = now;
  }

  /** Why the job does not take the entry, or that it has it. */
  refusal(entry: Entry, isNew: boolean): Stored | undefined {
    const refusal = this.job.refusal(entry, isNew);
    if (refusal) return refusal;
    const { merge } = entry.patch;
    const before = merge && this.newest.get(merge.key);
    if (merge && !before && this.newest.size >= LIMITS.conflationKeys) return { refused: "too_many_keys" };
    if (!merge || before?.attempt !== (entry.attempt ?? this.job.attempt)) return undefined;
    let size = before.fields.size;
    for (const [field] of fieldsIn(merge.fields)) if (!before.fields.has(field)) size++;
    return size > LIMITS.mergedFields ? { refused: "too_many_metrics" } : undefined;
  }

  /** The curves up to now. */
  curves(): Curves {
    for (const { seq, text } of this.#raw) this.#curves.add(pointOf(seq, text));
    this.#raw = [];
    return this.#curves;
  }

  apply(entry: Entry, seq: number): void {
    const { type, head, data, patch } = entry;
    if (entry.durable) this.streams[entry.stream].add({ seq, type, head, data });
    if (patch.latest) this.latest.set(type, { seq, type, head, data, prev: 0 });
    increment(this.counts, `type:${type}`);
    const { attempt = this.job.attempt } = entry;
    if (patch.merge) merge(this.newest, patch.merge, { seq, attempt, type, head });
    if (patch.point !== undefined) {
      // A point names its attempt, but for the first.
      const isNamed = entry.attempt !== undefined || attempt === 1;
      const text = isNamed ? patch.point : `{"attempt":${attempt},${patch.point.slice(1)}`;
      this.#raw.push({ seq, text });
      if (this.#raw.length >= FOLD_FROM) this.curves();
    }
    if (entry.ends !== undefined) {
      this.life = (entry.ends ? this.#options.ttlFinished : this.#options.ttlSilent) * 1_000;
    }
  }
}

/** Outlives its jobs. */
export class Tenant extends Feed {
  constructor(options: StoreOptions, now: number) {
    super(options, now);
    this.life = Math.max(options.ttlSilent, options.ttlFinished) * 1_000;
    this.expiresAt = now + this.life;
  }

  readonly jobs = new Map<string, JobFeed>();
  /** Jobs whose progress the tenant feed has not shown yet. */
  readonly dirty = new Set<string>();
}

function merge(
  newest: Map<string, Newest>,
  { key, fields }: NonNullable<Entry["patch"]["merge"]>,
  event: { seq: number; attempt: number; type: EventType; head: string },
): void {
  const before = newest.get(key);
  if (before && event.attempt < before.attempt) return;
  const kept = before && event.attempt === before.attempt ? before.fields : new Map<string, string>();
  for (const [field, json] of fieldsIn(fields)) kept.set(field, json);
  newest.set(key, { key, ...event, fields: kept });
}

function increment(counts: Map<string, number>, counter: string): void {
  counts.set(counter, (counts.get(counter) ?? 0) + 1);
}
