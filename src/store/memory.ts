/** The store of a single process: feeds in memory, gone with it. Same contract and suite as redis.ts. */
import type { FeedEvent, FeedName, JobName } from "../bus/bus.ts";
import type { MemoryBus } from "../bus/memory.ts";
import { HubError } from "../protocol/codes.ts";
import type { Cursor, EventType, Liveness, SeriesAnswer } from "../protocol/types.ts";
import { type Feed, JobFeed, Tenant } from "./memory-feeds.ts";
import { emptyPage, mergeStreams, resultOf, tailCursor } from "./page.ts";
import { JOB_PROGRESS_KEYS } from "./reduce.ts";
import { answerOf, type SeriesFilter } from "./series.ts";
import {
  type AppendResult,
  type Due,
  type Entry,
  type JobState,
  type Logged,
  type Newest,
  type Page,
  type ReadOptions,
  type Store,
  type Stored,
  type StoreOptions,
  TENANT_NEWEST,
  TENANT_PROGRESS_MS,
} from "./store.ts";
import { jobWire, joinFields, tenantWire } from "./wire.ts";

export interface MemoryStoreOptions extends StoreOptions {
  bus: MemoryBus;
  /** ms since 1970; tests pass their own. */
  now?: () => number;
}

export class MemoryStore implements Store {
  readonly ready = true;
  readonly #tenants = new Map<string, Tenant>();
  readonly #options: MemoryStoreOptions;
  readonly #now: () => number;
  readonly #sweep: NodeJS.Timeout;

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#sweep = setInterval(() => this.#expire(), 60_000).unref();
  }

  async append(feed: FeedName, entries: readonly Entry[], created?: Entry): Promise<AppendResult> {
    const tenant = this.#tenant(feed.tenantId, true);
    return feed.jobId === undefined
      ? this.#appendTenant(feed, tenant, entries)
      : this.#appendJob(feed as JobName, tenant, entries, created);
  }

  #appendTenant(feed: FeedName, tenant: Tenant, entries: readonly Entry[]): AppendResult {
    const published: FeedEvent[] = [];
    const stored = entries.map((entry) => {
      const known = tenant.known(entry);
      if (known) return known;
      const event = this.#addToTenant(tenant, entry.type, entry.head, entry.data);
      tenant.remember(entry, event.seq);
      published.push(event);
      return { seq: event.seq, duplicate: false };
    });
    if (published.length > 0) this.#renew(tenant);
    this.#options.bus.publish([{ tenantId: feed.tenantId }, published]);
    return resultOf(tenant.epoch, stored);
  }

  #appendJob(feed: JobName, tenant: Tenant, entries: readonly Entry[], created?: Entry): AppendResult {
    let job = this.#job(tenant, feed.jobId);
    const isNew = job === undefined;
    if (!job) {
      if (tenant.jobs.size >= this.#options.maxJobs) this.#expire();
      if (tenant.jobs.size >= this.#options.maxJobs) {
        return { stored: entries.map(() => ({ refused: "too_many_jobs" })) };
      }
      job = new JobFeed(this.#options, this.#now());
      tenant.jobs.set(feed.jobId, job);
    }
    const onJob: FeedEvent[] = [];
    const onTenant: FeedEvent[] = [];
    const add = (entry: Entry, first: boolean): Stored => {
      const known = job.known(entry);
      if (known) return known;
      if (entry.type === "job_created" && !first) return { refused: "job_exists" };
      const refusal = job.refusal(entry, isNew);
      if (refusal) return refusal;
      const before = job.job.before(entry);
      if (before) put(before);
      const seq = put(job.job.follow(entry, job.seq + 1, this.#now()));
      const after = job.job.after(entry);
      if (after) put(after);
      return { seq, duplicate: false };
    };
    const put = (entry: Entry): number => {
      const seq = ++job.seq;
      job.remember(entry, seq);
      job.apply(entry, seq);
      onJob.push({
        epoch: job.epoch,
        seq,
        type: entry.type,
        durable: entry.durable,
        jobId: feed.jobId,
        key: entry.patch.merge?.key ?? "",
        wire: jobWire(job.epoch, seq, entry.head, entry.data),
      });
      if (entry.tenantFeed === "merged") tenant.dirty.add(feed.jobId);
      else if (entry.tenantFeed) {
        if (entry.ends) onTenant.push(...this.#progressOf(tenant, feed.jobId, job));
        const position = { jobId: feed.jobId, position: { epoch: job.epoch, seq } };
        onTenant.push(this.#addToTenant(tenant, entry.type, entry.head, entry.data, position));
      }
      return seq;
    };
    if (isNew && created && entries[0]?.type !== "job_created") add(created, true);
    const stored = entries.map((entry, index) => add(entry, isNew && index === 0));
    if (onJob.length === 0) {
      if (isNew) tenant.jobs.delete(feed.jobId);
      return resultOf(job.epoch, stored);
    }
    job.updatedAt = this.#now();
    this.#renew(job);
    this.#renew(tenant);
    this.#options.bus.publish([feed, onJob], [{ tenantId: feed.tenantId }, onTenant]);
    const isSeen = entries.some(
      ({ alive }, i) =>
        alive && !("refused" in (stored[i] as Stored)) && !(stored[i] as { duplicate: boolean }).duplicate,
    );
    const wakes = isSeen && job.job.liveness !== undefined && job.job.liveness !== "live";
    return { ...resultOf(job.epoch, stored), ...(wakes && { wakes }) };
  }

  #addToTenant(tenant: Tenant, type: EventType, head: string, data: string, job?: Logged["job"]): FeedEvent {
    const seq = ++tenant.seq;
    tenant.streams.events.add({ seq, type, head, data, ...(job && { job }) });
    return {
      epoch: tenant.epoch,
      seq,
      type,
      durable: true,
      jobId: job?.jobId ?? "",
      key: "",
      wire: tenantWire(tenant.epoch, seq, job?.position, head, data),
    };
  }

  /** The job's merged progress for the tenant feed, if it has changed since it was shown. */
  #progressOf(tenant: Tenant, jobId: string, job: JobFeed): FeedEvent[] {
    if (!tenant.dirty.delete(jobId)) return [];
    const newest = JOB_PROGRESS_KEYS.map((key) => job.newest.get(key))
      .filter((value) => value !== undefined)
      .sort((a, b) => b.seq - a.seq)[0];
    if (!newest) return [];
    job.progressFlushedAt = this.#now();
    const seq = ++tenant.seq;
    const position = { epoch: job.epoch, seq: newest.seq };
    const shown = { ...newest, key: jobId, seq, fields: new Map(newest.fields), job: { jobId, position } };
    tenant.newest.delete(jobId);
    tenant.newest.set(jobId, shown);
    if (tenant.newest.size > TENANT_NEWEST) tenant.newest.delete(tenant.newest.keys().next().value as string);
    const wire = tenantWire(tenant.epoch, seq, position, newest.head, joinFields(newest.fields));
    return [{ epoch: tenant.epoch, seq, type: newest.type, durable: false, jobId, key: jobId, wire }];
  }

  async flushTenant(tenantId: string): Promise<void> {
    const tenant = this.#tenant(tenantId, false);
    if (!tenant) return;
    const events: FeedEvent[] = [];
    for (const jobId of [...tenant.dirty]) {
      const job = this.#job(tenant, jobId);
      if (!job) tenant.dirty.delete(jobId);
      else if (this.#now() - job.progressFlushedAt >= TENANT_PROGRESS_MS) {
        events.push(...this.#progressOf(tenant, jobId, job));
      }
    }
    this.#options.bus.publish([{ tenantId }, events]);
  }

  async read(name: FeedName, options: ReadOptions): Promise<Page> {
    const feed = this.#feed(name);
    const page = emptyPage();
    if (!feed) return { ...page, reset: options.epoch !== null };
    Object.assign(page, { epoch: feed.epoch, seq: feed.seq, upTo: feed.seq });
    if ((options.epoch !== null && options.epoch !== feed.epoch) || options.after > feed.seq) {
      return { ...page, reset: true };
    }
    const { newestAfter = options.after } = options;
    const newest = [...feed.newest.values()].filter((value) => value.seq > newestAfter);
    const streams = options.streams.map((stream) => ({
      stream,
      last: feed.streams[stream].last,
      logged: feed.streams[stream].after(options.after, options.limit, options.bytes),
    }));
    return Object.assign(page, mergeStreams(feed.seq, options, streams), { newest: copyNewest(newest) });
  }

  async tail(name: FeedName, n: number, types: ReadonlySet<EventType> | undefined): Promise<number> {
    const feed = this.#feed(name);
    if (!feed) return 0;
    const found: number[] = [];
    for (const stream of [feed.streams.events, feed.streams.log]) {
      let left = n;
      for (const event of stream.backwards()) {
        if (left === 0) break;
        if (types && !types.has(event.type)) continue;
        found.push(event.seq);
        left--;
      }
    }
    return tailCursor(found, n, feed.seq);
  }

  async heads(_tenantId: string, feeds: readonly FeedName[]): Promise<Array<Cursor | undefined>> {
    return feeds.map((name) => {
      const feed = this.#feed(name);
      return feed && feed.seq > 0 ? { epoch: feed.epoch, seq: feed.seq } : undefined;
    });
  }

  async job(tenantId: string, jobId: string, brief = false): Promise<JobState | undefined> {
    const tenant = this.#tenant(tenantId, false);
    const job = tenant && this.#job(tenant, jobId);
    if (!job) return undefined;
    const { epoch, seq, createdAt, updatedAt } = job;
    return {
      epoch,
      seq,
      createdAt,
      updatedAt,
      ...(job.job.seenAt > 0 && { seenAt: job.job.seenAt }),
      fields: new Map(job.job.fields),
      latest: brief ? [] : [...job.latest.values()],
      counts: new Map([...job.counts, ...job.job.counts]),
      newest: copyNewest(job.newest.values()),
    };
  }

  async jobs(tenantId: string, options: { limit: number; before?: string }): Promise<string[]> {
    const tenant = this.#tenant(tenantId, false);
    if (!tenant) return [];
    const ids = [...tenant.jobs.keys()].filter((id) => this.#job(tenant, id)).reverse();
    const start = options.before === undefined ? 0 : ids.indexOf(options.before) + 1;
    if (options.before !== undefined && start === 0) {
      throw new HubError("invalid_cursor", "before is not a job; begin again");
    }
    return ids.slice(start, start + options.limit);
  }

  async series(tenantId: string, jobId: string, options: SeriesFilter): Promise<SeriesAnswer | undefined> {
    const job = this.#jobOf(tenantId, jobId);
    return job && answerOf({ job_id: jobId, epoch: job.epoch, seq: job.seq }, job.curves(), options);
  }

  async fields(tenantId: string, jobId: string, names: readonly string[]) {
    const job = this.#jobOf(tenantId, jobId)?.job;
    return job?.pick(names);
  }

  async touch(tenantId: string, jobs: Parameters<Store["touch"]>[1]): Promise<Array<Liveness | undefined>> {
    return jobs.map(({ jobId, lastStepAt, expectMs, fresh = false }) => {
      const job = this.#jobOf(tenantId, jobId)?.job;
      if (!job) return undefined;
      job.see(this.#now(), fresh);
      if (lastStepAt !== undefined) job.fields.set("last_step_at", JSON.stringify(lastStepAt));
      if (expectMs !== undefined) job.expect(this.#now(), expectMs);
      return job.liveness;
    });
  }

  async tenants(): Promise<string[]> {
    return [...this.#tenants.keys()];
  }

  async due(tenantId: string, limit: number, names: readonly string[]): Promise<Due[]> {
    const now = this.#now();
    const due: Array<Due & { at: number }> = [];
    for (const [jobId, { job }] of this.#tenant(tenantId, false)?.jobs ?? []) {
      for (const [what, at] of job.deadlines) {
        if (at > now) continue;
        const { seenAt, expectedAt } = job;
        const seen = seenAt > 0 && { seenAt, silentMs: now - seenAt };
        const expected = expectedAt > 0 && { expectMs: expectedAt - now };
        due.push({ jobId, what, at, fields: job.pick(names), ...seen, ...expected });
      }
    }
    return due
      .sort((a, b) => a.at - b.at)
      .slice(0, limit)
      .map(({ at: _, ...rest }) => rest);
  }

  async defer(tenantId: string, jobId: string, what: string, ms: number | null): Promise<void> {
    const job = this.#jobOf(tenantId, jobId)?.job;
    if (!job?.deadlines.has(what)) return;
    if (ms !== null) job.deadlines.set(what, this.#now() + ms);
    else if (!job.fields.has(what)) job.deadlines.delete(what);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#tenants.clear();
  }

  #tenant(tenantId: string, make: true): Tenant;
  #tenant(tenantId: string, make: boolean): Tenant | undefined;
  #tenant(tenantId: string, make: boolean): Tenant | undefined {
    let tenant = this.#tenants.get(tenantId);
    if (tenant && tenant.expiresAt <= this.#now()) {
      this.#tenants.delete(tenantId);
      tenant = undefined;
    }
    if (!tenant && make) {
      tenant = new Tenant(this.#options, this.#now());
      this.#tenants.set(tenantId, tenant);
    }
    return tenant;
  }

  #jobOf(tenantId: string, jobId: string): JobFeed | undefined {
    const tenant = this.#tenant(tenantId, false);
    return tenant && this.#job(tenant, jobId);
  }

  #job(tenant: Tenant, jobId: string): JobFeed | undefined {
    const job = tenant.jobs.get(jobId);
    if (!job || job.expiresAt > this.#now()) return job;
    tenant.jobs.delete(jobId);
    return undefined;
  }

  #feed(name: FeedName): Feed | undefined {
    const tenant = this.#tenant(name.tenantId, false);
    return name.jobId === undefined ? tenant : tenant && this.#job(tenant, name.jobId);
  }

  #renew(feed: Feed): void {
    feed.expiresAt = this.#now() + feed.life;
  }

  #expire(): void {
    for (const [id, tenant] of this.#tenants) {
      for (const jobId of tenant.jobs.keys()) this.#job(tenant, jobId);
      this.#tenant(id, false);
    }
  }
}

function copyNewest(values: Iterable<Newest>): Newest[] {
  return [...values]
    .map((value) => ({ ...value, fields: new Map(value.fields) }))
    .sort((a, b) => a.seq - b.seq);
}
