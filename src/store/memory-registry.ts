/** The registry of a single process: nobody else is there. Same contract and suite as redis-registry.ts. */

import type { JobName } from "../bus/bus.ts";
import { feedId } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import { byRank, type Registry, type Share, type Trainer, type Turn, type Version } from "./registry.ts";

export interface MemoryRegistryOptions {
  instanceId: string;
  /** ms; tests pass their own. */
  now?: () => number;
}

/** A job's watchers. */
interface Watched {
  share: Share | undefined;
  changes: number;
  told: number;
  /** Since when it is somebody's turn, or was. */
  turn: number;
}

export class MemoryRegistry implements Registry {
  readonly #instanceId: string;
  readonly #now: () => number;
  readonly #watched = new Map<string, Watched>();
  readonly #trainers = new Map<string, Map<string, Trainer>>();
  /** Versions go on over what was released. */
  #changes = 0;
  #order = 0;
  #known = false;
  #report: string | undefined;

  constructor({ instanceId, now = () => performance.now() }: MemoryRegistryOptions) {
    this.#instanceId = instanceId;
    this.#now = now;
  }

  async beat(): Promise<{ anew: boolean; silent: string[] }> {
    const anew = !this.#known;
    this.#known = true;
    return { anew, silent: [] };
  }

  async share(job: JobName, share: Share | undefined): Promise<void> {
    const id = feedId(job);
    const watched = this.#watched.get(id);
    if (JSON.stringify(watched?.share) === JSON.stringify(share)) return;
    const changes = ++this.#changes;
    if (watched) Object.assign(watched, { share, changes });
    else this.#watched.set(id, { share, changes, told: 0, turn: Number.NEGATIVE_INFINITY });
  }

  async shares(job: JobName): Promise<Share[]> {
    const share = this.#watched.get(feedId(job))?.share;
    return share ? [share] : [];
  }

  async turn(job: JobName, ms: number): Promise<Turn> {
    const watched = this.#watched.get(feedId(job));
    if (!watched || watched.told >= watched.changes) return "told";
    const now = this.#now();
    const waitMs = watched.turn + ms - now;
    if (waitMs > 0) return { waitMs };
    watched.turn = now;
    return { shares: await this.shares(job), version: { incarnation: 0, n: watched.changes } };
  }

  async told(job: JobName, { n }: Version): Promise<void> {
    const watched = this.#watched.get(feedId(job));
    if (watched && watched.told < n) watched.told = n;
  }

  async release(job: JobName): Promise<void> {
    const id = feedId(job);
    if (!this.#watched.get(id)?.share) this.#watched.delete(id);
  }

  async announce(job: JobName, { id, rank }: { id: string; rank: number }): Promise<Trainer> {
    const jobId = feedId(job);
    const trainers = this.#trainers.get(jobId) ?? new Map<string, Trainer>();
    if (!trainers.has(id) && trainers.size >= LIMITS.trainers) throw new HubError("too_many_trainers");
    const trainer = { id, rank, instanceId: this.#instanceId, order: ++this.#order };
    trainers.set(id, trainer);
    this.#trainers.set(jobId, trainers);
    return trainer;
  }

  async withdraw(job: JobName, trainerId: string): Promise<void> {
    const trainers = this.#trainers.get(feedId(job));
    trainers?.delete(trainerId);
    if (trainers?.size === 0) this.#trainers.delete(feedId(job));
  }

  async trainers(job: JobName): Promise<Trainer[]> {
    return [...(this.#trainers.get(feedId(job))?.values() ?? [])].sort(byRank);
  }

  async forget(): Promise<JobName[]> {
    return [];
  }

  async leave(): Promise<void> {
    this.#watched.clear();
    this.#trainers.clear();
    this.#known = false;
    this.#report = undefined;
  }

  async report(text: string): Promise<void> {
    this.#report = text;
  }

  async reports(): Promise<string[]> {
    return this.#report === undefined ? [] : [this.#report];
  }

  async lease(): Promise<boolean> {
    return true;
  }
}
