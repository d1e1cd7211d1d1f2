/**
 * The trainers that have announced jobs on this instance: they keep their jobs alive, and commands are carried out by
 * them. Every instance that has a trainer of a job hears of its commands; the newest trainer with the lowest rank takes
 * them, and if its instance does not (it has just died), the next one does.
 */
import { randomBytes } from "node:crypto";
import type { Identity } from "../auth.ts";
import { feedId } from "../bus/bus.ts";
import { type ErrorCode, HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type {
  AnnounceRequest,
  CommandAction,
  CommandUpdate,
  TrainerAnswer,
  TrainerCommand,
} from "../protocol/types.ts";
import type { JobName, Registry, Trainer } from "../store/registry.ts";
import type { Entry, Store } from "../store/store.ts";
import { jobOf } from "./access.ts";
import type { CommandFeeds } from "./command-feeds.ts";
import { bytesOf, COMMAND, type Commands, outline, type Pending, pendingOf } from "./commands.ts";
import type { Liveness } from "./liveness.ts";
import { createdEntry, hubEntry } from "./publish.ts";

export interface TrainersOptions {
  store: Store;
  registry: Registry;
  feeds: CommandFeeds;
  commands: Commands;
  liveness: Liveness;
  /** ms between two signs of life of announced jobs. */
  touchMs: number;
  onError: (error: unknown, what: string) => void;
}

/** Hands a command to the trainer. Rejects when it is gone, or did not answer in time. */
export type Deliver = (command: TrainerCommand) => Promise<TrainerAnswer>;

/** One announcement of one connection. */
export interface Announced {
  readonly trainerId: string;
  withdraw(): void;
}

interface Local {
  readonly id: string;
  readonly rank: number;
  readonly commands: readonly CommandAction[];
  readonly subject: string;
  readonly deliver: Deliver;
  /** Commands that it has got, while they are under way. */
  readonly got: Set<string>;
}

interface Job {
  readonly name: JobName;
  readonly trainers: Map<string, Local>;
  release: () => void;
}

/** A trainer that should take a command and does not is passed over after this. */
const CLAIM_MS = 1_000;
const MESSAGE = 1_024;

export class Trainers {
  readonly #options: TrainersOptions;
  readonly #jobs = new Map<string, Job>();
  readonly #timer: NodeJS.Timeout;
  #touching = false;
  #closed = false;

  constructor(options: TrainersOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#touchAll(), options.touchMs);
  }

  /**
   * A trainer works on a job from now on; a job that is not there is created.
   *
   * @throws HubError `job_not_found` (not this token's), `too_many_trainers`, `too_many_jobs`, `unavailable`.
   */
  async announce(identity: Identity, request: AnnounceRequest, deliver: Deliver): Promise<Announced> {
    const { job_id: jobId, rank = 0, trainer_id: id = `t-${randomBytes(9).toString("hex")}` } = request;
    const job = jobOf(identity, jobId);
    const commands = [...new Set(request.commands)].sort();
    const { registry } = this.#options;
    const context = { identity, receivedAt: new Date().toISOString() };
    if ((await this.#commandsOf(job)) === undefined) await this.#create(job, createdEntry(jobId, context));
    const local: Local = { id, rank, commands, subject: identity.subject, deliver, got: new Set() };
    const key = feedId(job);
    await this.#join(key, job, local);
    const withdraw = () => this.#withdraw(key, local);
    try {
      await registry.announce(job, { id, rank });
      const [first] = await registry.trainers(job);
      // What the one who would answer does, is what the job does. That it does nothing is no news at first.
      const told = (await this.#commandsOf(job)) || "[]";
      if (first?.id === id && told !== JSON.stringify(commands)) await this.#tellCommands(job, local);
      await this.#touch(job.tenantId, [{ ...job, fresh: true }]);
      await this.#catchUp(key);
    } catch (error) {
      withdraw();
      throw error;
    }
    return { trainerId: id, withdraw };
  }

  /** One listener a job: whoever comes first brings it, and it stays until the last has left. */
  async #join(key: string, job: JobName, local: Local): Promise<void> {
    const listener = {
      update: (told: CommandUpdate) => this.#hear(key, told),
      gap: () => void this.#catchUp(key),
    };
    const release = await this.#options.feeds.follow(job, listener);
    const known = this.#jobs.get(key);
    if (known) release();
    const own: Job = known ?? { name: job, trainers: new Map(), release };
    this.#jobs.set(key, own);
    own.trainers.set(local.id, local);
  }

  /** JSON text, '' when none were told; `undefined` if there is no job. */
  async #commandsOf({ tenantId, jobId }: JobName): Promise<string | undefined> {
    return (await this.#options.store.fields(tenantId, jobId, ["commands"]))?.get("commands");
  }

  async #tellCommands(job: JobName, { commands, subject }: Local): Promise<void> {
    const update = { commands: [...commands], updated_by: subject };
    await this.#append(job, hubEntry("job_updated", job.jobId, job.tenantId, update));
  }

  async #create(job: JobName, created: Entry): Promise<void> {
    await this.#append(job, created).catch((error) => {
      // Somebody else has been faster.
      if (!(error instanceof HubError && error.code === "job_exists")) throw error;
    });
  }

  async #append(job: JobName, entry: Entry): Promise<void> {
    const [result] = (await this.#options.store.append(job, [entry])).stored;
    if (result && "refused" in result) throw new HubError(result.refused);
  }

  /** The registry does not know what this instance has said. */
  async again(): Promise<void> {
    for (const { name, trainers } of this.#jobs.values()) {
      for (const { id, rank } of trainers.values()) {
        await this.#options.registry
          .announce(name, { id, rank })
          .catch((error) => this.#tell(error, "announcing"));
      }
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const { release } of this.#jobs.values()) release();
    this.#jobs.clear();
  }

  #withdraw(key: string, local: Local): void {
    const job = this.#jobs.get(key);
    // The same trainer may have come again, by another connection.
    if (job?.trainers.get(local.id) !== local) return;
    job.trainers.delete(local.id);
    this.#options.registry.withdraw(job.name, local.id).catch((error) => this.#tell(error, "withdrawing"));
    if (job.trainers.size > 0) return;
    job.release();
    this.#jobs.delete(key);
  }

  async #touchAll(): Promise<void> {
    if (this.#touching) return;
    this.#touching = true;
    await this.#touchTenants();
    // The store may have lost the job, and its next event have made it again.
    for (const { name, trainers } of this.#jobs.values()) {
      const local = [...trainers.values()].find(({ commands }) => commands.length > 0);
      if (local) await this.#remind(name, local).catch((error) => this.#tell(error, "telling commands"));
    }
    this.#touching = false;
  }

  async #remind(job: JobName, local: Local): Promise<void> {
    if ((await this.#commandsOf(job)) === "") await this.#tellCommands(job, local);
  }

  async #touchTenants(): Promise<void> {
    const byTenant = new Map<string, JobName[]>();
    for (const { name } of this.#jobs.values()) {
      const list = byTenant.get(name.tenantId);
      if (list) list.push(name);
      else byTenant.set(name.tenantId, [name]);
    }
    for (const [tenantId, jobs] of byTenant) {
      // The next time comes.
      await this.#touch(tenantId, jobs).catch((error) => this.#tell(error, "touching"));
    }
  }

  async #touch(tenantId: string, jobs: ReadonlyArray<JobName & { fresh?: boolean }>): Promise<void> {
    const states = await this.#options.store.touch(tenantId, jobs);
    for (const [i, job] of jobs.entries()) {
      if (states[i] === "stale" || states[i] === "lost") await this.#options.liveness.wake(job);
    }
  }

  /** What was told while nobody listened here. */
  async #catchUp(key: string): Promise<void> {
    const job = this.#jobs.get(key);
    if (!job) return;
    try {
      const state = await this.#options.store.job(job.name.tenantId, job.name.jobId, true);
      const pending = new Map(state ? pendingOf(state) : []);
      for (const { got } of job.trainers.values()) {
        for (const id of got) if (!pending.has(id)) got.delete(id);
      }
      for (const [id, one] of pending) {
        // Nobody waits: it may have to give others a moment.
        void this.#attend(job, id, one).catch((error) => this.#tell(error, "carrying out a command"));
      }
    } catch (error) {
      this.#tell(error, "reading commands");
    }
  }

  #hear(key: string, { command_id: id, state }: CommandUpdate): void {
    const job = this.#jobs.get(key);
    if (!job) return;
    if (state !== "requested" && state !== "delivered") {
      for (const { got } of job.trainers.values()) got.delete(id);
      return;
    }
    void this.#look(job, id);
  }

  async #look(job: Job, id: string): Promise<void> {
    try {
      const { tenantId, jobId } = job.name;
      const field = `${COMMAND}${id}`;
      const json = (await this.#options.store.fields(tenantId, jobId, [field]))?.get(field);
      if (json) await this.#attend(job, id, JSON.parse(json) as Pending);
    } catch (error) {
      // Whoever asked has a time-out; a trainer that comes again hears of it.
      this.#tell(error, "carrying out a command");
    }
  }

  async #attend(job: Job, id: string, pending: Pending): Promise<void> {
    if (pending.state === "requested") await this.#claim(job, id);
    else this.#handOver(job, id, pending);
  }

  /** In the order of the job's trainers; each gives those before it a moment. */
  async #claim(job: Job, id: string): Promise<void> {
    const trainers = await this.#options.registry.trainers(job.name);
    const place = trainers.findIndex((trainer) => job.trainers.has(trainer.id));
    const own = trainers[place];
    if (!own) return;
    if (place > 0) await new Promise((resolve) => setTimeout(resolve, place * CLAIM_MS).unref());
    if (this.#closed || !job.trainers.has(own.id)) return;
    let next: Pending | undefined;
    const claimed = await this.#options.commands.change(job.name, id, (pending) => {
      if (pending.state !== "requested") return undefined;
      const targets = targetsOf(pending, own, trainers);
      next = { ...pending, state: "delivered", targets, answers: {} };
      return { update: { ...outline(id, next), state: "delivered" }, next };
    });
    if (claimed && next) this.#handOver(job, id, next);
  }

  #handOver(job: Job, id: string, pending: Pending): void {
    for (const target of pending.targets ?? []) {
      const local = job.trainers.get(target);
      if (!local || local.got.has(id) || pending.answers?.[target]) continue;
      local.got.add(id);
      void this.#carryOut(job, id, pending, local);
    }
  }

  async #carryOut(job: Job, id: string, pending: Pending, local: Local): Promise<void> {
    const { action, args, timeout_ms, requested_by } = pending;
    const base = { job_id: job.name.jobId, command_id: id, action, timeout_ms, requested_by };
    try {
      const answer = checked(await local.deliver({ ...base, ...(args && { args }) }).catch(() => undefined));
      // Gone, or silent: it may come again while there is time.
      if (!answer) return void local.got.delete(id);
      await this.#answer(job, id, local.id, answer);
    } catch (error) {
      this.#tell(error, "answering a command");
    }
  }

  async #answer(job: Job, id: string, trainer: string, answer: TrainerAnswer): Promise<void> {
    await this.#options.commands.change(job.name, id, (pending) => {
      if (pending.state !== "delivered" || pending.answers?.[trainer]) return undefined;
      const next = { ...pending, answers: { ...pending.answers, [trainer]: answer } };
      const base = outline(id, next);
      if (next.targets?.some((target) => !next.answers[target]))
        return { update: { ...base, state: "delivered" }, next };
      return { update: { ...base, ...outcomeOf(next.answers) }, next: undefined };
    });
  }

  /** The store is away: whoever is concerned tries again. */
  #tell(error: unknown, what: string): void {
    if (!(error instanceof HubError) && !this.#closed) this.#options.onError(error, `${what} failed`);
  }
}

