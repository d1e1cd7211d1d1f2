import type {
  AnnounceAnswer,
  AnnounceRequest,
  Answer,
  JobStatus,
  PublishedEvent,
  TrainerAnswer,
} from "../src/protocol/types.ts";
import { failed, isCommand, Outcomes } from "./commands.ts";
import type { Item } from "./conflate.ts";
import type { Connection } from "./connection.ts";
import { TrainwireError } from "./errors.ts";
import { TERMINAL_STATUSES } from "./event-table.ts";
import { type Part, Work } from "./work.ts";

/** The trainer, as the announcer needs it. */
export interface AnnouncerOwner {
  /** `order` of a job's oldest event without a certain outcome; Infinity if there is none. */
  oldest(jobId: string): number;
  /** Hands over what is held back of a job, and says the `order` of its newest event. */
  flush(jobId: string): number;
  status(jobId: string, attempt: number | undefined, status: JobStatus): void;
  report(error: TrainwireError): void;
}

export interface AnnouncerOptions {
  trainerId: string;
  heartbeatIntervalMs: number;
  /** So long a new run may wait for its first event before it is announced without. */
  patienceMs: number;
}

/** A job that this process works on. */
interface Entry {
  readonly jobId: string;
  work: Work;
  /** What the hub has been told on this connection, and what it has refused, as JSON. */
  announced?: string | undefined;
  refused?: string | undefined;
  /** The hub takes no heartbeat of it on this connection. */
  mute: boolean;
  busy: boolean;
  failures: number;
  timer?: ReturnType<typeof setTimeout> | undefined;
  /** Whether it has waited for a first event. */
  patient: boolean;
  /** `order` of the first event. */
  first?: number;
  /** The first event has its outcome: the hub knows the job. */
  known: boolean;
  /** Withdrawn when the event of this `order` has its outcome. */
  leavesAfter?: number | undefined;
}

/**
 * Tells the hub which jobs this process works on and what it does when it is told to: an announcement per job and
 * connection, heartbeats, and a withdrawal at the end. Takes the commands that come of it.
 */
export class Announcer {
  readonly #connection: Pick<Connection, "state" | "request" | "renew" | "backoff">;
  readonly #options: AnnouncerOptions;
  readonly #owner: AnnouncerOwner;
  readonly #entries = new Map<string, Entry>();
  readonly #outcomes = new Outcomes();
  #beat: ReturnType<typeof setInterval> | undefined;
  #stopped = false;

