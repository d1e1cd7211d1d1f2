/**
 * The wire in TypeScript, for people: what trainers publish and watchers receive. No imports, so that the SDK's types
 * stand alone. `events.ts` and `verbs.ts` hold the schemas; the compiler checks there that both say the same.
 */

/** A number, or one of the spellings of what JSON has no number for. */
export type Num = number | "NaN" | "Infinity" | "-Infinity";

/** What may stand in free-form fields. */
export type Json = string | number | boolean | null | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** A place in a feed. `epoch` names the feed's history (it changes when history was lost), `seq` rises by one per event. */
export interface Cursor {
  epoch: string;
  seq: number;
}

export type JobStatus =
  | "pending"
  | "queued"
  | "running"
  | "paused"
  | "stopping"
  | "completed"
  | "failed"
  | "cancelled";

/** What an operator may ask of a job's trainer. `custom` says more in its `args`. */
export type CommandAction = "pause" | "resume" | "stop" | "save" | "sample" | "validate" | "custom";

export type Liveness = "live" | "stale" | "lost";

export type Level = "debug" | "info" | "warning" | "error" | "critical";

/** Progress of training. Conflatable: a slow watcher gets the newest of each field. Every field is optional. */
export interface TrainingProgress {
  /** Epochs done; may be fractional. */
  epoch?: number;
  total_epochs?: number;
  /** Optimizer steps done; may repeat or go back after a resume. */
  step?: number;
  total_steps?: number;
  loss?: Num;
  /** The trainer's own moving average of the loss. */
  smooth_loss?: Num;
  learning_rate?: Num;
  /** Seconds left. Where the trainer sends none, the hub estimates it from `step` and `total_steps`. */
  eta_seconds?: number;
  /** What the trainer is doing, for instance `"data analysis"`. */
  stage?: string;
  /** Per cent of the stage, 0 to 100. */
  stage_progress?: number;
  /** Per cent of the whole job, 0 to 100. */
  progress?: number;
  message?: string;
  /** Items done, of `total`. */
  current?: number;
  total?: number;
  /** Up to 64 further metrics by name, for instance `{"val/accuracy": 0.93}`. */
  metrics?: Record<string, Num>;
}

/** A change of the job's state. The spellings in_progress, succeeded, success, failure, error and canceled are accepted. */
export interface TrainingStatus {
  status: JobStatus;
  message?: string;
  /** How a finished job went. */
  result?: {
    final_loss?: Num;
    model_path?: string;
    duration_seconds?: number;
    /** Parts (products, folds) that succeeded. */
    successful?: number;
    failed?: number;
    metrics?: Record<string, Num>;
  };
  error?: { type?: string; message: string; traceback?: string };
  /** Why a job ended, where `status` alone does not say. */
  end_reason?: "finished" | "user" | "killed" | "preempted" | "out_of_memory" | "time_limit" | "error";
}

/** A sample that the model made. Its bytes do not travel here: `url` says where they are (small ones as a `data:` URL). */
export interface SampleGenerated {
  sample_id?: string;
  step?: number;
  epoch?: number;
  /** Which of `total` samples of this step. */
  index?: number;
  total?: number;
  prompt?: string;
  seed?: number;
  /** For instance `image/png`. */
  media_type?: string;
  size_bytes?: number;
  url?: string;
  /** Pixels. */
  width?: number;
  /** Pixels. */
  height?: number;
}

/** One line of the job's log. */
export interface Log {
  level?: Level;
  message: string;
  /** Logger or stream, for instance `stderr`. */
  source?: string;
  /** Line number in the source. */
  line?: number;
  /** Overwrites the line before it, as `\r` does for progress bars. */
  replaces_last?: boolean;
}

export interface ValidationResult {
  step?: number;
  epoch?: number;
  metrics: Record<string, Num>;
  /** Whether this is the best result so far. */
  best?: boolean;
  message?: string;
}

