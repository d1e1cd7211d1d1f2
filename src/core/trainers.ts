/**
 * The trainers that have announced jobs on this instance: they keep their jobs alive, and commands are carried out by
 * them. Every instance that has a trainer of a job hears of its commands; the newest trainer with the lowest rank takes
 * them, and if its instance does not (it has just died), the next one does.
 *
 * Whatever happens, a job is attended to: what the store and the registry hold of it is read, and what is to be done
 * from there is done. What fails is done again after a moment, so nothing hangs on a single event or call.
 */
import { randomBytes } from "node:crypto";
import type { Identity } from "../auth.ts";
import type { JobName } from "../bus/bus.ts";
import { feedId } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { AnnounceRequest, CommandAction, TrainerAnswer, TrainerCommand } from "../protocol/types.ts";
import type { Registry, Trainer } from "../store/registry.ts";
import type { Entry, Store } from "../store/store.ts";
import { jobOf } from "./access.ts";
import { checkAnswer, outcomeOf } from "./command-answers.ts";
import type { CommandFeeds } from "./command-feeds.ts";
import { type Commands, outline, type Pending, pendingOf } from "./commands.ts";
import type { Liveness } from "./liveness.ts";
import { createdEntry, hubEntry } from "./publish.ts";
import { Turns } from "./turns.ts";

export interface TrainersOptions {
  instanceId: string;
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
  /** The registry knows it. */
  registered: boolean;
}

interface Job {
  readonly name: JobName;
  readonly trainers: Map<string, Local>;
  readonly release: () => void;
  /** Command → since when it waits for trainers that come before this instance's, ms by `performance.now()`. */
  readonly waiting: Map<string, number>;
  /** What is under way, and whether there is news since it began. */
  attending: Promise<void> | undefined;
  news: boolean;
  timer: NodeJS.Timeout | undefined;
  /** Announcements under way. */
  coming: number;
}

/** An instance that should take a command and does not is passed over after this. */
const CLAIM_MS = 1_000;
/** What has failed is done again after this. */
const AGAIN_MS = 500;

