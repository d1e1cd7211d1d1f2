/** What `watch` knows of a job, from its snapshot, its events and gaps. screen.ts shows it. */
import type { ConnectionState } from "../../client/index.ts";
import { TERMINAL_STATUSES } from "../protocol/events.ts";
import type {
  DeliveredEvent,
  EventMap,
  EventType,
  Gap,
  JobLiveness,
  JobStatus,
  Level,
  SampleGenerated,
  Snapshot,
  SystemStats,
  TrainingProgress,
  TrainingStatus,
  ValidationResult,
} from "../protocol/types.ts";
import { type Curve, extended, NO_CURVE } from "./curve.ts";
import { describe, describeGap } from "./describe.ts";
import { harmlessAll } from "./text.ts";

export interface LogLine {
  /** ISO 8601. */
  readonly time: string;
  readonly level: Level;
  readonly text: string;
}

/** All texts are harmless to a terminal. */
export interface View {
  readonly tenant: string;
  readonly connection: {
    readonly state: ConnectionState;
    /** Its URL. */
    readonly hub: string;
    /** Connected: the instance. Otherwise what went wrong last. */
    readonly note?: string;
  };
  readonly jobId?: string;
  /** While there is no `jobId`: the job that is to come. */
  readonly awaited?: string;
  /** Where the snapshot stands: older events are in it already. */
  readonly snapshot?: { readonly epoch: string; readonly seq: number };
  readonly name?: string;
  readonly kind?: string;
  /** ISO 8601. */
  readonly createdAt?: string;
  readonly status?: JobStatus;
  /** The last status as it came. */
  readonly outcome?: TrainingStatus;
  /** ISO 8601; of a terminal status. */
  readonly endedAt?: string;
  readonly liveness?: JobLiveness["liveness"];
  readonly attempt: number;
  /** Progress of the job itself (`""`), of a rank or a product (`rank 3`, `product x`). */
  readonly parts: ReadonlyMap<string, TrainingProgress>;
  /** Whose progress is to be shown. */
  readonly shown: string;
  readonly losses: Curve;
  readonly validation?: ValidationResult;
  readonly samples: number;
  readonly sample?: SampleGenerated;
  readonly products: { readonly completed: number; readonly failed: number; readonly total?: number };
  /** By host. */
  readonly machines: ReadonlyMap<string, SystemStats>;
  /** Oldest first. */
  readonly log: readonly LogLine[];
  readonly watchers?: number;
}

const LOG_LINES = 200;
const MACHINES = 16;
const PARTS = 64;
const OWN = "";

export function emptyView(connection: View["connection"], tenant: string): View {
  return {
    tenant,
    connection,
    attempt: 1,
    parts: new Map(),
    shown: OWN,
    losses: NO_CURVE,
    samples: 0,
    products: { completed: 0, failed: 0 },
    machines: new Map(),
    log: [],
  };
}

/** The job as the hub has it; the log and the curve go on when it is the same job's. */
export function withSnapshot(view: View, raw: Snapshot): View {
  const snapshot = harmlessAll(raw);
  const { job_id, epoch, seq, name, kind, created_at, status, counts, products, latest } = snapshot;
  const { log, losses } = view.jobId === job_id ? view : { log: [], losses: NO_CURVE };
  let next: View = {
    ...emptyView(view.connection, snapshot.tenant_id),
    jobId: job_id,
    snapshot: { epoch, seq },
    createdAt: created_at,
    status,
    samples: counts.sample_generated ?? 0,
    products,
    log,
    losses,
    ...(name !== undefined && { name }),
    ...(kind !== undefined && { kind }),
  };
  for (const event of [...Object.values(latest), ...snapshot.newest]) next = applied(next, event);
  // The events told what they say themselves; what the hub has counted and merged stands.
  return { ...next, status, samples: counts.sample_generated ?? 0, products, log, losses };
}

/** Values of the loss from before, oldest first. */
export function withLosses(view: View, values: readonly number[]): View {
  return { ...view, losses: values.reduce(extended, NO_CURVE) };
}

export function withEvent(before: View, raw: DeliveredEvent): View {
  const event = harmlessAll(raw);
  const { job_id: jobId, tenant_id: tenant, timestamp: createdAt } = event;
  // Its first event, when it was awaited: there was no snapshot.
  const view =
    before.jobId === undefined && jobId
      ? { ...before, jobId, tenant, createdAt, status: "pending" as const }
      : before;
  const isInSnapshot = event.epoch === view.snapshot?.epoch && event.seq <= view.snapshot.seq;
  if (event.type === "log" || TOLD.has(event.type)) {
    const line = toldBy(event);
    const next = logged(view, line, event.type === "log" && (event.data as EventMap["log"]).replaces_last);
    return isInSnapshot ? next : applied(next, event);
  }
  return isInSnapshot ? view : applied(view, event);
}