export interface Gpu {
  index: number;
  name?: string;
  utilization_percent?: number;
  memory_used_bytes?: number;
  memory_total_bytes?: number;
  temperature_celsius?: number;
  power_watts?: number;
}

/** Load of one machine. Conflatable. */
export interface SystemStats {
  host: string;
  cpu_percent?: number;
  cpu_count?: number;
  memory_used_bytes?: number;
  memory_total_bytes?: number;
  memory_percent?: number;
  disk_used_bytes?: number;
  disk_total_bytes?: number;
  network_received_bytes?: number;
  network_sent_bytes?: number;
  gpus?: Gpu[];
}

/** What a job is. All optional: a job is created by its first event, whatever that says. */
export interface JobFields {
  name?: string;
  /** For instance `lora`, `forecast`, `gan`. */
  kind?: string;
  description?: string;
  dataset_id?: string;
  agent_id?: string;
  status?: JobStatus;
  /** Per cent, 0 to 100. */
  progress?: number;
  tags?: string[];
  /** Products that the job trains in parallel; see `ProductCompleted`. */
  products_total?: number;
}

export interface JobCreated extends JobFields {
  /** `sub` of the token that created it; the hub sets it. */
  created_by?: string;
}

export interface JobUpdated extends JobFields {
  /** What the job's trainer does when it is told to; the hub sets it when a trainer announces the job. */
  commands?: CommandAction[];
  /** `sub` of the token that changed it; the hub sets it. */
  updated_by?: string;
}

/** Whether the job's trainer is there. Only the hub makes it. */
export interface JobLiveness {
  liveness: Liveness;
  reason?: string;
  /** The last sign of life, ISO 8601. */
  last_seen?: string;
  /** The last step, as the trainer's heartbeat says; ISO 8601. Old while the trainer is `live`: it hangs. */
  last_step_at?: string;
}

export interface DatasetUpdate {
  dataset_id: string;
  action: "created" | "updated" | "deleted";
  name?: string;
  size_bytes?: number;
  rows?: number;
  updated_by?: string;
}

export interface Alert {
  level: Level;
  title: string;
  message?: string;
  source?: string;
}

/**
 * One of the job's products (named in the envelope's `product`) is done. Counted once in an attempt, whoever sends it and
 * however often: the same product again is a duplicate. A product that failed may still complete.
 */
export interface ProductCompleted {
  /** Products of the job in all; not less than are done. Once is enough, and `products_total` of the job says the same. */
  total?: number;
  /** Done, but without success. Counted apart. */
  failed?: boolean;
  message?: string;
  duration_seconds?: number;
}

export interface CheckpointSaved {
  step?: number;
  epoch?: number;
  name?: string;
  path?: string;
  url?: string;
  size_bytes?: number;
  metrics?: Record<string, Num>;
  best?: boolean;
}

/** Where a command to the job stands. Only the hub makes it. */
export interface CommandUpdate {
  command_id: string;
  action: CommandAction;
  /** `requested`, then `delivered` to a trainer, then `applied` or `failed` as it answers; `expired` after its time-out. */
  state: "requested" | "delivered" | "applied" | "failed" | "expired";
  /** At `requested`. */
  args?: JsonObject;
  /** At `requested`: for every trainer of the job. */
  all?: boolean;
  /** At `requested`. */
  timeout_ms?: number;
  /** From `delivered` on: the trainers that have to answer. */
  targets?: string[];
  /** Of these, how many have. */
  answered?: number;
  /** Why it failed or expired: a code of PROTOCOL.md's table. */
  code?: string;
  message?: string;
  /** What the trainer answered; with `all` only if there was a single one. */
  data?: JsonObject;
  /** At `requested`: `sub` of the operator. */
  requested_by?: string;
}

/** Who watches the job. Only the hub makes it. Conflatable. */
export interface Presence {
  /** Connections that are subscribed to the job by name, on all instances. */
  watchers: number;
  /** The distinct `sub`s of up to 100 of them, sorted. */
  users?: string[];
}

