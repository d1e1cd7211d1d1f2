/** What `watch` knows of a job, from its snapshot, its events and gaps. screen.ts shows it. */
import { type ConnectionState, pointsOf } from "../../client/index.ts";
import { EVENTS } from "../protocol/events.ts";
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type {
  CheckpointSaved,
  CommandAction,
  CommandUpdate,
  Cursor,
  DeliveredEvent,
  EventMap,
  EventType,
  Gap,
  JobLiveness,
  JobStatus,
  Level,
  Liveness,
  ProductCompleted,
  ProductCounts,
  SampleGenerated,
  Snapshot,
  SystemStats,
  TrainingProgress,
  TrainingStatus,
  ValidationResult,
} from "../protocol/types.ts";
import { type Curve, extended, NO_CURVE } from "./curve.ts";
import { describe, describeGap } from "./describe.ts";
import type { LossSoFar } from "./series.ts";
import { harmlessAll } from "./text.ts";

export interface LogLine {
  /** ISO 8601. */
  readonly time: string;
  readonly level: Level;
  readonly text: string;
}

interface LossPoint {
  readonly seq: number;
  readonly loss: number;
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
  readonly liveness?: Liveness;
  /** The trainer's last sign of life that was told, ISO 8601. */
  readonly lastSeen?: string;
  /** The last step that was told, ISO 8601. */
  readonly lastStepAt?: string;
  readonly attempt: number;
  /** Progress of the job itself (`""`), of a rank or a product (`rank 3`, `product x`). */
  readonly parts: ReadonlyMap<string, TrainingProgress>;
  /** Whose progress is to be shown. */
  readonly shown: string;
  readonly losses: Curve;
  /** Up to here points are in `losses`. */
  readonly lossAt?: Cursor;
  /** The last of them that came live: a curve that is loaded meanwhile may not have them. */
  readonly recent: readonly LossPoint[];
  readonly validation?: ValidationResult;
  readonly samples: number;
  readonly sample?: SampleGenerated;
  readonly checkpoints: number;
  readonly checkpoint?: CheckpointSaved;
  readonly products: ProductCounts;
  /** What became of products that are done, by `product x`, as far as it was seen. */
  readonly results: ReadonlyMap<string, ProductCompleted>;
  /** What the trainer does when it is told to. */
  readonly takes: readonly CommandAction[];
  /** Newest last, each as it stands. */
  readonly commands: readonly CommandUpdate[];
  /** By host. */
  readonly machines: ReadonlyMap<string, SystemStats>;
  /** Oldest first. */
  readonly log: readonly LogLine[];
  readonly watchers?: number;
}

const LOG_LINES = 200;
const MACHINES = 16;
const PARTS = 64;
const RECENT = 4_096;
const COMMANDS = 3;
const OWN = "";

/** What an attempt begins with. */
const ANEW = {
  parts: new Map<string, TrainingProgress>(),
  shown: OWN,
  losses: NO_CURVE,
  recent: [] as readonly LossPoint[],
  results: new Map<string, ProductCompleted>(),
} as const;

export function emptyView(connection: View["connection"], tenant: string): View {
  return {
    ...ANEW,
    tenant,
    connection,
    attempt: 1,
    samples: 0,
    checkpoints: 0,
    products: { completed: 0, failed: 0, progress: 0 },
    takes: [],
    commands: [],
    machines: new Map(),
    log: [],
  };
}

/** The job as the hub has it; the log and the curve go on when it is the same job's. */
export function withSnapshot(view: View, raw: Snapshot): View {
  const snapshot = harmlessAll(raw);
  const { job_id, epoch, seq, name, kind, created_at, attempt, latest } = snapshot;
  const isSame = view.jobId === job_id;
  const { log, commands } = isSame ? view : { log: [], commands: [] };
  const { losses, results } = isSame && view.attempt === attempt ? view : ANEW;
  const { lossAt, recent } =
    isSame && view.lossAt?.epoch === epoch ? view : { lossAt: undefined, recent: [] };
  let next: View = {
    ...emptyView(view.connection, snapshot.tenant_id),
    jobId: job_id,
    snapshot: { epoch, seq },
    createdAt: created_at,
    attempt,
    log,
    results,
    commands,
    ...(name !== undefined && { name }),
    ...(kind !== undefined && { kind }),
    ...(view.watchers !== undefined && isSame && { watchers: view.watchers }),
  };
  for (const event of [...Object.values(latest), ...snapshot.newest]) next = applied(next, event);
  // The events told what they say themselves; what the hub has counted and merged stands.
  const { liveness: _, ...rest } = next;
  return { ...rest, ...standing(snapshot), log, losses, recent, ...(lossAt && { lossAt }) };
}

