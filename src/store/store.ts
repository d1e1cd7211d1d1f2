/**
 * The store keeps feeds: what was published, in which order, and what is newest. Two implementations (memory.ts,
 * redis.ts) answer to one suite. Payloads are JSON text that the store never decodes: numbers stay as they were written.
 */
import type { FeedName } from "../bus/bus.ts";
import type { ErrorCode } from "../protocol/codes.ts";
import type {
  Cursor,
  EventType,
  JobStatus,
  Liveness,
  SeriesAnswer,
  SeriesRequest,
} from "../protocol/types.ts";

/** What an event changes beside being logged; made by `reduce`, applied by every store alike. */
export interface Patch {
  /** Sets the newest durable event of this type. */
  latest?: boolean;
  /** Sets fields of the job (name, …) to JSON text; '' takes a field away. */
  set?: ReadonlyArray<readonly [field: string, json: string]>;
  /** Sets the status, if the present one is among `from` or of a lower attempt; else the entry is refused `invalid_transition`. */
  transition?: { to: JobStatus; from: readonly JobStatus[] };
  /**
   * Counts a product of the attempt once. One that is counted already is a duplicate, unless it had failed and has
   * completed now. `head`: of the `training_progress` that tells the job's new percentage.
   */
  product?: { name: string; failed: boolean; total?: number; head: string };
  /**
   * How many products there are. `head` as above; without it the percentage stays. Less than are done is refused
   * `invalid_total`.
   */
  productsTotal?: { total: number; head?: string };
  /** The job is completed: its products are at 100 %. */
  productsDone?: { head: string };
  /** Deadlines of the job: in so many ms (of the store's clock), or not any more. `what` names the field that is judged. */
  deadlines?: ReadonlyArray<readonly [what: string, ms: number | null]>;
  /**
   * Merges fields into the newest value of a conflation key. A higher attempt clears it, a lower one is ignored. `fields`:
   * names and JSON texts in turns, each a line (wire.ts, `fieldsOf`).
   */
  merge?: { key: string; fields: string };
  /** A point of the metric series, as JSON text without its seq: `{"step":…,"metrics":{…}}`. */
  point?: string;
}

/** One checked event on its way into the store. */
export interface Entry {
  type: EventType;
  durable: boolean;
  stream: "events" | "log";
  /** Also goes to the tenant feed: as it is, or merged at most once a second. */
  tenantFeed: boolean | "merged";
  /**
   * The envelope as JSON text without the leading brace, positions and `data`: `"type":"log",…,"received_at":"…"`. Like
   * `data` and every JSON text here it has no raw newline (JSON.stringify writes none): stores separate texts by lines.
   */
  head: string;
  /** `data` as JSON text. */
  data: string;
  patch: Patch;
  /** Free-text id for duplicates. */
  id?: string;
  producer?: { id: string; incarnation: number; n: number };
  /** The job ends with this status (shorter life), or lives again. */
  ends?: boolean;
  /** Which run of the job this is; absent: the newest. */
  attempt?: number;
  /** A trainer's sign of life (true), or a status with which none is expected any more (false). */
  alive?: boolean;
  /**
   * The job must be there and have these fields (JSON text; '' for none), or the entry is refused `conflict`: compare and
   * set.
   */
  onlyIf?: ReadonlyArray<readonly [field: string, json: string]>;
}

/** What became of one entry. */
export type Stored = { seq: number; duplicate: boolean } | { refused: ErrorCode };

export interface AppendResult {
  /** One per entry, in order. */
  stored: Stored[];
  /** Where the feed stands after the last stored or duplicate entry; absent if all were refused. */
  position?: Cursor;
  /** The trainer of the job lives, but the job counts as stale or lost: it is to be told. */
  wakes?: boolean;
}

/** The newest value of a conflation key. */
export interface Newest {
  key: string;
  seq: number;
  attempt: number;
  type: EventType;
  head: string;
  /** field → JSON text. `metrics` are flattened as `metrics.<name>`. */
  fields: Map<string, string>;
  /** On the tenant feed: the job's own position and id. */
  job?: { jobId: string; position: Cursor };
}

/** A logged event. */
export interface Logged {
  seq: number;
  type: EventType;
  /** The seq before it in its own stream; 0 for the first. If it is higher than the one read before, events were trimmed. */
  prev: number;
  head: string;
  data: string;
  job?: { jobId: string; position: Cursor };
}

/** A part of a stream that the caps have removed. */
export interface Trimmed {
  stream: "events" | "log";
  from: number;
  to: number;
}

export interface ReadOptions {
  /** Read what follows this seq. */
  after: number;
  /** In this epoch; another one makes the read start over: `reset` is then true and nothing is read. */
  epoch: string | null;
  /** Events at most; all newest values come on top. */
  limit: number;
  /** Bytes at most; one event always fits. */
  bytes: number;
  streams: readonly ("events" | "log")[];
  /** Newest values above this seq; default `after`. Those up to `after` are sure to come only with a page that reaches the head. */
  newestAfter?: number;
}

export interface Page {
  /** `null`: there is no such feed. */
  epoch: string | null;
  /** Head of the feed. */
  seq: number;
  /** The cursor does not belong to this feed's history: other epoch, or a seq above the head. */
  reset: boolean;
  logged: Logged[];
  trimmed: Trimmed[];
  /** Newest values above `newestAfter`. */
  newest: Newest[];
  /** Everything up to here has been read; below `seq` when there is more. */
  upTo: number;
}