/** What has no type of its own. */
export interface Custom {
  name: string;
  data?: JsonObject;
}

/** Event type → its `data`. */
export interface EventMap {
  training_progress: TrainingProgress;
  training_status: TrainingStatus;
  sample_generated: SampleGenerated;
  log: Log;
  validation_result: ValidationResult;
  system_stats: SystemStats;
  job_created: JobCreated;
  job_updated: JobUpdated;
  job_liveness: JobLiveness;
  dataset_update: DatasetUpdate;
  alert: Alert;
  product_completed: ProductCompleted;
  checkpoint_saved: CheckpointSaved;
  command_update: CommandUpdate;
  presence: Presence;
  custom: Custom;
}

export type EventType = keyof EventMap;

/** What a trainer publishes. */
export interface PublishedEvent<T extends EventType = EventType> {
  type: T;
  /** `[A-Za-z0-9_.-]{1,64}`. Absent for events of the tenant (`dataset_update`, an `alert` without a job). */
  job_id?: string;
  data: EventMap[T];
  /** ISO 8601; the hub's time if absent. */
  timestamp?: string;
  /**
   * Which run of the job this is, from 1; absent: the newest. A later attempt brings back a job that has ended, replaces the
   * newest values of an earlier one, and counts its products anew.
   */
  attempt?: number;
  /** Rank of the process in distributed training, from 0. */
  rank?: number;
  /** Part of the job in parallel training. */
  product?: string;
  /** Free-form, at most 4 KB. */
  metadata?: JsonObject;
  /** Makes a resend safe: the last 10 000 ids of a job are stored once. Not together with `producer`. */
  id?: string;
  /** Makes a resend safe without a window: the hub keeps the highest `n` per producer and job. */
  producer?: { id: string /** Rises with every start of the producer. */; incarnation: number };
  /** Rises with every event of this producer to this job. Required with `producer`. */
  n?: number;
}

/** What a watcher receives: an event's type is its Socket.IO event name, this is its argument. */
export interface DeliveredEvent<T extends EventType = EventType> {
  feed: "job" | "tenant";
  /** Of the feed named by `feed`. */
  epoch: string;
  /** Position in that feed. */
  seq: number;
  /** On the tenant feed: where the job's own feed stands. */
  job_position?: Cursor;
  type: T;
  tenant_id: string;
  job_id?: string;
  timestamp: string;
  /** When the hub took it, ISO 8601. */
  received_at: string;
  attempt?: number;
  rank?: number;
  product?: string;
  metadata?: JsonObject;
  /** On `product_completed`: how many are done, this one included. */
  products?: ProductCounts;
  /**
   * On merged `training_progress` of a job's feed: the metric points of all events that it was put together from, the
   * newest included, oldest first. Each comes once, so draw these and not `data`, whose fields may be of different steps.
   * At most 256 and 32 KB. Absent: the event is as it was published, and a point itself. Empty beside metrics: a newest
   * value that was read (in an answer, or after a loss that the hub has healed); its points are in `series`.
   */
  points?: MetricPoint[];
  /**
   * Beside `points`: how many more there were than fit. The first, the last, extremes of each metric and an even choice of
   * the others have stayed. Absent: none.
   */
  points_omitted?: number;
  data: EventMap[T];
}

/** What one `training_progress` told of the curves of its rank and product. */
export interface MetricPoint {
  /** Position of that event in the job's feed. A point at or below the `seq` of a `series` answer is in it. */
  seq: number;
  /** As it was published; absent if it had none. */
  step?: number;
  /** ISO 8601. */
  timestamp: string;
  /** By the names of `series`: `loss`, `smooth_loss`, `learning_rate` and those of `metrics`. */
  metrics: Record<string, Num>;
}

