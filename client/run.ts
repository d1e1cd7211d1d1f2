import type {
  Alert,
  CheckpointSaved,
  CommandAction,
  Custom,
  EventMap,
  EventType,
  JobFields,
  JobStatus,
  JsonObject,
  Log,
  ProductCompleted,
  PublishedEvent,
  SampleGenerated,
  SystemStats,
  TrainingProgress,
  TrainingStatus,
  ValidationResult,
} from "../src/protocol/types.ts";
import type { CommandHandler, CommandHandlers } from "./commands.ts";
import { messageOf } from "./errors.ts";
import type { Envelope } from "./prepare.ts";
import { Products } from "./products.ts";
import { Stages, type StageTable } from "./stages.ts";
import type { Part } from "./work.ts";

/**
 * What a run is: the job's fields, and what stands on each of its events.
 *
 * `attempt` counts the tries of one job, from 1; without it the events are of the newest one. Give a higher one when the job
 * begins anew after it had ended, failed or was preempted: only a higher attempt brings a job that has ended back, and with
 * it progress and products start from nothing, while the events of earlier attempts stay. Not for a process that merely
 * goes on where it was: that is the same attempt.
 */
export type RunOptions = JobFields & Pick<PublishedEvent, "attempt" | "rank" | "product">;

/** What of the envelope may be given per event. */
export type EventOptions = Omit<Envelope, "job_id">;

/** Made within the trainer's try: reading what the application has handed over may throw. */
type Publish = (build: () => { type: EventType; data: EventMap[EventType]; envelope: Envelope }) => void;

/**
 * One run of a job, made by `TrainwireTrainer.run`. No method throws or waits (`whilePaused` apart): events are copied,
 * stamped with the time of the call, and sent in the background. What cannot be sent is reported by the trainer's
 * `onError` and counted in its `stats`.
 *
 * While it lives (until the job's end is told, or `end()`) the hub counts the job's trainer as there, by the connection
 * and by heartbeats, and brings it operators' commands. A loop that obeys pause, resume and stop:
 *
 * ```ts
 * for (let step = 1; step <= steps && !run.shouldStop(); step++) {
 *   await run.whilePaused();
 *   run.progress({ step, total_steps: steps, loss: await train() });
 * }
 * if (run.shouldStop()) run.cancel();
 * else run.finish();
 * ```
 */
export class Run {
  /** Of the job that it is a run of. */
  readonly jobId: string;
  readonly #publish: Publish;
  readonly #envelope: Envelope;
  readonly #part: Part;
  #products: Products | undefined;

  /** Use `TrainwireTrainer.run`. */
  constructor(jobId: string, envelope: Envelope, part: Part, publish: Publish) {
    this.jobId = jobId;
    this.#envelope = envelope;
    this.#part = part;
    this.#publish = publish;
  }

  /**
   * How far the training is; every field is optional, and what is not given stays as it was. As often as you like: within
   * `progressIntervalMs` calls become one event, each field its newest, and the last call is always sent.
   */
  progress(data: TrainingProgress, options?: EventOptions): void {
    this.publish("training_progress", data, options);
  }

  /**
   * The job's state. Progress that is held back goes first; a status is sent at once. What may not follow the present one
   * is refused (`invalid_transition`) and reported.
   */
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

  /** How good the model is on data that it was not trained with. */
  validation(data: ValidationResult, options?: EventOptions): void {
    this.publish("validation_result", data, options);
  }

  /** Load of a machine. Numbers that are not finite are left out. */
  stats(data: SystemStats, options?: EventOptions): void {
    this.publish("system_stats", data, options);
  }

  /** A checkpoint was saved; `path` or `url` says where. */
  checkpoint(data: CheckpointSaved, options?: EventOptions): void {
    this.publish("checkpoint_saved", data, options);
  }

  /** What somebody should look at; shown on the tenant's feed too. */
  alert(data: Alert, options?: EventOptions): void {
    this.publish("alert", data, options);
  }

  /** One of the job's products is done. Counted once by the hub, whoever says it. */
  productCompleted(product: string, data: ProductCompleted = {}): void {
    this.#send("product_completed", () => data, { product });
  }

  /** What has no type of its own. */
  custom(name: string, data?: JsonObject): void {
    const custom: Custom = { name };
    if (data !== undefined) custom.data = data;
    this.publish("custom", custom);
  }

  /** An event of any type that trainers may send. `options` go before what the run was made with. */
  publish<T extends EventType>(type: T, data: EventMap[T], options?: EventOptions): void {
    this.#send(type, () => data, options);
  }

