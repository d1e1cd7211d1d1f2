/** The store on Redis 7: every change is one script (lua/), everything of a tenant is in one slot. */
import type { FeedName, JobName } from "../bus/bus.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Cursor, EventType, Liveness, SeriesAnswer } from "../protocol/types.ts";
import type { Keys } from "../redis/keys.ts";
import type { RedisLink } from "../redis/link.ts";
import { type Reply, Scripts } from "../redis/scripts.ts";
import { emptyPage, mergeStreams, newEpoch, resultOf, tailCursor } from "./page.ts";
import { RedisDeadlines } from "./redis-deadlines.ts";
import { RedisIndex } from "./redis-index.ts";
import { STORE_SCRIPTS, type StoreScripts } from "./redis-scripts.ts";
import { RedisSeries } from "./redis-series.ts";
import { loggedOf, newestOf, pairs, pushEntry, storedOf } from "./redis-text.ts";
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

const TAIL_CHUNK = 250;
/** Jobs of one script that flushes. */
const SCRIPT_JOBS = 100;

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
  readonly #lifeMs: number;
  readonly #scripts: StoreScripts;
  readonly #index: RedisIndex;
  readonly #deadlines: RedisDeadlines;
  readonly #series: RedisSeries;

  constructor(options: RedisStoreOptions) {
    const { redis, keys, maxPoints, ttlFinished, ttlSilent, onFoldError: onError = () => {} } = options;
    this.#redis = redis;
    this.#keys = keys;
    this.#options = options;
    this.#lifeMs = Math.max(ttlSilent, ttlFinished) * 1_000;
    const scripts = new Scripts(redis, STORE_SCRIPTS);
    this.#scripts = scripts;
    this.#index = new RedisIndex({ keys, scripts, heads: (tenantId, feeds) => this.heads(tenantId, feeds) });
    this.#deadlines = new RedisDeadlines({ redis, keys, scripts, lifeMs: this.#lifeMs });
    this.#series = new RedisSeries({ keys, scripts, maxPoints, onError });
  }

  get ready(): boolean {
    return this.#redis.ready;
  }

  /** How often points were folded into curves in the background, and how often that failed. */
  get folds(): Readonly<RedisSeries["folds"]> {
    return this.#series.folds;
  }

  /**
   * One command, and not a second one when the job turns out to be new: calls that follow each other would overtake
   * the second, and what a producer sent first would be taken for a duplicate.
   */
  async append(feed: FeedName, entries: readonly Entry[], created?: Entry): Promise<AppendResult> {
    if (feed.jobId !== undefined) this.#deadlines.enlist(feed.tenantId);
    const run = async () => {
      const args = this.#appendArgs(feed, entries, created);
      return (await this.#scripts.run("append", this.#appendKeys(feed), args)) as Reply[];
    };
    let reply = await run();
    let stored = storedOf(reply);
    if (stored.some((entry) => "refused" in entry && entry.refused === "too_many_jobs")) {
      if ((await this.#index.sweep(feed.tenantId)) > 0) {
        reply = await run();
        stored = storedOf(reply);
      }
    }
    const result = resultOf(String(reply[0]), stored);
    if (!result.position) return result;
    if (feed.jobId !== undefined) this.#series.grown(feed as JobName, Number(reply[2] ?? 0));
    return { ...result, ...(reply[1] === "1" && { wakes: true }) };
  }

  #keysOf({ tenantId, jobId }: FeedName) {
    return jobId === undefined ? this.#keys.tenant(tenantId) : this.#keys.job(tenantId, jobId);
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
    const jobs = await this.#scripts.call((redis) => redis.srandmember(dirty, TENANT_NEWEST));
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
        this.#lifeMs,
        TENANT_NEWEST,
        TENANT_PROGRESS_MS,
        ...some,
      ];
      await this.#scripts.run("flush", keys, args);
    }
  }

  async read(feed: FeedName, options: ReadOptions): Promise<Page> {
    const tenant = feed.jobId === undefined;
    const keys = this.#keysOf(feed);
    const streams = tenant ? options.streams.filter((stream) => stream === "events") : options.streams;
    const streamKeys = streams.map((stream) => ("log" in keys && stream === "log" ? keys.log : keys.events));
    const { epoch, after, limit, bytes, newestAfter = after } = options;
    const args = [
      epoch ?? "",
      after,
      limit,
      bytes,
      tenant ? 1 : 0,
      newestAfter,
      ...streams.map((stream) => stream.charAt(0)),
    ];
    const order = "order" in keys ? [keys.order] : [];
    const names = [keys.meta, keys.newest, ...order, ...streamKeys];
    const reply = (await this.#scripts.run("read", names, args)) as Reply[];
    const page = emptyPage();
    if (reply.length === 0) return { ...page, reset: epoch !== null };
    const [own, seq, reset, newest, ...rest] = reply as [string, string, number, string[], ...Reply[]];
    Object.assign(page, { epoch: own, seq: Number(seq), upTo: Number(seq), reset: reset === 1 });
    if (page.reset) return page;
    const read = streams.map((stream, i) => {
      const [last, entries] = rest[i] as [string, Array<[string, string[]]>];
      return { stream, last: Number(last), logged: entries.map(loggedOf) };
    });
    page.newest = newestOf(newest, page.seq, newestAfter);
    return Object.assign(page, mergeStreams(page.seq, options, read));
  }

  async tail(feed: FeedName, n: number, types: ReadonlySet<EventType> | undefined): Promise<number> {
    const keys = this.#keysOf(feed);
    const streams = "log" in keys ? [keys.events, keys.log] : [keys.events];
    const head = (await this.heads(feed.tenantId, [feed]))[0]?.seq ?? 0;
    const found: number[] = [];
    for (const stream of streams) {
      let below = head + 1;
      for (let left = n; left > 0; ) {
        const rows = (await this.#scripts.run("tail", [stream], [below, TAIL_CHUNK])) as string[];
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
    const metas = feeds.map((feed) => this.#keysOf({ ...feed, tenantId }).meta);
    const rows = (await this.#scripts.run("heads", metas, [])) as string[];
    return feeds.map((_, i) => {
      const epoch = rows[i * 2];
      return epoch ? { epoch, seq: Number(rows[i * 2 + 1]) } : undefined;
    });
  }

  async job(tenantId: string, jobId: string, brief = false): Promise<JobState | undefined> {
    const keys = this.#keys.job(tenantId, jobId);
    const reply = (await this.#scripts.run("job", [keys.meta, keys.newest], [brief ? 1 : 0])) as Reply[];
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
    return await this.#index.page(tenantId, options);
  }

  async series(tenantId: string, jobId: string, options: SeriesFilter): Promise<SeriesAnswer | undefined> {
    return await this.#series.series(tenantId, jobId, options);
  }

  async fields(tenantId: string, jobId: string, names: readonly string[]) {
    return await this.#deadlines.fields(tenantId, jobId, names);
  }

  async touch(tenantId: string, jobs: Parameters<Store["touch"]>[1]): Promise<Array<Liveness | undefined>> {
    return await this.#deadlines.touch(tenantId, jobs);
  }

  async tenants(): Promise<string[]> {
    return await this.#deadlines.tenants();
  }

  async due(tenantId: string, limit: number, names: readonly string[]): Promise<Due[]> {
    return await this.#deadlines.due(tenantId, limit, names);
  }

  async defer(tenantId: string, jobId: string, what: string, ms: number | null): Promise<void> {
    await this.#deadlines.defer(tenantId, jobId, what, ms);
  }

  async close(): Promise<void> {
    this.#series.close();
    this.#redis.close();
  }
}
