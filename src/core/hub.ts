/**
 * The hub without transports: doors (sockets, HTTP) call it, store and bus carry it. It takes what trainers
 * publish, and makes and holds the parts that doors ask directly.
 */
import { randomBytes } from "node:crypto";
import type { Identity } from "../auth.ts";
import type { Bus, FeedName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { InstanceState, JobFields, PublishAnswer, Snapshot, StatusNumbers } from "../protocol/types.ts";
import type { Registry } from "../store/registry.ts";
import type { Due, Entry, Store } from "../store/store.ts";
import { Appends } from "./appends.ts";
import { CommandFeeds } from "./command-feeds.ts";
import { COMMAND, Commands } from "./commands.ts";
import { Deadlines } from "./deadlines.ts";
import { EtaEstimator } from "./eta.ts";
import type { HealCounters } from "./feed.ts";
import { Feeds } from "./feeds.ts";
import { Instances } from "./instances.ts";
import { Jobs } from "./jobs.ts";
import { LIVENESS, LIVENESS_FIELDS, Liveness } from "./liveness.ts";
import { type HubLog, type PartLogs, silentParts } from "./log.ts";
import { count, type Meter, NO_METER, Tallies } from "./meter.ts";
import { Presence } from "./presence.ts";
import { Probe } from "./probe.ts";
import { type CheckContext, checkEvent, createdEntry } from "./publish.ts";
import { Replays } from "./replays.ts";
import { Shares } from "./shares.ts";
import { residentBytes, Status } from "./status.ts";
import { Trainers } from "./trainers.ts";
import { Visits } from "./visits.ts";

export interface HubOptions {
  store: Store;
  registry: Registry;
  bus: Bus;
  instanceId: string;
  log: HubLog;
  /** Of parts that log under a name of their own; default: they say nothing below `warn`. */
  logs?: PartLogs;
  /** Default: nothing is timed. */
  meter?: Meter;
  /** ms */
  checkIntervalMs: number;
  /** ms that a feed is kept after its last watcher has left. */
  releaseMs: number;
  /** ms */
  positionIntervalMs: number;
  /** ms that a subscription waits for the store and the bus. */
  timeoutMs: number;
  /** Watchers that read what they have missed, or how a feed begins, at a time. */
  maxReplays: number;
  /** ms in which the same part of a log is read once for all who ask; with 0, only who asks in one moment shares. Default: 50. */
  shareMs?: number;
  /** ms between two `presence` events of a job; 0 tells none. */
  presenceIntervalMs: number;
  /** ms of silence after which an instance is forgotten. */
  instanceTimeoutMs: number;
  /** ms between two messages of this instance to itself, by way of the bus. */
  probeIntervalMs: number;
  /** ms without a sign of life of a job's trainer. */
  staleMs: number;
  lostMs: number;
  /** Whether what was asked for at a moment (`performance.now()`) is too late to be carried out; default: never. */
  isStale?: (since: number) => boolean;
  /** Connections of the doors, for the status; default: none. */
  connections?: () => StatusNumbers["connections"];
}

export interface HubCounters extends HealCounters {
  published: number;
  duplicates: number;
  refused: number;
}

/** An event that was found good, and its place in the call. */
interface Indexed {
  index: number;
  entry: Entry;
}

/** Signs of life of an announced job in the time after which it would be stale. */
const TOUCHES = 4;
/** How often deadlines are looked at, at least. */
const DEADLINES_MS = 1_000;
/** How long trainers have to come back after the store was away, or this instance has started. */
const GRACE_MS = 10_000;
const NO_CONNECTIONS = { connections: 0, watchers: 0, trainers: 0, heartbeats: 0 };

export class Hub {
  readonly instanceId: string;
  readonly counters: HubCounters = {
    published: 0,
    duplicates: 0,
    refused: 0,
    heals: 0,
    gaps: 0,
    delivered: 0,
  };
  readonly tallies = new Tallies();
  /** Who comes and goes by the doors. */
  readonly visits: Visits;
  readonly feeds: Feeds;
  readonly replays: Replays;
  readonly presence: Presence;
  readonly jobs: Jobs;
  readonly liveness: Liveness;
  readonly commands: Commands;
  readonly trainers: Trainers;
  readonly probe: Probe;
  readonly status: Status;
  readonly #deadlines: Deadlines;
  readonly #store: Store;
  readonly #appends: Appends;
  readonly #log: HubLog;
  readonly #meter: Meter;
  readonly #shares: Shares;
  readonly #instances: Instances;
  readonly #eta = new EtaEstimator();
  readonly #connections: NonNullable<HubOptions["connections"]>;
  #draining = false;

  constructor(options: HubOptions) {
    const { store, log, meter = NO_METER } = options;
    const logs = options.logs ?? silentParts(log);
    const { tallies } = this;
    this.instanceId = options.instanceId;
    this.#store = store;
    this.#appends = new Appends(store, options.isStale);
    this.#log = log;
    this.#meter = meter;
    this.visits = new Visits(logs.sockets);
    const { maxReplays, timeoutMs } = options;
    this.#shares = new Shares(options.shareMs);
    this.jobs = new Jobs(store, this.#shares);
    const snapshot = (name: FeedName) => this.jobs.snapshotOfFeed(name);
    this.feeds = new Feeds({
      ...options,
      log: logs.feeds,
      meter,
      tallies,
      counters: this.counters,
      snapshot,
    });
    const { feeds } = this;
    this.replays = new Replays({
      ...{ store, feeds, snapshot, tallies, maxReplays, timeoutMs },
      shares: this.#shares,
    });
    const { registry, presenceIntervalMs, instanceTimeoutMs } = options;
    const onError = (error: unknown, what: string) => {
      // The store is away, or full: everybody tries again.
      if (!(error instanceof HubError)) this.internal(error, what);
    };
    this.presence = new Presence({
      registry,
      store,
      intervalMs: presenceIntervalMs,
      exists: (job) => this.feeds.exists(job),
      onTold: () => tallies.presence++,
      onError,
    });
    this.#connections = options.connections ?? (() => NO_CONNECTIONS);
    this.probe = new Probe({
      bus: options.bus,
      isStoreReady: () => store.ready,
      intervalMs: options.probeIntervalMs,
      onArrived: (ms) => meter.observe("probe", ms / 1_000),
      onReady: (fields) => logs.redis.info(fields, "what is published arrives"),
      onDeaf: (fields) => logs.redis.warn(fields, "probes are lost; connecting the subscriptions anew"),
      onError,
    });
    this.status = new Status({
      ...{ registry, instanceId: this.instanceId, onError },
      state: () => this.state,
      numbers: () => this.#numbers(),
    });
    this.#instances = new Instances({
      registry,
      timeoutMs: instanceTimeoutMs,
      report: () => this.status.report(),
      onAnew: () => {
        this.presence.again();
        this.trainers.again();
      },
      onForgotten: (jobs) => this.presence.inherit(jobs),
      onError,
    });
    const { staleMs, lostMs } = options;
    this.liveness = new Liveness({ store, staleMs, lostMs, tally: tallies.liveness, onError });
    const commandFeeds = new CommandFeeds(this.replays, feeds);
    this.commands = new Commands({ store, feeds: commandFeeds, tally: tallies.commands, onError });
    const { liveness, commands } = this;
    this.trainers = new Trainers({
      ...{ store, registry, liveness, commands, onError, instanceId: this.instanceId },
      feeds: commandFeeds,
      touchMs: staleMs / TOUCHES,
    });
    this.#deadlines = new Deadlines({
      ...{ store, registry, onError },
      intervalMs: Math.min(DEADLINES_MS, staleMs / TOUCHES),
      graceMs: Math.min(GRACE_MS, staleMs),
      fields: LIVENESS_FIELDS,
      judge: (tenantId, due) => this.#judge(tenantId, due),
    });
  }

  /** Whether the store answers at the moment. */
  get ready(): boolean {
    return this.#store.ready;
  }

  /** What this instance is, for load balancers and operators. */
  get state(): InstanceState {
    return this.#draining ? "draining" : this.probe.state;
  }

  /** From now on the instance is about to end: its state says so, whatever else is. */
  startDraining(): void {
    if (this.#draining) return;
    this.#draining = true;
    void this.#instances.report();
  }

  /**
   * Stores and publishes events, each by itself. A HubError in an event's place is its refusal (a line that was not JSON).
   *
   * @throws HubError `batch_too_large`; what is wrong with single events is in the answer.
   */
  async publish(identity: Identity, input: unknown): Promise<PublishAnswer> {
    const inputs = Array.isArray(input) ? input : [input];
    if (inputs.length > LIMITS.batchEvents) {
      throw new HubError(
        "batch_too_large",
        `${inputs.length} events in one call, at most ${LIMITS.batchEvents}`,
      );
    }
    const startedAt = performance.now();
    const context: CheckContext = { identity, receivedAt: new Date().toISOString(), eta: this.#eta };
    // Without a prototype: `__proto__` is an id like any other.
    const positions: PublishAnswer["positions"] = Object.create(null);
    const answer: PublishAnswer = { accepted: 0, duplicates: 0, positions, refused: [] };
    const byJob = new Map<string | undefined, Indexed[]>();
    for (const [index, one] of inputs.entries()) {
      try {
        if (one instanceof HubError) throw one;
        const { jobId, entry } = checkEvent(one, context);
        const group = byJob.get(jobId);
        if (group) group.push({ index, entry });
        else byJob.set(jobId, [{ index, entry }]);
      } catch (error) {
        this.#refuse(answer, index, error);
      }
    }
    await Promise.all([...byJob].map(([jobId, group]) => this.#append(context, jobId, group, answer)));
    answer.refused.sort((a, b) => a.index - b.index);
    this.counters.published += answer.accepted;
    this.counters.duplicates += answer.duplicates;
    this.counters.refused += answer.refused.length;
    this.#meter.observe("publish", (performance.now() - startedAt) / 1_000);
    return answer;
  }

  async #append(
    context: CheckContext,
    jobId: string | undefined,
    group: readonly Indexed[],
    answer: PublishAnswer,
  ): Promise<void> {
    const { tenantId } = context.identity;
    const startedAt = performance.now();
    try {
      const entries = group.map(({ entry }) => entry);
      const { stored, position, wakes } =
        jobId === undefined
          ? await this.#appends.append({ tenantId }, entries)
          : await this.#appends.append({ tenantId, jobId }, entries, () => createdEntry(jobId, context));
      this.#meter.observe("append", (performance.now() - startedAt) / 1_000);
      if (wakes && jobId !== undefined) void this.liveness.wake({ tenantId, jobId });
      if (position && jobId === undefined) answer.tenant_position = position;
      else if (position && jobId !== undefined) answer.positions[jobId] = position;
      for (const [i, result] of stored.entries()) {
        if ("refused" in result)
          this.#refuse(answer, group[i]?.index as number, new HubError(result.refused));
        else if (result.duplicate) answer.duplicates++;
        else answer.accepted++;
      }
    } catch (error) {
      // One step for all of them: all are unknown or none was stored, so no later `n` overtakes an earlier one.
      const told = error instanceof HubError ? error : this.internal(error, "append failed");
      for (const { index } of group) this.#refuse(answer, index, told);
    }
  }

  #refuse(answer: PublishAnswer, index: number, error: unknown): void {
    const told = error instanceof HubError ? error : this.internal(error, "event check failed");
    answer.refused.push({ index, ...told.toJSON() });
    count(this.tallies.refused, told.code);
  }

  /** Logs what nobody foresaw; the sender learns only that it was the hub's fault. */
  internal(error: unknown, what: string): HubError {
    this.tallies.internal++;
    this.#log.error({ err: error }, what);
    return new HubError("internal");
  }

  /** @throws HubError `job_exists`, `too_many_jobs`, `invalid_event`. */
  async createJob(identity: Identity, fields: JobFields & { job_id?: string }): Promise<Snapshot> {
    const { job_id = `job-${randomBytes(8).toString("hex")}`, ...data } = fields;
    const { refused } = await this.publish(identity, { type: "job_created", job_id, data });
    const [refusal] = refused;
    if (refusal) throw new HubError(refusal.code as HubError["code"], refusal.message);
    return await this.jobs.snapshot(identity, job_id);
  }

  /** Answers in how many ms the deadline is next, or that it is no more. */
  async #judge(tenantId: string, due: Due): Promise<number | null> {
    if (due.what === LIVENESS) return await this.liveness.judge(tenantId, due);
    await this.commands.expire({ tenantId, jobId: due.jobId }, due.what.slice(COMMAND.length));
    return null;
  }

  #numbers(): Omit<StatusNumbers, "rates"> {
    return {
      feeds: this.feeds.size,
      subscriptions: this.feeds.subscriptions,
      connections: this.#connections(),
      events: this.counters,
      memory_bytes: residentBytes(),
    };
  }

  /** Stops following feeds, and takes this instance from the others' sight. Store and bus are the caller's. */
  async close(): Promise<void> {
    this.probe.close();
    this.#deadlines.close();
    this.trainers.close();
    this.feeds.close();
    this.#shares.close();
    this.replays.close();
    this.presence.close();
    await this.#instances.close();
  }
}
