/**
 * Every event type: its schema, class, conflation key and feeds. This table is the one source; PROTOCOL.md prints it.
 */
import Type, { type Static, type TSchema } from "typebox";
import { action, actions, closed, freeForm, id, label, opt, whole } from "./forms.ts";
import { LIMITS } from "./limits.ts";
import { JOB_STATUSES } from "./status.ts";
import type { EventMap, EventType } from "./types.ts";

const text = (max: number) => Type.String({ maxLength: max });
const name = text(256);
const message = text(16_384);
const url = text(60_000);
const amount = Type.Number({ minimum: 0 });
const percent = Type.Number({ minimum: 0, maximum: 100 });
const bool = Type.Boolean();
const num = Type.Union([Type.Number(), Type.Enum(["NaN", "Infinity", "-Infinity"])]);
/** `__proto__` is refused: JSON.parse makes it an own key, and too much code downstream assigns it. */
const metrics = Type.Record(Type.String({ pattern: "^(?!__proto__$)[^\\x00-\\x1f]{1,64}$" }), num, {
  maxProperties: LIMITS.metrics,
  additionalProperties: false,
});
const level = Type.Enum(["debug", "info", "warning", "error", "critical"]);
const status = Type.Enum([...JOB_STATUSES]);

const jobFields = {
  name: opt(name),
  kind: opt(name),
  description: opt(text(4_096)),
  dataset_id: opt(name),
  agent_id: opt(name),
  status: opt(status),
  progress: opt(percent),
  tags: opt(Type.Array(text(64), { maxItems: 32 })),
  products_total: opt(whole),
};

const data = {
  training_progress: Type.Object(
    {
      epoch: opt(amount),
      total_epochs: opt(amount),
      step: opt(whole),
      total_steps: opt(whole),
      loss: opt(num),
      smooth_loss: opt(num),
      learning_rate: opt(num),
      eta_seconds: opt(amount),
      stage: opt(name),
      stage_progress: opt(percent),
      progress: opt(percent),
      message: opt(text(1_024)),
      current: opt(amount),
      total: opt(amount),
      metrics: opt(metrics),
    },
    closed,
  ),
  training_status: Type.Object(
    {
      status,
      message: opt(message),
      result: opt(
        Type.Object(
          {
            final_loss: opt(num),
            model_path: opt(text(4_096)),
            duration_seconds: opt(amount),
            successful: opt(whole),
            failed: opt(whole),
            metrics: opt(metrics),
          },
          closed,
        ),
      ),
      error: opt(Type.Object({ type: opt(name), message, traceback: opt(text(32_768)) }, closed)),
      end_reason: opt(
        Type.Enum(["finished", "user", "killed", "preempted", "out_of_memory", "time_limit", "error"]),
      ),
    },
    closed,
  ),
  sample_generated: Type.Object(
    {
      sample_id: opt(name),
      step: opt(whole),
      epoch: opt(amount),
      index: opt(whole),
      total: opt(whole),
      prompt: opt(message),
      seed: opt(Type.Number()),
      media_type: opt(name),
      size_bytes: opt(whole),
      url: opt(url),
      width: opt(whole),
      height: opt(whole),
    },
    closed,
  ),
  log: Type.Object(
    { level: opt(level), message, source: opt(name), line: opt(whole), replaces_last: opt(bool) },
    closed,
  ),
  validation_result: Type.Object(
    { step: opt(whole), epoch: opt(amount), metrics, best: opt(bool), message: opt(message) },
    closed,
  ),
  system_stats: Type.Object(
    {
      host: label,
      cpu_percent: opt(amount),
      cpu_count: opt(whole),
      memory_used_bytes: opt(amount),
      memory_total_bytes: opt(amount),
      memory_percent: opt(percent),
      disk_used_bytes: opt(amount),
      disk_total_bytes: opt(amount),
      network_received_bytes: opt(amount),
      network_sent_bytes: opt(amount),
      gpus: opt(
        Type.Array(
          Type.Object(
            {
              index: whole,
              name: opt(name),
              utilization_percent: opt(amount),
              memory_used_bytes: opt(amount),
              memory_total_bytes: opt(amount),
              temperature_celsius: opt(Type.Number()),
              power_watts: opt(amount),
            },
            closed,
          ),
          { maxItems: 64 },
        ),
      ),
    },
    closed,
  ),
  job_created: Type.Object({ ...jobFields, created_by: opt(name) }, closed),
  job_updated: Type.Object(
    {
      ...jobFields,
      commands: opt(actions),
      updated_by: opt(name),
    },
    closed,
  ),
  job_liveness: Type.Object(
    {
      liveness: Type.Enum(["live", "stale", "lost"]),
      reason: opt(message),
      last_seen: opt(name),
      last_step_at: opt(name),
    },
    closed,
  ),
  dataset_update: Type.Object(
    {
      dataset_id: Type.String({ minLength: 1, maxLength: 256 }),
      action: Type.Enum(["created", "updated", "deleted"]),
      name: opt(name),
      size_bytes: opt(whole),
      rows: opt(whole),
      updated_by: opt(name),
    },
    closed,
  ),
  alert: Type.Object({ level, title: text(512), message: opt(message), source: opt(name) }, closed),
  product_completed: Type.Object(
    { total: opt(whole), failed: opt(bool), message: opt(message), duration_seconds: opt(amount) },
    closed,
  ),
  checkpoint_saved: Type.Object(
    {
      step: opt(whole),
      epoch: opt(amount),
      name: opt(name),
      path: opt(text(4_096)),
      url: opt(url),
      size_bytes: opt(whole),
      metrics: opt(metrics),
      best: opt(bool),
    },
    closed,
  ),
  command_update: Type.Object(
    {
      command_id: id,
      action,
      state: Type.Enum(["requested", "delivered", "applied", "failed", "expired"]),
      args: opt(freeForm),
      all: opt(bool),
      timeout_ms: opt(whole),
      targets: opt(Type.Array(id, { maxItems: LIMITS.trainers })),
      answered: opt(whole),
      code: opt(name),
      message: opt(message),
      data: opt(freeForm),
      requested_by: opt(name),
    },
    closed,
  ),
  presence: Type.Object(
    { watchers: whole, users: opt(Type.Array(name, { maxItems: LIMITS.presenceUsers })) },
    closed,
  ),
  custom: Type.Object({ name: Type.String({ minLength: 1, maxLength: 128 }), data: opt(freeForm) }, closed),
} satisfies Record<EventType, TSchema>;

