/** What trainers and watchers write down, for the checker. Both the sockets and the log's pages bring the same texts. */
import { EVENTS } from "../../src/protocol/events.ts";
import { TERMINAL_STATUSES } from "../../src/protocol/status.ts";
import type {
  Cursor,
  DeliveredEvent,
  EventType,
  Gap,
  JobSummary,
  Num,
  Snapshot,
  TrainingStatus,
} from "../../src/protocol/types.ts";

/** A durable event of a trainer. */
export interface Sent {
  /** Who, to which job, and which: together they name it. */
  producer: string;
  jobId: string;
  n: number;
  type: EventType;
  /** Of its data as JSON. */
  crc: number;
  /** What lets the hub see a resend: nothing does for an event that is sent only once. */
  guard: "producer" | "id" | "none";
  /** How often it went out. */
  times: number;
  /** A hub has said that it is stored. */
  acked: boolean;
  /** Of its job's feed, as the hub has said then. */
  epoch?: string;
}

/** What `metadata` of every durable event of the load carries. */
export interface Mark {
  producer: string;
  n: number;
  crc: number;
  /** Names the tenant: must not show up at another one. */
  marker: string;
}

/** `data` of progress, merged field by field. */
export type Merged = Record<string, unknown> & { metrics?: Record<string, Num> };
/** Conflation key → merged value. */
export type Newest = Map<string, Merged>;

/** One text that a hub has sent; the same text is the same object. */
export interface Told {
  readonly kind: "event";
  /** The event as JSON, byte by byte as it was received. */
  readonly text: string;
  readonly feed: "job" | "tenant";
  readonly jobId: string;
  readonly epoch: string;
  readonly seq: number;
  readonly type: EventType;
  readonly durable: boolean;
  /** A terminal status. */
  readonly ends: boolean;
  /** Of conflatable events: what a newer value replaces. */
  readonly key: string;
  /** Of conflatable events. */
  readonly data: Merged | undefined;
  /** ms since 1970. */
  readonly receivedAt: number;
}

/** One page of an answer to `subscribe`. Its events follow it in the history. */
export interface Answered {
  kind: "answer";
  epoch: string | null;
  seq: number;
  recovered: boolean;
  since?: Cursor;
  history?: number;
  /** Events and gaps that it brought: so many entries follow it. */
  events: number;
  /** Another page follows. */
  more: boolean;
  /** Of a job. */
  snapshot?: JobState;
  /** Of the tenant's feed: its jobs. */
  jobs?: readonly JobProgress[];
  /** When it came, ms since 1970. */
  at?: number;
}

export type JobProgress = Pick<JobSummary, "job_id" | "progress">;
export type JobState = Pick<Snapshot, "seq" | "counts" | "latest" | "newest">;

export interface GapTold {
  kind: "gap";
  gap: Omit<Gap, "snapshot">;
  /** Of a job. */
  snapshot?: JobState;
  /** Of the tenant's feed: its jobs. */
  jobs?: readonly JobProgress[];
  /** When it came, ms since 1970. */
  at?: number;
}

/** One watcher's sight of one feed, from its first answer on and through its reconnects. */
export interface View {
  watcher: string;
  tenantId: string;
  feed: "job" | "tenant";
  /** '' on the tenant feed. */
  jobId: string;
  types: ReadonlySet<EventType> | undefined;
  /** A job that began while the watcher followed all jobs: no answer, everything from the start. */
  fromStart: boolean;
  entries: Array<Told | Answered | GapTold>;
  /** The hub has confirmed that everything up to here was delivered. */
  until: number;
  /** Of that position. */
  untilEpoch?: string;
  /** Its watcher was there to the end, so it must have heard of whatever has become of the feed. */
  stayed?: boolean;
}

/** A feed as it is stored in the end: its durable events. */
export interface FeedLog {
  feed: "job" | "tenant";
  jobId: string;
  /** '' when there is none: it was lost, and has not begun anew. */
  epoch: string;
  /** Its head. */
  seq: number;
  events: Told[];
}

/** Every text once, however many watchers have received it. */
export class Texts {
  readonly #told = new Map<string, Told>();

  /** `event` is what the text says, where it has been parsed already. */
  intern(text: string, event?: DeliveredEvent): Told {
    const known = this.#told.get(text);
    if (known) return known;
    const told = toldOf(text, event ?? (JSON.parse(text) as DeliveredEvent));
    this.#told.set(text, told);
    return told;
  }
}

export function toldOf(text: string, event: DeliveredEvent): Told {
  const { feed, epoch, seq, type, job_id: jobId = "" } = event;
  const durable = EVENTS[type]?.class !== "conflatable";
  const key = durable ? "" : feed === "tenant" ? jobId : keyOf(event);
  return Object.freeze({
    ...{ kind: "event" as const, text, feed, jobId, epoch, seq, type, durable, key },
    ends: type === "training_status" && TERMINAL_STATUSES.has((event.data as TrainingStatus).status),
    data: durable ? undefined : ({ ...event.data } as Merged),
    receivedAt: Date.parse(event.received_at),
  });
}

/** Within one job and type. */
export function keyOf({ product = "", rank }: { product?: string; rank?: number }): string {
  return `${product}/${rank ?? ""}`;
}

/** Field by field, each field its newest. */
export function mergeInto(newest: Newest, key: string, data: Merged): void {
  const before = newest.get(key) ?? {};
  const { metrics, ...fields } = data;
  const merged: Merged = { ...before, ...fields };
  if (metrics) merged.metrics = { ...before.metrics, ...metrics };
  newest.set(key, merged);
}
