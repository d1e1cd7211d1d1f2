/** A tenant's index of jobs. Jobs expire by themselves; whoever comes upon one that is gone takes it out of the index. */
import { HubError } from "../protocol/codes.ts";
import type { Keys } from "../redis/keys.ts";
import type { StoreScripts } from "./redis-scripts.ts";
import { pairs } from "./redis-text.ts";
import type { Store } from "./store.ts";

/** Heads that are asked for at once. */
const HEADS = 100;
/** At most once in this time a tenant's index is searched for jobs that are gone. */
const SWEEP_MS = 1_000;

export interface RedisIndexOptions {
  keys: Keys;
  scripts: StoreScripts;
  heads: Store["heads"];
}

interface Indexed {
  jobId: string;
  /** ms since 1970. */
  created: number;
}

export class RedisIndex {
  readonly #keys: Keys;
  readonly #scripts: StoreScripts;
  readonly #heads: Store["heads"];
  readonly #sweeps = new Map<string, Promise<number>>();

  constructor({ keys, scripts, heads }: RedisIndexOptions) {
    this.#keys = keys;
    this.#scripts = scripts;
    this.#heads = heads;
  }

  /** As `Store.jobs`. */
  async page(tenantId: string, options: { limit: number; before?: string }): Promise<string[]> {
    const { index } = this.#keys.tenant(tenantId);
    const found: string[] = [];
    // By creation, not by rank: others take jobs that are gone out of the index meanwhile.
    let after: Indexed | undefined;
    if (options.before !== undefined) {
      const created = await this.#scripts.call((redis) => redis.zscore(index, options.before as string));
      if (created === null) throw new HubError("invalid_cursor", "before is not a job; begin again");
      after = { jobId: options.before, created: Number(created) };
    }
    for (let skip = 0; found.length < options.limit; ) {
      const wanted = options.limit - found.length;
      const highest = after?.created ?? "+inf";
      const rows = await this.#scripts.call((redis) =>
        redis.zrevrangebyscore(index, highest, "-inf", "WITHSCORES", "LIMIT", skip, wanted + 1),
      );
      const jobs = [...pairs(rows)].map(([jobId, created]) => ({ jobId, created: Number(created) }));
      const further = jobs.filter((job) => !after || isBehind(job, after)).slice(0, wanted);
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

  /** Looks through all jobs of a tenant, for all who ask within a second. Answers how many were gone. */
  sweep(tenantId: string): Promise<number> {
    const known = this.#sweeps.get(tenantId);
    if (known) return known;
    const { index } = this.#keys.tenant(tenantId);
    const sweep = this.#scripts
      .call((redis) => redis.zrange(index, "0", "-1"))
      .then((ids) => this.#living(tenantId, ids))
      .then(({ forgotten }) => forgotten);
    this.#sweeps.set(tenantId, sweep);
    const forget = () => this.#sweeps.delete(tenantId);
    sweep.then(() => setTimeout(forget, SWEEP_MS).unref(), forget);
    return sweep;
  }

  /** Of these ids the ones whose feed is there; the others leave the index. */
  async #living(tenantId: string, ids: readonly string[]): Promise<{ living: string[]; forgotten: number }> {
    const living: string[] = [];
    let forgotten = 0;
    for (let i = 0; i < ids.length; i += HEADS) {
      const part = ids.slice(i, i + HEADS);
      const heads = await this.#heads(
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

  /** Answers how many have left the index: one, or none if the job is there again. */
  async #forget(tenantId: string, jobId: string): Promise<number> {
    const keys = [this.#keys.tenant(tenantId).index, this.#keys.job(tenantId, jobId).meta];
    return Number(await this.#scripts.run("forget", keys, [jobId]));
  }
}

/** Whether a job stands behind another one in a list that begins with the newest. */
function isBehind(job: Indexed, other: Indexed): boolean {
  return job.created < other.created || (job.created === other.created && job.jobId < other.jobId);
}