  constructor(
    connection: Pick<Connection, "state" | "request" | "renew" | "backoff">,
    options: AnnouncerOptions,
    owner: AnnouncerOwner,
  ) {
    this.#connection = connection;
    this.#options = options;
    this.#owner = owner;
    if (options.heartbeatIntervalMs > 0) {
      this.#beat = setInterval(() => this.#heartbeats(), options.heartbeatIntervalMs);
      unref(this.#beat);
    }
  }

  /** A run begins; without `attempt` one of the newest. A later attempt ends what this process did for an earlier one. */
  join(jobId: string, attempt: number | undefined, rank: number): Part {
    if (this.#stopped || typeof jobId !== "string" || !ID.test(jobId)) {
      // Nobody can be told of it; its runs obey nothing.
      return this.#newEntry(jobId, attempt).work.join(rank);
    }
    const present = this.#entries.get(jobId);
    if (present?.work.live && (attempt ?? 1) <= present.work.attempt) return present.work.join(rank);
    present?.work.end();
    const entry = present ?? this.#newEntry(jobId, attempt);
    entry.leavesAfter = undefined;
    if (present) entry.work = this.#newWork(entry, attempt);
    this.#entries.set(jobId, entry);
    return entry.work.join(rank);
  }

  /** A step of the job was handed over. */
  stepped(jobId: string): void {
    this.#entries.get(jobId)?.work.stepped();
  }

  /** An event is about to be sent. */
  taken({ lane, order, event }: Item): void {
    const entry = this.#entries.get(lane);
    if (!entry) return;
    entry.first ??= order;
    if (event.type !== "training_status" && event.type !== "job_updated") return;
    const { status } = event.data as { status?: unknown };
    if (!TERMINAL_STATUSES.has(status as string) || isBefore(event, entry.work)) return;
    entry.work.end();
    entry.leavesAfter = order;
  }

  /** A call was answered: some events have their outcome now. */
  settled(): void {
    for (const entry of [...this.#entries.values()]) {
      if (!entry.known || entry.leavesAfter !== undefined) this.#advance(entry);
    }
  }

  /** The connection is there, or gone and with it all that the hub was told. */
  state(): void {
    for (const entry of [...this.#entries.values()]) {
      quiet(entry);
      entry.announced = undefined;
      entry.refused = undefined;
      entry.mute = false;
      this.#advance(entry);
    }
  }

  command(command: unknown, answer: ((answer: TrainerAnswer) => void) | undefined): void {
    if (!answer) return;
    if (!isCommand(command)) {
      answer(failed("This is no command."));
      return;
    }
    const carryOut = async () =>
      (await this.#entries.get(command.job_id)?.work.carryOut(command)) ?? failed("not supported");
    void this.#outcomes.of(command, carryOut).then(answer);
  }

  /** Nothing is told any more, and nobody waits for a command. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#beat);
    for (const entry of this.#entries.values()) {
      quiet(entry);
      entry.work.end();
    }
    this.#entries.clear();
  }

  #newEntry(jobId: string, attempt: number | undefined): Entry {
    const entry = { jobId, mute: false, busy: false, failures: 0, patient: false, known: false } as Entry;
    entry.work = this.#newWork(entry, attempt);
    return entry;
  }

  #newWork(entry: Entry, attempt: number | undefined): Work {
    const { jobId } = entry;
    const work: Work = new Work(attempt ?? 1, {
      changed: () => {
        // Within the same turn more may be added.
        queueMicrotask(() => this.#advance(entry));
      },
      expecting: () => {
        if (entry.announced !== undefined) this.#heartbeat(entry);
      },
      left: () => {
        if (entry.work !== work || this.#stopped) return;
        entry.leavesAfter = this.#owner.flush(jobId);
        this.#advance(entry);
      },
      status: (status) => this.#owner.status(jobId, attempt, status),
      report: (error) => this.#owner.report(error),
    });
    return work;
  }

  /** Asks the hub for what is due, one request at a time. */
  #advance(entry: Entry): void {
    if (this.#entries.get(entry.jobId) !== entry) return;
    const oldest = this.#owner.oldest(entry.jobId);
    if (entry.first !== undefined && oldest > entry.first) entry.known = true;
    if (this.#connection.state !== "connected" || entry.busy) return;
    if (entry.leavesAfter !== undefined) {
      if (oldest > entry.leavesAfter) this.#withdraw(entry);
      return;
    }
    const { work, jobId } = entry;
    if (entry.timer !== undefined || !work.live) return;
    const request: AnnounceRequest = {
      job_id: jobId,
      commands: work.commands,
      rank: work.rank,
      trainer_id: this.#options.trainerId,
    };
    const text = JSON.stringify(request);
    if (text === entry.announced || text === entry.refused) return;
    // Announcing a job that is not there creates it: its `job_created` must be first.
    if (!entry.known && oldest !== Number.POSITIVE_INFINITY) return;
    if (entry.known || entry.patient) this.#announce(entry, request, text);
    else {
      entry.patient = true;
      this.#later(entry, this.#options.patienceMs);
    }
  }

  #announce(entry: Entry, request: AnnounceRequest, text: string): void {
    entry.busy = true;
    this.#connection.request<AnnounceAnswer>("announce", request, (answer) => {
      entry.busy = false;
      if (answer.ok) {
        entry.announced = text;
        entry.failures = 0;
        if (entry.work.signs.expect_next_in !== undefined) this.#heartbeat(entry);
      } else this.#refused(entry, answer, text);
      this.#advance(entry);
    });
  }

  #refused(entry: Entry, { error }: Answer<never> & { ok: false }, text: string): void {
    if (error.code === "token_expired") this.#connection.renew(TrainwireError.from(error));
    else if (!error.temporary) {
      entry.refused = text;
      // An older hub; who wants no commands misses nothing.
      if (error.code === "unknown_verb" && entry.work.commands.length === 0) return;
      const message = `Job "${entry.jobId}" was not announced: ${error.message}`;
      this.#owner.report(new TrainwireError(error.code, message));
    } else if (this.#connection.state === "connected") {
      this.#later(entry, this.#connection.backoff(entry.failures++));
    }
  }

  #withdraw(entry: Entry): void {
    this.#entries.delete(entry.jobId);
    quiet(entry);
    // That the hub refuses it, or is gone, changes nothing any more.
    if (entry.announced !== undefined) {
      this.#connection.request<object>("withdraw", { job_id: entry.jobId }, () => {});
    }
  }

  #heartbeats(): void {
    for (const entry of [...this.#entries.values()]) {
      if (entry.announced !== undefined && entry.work.live) this.#heartbeat(entry);
    }
  }

  #heartbeat(entry: Entry): void {
    if (this.#connection.state !== "connected" || entry.mute) return;
    const request = { job_id: entry.jobId, ...entry.work.signs };
    this.#connection.request<object>("heartbeat", request, (answer) => {
      if (answer.ok || answer.error.temporary || this.#connection.state !== "connected") return;
      const { error } = answer;
      if (error.code === "token_expired") this.#connection.renew(TrainwireError.from(error));
      else if (error.code === "job_not_found" && entry.announced !== undefined) {
        // The hub has lost the job; announced, it is there again.
        entry.announced = undefined;
        this.#advance(entry);
      } else if (!entry.mute) {
        entry.mute = true;
        this.#owner.report(TrainwireError.from(error));
      }
    });
  }

  #later(entry: Entry, ms: number): void {
    entry.timer = setTimeout(() => {
      entry.timer = undefined;
      this.#advance(entry);
    }, ms);
    unref(entry.timer);
  }
}

/** Without an attempt it is of the newest. */
function isBefore({ attempt }: PublishedEvent, work: Work): boolean {
  return attempt !== undefined && attempt < work.attempt;
}

function quiet(entry: Entry): void {
  clearTimeout(entry.timer);
  entry.timer = undefined;
  entry.failures = 0;
}

/** The connection keeps the process until close(); a timer alone must not. */
function unref(timer: ReturnType<typeof setTimeout>): void {
  if (typeof timer === "object") timer.unref();
}

const ID = /^[A-Za-z0-9_.-]{1,64}$/;
/** FNV-1a. */
const HASH_START = 0x811c9dc5;
const HASH_PRIME = 0x01000193;

/** A producer's id where only `[A-Za-z0-9_.-]{1,64}` may stand: the same for the same, another for another. */
export function trainerId(producer: string): string {
  if (ID.test(producer)) return producer;
  let hash = HASH_START;
  for (const character of producer) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), HASH_PRIME) >>> 0;
  }
  return `${producer.replace(/[^A-Za-z0-9_.-]/g, "_").slice(0, 55)}-${hash.toString(16).padStart(8, "0")}`;
}