export function withGap(before: View, gap: Gap): View {
  const { status: _, ...unknown } = before;
  const view = gap.epoch === null ? unknown : before;
  return logged(view, { time: new Date().toISOString(), level: "warning", text: describeGap(gap) });
}

/** Types that have no place of their own on the screen: they are told among the log lines. */
const TOLD: ReadonlySet<EventType> = new Set<EventType>([
  "training_status",
  "job_liveness",
  "alert",
  "product_completed",
  "checkpoint_saved",
  "command_update",
  "custom",
]);

function toldBy(event: DeliveredEvent): LogLine {
  const { level, message, source } = event.data as Partial<EventMap["log"]>;
  const text = event.type === "log" ? `${source ? `[${source}] ` : ""}${message}` : describe(event);
  const { status } = event.data as Partial<TrainingStatus>;
  return { time: event.timestamp, level: level ?? (status === "failed" ? "error" : "info"), text };
}

function logged(view: View, line: LogLine, replacesLast = false): View {
  const before = replacesLast ? view.log.slice(0, -1) : view.log;
  return { ...view, log: [...before, line].slice(-LOG_LINES) };
}

/** What an event changes. Events of a type that this knows nothing of change nothing. */
function applied(view: View, event: DeliveredEvent): View {
  const data = event.data as never;
  switch (event.type) {
    case "training_progress":
      return progressed(view, event as DeliveredEvent<"training_progress">);
    case "training_status":
      return withStatus(view, event as DeliveredEvent<"training_status">);
    case "validation_result":
      return { ...view, validation: data };
    case "sample_generated":
      return { ...view, sample: data, samples: view.samples + 1 };
    case "system_stats": {
      const { host } = data as SystemStats;
      if (!view.machines.has(host) && view.machines.size >= MACHINES) return view;
      return { ...view, machines: new Map(view.machines).set(host, data) };
    }
    case "job_created":
    case "job_updated": {
      const { name, kind, status } = data as EventMap["job_updated"];
      return { ...view, ...(name && { name }), ...(kind && { kind }), ...(status && { status }) };
    }
    case "product_completed": {
      const { failed, total = view.products.total } = data as EventMap["product_completed"];
      const { products } = view;
      return {
        ...view,
        products: {
          completed: products.completed + (failed ? 0 : 1),
          failed: products.failed + (failed ? 1 : 0),
          ...(total !== undefined && { total }),
        },
      };
    }
    case "job_liveness":
      return { ...view, liveness: (data as JobLiveness).liveness };
    case "presence":
      return { ...view, watchers: (data as EventMap["presence"]).watchers };
    default:
      return view;
  }
}

function withStatus(view: View, { data, timestamp }: DeliveredEvent<"training_status">): View {
  const { endedAt: _, ...rest } = view;
  const ends = TERMINAL_STATUSES.has(data.status) && { endedAt: timestamp };
  return { ...rest, status: data.status, outcome: data, ...ends };
}

/** Each field its newest; a later attempt begins anew. The job's own progress is shown before that of its parts. */
function progressed(view: View, event: DeliveredEvent<"training_progress">): View {
  const { data, product, rank = 0, attempt = view.attempt } = event;
  if (attempt < view.attempt) return view;
  const part = product !== undefined ? `product ${product}` : rank > 0 ? `rank ${rank}` : OWN;
  const { parts, losses } = attempt > view.attempt ? { parts: new Map(), losses: NO_CURVE } : view;
  if (!parts.has(part) && parts.size >= PARTS) return view;
  const before: TrainingProgress = parts.get(part) ?? {};
  const metrics = data.metrics && { metrics: { ...before.metrics, ...data.metrics } };
  const all = new Map(parts).set(part, { ...before, ...data, ...metrics });
  const shown = all.has(OWN) ? OWN : part;
  // Several parts in turn do not make a curve.
  const isCurve = typeof data.loss === "number" && part === shown && (part === OWN || all.size === 1);
  return {
    ...view,
    attempt,
    parts: all,
    shown,
    losses: isCurve ? extended(losses, data.loss as number) : losses,
  };
}