/** The products of a job that trains several in parallel, in its newest attempt. */
export interface ProductCounts {
  completed: number;
  failed: number;
  total?: number;
  /**
   * Per cent of the job, whole: 0 at the start, 20 when the total is known after data analysis (`job_updated`), then 20 +
   * floor(done / total * 60) with done = completed + failed, 100 when the job is completed. Without a total it stays 0.
   */
  progress: number;
}

/** Every answer to every verb. */
export type Answer<D> = { ok: true; data: D } | { ok: false; error: AnswerError };

export interface AnswerError {
  /** From the table of codes in PROTOCOL.md. */
  code: string;
  message: string;
  /** Whether the same request may succeed later. */
  temporary: boolean;
}

export interface PublishAnswer {
  /** Events stored by this call. */
  accepted: number;
  /** Events that had been stored before. */
  duplicates: number;
  /** Job id → where its feed stands after the last accepted or duplicate event of this call. */
  positions: Record<string, Cursor>;
  /** The same for events of the tenant. */
  tenant_position?: Cursor;
  /** Events that were not stored, by their index in the call. */
  refused: Array<{ index: number } & AnswerError>;
}

export interface SubscribeRequest {
  /** A job, `"*"` for all active jobs, or absent for the tenant's own feed. */
  job_id?: string;
  /** Only these types; all if absent. */
  types?: EventType[];
  /** Go on after this position. With `job_id: "*"` a map by job. */
  since?: Cursor | Record<string, Cursor>;
  /** Begin with the last n durable events (0 to 1 000) when there is no `since`. */
  history?: number;
  /** Conflatable deliveries a second and key, 0.1 to 60; the newest always follows. */
  max_rate?: number;
  /** Subscribe before the job exists: `true` (1 h) or seconds, at most 3 600. */
  wait?: boolean | number;
  /** `job_id: "*"` only: `next` of the answer before. */
  next?: string;
}

/** A job as it stands at `seq`. */
export interface Snapshot {
  job_id: string;
  tenant_id: string;
  epoch: string;
  seq: number;
  /** ISO 8601. */
  created_at: string;
  updated_at: string;
  created_by?: string;
  updated_by?: string;
  name?: string;
  kind?: string;
  description?: string;
  dataset_id?: string;
  agent_id?: string;
  tags?: string[];
  status: JobStatus;
  /** The newest attempt, from 1. */
  attempt: number;
  /** Absent before the first sign of life, and while no trainer is expected to be at work. */
  liveness?: Liveness;
  /** The trainer's last sign of life, ISO 8601. */
  last_seen?: string;
  /** As the trainer's heartbeat says, ISO 8601. */
  last_step_at?: string;
  /** What the trainer does when it is told to. */
  commands?: CommandAction[];
  /** Newest durable event of each type but `log`. */
  latest: { [T in EventType]?: DeliveredEvent<T> };
  /** Merged newest value of each conflation key. */
  newest: DeliveredEvent[];
  /** Events stored so far, by type. */
  counts: { [T in EventType]?: number };
  products: ProductCounts;
}

export interface SubscribeAnswer {
  job_id?: string;
  feed: "job" | "tenant";
  /** `null` while the job does not exist (`wait`). */
  epoch: string | null;
  /** The position that this answer covers; live events have a higher one. */
  seq: number;
  /** Whether everything after `since` is here or follows. Without `since`: true. */
  recovered: boolean;
  /** Without `since`, or when not recovered. On the tenant feed: the newest jobs. */
  snapshot?: Snapshot | TenantSnapshot | null;
  /** In order. Apply them in the acknowledgement callback: live events follow in the same turn. */
  events: Array<DeliveredEvent | Gap>;
  /** Call again with `since: next`; only the last page joins the feed. */
  more?: boolean;
  next?: Cursor;
}

export interface TenantSnapshot {
  /** Newest first, at most 100; the HTTP list has all. */
  jobs: JobSummary[];
}

