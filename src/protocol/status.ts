/** The states of a job and how one may follow another. PROTOCOL.md prints the table. */
import type { JobStatus } from "./types.ts";

export const JOB_STATUSES = [
  "pending",
  "queued",
  "running",
  "paused",
  "stopping",
  "completed",
  "failed",
  "cancelled",
] as const satisfies readonly JobStatus[];

const ENDS = ["completed", "failed", "cancelled"] as const;
const RUNS = ["queued", "running", "paused", "stopping", ...ENDS] as const;

/**
 * What may follow each status within one attempt; the same status again only tells news (a message). A higher `attempt`
 * may begin with any status, also after the job has ended. `stopping` is not stopped: its trainer still saves and logs.
 */
export const STATUS_TRANSITIONS: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  pending: ["pending", ...RUNS],
  queued: RUNS,
  running: RUNS,
  paused: RUNS,
  stopping: ["stopping", ...ENDS],
  completed: [],
  failed: [],
  cancelled: [],
};

/** A job with one of these has ended; a new attempt may still bring it back. */
export const TERMINAL_STATUSES: ReadonlySet<string> = new Set(ENDS);
/** No trainer is expected to be at work: the job has no liveness. */
export const RESTING_STATUSES: ReadonlySet<string> = new Set(["pending", "queued", ...ENDS]);

/** Spellings of the systems that trainers come from. Accepted at the door, never sent. */
export const STATUS_SPELLINGS: Readonly<Record<string, JobStatus>> = {
  in_progress: "running",
  succeeded: "completed",
  success: "completed",
  failure: "failed",
  error: "failed",
  canceled: "cancelled",
};

/** The statuses that `status` may follow within one attempt. */
export function predecessors(status: JobStatus): JobStatus[] {
  return JOB_STATUSES.filter((before) => STATUS_TRANSITIONS[before].includes(status));
}
