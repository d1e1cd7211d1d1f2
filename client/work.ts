import type { CommandAction, JobStatus, TrainerAnswer, TrainerCommand } from "../src/protocol/types.ts";
import { isObject } from "./answer.ts";
import { type CommandHandler, done, failed } from "./commands.ts";
import { messageOf, TrainwireError } from "./errors.ts";
import { COMMAND_ACTIONS, KEPT_LIMITS } from "./event-table.ts";

/** Whom the work on a job tells. None of them may throw. */
export interface WorkOwner {
  /** What it carries out, or its lowest rank, may have changed. */
  changed(): void;
  /** A long silent part begins. */
  expecting(): void;
  /** The last of its parts has ended. */
  left(): void;
  /** Publishes a status of the job. */
  status(status: JobStatus): void;
  report(error: TrainwireError): void;
}

/** So long a loop may run without letting events and commands in. */
const BREATH_MS = 20;

/**
 * What this process does for one attempt of a job: shared by all its runs (ranks, products), because a command reaches the
 * process, not one of them.
 */
export class Work {
  readonly attempt: number;
  readonly #owner: WorkOwner;
  /** Runs that have not ended. */
  #live = 0;
  /** Those of them that carry out commands. */
  readonly #parts = new Set<Part>();
  #rank: number | undefined;
  /** What it obeys without a handler, because the application asks. */
  readonly #offered = new Set<CommandAction>();
  #paused = false;
  #stopping = false;
  #over = false;
  #released: Array<() => void> = [];
  /** A resume must not overtake the pause before it, however long that one's handler takes. */
  #turn: Promise<unknown> = Promise.resolve();
  #lastBreath = 0;
  /** When the last step was handed over, ms since 1970. */
  #steppedAt: number | undefined;
  /** End of the silence that was announced, by `performance.now()`. */
  #silentUntil: number | undefined;

  constructor(attempt: number, owner: WorkOwner) {
    this.attempt = attempt;
    this.#owner = owner;
  }

  get live(): boolean {
    return this.#live > 0;
  }