function targetsOf({ all }: Pending, own: Trainer, trainers: readonly Trainer[]): string[] {
  return all ? trainers.map(({ id }) => id) : [own.id];
}

/** What a trainer sends may be anything. */
function checked(answer: unknown): TrainerAnswer | undefined {
  if (answer === undefined) return undefined;
  const { ok, message, data } = (
    typeof answer === "object" && answer !== null ? answer : {}
  ) as Partial<TrainerAnswer>;
  const isData = typeof data === "object" && data !== null && !Array.isArray(data);
  if (typeof ok !== "boolean")
    return { ok: false, message: "The trainer's answer is not {ok, message?, data?}." };
  if (isData && bytesOf(data) > LIMITS.commandBytes) {
    return { ok, message: `The trainer's data is over ${LIMITS.commandBytes} bytes, and is left out.` };
  }
  return {
    ok,
    ...(typeof message === "string" && { message: message.slice(0, MESSAGE) }),
    ...(isData && { data }),
  };
}

function outcomeOf(
  answers: Record<string, TrainerAnswer>,
): Pick<CommandUpdate, "state" | "code" | "message" | "data"> {
  const all = Object.entries(answers);
  const failed = all.filter(([, { ok }]) => !ok);
  const [first] = failed.length > 0 ? failed : all;
  const { message, data } = first?.[1] ?? {};
  const of = all.length > 1 && failed.length > 0 ? `${failed.length} of ${all.length} trainers: ` : "";
  const text = of || message !== undefined ? { message: `${of}${message ?? "failed"}` } : {};
  if (failed.length > 0) return { state: "failed", code: "command_failed" satisfies ErrorCode, ...text };
  return { state: "applied", ...text, ...(all.length === 1 && data && { data }) };
}
