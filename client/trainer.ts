import type { AnswerError, EventMap, EventType, JobFields, PublishedEvent } from "../src/protocol/types.ts";
import { Announcer, trainerId } from "./announcer.ts";
import { Backlog } from "./backlog.ts";
import { type Item, newItem } from "./conflate.ts";
import { Connection, type ConnectionState } from "./connection.ts";
import { messageOf, TrainwireError } from "./errors.ts";
import { isConflatable, KEPT_LIMITS } from "./event-table.ts";
import { type Envelope, prepare } from "./prepare.ts";
import { Run, type RunOptions } from "./run.ts";
import { Sender } from "./sender.ts";
import { Throttle } from "./throttle.ts";
import {
  checkedOptions,
  LONGEST_TIMER_MS,
  type TrainerOptions,
  type TrainerStats,
} from "./trainer-options.ts";

const WAIT_MS = 10_000;
/** Codes that are remembered as printed. */
const PRINTED = 100;

/**
 * A training process's connection to the hub. It connects when it is made, never throws into the training loop and never
 * blocks it; events are kept in order in a bounded buffer and sent again until the hub has them.
 *
 * When the buffer is full, progress and stats are merged first, then the oldest log lines are dropped, then the oldest
 * others; status events last of all.
 *
 * The connection keeps the process running: end with `await trainer.close()`.
 *
 * ```ts
 * const trainer = new TrainwireTrainer({ url: "https://hub.example.org", token });
 * const run = trainer.run("bert-7", { name: "BERT, seventh try", kind: "mlm" });
 * run.status("running");
 * for (let step = 1; step <= 1_000; step++) run.progress({ step, total_steps: 1_000, loss: train() });
 * run.finish();
 * await trainer.close();
 * ```
 *
 * What operators may tell it (`Run.onCommand`, `shouldStop`, `whilePaused`) is announced with each run.
 */
