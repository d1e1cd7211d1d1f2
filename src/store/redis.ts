/** The store on Redis 7: every change is one script (lua/), everything of a tenant is in one slot. */
import { readFileSync } from "node:fs";
import type { FeedName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Cursor, EventType, Liveness, SeriesAnswer } from "../protocol/types.ts";
import type { Keys } from "../redis/keys.ts";
import type { RedisLink } from "../redis/link.ts";
import { mergeStreams, newEpoch, tailCursor } from "./page.ts";
import { RedisSeries, type RedisSeriesOptions } from "./redis-series.ts";
import { loggedOf, newestOf, pairs, pushEntry, type Reply, storedOf } from "./redis-text.ts";
import type { SeriesFilter } from "./series.ts";
import {
  type AppendResult,
  type Due,
  type Entry,
  type JobState,
  type Page,
  type ReadOptions,
  type Store,
  type StoreOptions,
  TENANT_NEWEST,
  TENANT_PROGRESS_MS,
} from "./store.ts";

const lua = (name: string) => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), "utf8");
/** Scripts with a shebang are refused before their first step when the server has no room, or may not write. */
const writing = (...names: string[]) => `#!lua\n${["common", ...names].map(lua).join("\n")}`;
const reading = (name: string) => `#!lua flags=no-writes\n${lua(name)}`;
/** Exported for the suite, which breaks them at every call. */
export const SCRIPTS = {
  append: writing("job-rules", "append"),
  flush: writing("flush"),
  touch: writing("touch"),
  defer: writing("defer"),
  fold: `#!lua\n${lua("fold")}`,
  // These only make room.
  shorten: `#!lua flags=allow-oom\n${lua("shorten")}`,
  forget: `#!lua flags=allow-oom\n${lua("forget")}`,
  read: reading("read"),
  job: reading("job"),
  heads: reading("heads"),
  fields: reading("fields"),
  due: reading("due"),
  tail: reading("tail"),
};
type ScriptName = keyof typeof SCRIPTS;

/** Clocks of hubs may differ by so much. */
const CLOCKS_MS = 86_400_000;
const TAIL_CHUNK = 250;
/** At most once in this time a tenant is written among those that have deadlines. */
const ENLIST_MS = 600_000;
const MAX_ENLISTED = 10_000;
/** Jobs of one script that flushes, or touches. */
const SCRIPT_JOBS = 100;
/** At most once in this time a tenant's index is searched for jobs that are gone. */
const SWEEP_MS = 1_000;

export interface RedisStoreOptions extends StoreOptions {
  redis: RedisLink;
  keys: Keys;
  /** A job's points could not be folded into its curves; it is tried again. Default: nobody is told. */
  onFoldError?: (error: Error) => void;
}

export class RedisStore implements Store {
  readonly #redis: RedisLink;
  readonly #keys: Keys;
  readonly #options: RedisStoreOptions;
  readonly #sweeps = new Map<string, Promise<number>>();
  /** Tenant → when it was enlisted, ms by `performance.now()`. */
  readonly #enlisted = new Map<string, number>();
  /** The server's generation of which `enlisted` is true. */
  #enlistedAt = "";
  readonly #series: RedisSeries;

  constructor(options: RedisStoreOptions) {
    this.#redis = options.redis;
    this.#keys = options.keys;
    this.#options = options;
    for (const [name, text] of Object.entries(SCRIPTS)) {
      this.#redis.commands.defineCommand(commandOf(name), { lua: text });
    }
    const { keys, maxPoints, onFoldError: onError = () => {} } = options;
    const call: RedisSeriesOptions["call"] = (command) => this.#call(command);
    const run: RedisSeriesOptions["run"] = (script, names, args) => this.#run(script, names, args);
    this.#series = new RedisSeries({ keys, maxPoints, call, run, onError });
  }

  get ready(): boolean {
    return this.#redis.ready;
  }