function standing(snapshot: Snapshot): Partial<View> {
  const { status, attempt, liveness, last_seen, last_step_at, commands, counts, products } = snapshot;
  return {
    status,
    attempt,
    products,
    samples: counts.sample_generated ?? 0,
    checkpoints: counts.checkpoint_saved ?? 0,
    takes: commands ?? [],
    ...(liveness !== undefined && { liveness }),
    ...(last_seen !== undefined && { lastSeen: last_seen }),
    ...(last_step_at !== undefined && { lastStepAt: last_step_at }),
  };
}

/** The loss up to a position, with what has come live after it. */
export function withLosses(view: View, { epoch, seq, attempt, values }: LossSoFar): View {
  const now = view.lossAt?.epoch ?? view.snapshot?.epoch ?? epoch;
  if (epoch !== now || attempt < view.attempt) return view;
  const later = view.recent.filter((point) => point.seq > seq);
  const all = [...values, ...later.map(({ loss }) => loss)];
  const lossAt = { epoch, seq: later.at(-1)?.seq ?? seq };
  return { ...view, losses: all.reduce(extended, NO_CURVE), lossAt };
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
  const next = isInSnapshot ? recalled(view, event) : applied(view, event);
  if (event.type !== "log" && !TOLD.has(event.type)) return next;
  const replacesLast = event.type === "log" && (event.data as EventMap["log"]).replaces_last;
  return logged(next, toldBy(event), replacesLast);
}

export function withGap(before: View, gap: Gap): View {
  const { status: _, liveness: __, ...unknown } = before;
  const view = gap.epoch === null ? unknown : before;
  return logged(view, { time: new Date().toISOString(), level: "warning", text: describeGap(gap) });
}

/** Types that have no place of their own on the screen, or a small one: they are told among the log lines. */
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
  return { time: event.timestamp, level: level ?? levelOf(event), text };
}

function levelOf({ type, data }: DeliveredEvent): Level {
  const { status } = data as Partial<TrainingStatus>;
  if (type === "training_status") return status === "failed" ? "error" : "info";
  if (type === "job_liveness") return (data as JobLiveness).liveness === "live" ? "info" : "warning";
  if (type === "product_completed") return (data as ProductCompleted).failed ? "error" : "info";
  const { state } = data as Partial<CommandUpdate>;
  return type === "command_update" && (state === "failed" || state === "expired") ? "warning" : "info";
}

function logged(view: View, line: LogLine, replacesLast = false): View {
  const before = replacesLast ? view.log.slice(0, -1) : view.log;
  return { ...view, log: [...before, line].slice(-LOG_LINES) };
}

/** Of older events: what the snapshot holds only the newest of. */
function recalled(view: View, { type, attempt = view.attempt, product, data }: DeliveredEvent): View {
  if (type === "command_update") return withCommand(view, data as CommandUpdate);
  if (type !== "product_completed" || attempt !== view.attempt || product === undefined) return view;
  return withResult(view, product, data as ProductCompleted);
}

/** What an event changes. Events of a type that this knows nothing of change nothing. */
function applied(before: View, event: DeliveredEvent): View {
  const view = alive(begun(before, event), event);
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
    case "checkpoint_saved":
      return { ...view, checkpoint: data, checkpoints: view.checkpoints + 1 };
    case "system_stats": {
      const { host } = data as SystemStats;
      if (!view.machines.has(host) && view.machines.size >= MACHINES) return view;
      return { ...view, machines: new Map(view.machines).set(host, data) };
    }
    case "job_created":
    case "job_updated":
      return updated(view, data);
    case "product_completed":
      return completed(view, event as DeliveredEvent<"product_completed">);
    case "command_update":
      return withCommand(view, data);
    case "job_liveness":
      return withLiveness(view, data);
    case "presence":
      return { ...view, watchers: (data as EventMap["presence"]).watchers };
    default:
      return view;
  }
}

/** A later attempt begins anew. */
function begun(view: View, { attempt = view.attempt }: DeliveredEvent): View {
  if (attempt <= view.attempt) return view;
  const { total } = view.products;
  const products = { completed: 0, failed: 0, progress: 0, ...(total !== undefined && { total }) };
  return { ...view, ...ANEW, attempt, products };
}

/** What a trainer publishes is a sign of its life. */
function alive(view: View, { type, received_at }: DeliveredEvent): View {
  const isTrainers = Object.hasOwn(EVENTS, type) && !("hubOnly" in EVENTS[type]);
  return isTrainers && received_at > (view.lastSeen ?? "") ? { ...view, lastSeen: received_at } : view;
}