/** A job's state, from its patches. */
export interface JobState {
  epoch: string;
  seq: number;
  /** ms since 1970. */
  createdAt: number;
  updatedAt: number;
  /** The last sign of life of the job's trainer, ms since 1970 of the store's clock; absent if there was none. */
  seenAt?: number;
  /**
   * Field → JSON text: what `Patch.set` sets, and the store's own `status`, `attempt`, `status_attempt` (of the status),
   * `liveness`, `seen` (as `seenAt`), `last_step_at`, `products_total`, `products_progress`.
   */
  fields: Map<string, string>;
  /** Type → newest durable event. */
  latest: Logged[];
  /** Counter → value: `type:<type>` events stored, `products:completed` and `products:failed` of the newest attempt. */
  counts: Map<string, number>;
  newest: Newest[];
}

/** What is to be judged of a job whose time has come. */
export interface Due {
  jobId: string;
  /** As in `Patch.deadlines`; `liveness` is the store's own. */
  what: string;
  /** ms since the last sign of life; absent if there was none. */
  silentMs?: number;
  /** ms that the trainer has asked to be left alone for, from now; absent or below zero: it has not. */
  expectMs?: number;
  /** ms since 1970, of the store's clock. */
  seenAt?: number;
  /** The fields that were asked for; '' for none. `undefined`: the job is gone. */
  fields?: ReadonlyMap<string, string>;
}

export interface Store {
  /**
   * Appends entries to a feed, in order, and publishes them to the bus. One atomic step for all of them: after a
   * crash either all accepted entries are there or none, and a resend with the same `id` or `n` is a `duplicate`.
   * `created` is stored before the first entry when the job is new and that entry does not create it itself.
   *
   * @throws HubError `storage_full` (nothing was stored) or `unavailable` (unknown: send again).
   */
  append(feed: FeedName, entries: readonly Entry[], created?: Entry): Promise<AppendResult>;
  /** A page of events after a cursor, atomic with the head and the newest values. */
  read(feed: FeedName, options: ReadOptions): Promise<Page>;
  /** The position before the last n durable events of these types. */
  tail(feed: FeedName, n: number, types: ReadonlySet<EventType> | undefined): Promise<number>;
  /** The heads of up to 100 feeds of one tenant; `undefined` for those that do not exist. */
  heads(tenantId: string, feeds: readonly FeedName[]): Promise<Array<Cursor | undefined>>;
  /** The state of one job, `undefined` if there is none; `brief`: for a list, without `latest`. */
  job(tenantId: string, jobId: string, brief?: boolean): Promise<JobState | undefined>;
  /**
   * Ids of a tenant's jobs, newest first; `before` is the last id of the page before.
   *
   * @throws HubError `invalid_cursor` when that job is gone: begin again.
   */
  jobs(tenantId: string, options: { limit: number; before?: string }): Promise<string[]>;
  /** Single fields of a job ('' for none), `undefined` if there is no job. */
  fields(tenantId: string, jobId: string, names: readonly string[]): Promise<Map<string, string> | undefined>;
  /** The curves of a job: folded buckets and raw tail, atomic with the head. `undefined` if there is no job. */
  series(
    tenantId: string,
    jobId: string,
    options: Omit<SeriesRequest, "job_id">,
  ): Promise<SeriesAnswer | undefined>;
  /**
   * Signs of life that are not events. `fresh`: the trainer has just come, so a job without liveness has one from now on,
   * unless it has ended. Answers the liveness of each job, `undefined` for none and for jobs that are gone.
   */
  touch(
    tenantId: string,
    jobs: ReadonlyArray<{ jobId: string; lastStepAt?: string; expectMs?: number; fresh?: boolean }>,
  ): Promise<Array<Liveness | undefined>>;
  /** Tenants that have deadlines. */
  tenants(): Promise<string[]>;
  /** Deadlines of a tenant that are over, soonest first, with these fields of their jobs. */
  due(tenantId: string, limit: number, fields: readonly string[]): Promise<Due[]>;
  /** Moves a deadline to so many ms from now, or takes it away; does not make one. */
  defer(tenantId: string, jobId: string, what: string, ms: number | null): Promise<void>;
  /** Puts the merged progress of changed jobs on the tenant feed, each at most once a second. Called by instances that hold it. */
  flushTenant(tenantId: string): Promise<void>;
  /** Whether commands are answered at the moment. */
  readonly ready: boolean;
  close(): Promise<void>;
}

/** Caps and lives of feeds; settings (settings.ts). */
export interface StoreOptions {
  maxEvents: number;
  maxLogLines: number;
  maxFeedBytes: number;
  maxPoints: number;
  maxJobs: number;
  /** Seconds. */
  ttlFinished: number;
  /** Seconds. */
  ttlSilent: number;
}

/** Bytes that an entry is counted with beyond its text. */
export const ENTRY_OVERHEAD = 64;
/** At most once in this time a job's merged progress goes to the tenant feed. */
export const TENANT_PROGRESS_MS = 1_000;
/** Jobs whose progress the tenant feed can catch up with. */
export const TENANT_NEWEST = 1_000;