/** Fails to compile when a schema and its interface in types.ts differ. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
type Drift = { [T in EventType]: Same<Static<(typeof data)[T]>, EventMap[T]> };
const drift: Record<EventType, true> = {} as Drift;
void drift;

interface EventKind {
  data: TSchema;
  /** Durable events are stored and delivered each; of conflatable ones the newest per conflation key. */
  class: "durable" | "conflatable";
  /** What names the conflation key within the feed. */
  key?: ReadonlyArray<"product" | "rank" | "host">;
  /** `job`: needs a job_id. `tenant`: has none. `either`: with a job_id it is the job's. */
  scope: "job" | "tenant" | "either";
  /** Whether a job's event is also put on the tenant feed (`merged`: the newest, at most once a second per job). */
  tenantFeed: boolean | "merged";
  /** Which of the job's two streams keeps it. */
  stream?: "events" | "log";
  /** Envelope fields that the type requires. */
  requires?: readonly "product"[];
  /** Only the hub makes it; trainers are refused `forbidden_type`. */
  hubOnly?: boolean;
}

const durable = { class: "durable", scope: "job", tenantFeed: false, stream: "events" } as const;
const conflatable = { class: "conflatable", scope: "job", tenantFeed: false } as const;

export const EVENTS: Readonly<Record<EventType, EventKind>> = {
  training_progress: {
    ...conflatable,
    data: data.training_progress,
    key: ["product", "rank"],
    tenantFeed: "merged",
  },
  training_status: { ...durable, data: data.training_status, tenantFeed: true },
  sample_generated: { ...durable, data: data.sample_generated },
  log: { ...durable, data: data.log, stream: "log" },
  validation_result: { ...durable, data: data.validation_result },
  system_stats: { ...conflatable, data: data.system_stats, key: ["host", "rank"] },
  job_created: { ...durable, data: data.job_created, tenantFeed: true },
  job_updated: { ...durable, data: data.job_updated, tenantFeed: true },
  job_liveness: { ...durable, data: data.job_liveness, tenantFeed: true, hubOnly: true },
  dataset_update: { ...durable, data: data.dataset_update, scope: "tenant" },
  alert: { ...durable, data: data.alert, scope: "either", tenantFeed: true },
  product_completed: { ...durable, data: data.product_completed, requires: ["product"] },
  checkpoint_saved: { ...durable, data: data.checkpoint_saved },
  command_update: { ...durable, data: data.command_update, hubOnly: true },
  presence: { ...conflatable, data: data.presence, key: [], hubOnly: true },
  custom: { ...durable, data: data.custom },
};

export const EVENT_TYPES = Object.keys(EVENTS) as EventType[];

/** The envelope's fields beside `type` and `data`, as a trainer sends them. */
export const ENVELOPE = {
  job_id: opt(id),
  timestamp: opt(
    Type.String({
      pattern:
        "^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])[Tt ]([01]\\d|2[0-3]):[0-5]\\d:([0-5]\\d|60)(\\.\\d{1,9})?([Zz]|[+-]([01]\\d|2[0-3]):?[0-5]\\d)$",
    }),
  ),
  attempt: opt(Type.Integer({ minimum: 1, maximum: 1_000_000_000 })),
  rank: opt(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
  product: opt(label),
  metadata: opt(freeForm),
  id: opt(Type.String({ pattern: `^[^\\x00-\\x1f]{1,${LIMITS.idLength}}$`, maxLength: LIMITS.idLength })),
  producer: opt(
    Type.Object({ id: Type.String({ pattern: "^[^\\x00-\\x20]{1,64}$" }), incarnation: whole }, closed),
  ),
  n: opt(whole),
} as const;

/** Schema of a published event of one type. */
export function publishedSchema(type: EventType): TSchema {
  const kind = EVENTS[type];
  const required = kind.requires?.includes("product") ? { product: label } : {};
  return Type.Object({ ...ENVELOPE, ...required, type: Type.Literal(type), data: kind.data }, closed);
}