export interface JobSummary {
  job_id: string;
  epoch: string;
  seq: number;
  created_at: string;
  updated_at: string;
  created_by?: string;
  name?: string;
  kind?: string;
  status: JobStatus;
  attempt: number;
  liveness?: Liveness;
  /** Merged newest progress of the job itself (rank 0 or none, no product). */
  progress?: TrainingProgress;
}

/** The answer to `subscribe {job_id: "*"}`: each job's own answer. A job without `more` is joined. */
export interface SubscribeAllAnswer {
  job_id: "*";
  jobs: Array<SubscribeAnswer & { job_id: string }>;
  more?: boolean;
  /** Call again with `{job_id: "*", next}`. */
  next?: string;
}

/** Events that this watcher will not get. Also stands among `events` of an answer. */
export interface Gap {
  type: "gap";
  feed: "job" | "tenant";
  job_id?: string;
  /** `null` when the feed is gone. */
  epoch: string | null;
  /** Go on from here: the feed's head, or for `trimmed` the position before the gap. */
  seq: number;
  /** First and last position that are missing, where known. */
  from?: number;
  to?: number;
  /** Only this stream of the feed has the gap. */
  stream?: "events" | "log";
  /** `trimmed`: older than the caps keep. `reset`: history was lost, a new epoch. `overflow`: too much to catch up with. */
  reason: "trimmed" | "reset" | "overflow";
  snapshot?: Snapshot | TenantSnapshot | null;
}

/** Sent at times to watchers that filter or throttle, so that their cursor stays young. */
export interface Position {
  feed: "job" | "tenant";
  job_id?: string;
  epoch: string;
  seq: number;
}

export interface Welcome {
  client_id: string;
  instance_id: string;
  tenant_id: string;
  role: string;
  /** ISO 8601. */
  server_time: string;
  /** End of the token, ISO 8601. */
  expires_at: string;
  /** The table of limits in PROTOCOL.md, by its names. */
  limits: Record<string, number>;
}

/** The connection, or the subscription to one job, comes to its end. Only informs. */
export interface Closing {
  reason: string;
  code?: number;
  job_id?: string;
  /** Whether to connect again. */
  reconnect: boolean;
  message?: string;
}

/** The instance ends. The connection goes on until its own moment; then its transport is closed. */
export interface Draining {
  /** Milliseconds from now to that moment. Another instance takes the client at once, too. */
  closes_in_ms: number;
}

export interface PingAnswer {
  server_time: string;
  /** Where each subscription of this connection stands. */
  positions: Position[];
}

/** Sent on a connection some time before its token ends: `refresh` it, or be closed `token_expired` after a grace. */
export interface TokenExpiring {
  /** ISO 8601. */
  expires_at: string;
}

/** A new token for this connection: same `sub` and `tenant_id`. What it no longer allows ends at once. */
export interface RefreshRequest {
  token: string;
}

export interface RefreshAnswer {
  role: string;
  /** ISO 8601. */
  expires_at: string;
}

export interface PresenceRequest {
  job_id: string;
}

export interface PresenceAnswer extends Presence {
  job_id: string;
}

/** An operator's word to a job's trainer. */
export interface CommandRequest {
  job_id: string;
  action: CommandAction;
  /** Free-form, at most 4 KB. */
  args?: JsonObject;
  /** How long the trainer has to come and answer: 100 to 3 600 000, default 30 000. */
  timeout_ms?: number;
  /** Makes a resend safe: the same id is carried out once. Default: one of the hub's. */
  command_id?: string;
  /** Every trainer of the job; default: the newest with the lowest rank. */
  all?: boolean;
}

/** The trainer did it. What it did not is answered with an error. */
export interface CommandAnswer {
  job_id: string;
  command_id: string;
  state: "applied";
  message?: string;
  data?: JsonObject;
}

/** What a trainer's socket gets as `command`, and acknowledges with a `TrainerAnswer`. May come twice with the same id. */
export interface TrainerCommand {
  job_id: string;
  command_id: string;
  action: CommandAction;
  args?: JsonObject;
  /** As in the request, from which it counts. */
  timeout_ms: number;
  requested_by?: string;
}