function withStatus(view: View, { data, timestamp }: DeliveredEvent<"training_status">): View {
  const { endedAt: _, ...rest } = view;
  if (!TERMINAL_STATUSES.has(data.status)) return { ...rest, status: data.status, outcome: data };
  const { liveness: __, ...ended } = rest; // nobody is expected to be at work
  return { ...ended, status: data.status, outcome: data, endedAt: timestamp };
}

function withLiveness(view: View, { liveness, last_seen, last_step_at }: JobLiveness): View {
  return {
    ...view,
    liveness,
    ...(last_seen !== undefined && { lastSeen: last_seen }),
    ...(last_step_at !== undefined && { lastStepAt: last_step_at }),
  };
}

function updated(
  view: View,
  { name, kind, status, commands, products_total }: EventMap["job_updated"],
): View {
  return {
    ...view,
    ...(name && { name }),
    ...(kind && { kind }),
    ...(status && { status }),
    ...(commands && { takes: commands }),
    ...(products_total !== undefined && { products: ofSoMany(view.products, products_total) }),
  };
}

/** The job is at 20 % when it is known how many there are. */
function ofSoMany(products: ProductCounts, total: number): ProductCounts {
  return { ...products, total, progress: Math.max(20, products.progress) };
}

/** The hub says how many are done; from one that does not, they are counted here. */
function completed(view: View, event: DeliveredEvent<"product_completed">): View {
  const { data, product = "", attempt = view.attempt, products } = event;
  if (attempt < view.attempt) return view;
  const { failed, total = view.products.total } = data;
  const counted = {
    ...view.products,
    completed: view.products.completed + (failed ? 0 : 1),
    failed: view.products.failed + (failed ? 1 : 0),
    ...(total !== undefined && { total }),
  };
  return withResult({ ...view, products: products ?? counted }, product, data);
}

function withResult(view: View, product: string, data: ProductCompleted): View {
  const name = `product ${product}`;
  if (!view.results.has(name) && view.results.size >= PARTS) return view;
  return { ...view, results: new Map(view.results).set(name, data) };
}

/** What the states say one after the other is put together: who has asked, who answers. */
function withCommand(view: View, data: CommandUpdate): View {
  const known = view.commands.find(({ command_id }) => command_id === data.command_id);
  if (known && known.state !== "requested" && data.state === "requested") return view;
  const next = { ...known, ...data };
  const commands = known
    ? view.commands.map((each) => (each === known ? next : each))
    : [...view.commands, next].slice(-COMMANDS);
  return { ...view, commands };
}

/** Each field its newest. The job's own progress is shown before that of its parts. */
function progressed(view: View, event: DeliveredEvent<"training_progress">): View {
  const { data, product, rank = 0, attempt = view.attempt, timestamp } = event;
  if (attempt < view.attempt) return view;
  const part = product !== undefined ? `product ${product}` : rank > 0 ? `rank ${rank}` : OWN;
  const { parts } = view;
  if (!parts.has(part) && parts.size >= PARTS) return view;
  const before: TrainingProgress = parts.get(part) ?? {};
  const metrics = data.metrics && { metrics: { ...before.metrics, ...data.metrics } };
  const all = new Map(parts).set(part, { ...before, ...data, ...metrics });
  const shown = all.has(OWN) ? OWN : part;
  // Several parts in turn do not make a curve.
  const isCurve = part === shown && (part === OWN || all.size === 1);
  const isStep = data.step !== undefined && timestamp > (view.lastStepAt ?? "");
  return {
    ...view,
    parts: all,
    shown,
    ...(isCurve && prolonged(view, event)),
    ...(isStep && { lastStepAt: timestamp }),
  };
}

/** The curve of the loss, by what a progress brings to it: values that were held back come with a later one. */
function prolonged(view: View, event: DeliveredEvent<"training_progress">): Partial<View> {
  const { epoch } = event;
  const { lossAt, recent } = view.lossAt?.epoch === epoch ? view : { recent: [] };
  const points = pointsOf(event).flatMap(({ seq, metrics: { loss } }) =>
    loss === undefined || seq <= (lossAt?.seq ?? 0) ? [] : { seq, loss: Number(loss) },
  );
  if (points.length === 0) return {};
  return {
    losses: points.reduce((curve, { loss }) => extended(curve, loss), view.losses),
    lossAt: { epoch, seq: points.at(-1)?.seq ?? 0 },
    recent: [...recent, ...points].slice(-RECENT),
  };
}
