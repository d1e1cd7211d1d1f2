/**
 * Who is there: instances, and the watchers and trainers that each of them has. Nothing of it is history; what an
 * instance has said of itself is gone when it falls silent. Two implementations, as of the store: memory-registry.ts is
 * alone, redis-registry.ts joins instances. Every method may throw HubError `unavailable` or `storage_full`.
 */
import type { JobName } from "../bus/bus.ts";

/** What one instance says of a job: its watchers' connections, and up to `presenceUsers` of their subjects. */
export interface Share {
  watchers: number;
  users: readonly string[];
}

/** A state of a job's shares. A later one is higher, first by `incarnation`: the shares before were lost. */
export interface Version {
  incarnation: number;
  /** Changes of shares so far. */
  n: number;
}

/**
 * Whether it is this instance's turn to tell a job's shares: it is, and these are the shares; or not before so many ms;
 * or the last change has been told.
 */
export type Turn = { shares: Share[]; version: Version } | { waitMs: number } | "told";

/** A trainer that has announced a job, somewhere. */
export interface Trainer {
  id: string;
  rank: number;
  instanceId: string;
  /** Rises with every announcement of the job: the highest is the newest. */
  order: number;
}

export interface Registry {
  /**
   * Says that this instance is there. `anew`: the others did not know it (it has just started, it was silent and has
   * been forgotten, or the server was emptied), so it must say again what it has. `silent`: instances that have not been
   * heard of for the time-out, by the server's clock; names for `forget` only.
   */
  beat(): Promise<{ anew: boolean; silent: string[] }>;
  /**
   * Sets what this instance has of a job's watchers; `undefined` for none. A change is counted in the same step. From
   * before it until `release` the job is on this instance's list: should the instance die, another one tells the change.
   */
  share(job: JobName, share: Share | undefined): Promise<void>;
  /** What all instances have of a job's watchers. */
  shares(job: JobName): Promise<Share[]>;
  /** At most one instance gets the turn within `ms`. */
  turn(job: JobName, ms: number): Promise<Turn>;
  /** The shares of this version have been told. */
  told(job: JobName, version: Version): Promise<void>;
  /** Takes the job off this instance's list: it has no share, and nothing to tell. */
  release(job: JobName): Promise<void>;
  /**
   * A trainer with the same id gives way, wherever it was announced; with `again` it does not, if that is another
   * instance now, and the answer is `undefined`.
   *
   * @throws HubError `too_many_trainers`.
   */
  announce(
    job: JobName,
    trainer: { id: string; rank: number; again?: boolean },
  ): Promise<Trainer | undefined>;
  /** Only takes away what this instance has announced. */
  withdraw(job: JobName, trainerId: string): Promise<void>;
  /** The job's trainers, lowest rank first and newest first. */
  trainers(job: JobName): Promise<Trainer[]>;
  /**
   * Takes away a silent instance's shares and trainers, job by job, and the instance last: who dies in the middle leaves
   * it for the next one, and two may do it at once. Answers its list, which is this instance's from now on. Does nothing
   * for an instance that has been heard of meanwhile.
   */
  forget(name: string): Promise<JobName[]>;
  /** Takes away what this instance has. Other instances find it silent at once, and tell its jobs. */
  leave(): Promise<void>;
  /** What this instance tells of itself; the newest counts. `text` is JSON. */
  report(text: string): Promise<void>;
  /** The newest report of every instance that has been heard of within the time-out, this one among them. */
  reports(): Promise<string[]>;
  /** Whether this instance is the one that does a common work for the next `ms`; asking again prolongs it. */
  lease(work: string, ms: number): Promise<boolean>;
}

/** Lowest rank first, and newest first. */
export function byRank(a: Trainer, b: Trainer): number {
  return a.rank - b.rank || b.order - a.order;
}