  /**
   * Says how many products the job trains in parallel, and takes what becomes of them. For the same number again it is the
   * same object.
   */
  products(total: number): Products {
    if (this.#products === undefined || !Object.is(this.#products.total, total)) {
      this.#products = new Products(total, (type, build, product) => {
        this.#send(type, build, product === undefined ? {} : { product });
      });
    }
    return this.#products;
  }

  /**
   * This run with a product's name on every event, for the product's own progress, logs and samples. Its commands, its
   * status and its end are still the job's: that the product is done is told by `products(total).complete(name)`.
   */
  product(name: string): Run {
    return new Run(this.jobId, { ...this.#envelope, product: name }, this.#part, this.#publish);
  }

  /**
   * A table of the job's stages, each with the job's percentage at which it ends: for instance
   * `{"loading data": 20, "training": 95, "saving": 100}`.
   */
  stages(table: StageTable): Stages {
    return new Stages(table, (build) => this.#send("training_progress", build));
  }

  /**
   * Carries out an operator's command with `handler`, or several with a map of them. The run is announced with what it
   * carries out; anything else is refused by the hub. For the same action again the new handler replaces the old one; of
   * several runs of one job in this process each handler is called, one after the other.
   *
   * `pause`, `resume` and `stop` also do of themselves what `whilePaused` and `shouldStop` say, after the handler; if it
   * throws they do not. A command that comes twice is carried out once.
   */
  onCommand(handlers: CommandHandlers): this;
  onCommand(action: CommandAction, handler: CommandHandler): this;
  onCommand(action: CommandAction | CommandHandlers, handler?: CommandHandler): this {
    this.#part.onCommand(() => (typeof action === "object" ? action : { [action]: handler ?? null }));
    return this;
  }

  /**
   * Whether an operator has told the run to stop. The first call announces that this run obeys `stop`. When the command
   * comes, the status `stopping` is published; save what is to be saved, then tell the end, for instance with `cancel()`.
   */
  shouldStop(): boolean {
    this.#part.work.offer("stop");
    return this.#part.work.stopping;
  }

  /** Whether an operator has paused the run. As with `whilePaused`, the first use announces `pause` and `resume`. */
  get paused(): boolean {
    this.#part.work.offer("pause", "resume");
    return this.#part.work.paused;
  }

  /**
   * Resolves at once, or when the run is resumed, stopped or ended. Never rejects. The first call announces that this run
   * obeys `pause` and `resume`; the statuses `paused` and `running` are published as they come. A run stays paused while the hub is away. Wait for it in each turn of
   * the loop: it also lets events out and commands in (every 20 ms) where the steps themselves never wait.
   */
  whilePaused(): Promise<void> {
    this.#part.work.offer("pause", "resume");
    return this.#part.work.whilePaused();
  }

  /**
   * Announces a long silent part, for instance a validation that blocks the process: for so many seconds (at most 86 400)
   * the hub does not take silence for death. Over with the next progress that has a `step`. Where the code that follows
   * blocks the process, wait for a turn of the event loop first.
   */
  expect(seconds: number): void {
    this.#part.work.expect(seconds);
  }

  /**
   * This process no longer works on the job, without saying anything of the job's end: another one goes on with it, or
   * another rank tells it. The job's trainer is withdrawn when no run of the job is left in this process.
   */
  end(): void {
    this.#part.end();
  }

  /** The job is `completed`. */
  finish(result?: TrainingStatus["result"]): void {
    this.status("completed", { end_reason: "finished", ...(result && { result }) });
  }

  /**
   * The job is `failed`: with the name, message and stack of an `Error`, or the text of anything else. The reason is
   * `out_of_memory` where the error says so (CUDA's, an array buffer's), else `error`; `fields` may say another, for
   * instance `{end_reason: "preempted"}`.
   */
  fail(error: unknown, fields: Omit<TrainingStatus, "status" | "error"> = {}): void {
    this.#send("training_status", () => {
      const what = described(error);
      return { end_reason: endReason(what), ...fields, status: "failed", error: what };
    });
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

/** How CUDA, PyTorch, Node.js, V8, C++ and the operating system say it. */
const OUT_OF_MEMORY =
  /out[ _-]?of[ _-]?memory|array buffer allocation failed|cannot allocate memory|bad_alloc|\bENOMEM\b/i;

function endReason({ type, message }: { type?: string; message: string }): "out_of_memory" | "error" {
  return OUT_OF_MEMORY.test(`${type} ${message}`) ? "out_of_memory" : "error";
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