  /**
   * One command, and not a second one when the job turns out to be new: calls that follow each other would overtake
   * the second, and what a producer sent first would be taken for a duplicate.
   */
  async append(feed: FeedName, entries: readonly Entry[], created?: Entry): Promise<AppendResult> {
    if (feed.jobId !== undefined) this.#enlist(feed.tenantId);
    const run = () => this.#run("append", this.#appendKeys(feed), this.#appendArgs(feed, entries, created));
    let reply = await run();
    let stored = storedOf(reply);
    if (stored.some((entry) => "refused" in entry && entry.refused === "too_many_jobs")) {
      if ((await this.#forgetGone(feed.tenantId)) > 0) {
        reply = await run();
        stored = storedOf(reply);
      }
    }
    const seqs = stored.flatMap((entry) => ("seq" in entry ? [entry.seq] : []));
    if (seqs.length === 0) return { stored };
    if (feed.jobId !== undefined) this.#series.grown(feed as Required<FeedName>, Number(reply[2] ?? 0));
    const position = { epoch: String(reply[0]), seq: Math.max(...seqs) };
    return { stored, position, ...(reply[1] === "1" && { wakes: true }) };
  }

  /** Sent before the command that may make a deadline, on the same connection: Redis takes them in this order. */
  #enlist(tenantId: string): void {
    if (!this.ready) return;
    const now = performance.now();
    const { generation } = this.#redis;
    // A server that was emptied has lost the list; and it must not grow for ever.
    if (generation !== this.#enlistedAt || this.#enlisted.size >= MAX_ENLISTED) this.#enlisted.clear();
    this.#enlistedAt = generation;
    const last = this.#enlisted.get(tenantId);
    if (last !== undefined && now - last < ENLIST_MS) return;
    this.#enlisted.set(tenantId, now);
    const { tenants } = this.#keys;
    const life = this.#tenantLife + ENLIST_MS + CLOCKS_MS;
    this.#call((redis) =>
      redis.multi().zadd(tenants, Date.now(), tenantId).pexpire(tenants, life).exec(),
    ).catch(() => this.#enlisted.delete(tenantId));
  }

  #tenantKeys(tenantId: string): string[] {
    const { meta, events, channel, newest, order, dirty, index, ids, producers } =
      this.#keys.tenant(tenantId);
    return [meta, events, channel, newest, order, dirty, index, ids, producers];
  }

