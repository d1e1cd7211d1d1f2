/**
 * The registry on Redis. Instances are of one slot, a job's hashes of its tenant's: so whatever goes over both takes
 * several commands, in an order that leaves nothing behind should they end in the middle.
 */
import { randomBytes } from "node:crypto";
import type { JobName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Keys } from "../redis/keys.ts";
import type { RedisLink } from "../redis/link.ts";
import { type Reply, Scripts } from "../redis/scripts.ts";
import { REGISTRY_SCRIPTS } from "./redis-scripts.ts";
import { pairs } from "./redis-text.ts";
import { byRank, type Registry, type Share, type Trainer, type Turn, type Version } from "./registry.ts";

/** Of every key: what nobody has renewed for so long was left behind by instances that nobody could forget. */
const LIFE_MS = 86_400_000;
const RENEW_MS = LIFE_MS / 4;
/** Commands that are sent at once. */
const AT_A_TIME = 100;

export interface RedisRegistryOptions {
  redis: RedisLink;
  keys: Keys;
  instanceId: string;
  /** ms without a beat after which an instance counts as silent. */
  instanceTimeoutMs: number;
  /** ms between two renewals of what stays without a change; default 6 h. */
  renewMs?: number;
}

export class RedisRegistry implements Registry {
  readonly #options: RedisRegistryOptions;
  readonly #keys: Keys;
  readonly #scripts: Scripts<keyof typeof REGISTRY_SCRIPTS>;
  /**
   * Another one whenever the instance comes anew: what it said before is taken away under the name of before, by
   * whoever and whenever, and never what it says now. Also a restarted hub of the same name is not taken for itself.
   */
  #name: string;
  /** The name before, until the others know that it is to be forgotten. */
  #before = "";
  #entered = false;
  #renewed = performance.now();

  constructor(options: RedisRegistryOptions) {
    this.#options = options;
    this.#keys = options.keys;
    this.#scripts = new Scripts(options.redis, REGISTRY_SCRIPTS);
    this.#name = this.#newName();
  }