  get paused(): boolean {
    return this.#paused;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  /** The lowest of its runs. */
  get rank(): number {
    return this.#rank ?? 0;
  }

  get commands(): CommandAction[] {
    return COMMAND_ACTIONS.filter(
      (action) => this.#offered.has(action) || [...this.#parts].some((part) => part.handlers.has(action)),
    );
  }

  /** The life signs of a heartbeat. */
  get signs(): { last_step_at?: string; expect_next_in?: number } {
    const left =
      this.#silentUntil === undefined ? undefined : (this.#silentUntil - performance.now()) / 1_000;
    return {
      ...(this.#steppedAt !== undefined && { last_step_at: new Date(this.#steppedAt).toISOString() }),
      // 0 takes back what was announced.
      ...(left !== undefined && { expect_next_in: Math.max(0, Math.ceil(left)) }),
    };
  }

  join(rank: number): Part {
    this.#live += 1;
    if (this.#rank === undefined || rank < this.#rank) {
      this.#rank = rank;
      this.#owner.changed();
    }
    return new Part(this);
  }

  leave(part: Part): void {
    this.#parts.delete(part);
    if (this.#over) return;
    this.#live -= 1;
    if (this.#live > 0) this.#owner.changed();
    else {
      this.end();
      this.#owner.left();
    }
  }

  /** The job has ended, or a later attempt has begun: nobody waits or obeys any more. */
  end(): void {
    this.#over = true;
    this.#live = 0;
    this.#parts.clear();
    this.#offered.clear();
    this.#release();
  }

  handle(part: Part, build: () => unknown): void {
    if (this.#over) return;
    try {
      const handlers = build();
      if (!isObject(handlers))
        throw new TypeError("`onCommand` takes an action and a handler, or a map of them");
      for (const [action, handler] of Object.entries(handlers)) {
        if (handler === undefined) continue;
        if (!(COMMAND_ACTIONS as readonly string[]).includes(action)) {
          throw new TypeError(`there is no command "${action}"`);
        }
        if (typeof handler !== "function") throw new TypeError(`the handler of "${action}" is no function`);
        part.handlers.set(action as CommandAction, handler as CommandHandler);
        this.#parts.add(part);
      }
    } catch (cause) {
      const message = `A handler of commands was not added: ${messageOf(cause)}.`;
      this.#owner.report(new TrainwireError("invalid_request", message, { cause }));
    }
    this.#owner.changed();
  }

  offer(...actions: CommandAction[]): void {
    if (this.#over || actions.every((action) => this.#offered.has(action))) return;
    for (const action of actions) this.#offered.add(action);
    this.#owner.changed();
  }

  stepped(): void {
    this.#steppedAt = Date.now();
    if (this.#silentUntil === undefined || this.#silentUntil <= performance.now()) return;
    this.#silentUntil = 0;
    this.#owner.expecting();
  }

  expect(seconds: number): void {
    if (this.#over) return;
    if (!(typeof seconds === "number" && seconds >= 0)) {
      const error = new TrainwireError("invalid_request", "`expect` takes a number of seconds, from 0.");
      this.#owner.report(error);
      return;
    }
    this.#silentUntil = performance.now() + Math.min(seconds, KEPT_LIMITS.expectSeconds) * 1_000;
    this.#owner.expecting();
  }

  /** Lets a loop that never waits hear of commands, and waits while it is paused. */
  async whilePaused(): Promise<void> {
    if (!this.#paused) await this.#breathe();
    while (this.#paused) await new Promise<void>((resolve) => this.#released.push(resolve));
  }

  /** Never rejects. */
  async carryOut(command: TrainerCommand): Promise<TrainerAnswer> {
    if (command.action !== "pause" && command.action !== "resume") return this.#carryOut(command);
    const turn = this.#turn.then(() => this.#carryOut(command));
    this.#turn = turn;
    return turn;
  }

  async #carryOut(command: TrainerCommand): Promise<TrainerAnswer> {
    const { action } = command;
    if (!this.commands.includes(action)) return failed("not supported");
    if (this.#stopping && (action === "pause" || action === "resume")) return failed("The run is stopping.");
    const results: unknown[] = [];
    for (const part of [...this.#parts]) {
      try {
        results.push(await part.handlers.get(action)?.(command));
      } catch (cause) {
        const message = messageOf(cause);
        this.#owner.report(
          new TrainwireError("handler_failed", `The handler of "${action}" threw: ${message}`, { cause }),
        );
        return failed(message);
      }
    }
    this.#obey(action);
    return done(results, (error) => this.#owner.report(error));
  }

  /** What every run does of itself. The handler may have ended the run meanwhile. */
  #obey(action: CommandAction): void {
    if (this.#over || this.#stopping) return;
    if (action === "stop") {
      this.#stopping = true;
      this.#owner.status("stopping");
      this.#release();
    } else if (action === "pause" && !this.#paused) {
      this.#paused = true;
      this.#owner.status("paused");
    } else if (action === "resume" && this.#paused) {
      this.#owner.status("running");
      this.#release();
    }
  }

  #release(): void {
    this.#paused = false;
    const released = this.#released;
    this.#released = [];
    for (const resolve of released) resolve();
  }

  /** A loop whose steps are synchronous would keep the socket from ever being read. */
  async #breathe(): Promise<void> {
    const now = performance.now();
    if (now - this.#lastBreath < BREATH_MS) return;
    await new Promise<void>((resolve) => {
      if (typeof setImmediate === "function") setImmediate(resolve);
      else setTimeout(resolve, 0);
    });
    this.#lastBreath = performance.now();
  }
}

/** One run's part in the work. */
export class Part {
  readonly work: Work;
  readonly handlers = new Map<CommandAction, CommandHandler>();
  #ended = false;

  /** Use `Work.join`. */
  constructor(work: Work) {
    this.work = work;
  }

  /** `build` may throw: it reads what the application has handed over. */
  onCommand(build: () => unknown): void {
    if (!this.#ended) this.work.handle(this, build);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.work.leave(this);
  }
}
