/** A job's state as watchers see it. */
import type {
  DeliveredEvent,
  EventType,
  JobStatus,
  JobSummary,
  Liveness,
  Snapshot,
  TrainingProgress,
} from "../protocol/types.ts";
import { JOB_PROGRESS_KEYS } from "../store/reduce.ts";
import type { JobState } from "../store/store.ts";
import { joinFields, loggedWire, newestWire } from "../store/wire.ts";

export function snapshotOf(tenantId: string, jobId: string, state: JobState): Snapshot {
  const fields: Fields = Object.fromEntries(
    [...state.fields].filter(([field]) => SHOWN.has(field)).map(([field, json]) => [field, JSON.parse(json)]),
  );
  const { status = "pending", attempt = 1, products_total, products_progress = 0, ...job } = fields;
  const latest: Snapshot["latest"] = {};
  for (const event of state.latest) {
    Object.assign(latest, { [event.type]: JSON.parse(loggedWire("job", state.epoch, event)) });
  }
  const counts: Snapshot["counts"] = {};
  for (const [counter, n] of state.counts) {
    if (counter.startsWith("type:")) counts[counter.slice(5) as EventType] = n;
  }
  return {
    ...job,
    job_id: jobId,
    tenant_id: tenantId,
    epoch: state.epoch,
    seq: state.seq,
    created_at: new Date(state.createdAt).toISOString(),
    updated_at: new Date(state.updatedAt).toISOString(),
    status,
    attempt,
    ...(state.seenAt !== undefined && { last_seen: new Date(state.seenAt).toISOString() }),
    latest,
    newest: state.newest.map(
      (newest) => JSON.parse(newestWire("job", state.epoch, newest)) as DeliveredEvent,
    ),
    counts,
    products: {
      completed: state.counts.get("products:completed") ?? 0,
      failed: state.counts.get("products:failed") ?? 0,
      ...(products_total !== undefined && { total: products_total }),
      progress: products_progress,
    },
  };
}

/** The job's fields that a snapshot has under the same name, and those that it has in `products`. */
const SHOWN: ReadonlySet<string> = new Set([
  "name",
  "kind",
  "description",
  "dataset_id",
  "agent_id",
  "tags",
  "created_by",
  "updated_by",
  "status",
  "attempt",
  "liveness",
  "last_step_at",
  "commands",
  "products_total",
  "products_progress",
]);
type Fields = Partial<Snapshot> & { products_total?: number; products_progress?: number };

export function summaryOf(jobId: string, state: JobState): JobSummary {
  const text = (field: string): string | undefined => {
    const json = state.fields.get(field);
    return json === undefined ? undefined : (JSON.parse(json) as string);
  };
  const newest = state.newest
    .filter(({ key }) => (JOB_PROGRESS_KEYS as readonly string[]).includes(key))
    .sort((a, b) => b.seq - a.seq)[0];
  const summary: JobSummary = {
    job_id: jobId,
    epoch: state.epoch,
    seq: state.seq,
    created_at: new Date(state.createdAt).toISOString(),
    updated_at: new Date(state.updatedAt).toISOString(),
    status: (text("status") ?? "pending") as JobStatus,
    attempt: Number(state.fields.get("attempt") ?? 1),
  };
  const liveness = text("liveness");
  if (liveness !== undefined) summary.liveness = liveness as Liveness;
  for (const field of ["created_by", "name", "kind"] as const) {
    const value = text(field);
    if (value !== undefined) summary[field] = value;
  }
  if (newest) summary.progress = JSON.parse(joinFields(newest.fields)) as TrainingProgress;
  return summary;
}