  #newName(): string {
    return `${this.#options.instanceId}.${randomBytes(6).toString("hex")}`;
  }

  async beat(): Promise<{ anew: boolean; silent: string[] }> {
    const [known, ...silent] = this.#entered ? await this.#beat(this.#name) : [0];
    if (known === 1) {
      await this.#renew();
      return { anew: false, silent: silent as string[] };
    }
    if (this.#entered) {
      this.#before = this.#name;
      this.#name = this.#newName();
      this.#entered = false;
    }
    // Behind everything that was said under the name before, on the same connection: it can be forgotten completely.
    const [, ...found] = await this.#beat(this.#name, this.#before);
    this.#entered = true;
    this.#before = "";
    return { anew: true, silent: found as string[] };
  }

  async #beat(name: string, before?: string): Promise<Reply[]> {
    const enters = before !== undefined;
    const args = [name, this.#options.instanceTimeoutMs, LIFE_MS, enters ? 1 : 0, before ?? ""];
    return (await this.#scripts.run("registry_beat", [this.#keys.instances], args)) as Reply[];
  }

  /** Who stays for days without a change is still there. */
  async #renew(): Promise<void> {
    if (performance.now() - this.#renewed < (this.#options.renewMs ?? RENEW_MS)) return;
    const list = this.#keys.instance(this.#name);
    const members = await this.#scripts.call((redis) => redis.smembers(list));
    await this.#each([...new Set(members.map(keyOf(this.#keys))), list], (key) =>
      this.#scripts.call((redis) => redis.pexpire(key, LIFE_MS)),
    );
    this.#renewed = performance.now();
  }

  async share(job: JobName, share: Share | undefined): Promise<void> {
    const args = [this.#name, share ? JSON.stringify(share) : "", LIFE_MS];
    const keys = [this.#keys.job(job.tenantId, job.jobId).watchers];
    if (!share) return void (await this.#scripts.run("registry_unshare", keys, args));
    await Promise.all([this.#enlist(memberOf(job)), this.#scripts.run("registry_share", keys, args)]);
  }

  /** Sent before what it is the list of. */
  #enlist(member: string): Promise<unknown> {
    const list = this.#keys.instance(this.#name);
    return this.#scripts.call((redis) =>
      Promise.all([redis.sadd(list, member), redis.pexpire(list, LIFE_MS)]),
    );
  }

  async shares({ tenantId, jobId }: JobName): Promise<Share[]> {
    const all = await this.#scripts.call((redis) => redis.hgetall(this.#keys.job(tenantId, jobId).watchers));
    return Object.entries(all).flatMap(([field, text]) => (field.startsWith(":") ? [] : [shareOf(text)]));
  }

  async turn({ tenantId, jobId }: JobName, ms: number): Promise<Turn> {
    const keys = [this.#keys.job(tenantId, jobId).watchers];
    const [what, ...rest] = (await this.#scripts.run("registry_turn", keys, [ms])) as Reply[];
    if (what === "told") return "told";
    if (what === "wait") return { waitMs: Number(rest[0]) };
    const [incarnation, n, ...shares] = rest as string[];
    return {
      shares: shares.map(shareOf),
      version: { incarnation: Number(incarnation), n: Number(n) },
    };
  }

  async told({ tenantId, jobId }: JobName, { incarnation, n }: Version): Promise<void> {
    await this.#scripts.run("registry_told", [this.#keys.job(tenantId, jobId).watchers], [incarnation, n]);
  }

  async release(job: JobName): Promise<void> {
    const list = this.#keys.instance(this.#name);
    await this.#scripts.call((redis) => redis.srem(list, memberOf(job)));
  }

  async announce(
    job: JobName,
    { id, rank, again = false }: { id: string; rank: number; again?: boolean },
  ): Promise<Trainer | undefined> {
    const keys = [this.#keys.job(job.tenantId, job.jobId).trainers];
    const own = again ? `${this.#options.instanceId}.` : "";
    const args = [id, rank, this.#name, LIMITS.trainers, LIFE_MS, own];
    const [, order] = await Promise.all([
      this.#enlist(memberOf(job, id)),
      this.#scripts.run("registry_announce", keys, args),
    ]);
    if (order === 0 || order === -1) {
      await this.withdraw(job, id);
      if (order === -1) return undefined;
      throw new HubError("too_many_trainers");
    }
    return { id, rank, instanceId: this.#options.instanceId, order: Number(order) };
  }

  async withdraw(job: JobName, trainerId: string): Promise<void> {
    const list = this.#keys.instance(this.#name);
    await Promise.all([
      this.#takeTrainer(job, trainerId, this.#name),
      this.#scripts.call((redis) => redis.srem(list, memberOf(job, trainerId))),
    ]);
  }

  #takeTrainer({ tenantId, jobId }: JobName, trainerId: string, name: string): Promise<Reply> {
    const keys = [this.#keys.job(tenantId, jobId).trainers];
    return this.#scripts.run("registry_withdraw", keys, [trainerId, name]);
  }

  async trainers({ tenantId, jobId }: JobName): Promise<Trainer[]> {
    const { trainers: key } = this.#keys.job(tenantId, jobId);
    // As a list: `__proto__` is an id like any other.
    const all = (await this.#scripts.call((redis) => redis.call("HGETALL", key))) as string[];
    const trainers: Trainer[] = [];
    for (const [id, text] of pairs(all)) {
      if (id.startsWith(":")) continue;
      const [order, rank, name = ""] = text.split(" ");
      trainers.push({ id, rank: Number(rank), instanceId: instanceOf(name), order: Number(order) });
    }
    return trainers.sort(byRank);
  }

  async forget(name: string): Promise<JobName[]> {
    const { marked } = await this.#condemn(name, this.#options.instanceTimeoutMs);
    if (!marked) return [];
    const jobs = await this.#takeAway(name, (job) => this.#enlist(memberOf(job)));
    // If it stays it is found silent again; the jobs are on this instance's list already.
    await this.#remove(name).catch(() => {});
    return jobs;
  }

  async leave(): Promise<void> {
    const { others } = await this.#condemn(this.#name, -1);
    await this.#takeAway(this.#name);
    // The others still need its list, to tell what has changed.
    if (others === 0) await this.#remove(this.#name);
  }

  async #condemn(name: string, timeoutMs: number): Promise<{ marked: boolean; others: number }> {
    const args = [name, timeoutMs];
    const reply = await this.#scripts.run("registry_condemn", [this.#keys.instances], args);
    const [marked, others] = reply as [number, number];
    return { marked: marked === 1, others };
  }

  /** Only under a name that has beaten: what comes later under another one is swept away by `reports`. */
  async report(text: string): Promise<void> {
    const key = this.#keys.reports;
    await this.#scripts.call((redis) =>
      Promise.all([redis.hset(key, this.#name, text), redis.pexpire(key, LIFE_MS)]),
    );
  }

  async reports(): Promise<string[]> {
    const { reports, instances } = this.#keys;
    // In this order: an instance enters before it reports, and its report is taken away before it is.
    const [all, time, beats] = await this.#scripts.call((redis) =>
      Promise.all([redis.hgetall(reports), redis.time(), redis.zrange(instances, "0", "-1", "WITHSCORES")]),
    );
    const [seconds, microseconds] = time.map(Number) as [number, number];
    const since = seconds * 1_000 + microseconds / 1_000 - this.#options.instanceTimeoutMs;
    const left = new Set(Object.keys(all));
    // Last heard of last: of a hub that was killed and has started again, the report of now.
    const newest = new Map<string, string>();
    for (const [name, beat] of pairs(beats)) {
      left.delete(name);
      const text = all[name];
      if (text !== undefined && Number(beat) >= since) newest.set(instanceOf(name), text);
    }
    if (left.size > 0) await this.#scripts.call((redis) => redis.hdel(reports, ...left));
    return [...newest.values()];
  }

  /** Report, shares and trainers of an instance; `first` is done before the share of each job. Answers the jobs of its list. */
  async #takeAway(name: string, first?: (job: JobName) => Promise<unknown>): Promise<JobName[]> {
    await this.#scripts.call((redis) => redis.hdel(this.#keys.reports, name));
    const members = await this.#scripts.call((redis) => redis.smembers(this.#keys.instance(name)));
    const jobs: JobName[] = [];
    await this.#each(members, async (member) => {
      const [tenantId = "", jobId = "", trainerId] = member.split("/");
      const job = { tenantId, jobId };
      if (trainerId !== undefined) return await this.#takeTrainer(job, trainerId, name);
      jobs.push(job);
      const keys = [this.#keys.job(tenantId, jobId).watchers];
      const unshare = () => this.#scripts.run("registry_unshare", keys, [name, "", LIFE_MS]);
      return await Promise.all([first?.(job), unshare()]);
    });
    return jobs;
  }

  async #remove(name: string): Promise<void> {
    await this.#scripts.call((redis) => redis.del(this.#keys.instance(name)));
    await this.#scripts.call((redis) => redis.zrem(this.#keys.instances, name));
  }

  async lease(work: string, ms: number): Promise<boolean> {
    return (await this.#scripts.run("registry_lease", [this.#keys.lease(work)], [this.#name, ms])) === 1;
  }

  async #each<T>(all: readonly T[], work: (one: T) => Promise<unknown>): Promise<void> {
    for (let i = 0; i < all.length; i += AT_A_TIME) {
      await Promise.all(all.slice(i, i + AT_A_TIME).map(work));
    }
  }
}

/** On an instance's list: `<tenant>/<job>` for watchers, `<tenant>/<job>/<trainer>` for each trainer. */
function memberOf({ tenantId, jobId }: JobName, trainerId?: string): string {
  return trainerId === undefined ? `${tenantId}/${jobId}` : `${tenantId}/${jobId}/${trainerId}`;
}

function keyOf(keys: Keys): (member: string) => string {
  return (member) => {
    const [tenantId = "", jobId = "", trainerId] = member.split("/");
    const job = keys.job(tenantId, jobId);
    return trainerId === undefined ? job.watchers : job.trainers;
  };
}

/** Whose name it is. */
function instanceOf(name: string): string {
  return name.slice(0, name.lastIndexOf("."));
}

function shareOf(text: string): Share {
  return JSON.parse(text) as Share;
}
