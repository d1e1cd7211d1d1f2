/** Signs of life and deadlines of jobs, and the list of tenants that may have some. */
import type { Liveness } from "../protocol/types.ts";
import type { Keys } from "../redis/keys.ts";
import type { RedisLink } from "../redis/link.ts";
import type { StoreScripts } from "./redis-scripts.ts";
import type { Due, Store } from "./store.ts";

/** Clocks of hubs may differ by so much. */
const CLOCKS_MS = 86_400_000;
/** At most once in this time a tenant is written among those that have deadlines. */
const ENLIST_MS = 600_000;
const MAX_ENLISTED = 10_000;
/** Jobs of one script. */
const SCRIPT_JOBS = 100;

export interface RedisDeadlinesOptions {
  redis: Pick<RedisLink, "ready" | "generation">;
  keys: Keys;
  scripts: StoreScripts;
  /** How long anything of a tenant may be kept, ms. */
  lifeMs: number;
}

export class RedisDeadlines {
  readonly #redis: RedisDeadlinesOptions["redis"];
  readonly #keys: Keys;
  readonly #scripts: StoreScripts;
  readonly #lifeMs: number;
  /** Tenant → when it was enlisted, ms by `performance.now()`. */
  readonly #enlisted = new Map<string, number>();
  /** The server's generation of which `enlisted` is true. */
  #enlistedAt = "";

  constructor({ redis, keys, scripts, lifeMs }: RedisDeadlinesOptions) {
    this.#redis = redis;
    this.#keys = keys;
    this.#scripts = scripts;
    this.#lifeMs = lifeMs;
  }

  /** Sent before the command that may make a deadline, on the same connection: Redis takes them in this order. */
  enlist(tenantId: string): void {
    if (!this.#redis.ready) return;
    const now = performance.now();
    const { generation } = this.#redis;
    // A server that was emptied has lost the list; and it must not grow for ever.
    if (generation !== this.#enlistedAt || this.#enlisted.size >= MAX_ENLISTED) this.#enlisted.clear();
    this.#enlistedAt = generation;
    const last = this.#enlisted.get(tenantId);
    if (last !== undefined && now - last < ENLIST_MS) return;
    this.#enlisted.set(tenantId, now);
    const { tenants } = this.#keys;
    this.#scripts
      .call((redis) =>
        redis.multi().zadd(tenants, Date.now(), tenantId).pexpire(tenants, this.#enlistedMs).exec(),
      )
      .catch(() => this.#enlisted.delete(tenantId));
  }

  /** How long a tenant stays on the list: it is enlisted again while anything is stored of it. */
  get #enlistedMs(): number {
    return this.#lifeMs + ENLIST_MS + CLOCKS_MS;
  }

  async tenants(): Promise<string[]> {
    const { tenants } = this.#keys;
    const gone = Date.now() - this.#enlistedMs;
    await this.#scripts.call((redis) => redis.zremrangebyscore(tenants, "-inf", gone));
    return await this.#scripts.call((redis) => redis.zrange(tenants, "0", "-1"));
  }

  async fields(tenantId: string, jobId: string, names: readonly string[]) {
    const [job] = await this.#fieldsOf(tenantId, [jobId], names);
    return job?.fields;
  }

  async #fieldsOf(tenantId: string, jobIds: readonly string[], names: readonly string[]) {
    const metas = jobIds.map((jobId) => this.#keys.job(tenantId, jobId).meta);
    const replies = (await this.#scripts.run("fields", metas, names)) as string[][];
    return replies.map(([silent, expect, seen, ...values]) => ({
      ...(silent && { silentMs: Number(silent) }),
      ...(expect && { expectMs: Number(expect) }),
      ...(seen && { seenAt: Number(seen) }),
      ...(silent !== undefined && { fields: new Map(names.map((name, i) => [name, values[i] as string])) }),
    }));
  }

  async touch(tenantId: string, jobs: Parameters<Store["touch"]>[1]): Promise<Array<Liveness | undefined>> {
    this.enlist(tenantId);
    const { deadlines } = this.#keys.tenant(tenantId);
    const found: Array<Liveness | undefined> = [];
    for (let i = 0; i < jobs.length; i += SCRIPT_JOBS) {
      const some = jobs.slice(i, i + SCRIPT_JOBS);
      const args: Array<string | number> = [this.#lifeMs];
      for (const { jobId, lastStepAt, expectMs, fresh } of some) {
        const step = lastStepAt === undefined ? "" : JSON.stringify(lastStepAt);
        args.push(jobId, step, expectMs ?? "", fresh ? 1 : 0);
      }
      const keys = [deadlines, ...some.map(({ jobId }) => this.#keys.job(tenantId, jobId).meta)];
      for (const json of (await this.#scripts.run("touch", keys, args)) as string[]) {
        found.push(json === "" ? undefined : (JSON.parse(json) as Liveness));
      }
    }
    return found;
  }

  async due(tenantId: string, limit: number, names: readonly string[]): Promise<Due[]> {
    const { deadlines } = this.#keys.tenant(tenantId);
    const reply = (await this.#scripts.run("due", [deadlines], [limit])) as string[];
    const members = reply.map((member) => {
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
    await this.#scripts.run("defer", keys, [`${jobId}/${what}`, what, ms ?? "", this.#lifeMs]);
  }
}
