/**
 * Commands of operators to the trainers of a job, from any instance to any other. A command is a field of its job
 * (`command:<id>`) and events of its feed: the feed carries it to the instances that have trainers, heals what gets lost,
 * and brings the outcome back. Each step is compared and set with the one before.
 */
import { randomBytes } from "node:crypto";
import { atLeast, type Identity } from "../auth.ts";
import type { JobName } from "../bus/bus.ts";
import { feedId } from "../bus/bus.ts";
import { type ErrorCode, HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type {
  CommandAction,
  CommandAnswer,
  CommandRequest,
  CommandUpdate,
  TrainerAnswer,
} from "../protocol/types.ts";
import type {} from "../store/registry.ts";
import type { Entry, JobState, Store } from "../store/store.ts";
import { jobOf } from "./access.ts";
import type { CommandFeeds } from "./command-feeds.ts";
import { count, type Tally } from "./meter.ts";
import { hubEntry } from "./publish.ts";
import { Turns } from "./turns.ts";

/** What the job's field holds of a command that is under way. */
export interface Pending {
  action: CommandAction;
  state: "requested" | "delivered";
  args?: CommandUpdate["args"];
  all?: boolean;
  timeout_ms: number;
  requested_by: string;
  /** From `delivered` on. */
  targets?: string[];
  answers?: Record<string, TrainerAnswer>;
}

/** The field of a command, and the name of its deadline. */
export const COMMAND = "command:";

const DEFAULT_TIMEOUT_MS = 30_000;
/** The hub that expires a command in time may be gone; then the deadline does it. */
const LATE_MS = 5_000;
const TRIES = 5;
/** No job is so. */
const NEVER = [["status", '"never"']] as const;
/** As many as others can take a command further meanwhile. */
const CHANGES = LIMITS.trainers + TRIES;

export interface CommandsOptions {
  store: Store;
  feeds: CommandFeeds;
  /** What has become of commands that were asked for here. */
  tally: Tally<"applied" | ErrorCode>;
  onError: (error: unknown, what: string) => void;
}

export class Commands {
  readonly #store: Store;
  readonly #feeds: CommandFeeds;
  readonly #tally: CommandsOptions["tally"];
  readonly #onError: CommandsOptions["onError"];
  readonly #turns = new Turns();

  constructor({ store, feeds, tally, onError }: CommandsOptions) {
    this.#store = store;
    this.#feeds = feeds;
    this.#tally = tally;
    this.#onError = onError;
  }

  /**
   * Requests a command. `outcome` resolves when a trainer has done it, and rejects with a HubError when none did.
   *
   * @throws HubError `forbidden`, `job_not_found`, `job_ended`, `no_trainer`, `unsupported_command`,
   * `command_too_large`, `too_many_commands`.
   */
  async request(
    identity: Identity,
    request: CommandRequest,
  ): Promise<{ id: string; outcome: Promise<CommandAnswer> }> {
    if (!atLeast(identity.role, "operator")) throw new HubError("forbidden", "commands are for operators");
    const job = jobOf(identity, request.job_id);
    if (bytesOf(request.args) > LIMITS.commandBytes) {
      throw new HubError("command_too_large", `args are over ${LIMITS.commandBytes} bytes`);
    }
    const id = request.command_id ?? `c-${randomBytes(9).toString("hex")}`;
    const timeoutMs = request.timeout_ms ?? DEFAULT_TIMEOUT_MS;
    // Before it is requested, so that no answer is missed.
    const following = await this.#follow(job, id);
    let expiry: NodeJS.Timeout | undefined;
    try {
      // One after the other, so that no more are under way than may be.
      const since = await this.#turns.take(feedId(job), () => this.#ask(job, id, request, identity.subject));
      // One that was requested before has its own time.
      if (since !== undefined) await this.#findOutcome(job, id, since, following.settle);
      else expiry = setTimeout(() => void this.#expireInTime(job, id), timeoutMs).unref();
    } catch (error) {
      following.release();
      throw error;
    }
    const late = setTimeout(
      () =>
        following.settle({
          command_id: id,
          action: request.action,
          state: "expired",
          code: "command_timeout",
        }),
      timeoutMs + LATE_MS,
    ).unref();
    const outcome = following.outcome
      .finally(() => {
        clearTimeout(expiry);
        clearTimeout(late);
        following.release();
      })
      .then((update) => {
        const { state, code = "command_failed" } = update;
        count(this.#tally, state === "applied" ? state : (code as ErrorCode));
        return answerOf(job.jobId, update);
      });
    // Whoever asked may not wait for it.
    outcome.catch(() => {});
    return { id, outcome };
  }

  /** The outcome of one command, as soon as the feed tells it. */
  async #follow(job: JobName, id: string) {
    let settle: (update: CommandUpdate) => void = () => {};
    const outcome = new Promise<CommandUpdate>((resolve) => {
      settle = resolve;
    });
    const look = (update: CommandUpdate) => {
      if (update.command_id === id && isFinal(update)) settle(update);
    };
    const release = await this.#feeds.follow(job, {
      update: look,
      gap: () =>
        void this.#findOutcome(job, id, 0, settle).catch((error) =>
          this.#onError(error, "looking for a command's outcome failed"),
        ),
    });
    return { outcome, settle, release };
  }

  /** Puts it on the feed. Answers the position of an earlier request with the same id. */
  async #ask(
    job: JobName,
    id: string,
    request: CommandRequest,
    subject: string,
  ): Promise<number | undefined> {
    const { action, args, all, timeout_ms = DEFAULT_TIMEOUT_MS } = request;
    const field = `${COMMAND}${id}`;
    const command = { action, ...(args && { args }), ...(all && { all }), timeout_ms, requested_by: subject };
    const pending: Pending = { ...command, state: "requested" };
    for (let i = 0; i < TRIES; i++) {
      const state = await this.#store.job(job.tenantId, job.jobId, true);
      if (!state) throw new HubError("job_not_found");
      const refusal = refusalOf(state, action);
      // One that was carried out may have changed what is possible now: the same request again hears of it. The store
      // looks for the id first, and nothing else can come of this.
      const onlyIf = refusal
        ? NEVER
        : [["status", state.fields.get("status") ?? ""] as const, [field, ""] as const];
      const entry = hubEntry("command_update", job.jobId, job.tenantId, {
        command_id: id,
        ...command,
        state: "requested",
      });
      const { stored } = await this.#store.append(job, [
        {
          ...entry,
          // With a character that no trainer's `id` may have.
          id: `\0${field}`,
          onlyIf,
          patch: {
            ...entry.patch,
            set: [[field, JSON.stringify(pending)]],
            deadlines: [[field, timeout_ms]],
          },
        },
      ]);
      const [result] = stored;
      if (result && "seq" in result) return result.duplicate ? result.seq : undefined;
      if (refusal) throw refusal;
      if (result && result.refused !== "conflict") throw new HubError(result.refused);
    }
    throw new HubError("conflict");
  }

  /** From the log, where the feed has told it already. */
  async #findOutcome(
    job: JobName,
    id: string,
    since: number,
    settle: (update: CommandUpdate) => void,
  ): Promise<void> {
    const options = { epoch: null, limit: LIMITS.history, bytes: LIMITS.healBytes };
    for (let after = Math.max(0, since - 1); ; ) {
      const page = await this.#store.read(job, { ...options, streams: ["events"], after });
      for (const { type, data } of page.logged) {
        if (type !== "command_update") continue;
        const update = JSON.parse(data) as CommandUpdate;
        if (update.command_id === id && isFinal(update)) return settle(update);
      }
      if (page.reset || page.upTo >= page.seq) return;
      after = page.upTo;
    }
  }

  /** Should it fail, the command's deadline does the same. */
  async #expireInTime(job: JobName, id: string): Promise<void> {
    await this.expire(job, id).catch((error) => this.#onError(error, "expiring a command failed"));
  }

  /** Its time is over: nobody came for it, or whoever got it did not answer. */
  async expire(job: JobName, id: string): Promise<void> {
    await this.change(job, id, (pending) => {
      const code: ErrorCode = pending.state === "requested" ? "no_trainer" : "command_timeout";
      return { update: { ...outline(id, pending), state: "expired", code }, next: undefined };
    });
  }

  /**
   * Takes a command one step further, whatever happens to it meanwhile. `step` sees it as it is, and answers what is to
   * be told and what is kept (`undefined`: it is over), or nothing to leave it. Answers whether it was changed.
   *
   * @throws HubError `unavailable`, `conflict`: unknown, try again.
   */
  async change(
    job: JobName,
    id: string,
    step: (pending: Pending) => { update: CommandUpdate; next: Pending | undefined } | undefined,
  ): Promise<boolean> {
    const field = `${COMMAND}${id}`;
    // A conflict means that somebody else has got on.
    for (let i = 0; i < CHANGES; i++) {
      const json = (await this.#store.fields(job.tenantId, job.jobId, [field]))?.get(field);
      if (!json) return false;
      const change = step(JSON.parse(json) as Pending);
      if (!change) return false;
      const entry = hubEntry("command_update", job.jobId, job.tenantId, change.update);
      const set = [[field, change.next ? JSON.stringify(change.next) : ""]] as const;
      const patch: Entry["patch"] = {
        ...entry.patch,
        set,
        ...(!change.next && { deadlines: [[field, null]] as const }),
      };
      const [result] = (await this.#store.append(job, [{ ...entry, onlyIf: [[field, json]], patch }])).stored;
      if (result && "seq" in result) return true;
      if (result && result.refused !== "conflict") throw new HubError(result.refused);
    }
    throw new HubError("conflict");
  }
}

/** The commands of a job that are under way. */
export function pendingOf(state: Pick<JobState, "fields">): Array<[id: string, pending: Pending]> {
  return [...state.fields]
    .filter(([field]) => field.startsWith(COMMAND))
    .map(([field, json]) => [field.slice(COMMAND.length), JSON.parse(json) as Pending]);
}

/** What every update of a command says. */
export function outline(id: string, pending: Pending): Omit<CommandUpdate, "state"> {
  const { action, requested_by, targets, answers } = pending;
  const told = targets && { targets, answered: Object.keys(answers ?? {}).length };
  return { command_id: id, action, requested_by, ...told };
}

export function bytesOf(value: object | undefined): number {
  return value === undefined ? 0 : Buffer.byteLength(JSON.stringify(value));
}

function refusalOf(state: JobState, action: CommandAction): HubError | undefined {
  const text = (field: string) => JSON.parse(state.fields.get(field) ?? "null") as unknown;
  const status = text("status") as string;
  if (TERMINAL_STATUSES.has(status)) return new HubError("job_ended", `The job is ${status}.`);
  // Set with the first announcement of any: before, there is nobody to wait for.
  const supported = text("commands") as CommandAction[] | null;
  if (!supported) return new HubError("no_trainer", "No trainer that takes commands has announced the job.");
  if (!supported.includes(action)) {
    const list = supported.length > 0 ? supported.join(", ") : "none";
    return new HubError("unsupported_command", `The trainer does not do this. It supports: ${list}.`);
  }
  return pendingOf(state).length >= LIMITS.commands ? new HubError("too_many_commands") : undefined;
}

function isFinal({ state }: CommandUpdate): boolean {
  return state === "applied" || state === "failed" || state === "expired";
}

/** @throws HubError: the command was not carried out. */
function answerOf(jobId: string, update: CommandUpdate): CommandAnswer {
  const { command_id, state, message, data } = update;
  if (state === "applied") {
    return {
      job_id: jobId,
      command_id,
      state,
      ...(message !== undefined && { message }),
      ...(data && { data }),
    };
  }
  const code = (update.code ?? "command_failed") as ErrorCode;
  throw new HubError(code, message);
}
