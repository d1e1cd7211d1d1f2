/** The store on Redis 7: every change is one script (lua/), everything of a tenant is in one slot. */
import { readFileSync } from "node:fs";
import type { FeedName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Cursor, EventType } from "../protocol/types.ts";
import type { Keys } from "../redis/keys.ts";
import type { RedisLink } from "../redis/link.ts";
import { mergeStreams, newEpoch, tailCursor } from "./page.ts";
import { loggedOf, newestOf, pairs, pushEntry, type Reply, storedOf } from "./redis-text.ts";
import {
  type AppendResult,
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
const writing = (name: string) => `#!lua\n${lua("common")}\n${lua(name)}`;
const reading = (name: string) => `#!lua flags=no-writes\n${lua(name)}`;
/** Exported for the suite, which breaks them at every call. */
export const SCRIPTS = {
  append: writing("append"),
  flush: writing("flush"),
  // It only makes room.
  forget: `#!lua flags=allow-oom\n${lua("forget")}`,
  read: reading("read"),
  job: reading("job"),
  heads: reading("heads"),
  tail: reading("tail"),
};
type ScriptName = keyof typeof SCRIPTS;

const TAIL_CHUNK = 250;
/** Jobs of one script that flushes. */
const FLUSH_JOBS = 100;
/** At most once in this time a tenant's index is searched for jobs that are gone. */
const SWEEP_MS = 1_000;

export interface RedisStoreOptions extends StoreOptions {
  redis: RedisLink;
  keys: Keys;
}

export class RedisStore implements Store {
  readonly #redis: RedisLink;
  readonly #keys: Keys;
  readonly #options: RedisStoreOptions;
  readonly #sweeps = new Map<string, Promise<number>>();

  constructor(options: RedisStoreOptions) {
    this.#redis = options.redis;
    this.#keys = options.keys;
    this.#options = options;
    for (const [name, text] of Object.entries(SCRIPTS)) {
      this.#redis.commands.defineCommand(commandOf(name), { lua: text });
    }
  }

  get ready(): boolean {
    return this.#redis.ready;
  }

  /**
   * One command, and not a second one when the job turns out to be new: calls that follow each other would overtake
   * the second, and what a producer sent first would be taken for a duplicate.
   */
  async append(feed: FeedName, entries: readonly Entry[], created?: Entry): Promise<AppendResult> {
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
    return { stored, position: { epoch: String(reply[0]), seq: Math.max(...seqs) } };
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
    const { meta, events, log, channel, newest, members, points, ids, producers } = job;
    return [...tenant, meta, events, log, channel, newest, members, points, ids, producers];
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
    const life = Math.max(this.#options.ttlSilent, this.#options.ttlFinished) * 1_000;
    for (let i = 0; i < jobs.length; i += FLUSH_JOBS) {
      const some = jobs.slice(i, i + FLUSH_JOBS);
      const keys = this.#tenantKeys(tenantId);
      for (const jobId of some) {
        const job = this.#keys.job(tenantId, jobId);
        keys.push(job.meta, job.newest);
      }
      const args = [this.#redis.generation, newEpoch(), life, TENANT_NEWEST, TENANT_PROGRESS_MS, ...some];
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
      fields: new Map(),
      latest: [],
      counts: new Map(),
      newest: newestOf(newest, Number(meta.get("n"))),
    };
    for (const [name, value] of meta) {
      if (name.startsWith("field:")) state.fields.set(name.slice(6), value);
      else if (/^(type|set):/.test(name)) state.counts.set(name, Number(value));
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

  async points(tenantId: string, jobId: string) {
    const keys = this.#keys.job(tenantId, jobId);
    const replies = await this.#call((redis) =>
      redis.multi().hmget(keys.meta, "e", "n").lrange(keys.points, 0, -1).exec(),
    );
    const [meta, points] = (replies ?? []).map(([error, value]) => {
      if (error) throw error;
      return value as string[];
    });
    if (!meta?.[0] || !points) return undefined;
    const seq = Number(meta[1]);
    const all = points.map((text) => {
      const space = text.indexOf(" ");
      return { seq: Number(text.slice(0, space)), point: text.slice(space + 1) };
    });
    // Above the head: set by a script that broke.
    return { epoch: meta[0], seq, points: all.filter((point) => point.seq <= seq) };
  }

  async close(): Promise<void> {
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
