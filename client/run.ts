import type {
  Alert,
  CheckpointSaved,
  Custom,
  EventMap,
  EventType,
  JobFields,
  JobStatus,
  Json,
  Log,
  ProductCompleted,
  PublishedEvent,
  SampleGenerated,
  SystemStats,
  TrainingProgress,
  TrainingStatus,
  ValidationResult,
} from "../src/protocol/types.ts";
import { messageOf } from "./errors.ts";
import type { Envelope } from "./prepare.ts";

/** What a run is: the job's fields, and what stands on each of its events. */
export type RunOptions = JobFields & Pick<PublishedEvent, "attempt" | "rank" | "product">;

/** What of the envelope may be given per event. */
export type EventOptions = Omit<Envelope, "job_id">;

/** Made within the trainer's try: reading what the application has handed over may throw. */
type Publish = (build: () => { type: EventType; data: EventMap[EventType]; envelope: Envelope }) => void;

/**
 * One run of a job, made by `TrainwireTrainer.run`. No method throws or waits: events are copied, stamped with the time of
 * the call, and sent in the background. What cannot be sent is reported by the trainer's `onError` and counted in its
 * `stats`.
 */
export class Run {
  readonly jobId: string;
  readonly #publish: Publish;
  readonly #envelope: Envelope;

  /** Use `TrainwireTrainer.run`. */
  constructor(jobId: string, envelope: Envelope, publish: Publish) {
    this.jobId = jobId;
    this.#envelope = envelope;
    this.#publish = publish;
  }

  /**
   * How far the training is; every field is optional, and what is not given stays as it was. As often as you like: within
   * `progressIntervalMs` calls become one event, each field its newest, and the last call is always sent.
   */
  progress(data: TrainingProgress, options?: EventOptions): void {
    this.publish("training_progress", data, options);
  }

  /** The job's state. Progress that is held back goes first; a status is sent at once. */
  status(status: JobStatus, fields: Omit<TrainingStatus, "status"> = {}): void {
    this.#send("training_status", () => ({ ...fields, status }));
  }

  /** A line of the job's log; text is of level `info`. */
  log(line: string | Log, options?: EventOptions): void {
    this.#send(
      "log",
      () => (typeof line === "object" && line !== null ? { ...line } : plainLine(line)),
      options,
    );
  }

  /** A sample that the model made; `url` says where its bytes are. */
  sample(data: SampleGenerated, options?: EventOptions): void {
    this.publish("sample_generated", data, options);
  }

  validation(data: ValidationResult, options?: EventOptions): void {
    this.publish("validation_result", data, options);
  }

  /** Load of a machine. Numbers that are not finite are left out. */
  stats(data: SystemStats, options?: EventOptions): void {
    this.publish("system_stats", data, options);
  }

  checkpoint(data: CheckpointSaved, options?: EventOptions): void {
    this.publish("checkpoint_saved", data, options);
  }

  alert(data: Alert, options?: EventOptions): void {
    this.publish("alert", data, options);
  }

  /** One of the job's products is done. Counted once by the hub, whoever says it. */
  productCompleted(product: string, data: ProductCompleted = {}): void {
    this.#send("product_completed", () => data, { product });
  }

  /** What has no type of its own. */
  custom(name: string, data?: { [key: string]: Json }): void {
    const custom: Custom = { name };
    if (data !== undefined) custom.data = data;
    this.publish("custom", custom);
  }

  /** An event of any type that trainers may send. `options` go before what the run was made with. */
  publish<T extends EventType>(type: T, data: EventMap[T], options?: EventOptions): void {
    this.#send(type, () => data, options);
  }

  /** The job is `completed`. */
  finish(result?: TrainingStatus["result"]): void {
    this.status("completed", { end_reason: "finished", ...(result && { result }) });
  }

  /**
   * The job is `failed`: with the name, message and stack of an `Error`, or the text of anything else. `fields` may say
   * more, for instance `{end_reason: "out_of_memory"}`.
   */
  fail(error: unknown, fields: Omit<TrainingStatus, "status" | "error"> = {}): void {
    this.#send("training_status", () => ({
      end_reason: "error",
      ...fields,
      status: "failed",
      error: described(error),
    }));
  }

  /** The job is `cancelled`, by its user. */
  cancel(message?: string): void {
    this.status("cancelled", { end_reason: "user", ...(message !== undefined && { message }) });
  }

  #send<T extends EventType>(type: T, data: () => EventMap[T], options?: EventOptions): void {
    this.#publish(() => ({
      type,
      data: data(),
      envelope: { ...this.#envelope, ...options, job_id: this.jobId },
    }));
  }
}

function described(error: unknown): NonNullable<TrainingStatus["error"]> {
  const message = messageOf(error);
  try {
    if (!(error instanceof Error)) return { message };
    return {
      type: String(error.name),
      message,
      ...(typeof error.stack === "string" && { traceback: error.stack }),
    };
  } catch {
    return { message };
  }
}

function plainLine(line: unknown): Log {
  return { level: "info", message: typeof line === "string" ? line : messageOf(line) };
}