export class Trainers {
  readonly #options: TrainersOptions;
  readonly #jobs = new Map<string, Job>();
  readonly #timer: NodeJS.Timeout;
  readonly #answers = new Turns();
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
    const name = jobOf(identity, jobId);
    const { store, registry } = this.#options;
    if (!(await store.fields(name.tenantId, jobId, []))) {
      await this.#create(name, createdEntry(jobId, { identity, receivedAt: new Date().toISOString() }));
    }
    // While this fails, an announcement before it stays as it is.
    const key = feedId(name);
    const job = await this.#follow(key, name);
    job.coming++;
    try {
      await registry.announce(name, { id, rank });
      await this.#touch(name.tenantId, [{ ...name, fresh: true }]);
    } catch (error) {
      job.coming--;
      this.#let(key, job);
      throw error;
    }
    job.coming--;
    if (this.#closed) throw new HubError("unavailable");
    const commands = [...new Set(request.commands)].sort();
    const known = { registered: true, got: new Set<string>() };
    const local: Local = { id, rank, commands, subject: identity.subject, deliver, ...known };
    job.trainers.set(id, local);
    await this.#attend(job);
    return { trainerId: id, withdraw: () => this.#withdraw(key, job, local) };
  }

  /** One listener a job: whoever comes first brings it, and it stays until the last has left. */
  async #follow(key: string, name: JobName): Promise<Job> {
    const news = () => {
      const job = this.#jobs.get(key);
      if (job) void this.#attend(job);
    };
    const release = await this.#options.feeds.follow(name, { update: news, gap: news });
    const known = this.#jobs.get(key);
    if (known || this.#closed) release();
    if (this.#closed) throw new HubError("unavailable");
    if (known) return known;
    const empty = { waiting: new Map(), attending: undefined, news: false, timer: undefined, coming: 0 };
    const job: Job = { name, trainers: new Map(), release, ...empty };
    this.#jobs.set(key, job);
    return job;
  }

  async #create(job: JobName, created: Entry): Promise<void> {
    const [result] = (await this.#options.store.append(job, [created])).stored;
    // Somebody else may have been faster.
    if (result && "refused" in result && result.refused !== "job_exists") throw new HubError(result.refused);
  }

  /** The registry does not know what this instance has said. */
  again(): void {
    for (const job of this.#jobs.values()) {
      for (const local of job.trainers.values()) local.registered = false;
      void this.#attend(job);
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const job of this.#jobs.values()) {
      clearTimeout(job.timer);
      job.release();
    }
    this.#jobs.clear();
  }

  #withdraw(key: string, job: Job, local: Local): void {
    // The same trainer may have come again, by another connection.
    if (job.trainers.get(local.id) !== local) return;
    job.trainers.delete(local.id);
    this.#options.registry.withdraw(job.name, local.id).catch((error) => this.#tell(error, "withdrawing"));
    this.#let(key, job);
  }

  /** A job without trainers is nobody's here. */
  #let(key: string, job: Job): void {
    if (job.trainers.size + job.coming > 0 || this.#jobs.get(key) !== job) return;
    clearTimeout(job.timer);
    job.release();
    this.#jobs.delete(key);
  }

  async #touchAll(): Promise<void> {
    if (this.#touching) return;
    this.#touching = true;
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
    // The store may have lost a job that has come again since, and others' trainers may be gone.
    for (const job of [...this.#jobs.values()]) await this.#attend(job);
    this.#touching = false;
  }

  async #touch(tenantId: string, jobs: ReadonlyArray<JobName & { fresh?: boolean }>): Promise<void> {
    const states = await this.#options.store.touch(tenantId, jobs);
    for (const [i, job] of jobs.entries()) {
      if (states[i] === "stale" || states[i] === "lost") await this.#options.liveness.wake(job);
    }
  }

  /** Does what is to be done for a job; resolves when that was tried. */
  #attend(job: Job): Promise<void> {
    job.news = true;
    job.attending ??= this.#attendToNews(job).finally(() => {
      job.attending = undefined;
      if (job.news && !this.#closed) void this.#attend(job);
    });
    return job.attending;
  }