/** A trainer's acknowledgement of a command. */
export interface TrainerAnswer {
  ok: boolean;
  message?: string;
  /** At most 4 KB. */
  data?: JsonObject;
}

/** A trainer's socket says that it works on a job: while it is connected the job is live, and commands reach it. */
export interface AnnounceRequest {
  job_id: string;
  /** What it does when it is told to; default: nothing. */
  commands?: CommandAction[];
  /** Default 0. */
  rank?: number;
  /** Names the trainer, the same after a reconnect; default: one of the hub's. */
  trainer_id?: string;
}

export interface AnnounceAnswer {
  job_id: string;
  trainer_id: string;
}

/** A sign of life; over HTTP for trainers without a socket. */
export interface HeartbeatRequest {
  job_id: string;
  /** When the last step was done, ISO 8601: a trainer that is there but hangs shows by it. */
  last_step_at?: string;
  /** Seconds that may go by without a sign of life, for instance during a long validation; at most 86 400. */
  expect_next_in?: number;
}

export interface HeartbeatAnswer {
  job_id: string;
  server_time: string;
}

/** The curves of a job's metrics, the whole run. */
export interface SeriesRequest {
  job_id: string;
  /** Only this metric: `loss`, `smooth_loss`, `learning_rate`, or a name in `metrics`. */
  metric?: string;
  /** Only of this rank. */
  rank?: number;
  /** Only of this product. */
  product?: string;
  /** Only buckets that have steps from here on. */
  from?: number;
  /** Only buckets that have steps up to here. */
  to?: number;
  /** Buckets of each series at most, 1 to 1 024; default 1 024. */
  points?: number;
}

export interface SeriesAnswer {
  job_id: string;
  epoch: string;
  /** The series hold all progress up to here: append live events with a higher `seq`. */
  seq: number;
  series: Series[];
  /** Points of series beyond the limit, which are not kept. */
  dropped: number;
}

/** One metric of one rank and product. */
export interface Series {
  metric: string;
  rank?: number;
  product?: string;
  buckets: SeriesBucket[];
}

/** Points that follow each other, in the order in which they came. */
export interface SeriesBucket {
  attempt: number;
  /** Step of the first and of the last point that told one; `null` if none did. */
  first_step: number | null;
  last_step: number | null;
  /** Of the finite values; `null` if there is none. */
  min: number | null;
  max: number | null;
  last: number | null;
  /** Points, those that are NaN or infinite included. */
  count: number;
  nan: number;
}

/** What an instance is at the moment. */
export type InstanceState =
  /** Not yet heard its own message through Redis. */
  | "starting"
  | "ready"
  /** Redis does not answer: connections stay, publishes are refused `unavailable`. */
  | "degraded"
  /** Redis answers, but what is published does not come back: this instance alone is at fault. */
  | "deaf"
  | "draining";

/** Numbers of one instance, or the sums of all. */
export interface StatusNumbers {
  /** Feeds that are followed. */
  feeds: number;
  subscriptions: number;
  connections: {
    connections: number;
    watchers: number;
    trainers: number;
    heartbeats: number;
  };
  /** Since the start. */
  events: {
    published: number;
    duplicates: number;
    refused: number;
    delivered: number;
    heals: number;
    gaps: number;
  };
  /** A second, over the last beat. */
  rates: { published: number; delivered: number };
  memory_bytes: number;
}

export interface InstanceStatus extends StatusNumbers {
  instance_id: string;
  version: string;
  state: InstanceState;
  uptime_seconds: number;
  /** When it said so. ISO 8601. */
  reported_at: string;
}

/** `GET /api/v1/status`: the sums, and every instance apart. */
export interface StatusAnswer extends StatusNumbers {
  /** Which instance answers. */
  instance_id: string;
  instances: InstanceStatus[];
}