export class TrainwireTrainer {
  readonly #producer: { id: string; incarnation: number };
  readonly #onError: TrainerOptions["onError"];
  readonly #connection: Connection;
  readonly #backlog: Backlog;
  readonly #sender: Sender;
  readonly #throttle: Throttle;
  readonly #announcer: Announcer;
  /** One count for all jobs: it rises within each. */
  #n = 0;
  #closed = false;
  readonly #counts = {
    published: 0,
    stored: 0,
    duplicates: 0,
    resent: 0,
    invalid: 0,
    refused: 0,
    dropped: 0,
  };
  readonly #printed = new Set<string>();
  /** Called whenever an event may have got its outcome, and when the connection ends for good. */
  readonly #waiters = new Set<() => void>();

  /** @throws Error when an option is missing or wrong. Nothing else here throws. */
  constructor(options: TrainerOptions) {
    const { producer, maxBufferedEvents, maxBufferedBytes, ...intervals } = checkedOptions(options);
    const { flushIntervalMs, progressIntervalMs, heartbeatIntervalMs } = intervals;
    this.#producer = { id: producer, incarnation: nextIncarnation() };
    this.#onError = options.onError;
    this.#connection = new Connection("/trainer", options, {
      state: (state) => this.#state(state),
      event: (name, argument, answer) => {
        if (name === "command") this.#announcer.command(argument, answer);
      },
      error: (error) => this.#connectionError(error),
    });
    this.#backlog = new Backlog(maxBufferedEvents, maxBufferedBytes, (items) => this.#overflow(items));
    this.#sender = new Sender(this.#connection, this.#backlog, flushIntervalMs, {
      stored: (stored, duplicates) => {
        this.#counts.stored += stored;
        this.#counts.duplicates += duplicates;
      },
      resent: (events) => {
        this.#counts.resent += events;
      },
      refused: (items, error) => this.#refused(items, error),
      poison: (item, error) => this.#poison(item, error),
      settled: () => this.#settled(),
    });
    this.#throttle = new Throttle(progressIntervalMs, (item) => this.#pass(item));
    this.#announcer = new Announcer(
      this.#connection,
      { trainerId: trainerId(producer), heartbeatIntervalMs, patienceMs: flushIntervalMs },
      {
        oldest: (jobId) => this.#sender.oldest(jobId),
        flush: (jobId) => {
          this.#throttle.flush(jobId);
          return this.#backlog.last;
        },
        status: (job_id, attempt, status) => {
          this.publish("training_status", { status }, { job_id, ...(attempt !== undefined && { attempt }) });
        },
        report: (error) => this.#report(error),
      },
    );
    this.#connection.open();
  }

  /** `closed` after `close()`, and after a refusal that another attempt cannot change; events are then only buffered. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** What became of the events so far. */
  get stats(): TrainerStats {
    return {
      ...this.#counts,
      merged: this.#throttle.merged + this.#backlog.merged,
      buffered: this.#backlog.count + this.#sender.inFlight,
      bufferedBytes: this.#backlog.bytes,
    };
  }

  /** Tries again at once: while it waits to reconnect, and after the hub had refused the connection for good. */
  connect(): this {
    if (!this.#closed) this.#connection.open();
    return this;
  }

  /**
   * A run of a job. If any of the job's fields is given, `job_created` is sent; that the job is there already is no error.
   * Runs of the same job share its commands. It lives until the job's end is told by any of them, or `Run.end()`; a run of
   * a higher `attempt` ends those before it.
   *
   * @param jobId `[A-Za-z0-9_.-]{1,64}`.
   */
  run(jobId: string, options: RunOptions = {}): Run {
    const envelope: Envelope = {};
    this.#guard(() => {
      const { attempt, rank, product, ...fields } = options ?? {};
      if (attempt !== undefined) envelope.attempt = attempt;
      if (Object.values(fields).some((value) => value !== undefined)) {
        this.publish("job_created", fields as JobFields, { ...envelope, job_id: jobId });
      }
      if (rank !== undefined) envelope.rank = rank;
      if (product !== undefined) envelope.product = product;
    });
    const part = this.#announcer.join(jobId, whole(envelope.attempt, 1), whole(envelope.rank, 0) ?? 0);
    return new Run(jobId, envelope, part, (build) => {
      this.#guard(() => {
        const { type, data, envelope: around } = build();
        this.#take(type, data, around);
      });
    });
  }

  /**
   * An event of any type; without `job_id` one of the tenant (`dataset_update`, `alert`). A run's own methods are shorter.
   * Never throws.
   */
  publish<T extends EventType>(type: T, data: EventMap[T], envelope: Envelope = {}): void {
    this.#guard(() => this.#take(type, data, envelope));
  }

  /**
   * Waits until everything that was handed over before has an outcome: stored, or refused for good and reported.
   *
   * @param options `timeoutMs`: default 10 000.
   * @returns false when the time is over, or the connection has ended for good. Never rejects.
   */
  flush(options: { timeoutMs?: number } = {}): Promise<boolean> {
    this.#throttle.flush();
    const last = this.#backlog.last;
    this.#sender.wake(true);
    return new Promise((resolve) => {
      const settle = (result: boolean): void => {
        clearTimeout(timer);
        this.#waiters.delete(check);
        resolve(result);
      };
      const check = (): void => {
        if (this.#sender.oldest() > last) settle(true);
        else if (this.#connection.state === "closed") settle(false);
      };
      const timer = setTimeout(() => settle(false), bounded(options?.timeoutMs));
      this.#waiters.add(check);
      check();
    });
  }

  /**
   * Flushes and disconnects. Events handed over later are dropped and counted.
   *
   * @param options `timeoutMs` for the flush: default 10 000.
   * @returns whether everything had its outcome; what had not is dropped, counted and reported. Never rejects.
   */
  async close(options: { timeoutMs?: number } = {}): Promise<boolean> {
    const flushed = this.flush(options);
    this.#closed = true;
    const complete = await flushed;
    this.#throttle.stop();
    this.#announcer.stop();
    this.#connection.close();
    this.#sender.stop();
    const left = this.#backlog.takeAll();
    if (left.length > 0) this.#drop(left, "closed", "Closed before these events were stored.");
    return complete;
  }

  #take(type: EventType, data: unknown, envelope: Envelope): void {
    const event = prepare(type, data, envelope);
    if (!isConflatable(type)) {
      // So that a resend is stored once.
      event.producer = this.#producer;
      event.n = ++this.#n;
    }
    const item = newItem(event);
    if (item.bytes > KEPT_LIMITS.eventBytes) {
      throw new TrainwireError("event_too_large", `An event is over ${KEPT_LIMITS.eventBytes} bytes.`, {
        event,
      });
    }
    this.#counts.published += 1;
    if (this.#closed) {
      this.#drop([item], "closed", "The trainer was closed before this event.");
      return;
    }
    if (type === "training_progress") this.#progressed(event);
    if (type === "training_progress" && hasKey(item)) {
      this.#throttle.add(item);
      return;
    }
    if (type === "training_status" || type === "job_updated") this.#throttle.flush(item.lane);
    this.#pass(item);
  }

  /** What the application has handed over may throw when it is read. */
  #guard(take: () => void): void {
    try {
      take();
    } catch (cause) {
      this.#counts.invalid += 1;
      this.#report(
        cause instanceof TrainwireError
          ? cause
          : new TrainwireError("invalid_event", `An event cannot be read: ${messageOf(cause)}`, {
              cause,
              events: 1,
            }),
      );
    }
  }

  #pass(item: Item): void {
    this.#backlog.push(item);
    this.#announcer.taken(item);
    this.#sender.wake(item.event.type === "training_status");
  }

  #progressed({ job_id, data }: PublishedEvent): void {
    const { step } = data as { step?: unknown };
    if (job_id !== undefined && typeof step === "number") this.#announcer.stepped(job_id);
  }

  #state(state: ConnectionState): void {
    if (state === "connected") this.#sender.connected();
    this.#announcer.state();
    this.#settled();
  }

  #settled(): void {
    this.#announcer.settled();
    for (const check of [...this.#waiters]) check();
  }

  #connectionError(error: TrainwireError): void {
    this.#report(error);
    this.#settled();
  }

  #refused(items: Item[], error: AnswerError): void {
    const isThere = ({ event }: Item) => error.code === "job_exists" && event.type === "job_created";
    const left = items.filter((item) => !isThere(item));
    this.#counts.duplicates += items.length - left.length;
    const [first] = left;
    if (!first) return;
    this.#counts.refused += left.length;
    this.#report(new TrainwireError(error.code, error.message, { events: left.length, event: first.event }));
  }

  #poison(item: Item, error: AnswerError): void {
    if (error.code !== "disconnected") {
      this.#refused([item], error);
      return;
    }
    this.#drop([item], "poison", "The connection broke each time this event was sent.");
  }

  #overflow(items: Item[]): void {
    this.#drop(items, "buffer_full", "The buffer was full: the oldest events were dropped.");
  }

  #drop(items: Item[], code: string, message: string): void {
    this.#counts.dropped += items.length;
    const event = items[0]?.event;
    this.#report(new TrainwireError(code, message, { events: items.length, ...(event && { event }) }));
  }

  #report(error: TrainwireError): void {
    try {
      if (this.#onError) {
        const result: unknown = this.#onError(error);
        if (result instanceof Promise) result.catch(() => {});
      } else if (!this.#printed.has(error.code) && this.#printed.size < PRINTED) {
        this.#printed.add(error.code);
        console.warn(error);
      }
    } catch {
      // Documented: the training goes on whatever the handler does.
    }
  }
}

function hasKey(item: Item): item is Item & { key: string } {
  return item.key !== undefined;
}

/** Longer than this, a timer ends at once. */
function bounded(timeoutMs: number = WAIT_MS): number {
  return Number.isNaN(timeoutMs) ? WAIT_MS : Math.min(Math.max(timeoutMs, 0), LONGEST_TIMER_MS);
}

/** As the application gave it, if the hub would take it. */
function whole(value: unknown, least: number): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= least ? (value as number) : undefined;
}

let lastIncarnation = 0;

/** Microseconds since 1970, and higher than the one before. */
function nextIncarnation(): number {
  const now = Math.floor((performance.timeOrigin + performance.now()) * 1_000);
  lastIncarnation = Math.max(now, lastIncarnation + 1);
  return lastIncarnation;
}