  async #attendToNews(job: Job): Promise<void> {
    while (job.news && !this.#closed) {
      job.news = false;
      try {
        await this.#settle(job);
      } catch (error) {
        this.#tell(error, "attending to a job's trainers");
        this.#later(job, AGAIN_MS);
      }
    }
  }

  #later(job: Job, ms: number): void {
    if (this.#closed || job.trainers.size === 0) return;
    clearTimeout(job.timer);
    job.timer = setTimeout(() => void this.#attend(job), ms).unref();
  }

  async #settle(job: Job): Promise<void> {
    const { registry, store } = this.#options;
    for (const local of job.trainers.values()) {
      if (local.registered) continue;
      // Who has gone to another instance meanwhile stays there.
      await registry.announce(job.name, { ...local, again: true });
      local.registered = true;
      // It has left meanwhile.
      if (!job.trainers.has(local.id)) await registry.withdraw(job.name, local.id);
    }
    const state = await store.job(job.name.tenantId, job.name.jobId, true);
    if (!state) return;
    const trainers = await registry.trainers(job.name);
    await this.#tellCommands(job, trainers, state.fields.get("commands"));
    const pending = new Map(pendingOf(state));
    for (const set of [job.waiting, ...[...job.trainers.values()].map(({ got }) => got)]) {
      for (const id of set.keys()) if (!pending.has(id)) set.delete(id);
    }
    for (const [id, one] of pending) {
      if (one.state === "requested") await this.#claim(job, id, trainers);
      else this.#handOver(job, id, one, trainers);
    }
  }

  /** What the one who would answer does, is what the job does. That it does nothing is no news at first. */
  async #tellCommands({ name, trainers }: Job, [first]: readonly Trainer[], told = "[]"): Promise<void> {
    const local = first && this.#isHere(first) ? trainers.get(first.id) : undefined;
    if (!local || told === JSON.stringify(local.commands)) return;
    const update = { commands: [...local.commands], updated_by: local.subject };
    const entry = hubEntry("job_updated", name.jobId, name.tenantId, update);
    await this.#options.store.append(name, [{ ...entry, onlyIf: [] }]);
  }

  #isHere({ instanceId }: Trainer): boolean {
    return instanceId === this.#options.instanceId;
  }

  /** In the order of the job's trainers; each instance gives those before it a moment. */
  async #claim(job: Job, id: string, trainers: readonly Trainer[]): Promise<void> {
    const own = trainers.find((trainer) => this.#isHere(trainer) && job.trainers.has(trainer.id));
    if (!own) return;
    const before = trainers.slice(0, trainers.indexOf(own)).map(({ instanceId }) => instanceId);
    const now = performance.now();
    const since = job.waiting.get(id) ?? now;
    job.waiting.set(id, since);
    const left = since + new Set(before).size * CLAIM_MS - now;
    if (left > 0) return this.#later(job, left);
    let next: Pending | undefined;
    await this.#options.commands.change(job.name, id, (pending) => {
      if (pending.state !== "requested") return undefined;
      const targets = pending.all ? trainers.map((trainer) => trainer.id) : [own.id];
      next = { ...pending, state: "delivered", targets, answers: {} };
      return { update: { ...outline(id, next), state: "delivered" }, next };
    });
    if (next) this.#handOver(job, id, next, trainers);
  }

  #handOver(job: Job, id: string, pending: Pending, trainers: readonly Trainer[]): void {
    const here = new Set(trainers.filter((trainer) => this.#isHere(trainer)).map((trainer) => trainer.id));
    for (const target of pending.targets ?? []) {
      const local = here.has(target) ? job.trainers.get(target) : undefined;
      if (!local || local.got.has(id) || hasAnswered(pending, target)) continue;
      local.got.add(id);
      void this.#carryOut(job, id, pending, local);
    }
  }

  async #carryOut(job: Job, id: string, pending: Pending, local: Local): Promise<void> {
    const { action, args, timeout_ms, requested_by } = pending;
    const base = { job_id: job.name.jobId, command_id: id, action, timeout_ms, requested_by };
    const end = performance.now() + timeout_ms;
    const answer = await local.deliver({ ...base, ...(args && { args }) }).then(checkAnswer, () => undefined);
    // Gone, or silent: it may come again while there is time.
    if (!answer) return void local.got.delete(id);
    while (!this.#closed) {
      try {
        // Side by side they would only be in each other's way.
        return await this.#answers.take(`${feedId(job.name)} ${id}`, () =>
          this.#answer(job, id, local.id, answer),
        );
      } catch (error) {
        this.#tell(error, "answering a command");
        if (performance.now() > end) return;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
      }
    }
  }

  async #answer(job: Job, id: string, trainer: string, answer: TrainerAnswer): Promise<void> {
    await this.#options.commands.change(job.name, id, (pending) => {
      if (pending.state !== "delivered" || hasAnswered(pending, trainer)) return undefined;
      const { data: _, ...short } = answer;
      // Of several nobody is told what each has answered.
      const kept = (pending.targets?.length ?? 0) > 1 ? short : answer;
      const answers = { ...pending.answers, [trainer]: kept };
      const next = { ...pending, answers };
      const base = outline(id, next);
      if (next.targets?.some((target) => !hasAnswered(next, target))) {
        return { update: { ...base, state: "delivered" }, next };
      }
      return { update: { ...base, ...outcomeOf(answers) }, next: undefined };
    });
  }

  /** It is tried again. */
  #tell(error: unknown, what: string): void {
    if (!this.#closed) this.#options.onError(error, `${what} failed`);
  }
}

function hasAnswered({ answers = {} }: Pending, trainer: string): boolean {
  return Object.hasOwn(answers, trainer);
}
