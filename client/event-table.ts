import type { CommandAction, EventType } from "../src/protocol/types.ts";

/**
 * The columns of the hub's EVENTS table that the SDK needs at run time: for a durable event nothing, for a conflatable
 * one what names its conflation key. A copy, because the table itself brings a schema library into the browser; a test
 * compares the two.
 */
export const CONFLATION: Readonly<Record<EventType, ReadonlyArray<"product" | "rank" | "host"> | undefined>> =
  {
    training_progress: ["product", "rank"],
    training_status: undefined,
    sample_generated: undefined,
    log: undefined,
    validation_result: undefined,
    system_stats: ["host", "rank"],
    job_created: undefined,
    job_updated: undefined,
    job_liveness: undefined,
    dataset_update: undefined,
    alert: undefined,
    product_completed: undefined,
    checkpoint_saved: undefined,
    command_update: undefined,
    presence: [],
    custom: undefined,
  };

/** Fields of progress that are metrics too (src/store/reduce.ts); compared by the same test. */
export const CURVE_FIELDS = ["loss", "smooth_loss", "learning_rate"] as const;

/** The hub's limits (src/protocol/limits.ts) that the SDK keeps by itself; compared by the same test. */
export const KEPT_LIMITS = {
  batchEvents: 500,
  eventBytes: 65_536,
  depth: 64,
  metrics: 64,
  allJobs: 1_000,
  commandBytes: 4_096,
  commandTimeoutMs: 3_600_000,
  expectSeconds: 86_400,
} as const;

/** Statuses that end a job; compared likewise. */
export const TERMINAL_STATUSES: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

/** Every action of a command; compared likewise. */
export const COMMAND_ACTIONS = [
  "pause",
  "resume",
  "stop",
  "save",
  "sample",
  "validate",
  "custom",
] as const satisfies readonly CommandAction[];

export function isConflatable(type: string): boolean {
  return Object.hasOwn(CONFLATION, type) && CONFLATION[type as EventType] !== undefined;
}

/** Of a type that this SDK does not know yet, neither is true. */
export function isDurable(type: string): boolean {
  return Object.hasOwn(CONFLATION, type) && CONFLATION[type as EventType] === undefined;
}