  #appendKeys(feed: FeedName): string[] {
    const tenant = this.#tenantKeys(feed.tenantId);
    if (feed.jobId === undefined) return tenant;
    const job = this.#keys.job(feed.tenantId, feed.jobId);
    const { meta, events, log, channel, newest, members, points, ids, producers, series, buckets } = job;
    const { deadlines } = this.#keys.tenant(feed.tenantId);
    const feeds = [meta, events, log, channel, newest, members, points, ids, producers, series, buckets];
    return [...tenant, ...feeds, deadlines];
  }

  #appendArgs(feed: FeedName, entries: readonly Entry[], created?: Entry): Array<string | number> {
    const { maxEvents, maxLogLines, maxFeedBytes, maxPoints, maxJobs, ttlFinished, ttlSilent } =
      this.#options;
    const limits = [
      maxEvents,
      maxLogLines,
      maxFeedBytes,
      maxPoints,
      maxJobs,
      ttlFinished * 1_000,
      ttlSilent * 1_000,
    ];
    const fixed = [LIMITS.ids, LIMITS.producers, LIMITS.conflationKeys, LIMITS.mergedFields, TENANT_NEWEST];
    const args = [this.#redis.generation, newEpoch(), newEpoch(), feed.jobId ?? "", ...limits, ...fixed];
    args.push(entries.length, created ? 1 : 0);
    for (const entry of entries) pushEntry(args, entry);
    if (created) pushEntry(args, created);
    return args;
  }

  async flushTenant(tenantId: string): Promise<void> {
    const { dirty } = this.#keys.tenant(tenantId);
    const jobs = await this.#call((redis) => redis.srandmember(dirty, TENANT_NEWEST));
    for (let i = 0; i < jobs.length; i += SCRIPT_JOBS) {
      const some = jobs.slice(i, i + SCRIPT_JOBS);
      const keys = this.#tenantKeys(tenantId);
      for (const jobId of some) {
        const job = this.#keys.job(tenantId, jobId);
        keys.push(job.meta, job.newest);
      }
      const args = [
        this.#redis.generation,
        newEpoch(),
        this.#tenantLife,
        TENANT_NEWEST,
        TENANT_PROGRESS_MS,
        ...some,
      ];
      await this.#run("flush", keys, args);
    }
  }

  async read(feed: FeedName, options: ReadOptions): Promise<Page> {
    const tenant = feed.jobId === undefined;
    const keys = tenant
      ? this.#keys.tenant(feed.tenantId)
      : this.#keys.job(feed.tenantId, feed.jobId as string);
    const streams = tenant ? options.streams.filter((stream) => stream === "events") : options.streams;
    const streamKeys = streams.map((stream) => ("log" in keys && stream === "log" ? keys.log : keys.events));
    const { epoch, after, limit, bytes } = options;
    const args = [
      epoch ?? "",
      after,
      limit,
      bytes,
      tenant ? 1 : 0,
      ...streams.map((stream) => stream.charAt(0)),
    ];
    const order = "order" in keys ? [keys.order] : [];
    const reply = await this.#run("read", [keys.meta, keys.newest, ...order, ...streamKeys], args);
    const page: Page = { epoch: null, seq: 0, reset: false, logged: [], trimmed: [], newest: [], upTo: 0 };
    if (reply.length === 0) return { ...page, reset: epoch !== null };
    const [own, seq, reset, newest, ...rest] = reply as [string, string, number, string[], ...Reply[]];
    Object.assign(page, { epoch: own, seq: Number(seq), upTo: Number(seq), reset: reset === 1 });
    if (page.reset) return page;
    const read = streams.map((stream, i) => {
      const [last, entries] = rest[i] as [string, Array<[string, string[]]>];
      return { stream, last: Number(last), logged: entries.map(loggedOf) };
    });
    page.newest = newestOf(newest, page.seq, after);
    return Object.assign(page, mergeStreams(page.seq, options, read));
  }

  async tail(feed: FeedName, n: number, types: ReadonlySet<EventType> | undefined): Promise<number> {
    const tenant = feed.jobId === undefined;
    const keys = tenant
      ? this.#keys.tenant(feed.tenantId)
      : this.#keys.job(feed.tenantId, feed.jobId as string);
    const streams = "log" in keys ? [keys.events, keys.log] : [keys.events];
    const head = (await this.heads(feed.tenantId, [feed]))[0]?.seq ?? 0;
    const found: number[] = [];
    for (const stream of streams) {
      let below = head + 1;
      for (let left = n; left > 0; ) {
        const rows = (await this.#run("tail", [stream], [below, TAIL_CHUNK])) as string[];
        for (let i = 0; i < rows.length && left > 0; i += 2) {
          below = Number(rows[i]);
          if (types && !types.has(rows[i + 1] as EventType)) continue;
          found.push(below);
          left--;
        }
        if (rows.length < TAIL_CHUNK * 2) break;
      }
    }
    return tailCursor(found, n, head);
  }

  async heads(tenantId: string, feeds: readonly FeedName[]): Promise<Array<Cursor | undefined>> {
    if (feeds.length === 0) return [];
    const metas = feeds.map(({ jobId }) =>
      jobId === undefined ? this.#keys.tenant(tenantId).meta : this.#keys.job(tenantId, jobId).meta,
    );
    const rows = (await this.#run("heads", metas, [])) as string[];
    return feeds.map((_, i) => {
      const epoch = rows[i * 2];
      return epoch ? { epoch, seq: Number(rows[i * 2 + 1]) } : undefined;
    });
  }

  async job(tenantId: string, jobId: string, brief = false): Promise<JobState | undefined> {
    const keys = this.#keys.job(tenantId, jobId);
    const reply = await this.#run("job", [keys.meta, keys.newest], [brief ? 1 : 0]);
    if (reply.length === 0) return undefined;
    const [metaPairs, newest] = reply as [string[], string[]];
    const meta = new Map(pairs(metaPairs));
    const state: JobState = {
      epoch: meta.get("e") as string,
      seq: Number(meta.get("n")),
      createdAt: Number(meta.get("created")),
      updatedAt: Number(meta.get("updated")),
      ...(meta.has("field:seen") && { seenAt: Number(meta.get("field:seen")) }),
      fields: new Map(),
      latest: [],
      counts: new Map(),
      newest: newestOf(newest, Number(meta.get("n"))),
    };
    for (const [name, value] of meta) {
      if (name.startsWith("field:")) {
        if (value !== "") state.fields.set(name.slice(6), value);
      } else if (/^(type|products):/.test(name) && value !== "0") state.counts.set(name, Number(value));
      else if (name.startsWith("latest:")) {
        const [seq, head, data] = value.split("\n") as [string, string, string];
        state.latest.push({ seq: Number(seq), type: name.slice(7) as EventType, prev: 0, head, data });
      }
    }
    return state;
  }

  async jobs(tenantId: string, options: { limit: number; before?: string }): Promise<string[]> {
    const { index } = this.#keys.tenant(tenantId);
    const found: string[] = [];
    // By creation, not by rank: others take jobs that are gone out of the index meanwhile.
    let after: { jobId: string; created: number } | undefined;
    if (options.before !== undefined) {
      const created = await this.#call((redis) => redis.zscore(index, options.before as string));
      if (created === null) throw new HubError("invalid_cursor", "before is not a job; begin again");
      after = { jobId: options.before, created: Number(created) };
    }
    for (let skip = 0; found.length < options.limit; ) {
      const wanted = options.limit - found.length;
      const rows = await this.#call((redis) =>
        redis.zrevrangebyscore(
          index,
          after?.created ?? "+inf",
          "-inf",
          "WITHSCORES",
          "LIMIT",
          skip,
          wanted + 1,
        ),
      );
      const jobs = [...pairs(rows)].map(([jobId, created]) => ({ jobId, created: Number(created) }));
      const further = jobs.filter((job) => !after || isBefore(job, after)).slice(0, wanted);
      const { living } = await this.#living(
        tenantId,
        further.map(({ jobId }) => jobId),
      );
      found.push(...living);
      if (jobs.length <= wanted && further.length === jobs.length) break;
      // All of the same moment, and told already: go on behind them.
      skip = further.length === 0 ? skip + jobs.length : 0;
      if (jobs.length === 0) break;
      after = further.at(-1) ?? after;
    }
    return found;
  }

  async series(tenantId: string, jobId: string, options: SeriesFilter): Promise<SeriesAnswer | undefined> {
    return await this.#series.series(tenantId, jobId, options);
  }

  async fields(tenantId: string, jobId: string, names: readonly string[]) {
    const [job] = await this.#fieldsOf(tenantId, [jobId], names);
    return job?.fields;
  }

  async #fieldsOf(tenantId: string, jobIds: readonly string[], names: readonly string[]) {
    const metas = jobIds.map((jobId) => this.#keys.job(tenantId, jobId).meta);
    const replies = (await this.#run("fields", metas, names)) as string[][];
    return replies.map(([silent, expect, seen, ...values]) => ({
      ...(silent && { silentMs: Number(silent) }),
      ...(expect && { expectMs: Number(expect) }),
      ...(seen && { seenAt: Number(seen) }),
      ...(silent !== undefined && { fields: new Map(names.map((name, i) => [name, values[i] as string])) }),
    }));
  }

  async touch(tenantId: string, jobs: Parameters<Store["touch"]>[1]): Promise<Array<Liveness | undefined>> {
    this.#enlist(tenantId);
    const { deadlines } = this.#keys.tenant(tenantId);
    const found: Array<Liveness | undefined> = [];
    for (let i = 0; i < jobs.length; i += SCRIPT_JOBS) {
      const some = jobs.slice(i, i + SCRIPT_JOBS);
      const args: Array<string | number> = [this.#tenantLife];
      for (const { jobId, lastStepAt, expectMs, fresh } of some) {
        const step = lastStepAt === undefined ? "" : JSON.stringify(lastStepAt);
        args.push(jobId, step, expectMs ?? "", fresh ? 1 : 0);
      }
      const keys = [deadlines, ...some.map(({ jobId }) => this.#keys.job(tenantId, jobId).meta)];
      for (const json of (await this.#run("touch", keys, args)) as string[]) {
        found.push(json === "" ? undefined : (JSON.parse(json) as Liveness));
      }
    }
    return found;
  }

  async tenants(): Promise<string[]> {
    const { tenants } = this.#keys;
    // A tenant is enlisted again while anything is stored of it; what is left of the others has expired.
    const gone = Date.now() - this.#tenantLife - ENLIST_MS - CLOCKS_MS;
    await this.#call((redis) => redis.zremrangebyscore(tenants, "-inf", gone));
    return await this.#call((redis) => redis.zrange(tenants, "0", "-1"));
  }

  async due(tenantId: string, limit: number, names: readonly string[]): Promise<Due[]> {
    const { deadlines } = this.#keys.tenant(tenantId);
    const members = ((await this.#run("due", [deadlines], [limit])) as string[]).map((member) => {
      const slash = member.indexOf("/");
      return { jobId: member.slice(0, slash), what: member.slice(slash + 1) };
    });
    if (members.length === 0) return [];
    const jobs = await this.#fieldsOf(
      tenantId,
      members.map(({ jobId }) => jobId),
      names,
    );
    return members.map((member, i) => ({ ...member, ...jobs[i] }));
  }

  async defer(tenantId: string, jobId: string, what: string, ms: number | null): Promise<void> {
    const keys = [this.#keys.tenant(tenantId).deadlines, this.#keys.job(tenantId, jobId).meta];
    await this.#run("defer", keys, [`${jobId}/${what}`, what, ms ?? ""]);
  }

  get #tenantLife(): number {
    return Math.max(this.#options.ttlSilent, this.#options.ttlFinished) * 1_000;
  }

  async close(): Promise<void> {
    this.#series.close();
    this.#redis.close();
  }

  /** Of these ids the ones whose feed is there; the others leave the index. */
  async #living(tenantId: string, ids: readonly string[]): Promise<{ living: string[]; forgotten: number }> {
    const living: string[] = [];
    let forgotten = 0;
    for (let i = 0; i < ids.length; i += 100) {
      const part = ids.slice(i, i + 100);
      const heads = await this.heads(
        tenantId,
        part.map((jobId) => ({ tenantId, jobId })),
      );
      for (const [k, jobId] of part.entries()) {
        if (heads[k]) living.push(jobId);
        // Cleaning up must not fail a reader.
        else forgotten += await this.#forget(tenantId, jobId).catch(() => 0);
      }
    }
    return { living, forgotten };
  }

  /** Looks through all jobs of a tenant, for all who ask within a second. */
  #forgetGone(tenantId: string): Promise<number> {
    const known = this.#sweeps.get(tenantId);
    if (known) return known;
    const { index } = this.#keys.tenant(tenantId);
    const sweep = this.#call((redis) => redis.zrange(index, "0", "-1"))
      .then((ids) => this.#living(tenantId, ids))
      .then(({ forgotten }) => forgotten);
    this.#sweeps.set(tenantId, sweep);
    const forget = () => this.#sweeps.delete(tenantId);
    sweep.then(() => setTimeout(forget, SWEEP_MS).unref(), forget);
    return sweep;
  }

  /** Answers how many have left the index: one, or none if the job is there again. */
  async #forget(tenantId: string, jobId: string): Promise<number> {
    const keys = [this.#keys.tenant(tenantId).index, this.#keys.job(tenantId, jobId).meta];
    return Number(await this.#run("forget", keys, [jobId]));
  }

  #run(script: ScriptName, keys: readonly string[], args: ReadonlyArray<string | number>): Promise<Reply[]> {
    return this.#call((redis) => {
      const commands = redis as unknown as Record<string, (...args: unknown[]) => Promise<Reply[]>>;
      return (commands[commandOf(script)] as (...args: unknown[]) => Promise<Reply[]>).call(
        redis,
        keys.length,
        ...keys,
        ...args,
      );
    });
  }

  async #call<R>(command: (redis: RedisLink["commands"]) => Promise<R>): Promise<R> {
    if (!this.#redis.ready) throw new HubError("unavailable", "The store is not connected.");
    try {
      return await command(this.#redis.commands);
    } catch (error) {
      throw hubError(error as Error);
    }
  }
}

function commandOf(script: string): string {
  return `trainwire_${script}`;
}

function hubError(error: Error): Error {
  if (error instanceof HubError) return error;
  if (/^(OOM|MISCONF)\b/.test(error.message))
    return new HubError("storage_full", undefined, { cause: error });
  const away = /^(READONLY|LOADING|CLUSTERDOWN|MASTERDOWN|MOVED|ASK|TRYAGAIN|NOREPLICAS|BUSY|UNBLOCKED)\b/;
  const cut =
    /Connection is closed|Stream isn't writeable|Command timed out|max retries|ECONN|EPIPE|ETIMEDOUT|Connection/;
  if (away.test(error.message) || cut.test(error.message)) {
    return new HubError("unavailable", undefined, { cause: error });
  }
  return error;
}

/** Whether a job stands behind another one in a list that begins with the newest. */
function isBefore(
  job: { jobId: string; created: number },
  other: { jobId: string; created: number },
): boolean {
  return job.created < other.created || (job.created === other.created && job.jobId < other.jobId);
}
