/**
 * Who watches a job: the connections that are subscribed to it by name, on all instances.
 *
 * Each instance writes its share of a job to the registry, which counts the change in the same step. Then somebody tells
 * the total, and the one rule is: an instance keeps a job on its list until a total has been told that was read after
 * the instance's last change. At every look it asks for the turn; whoever gets it reads all shares in the same step and
 * appends them under the count of changes, so that an older total never replaces a newer one and the same total twice is
 * one event. Whoever does not get it asks again when the interval is over, and hears then that it has been told, or has
 * the turn. The list is in the registry as well: of an instance that dies another one takes over list and turn.
 */

import type { Identity } from "../auth.ts";
import { feedId, type JobName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { PresenceAnswer, Presence as PresenceData, PresenceRequest } from "../protocol/types.ts";
import type { Registry, Share, Turn } from "../store/registry.ts";
import type { Store } from "../store/store.ts";
import { jobOf } from "./access.ts";
import { hubEntry } from "./publish.ts";

export interface PresenceOptions {
  registry: Registry;
  store: Pick<Store, "append" | "heads">;
  /** ms between two events of a job; 0 tells none, and the verb still answers. */
  intervalMs: number;
  /** Whether a job is there as far as this instance knows; `undefined` if it does not follow the job. */
  exists: (job: JobName) => boolean | undefined;
  /** A total has been told. */
  onTold?: () => void;
  /** What nobody foresaw. */
  onError: (error: unknown, what: string) => void;
}

/** A job on this instance's list. */
interface Listed {
  readonly job: JobName;
  /** Subject → connections. */
  readonly users: Map<string, number>;
  watchers: number;
  /** Its share as text, '' for none; `undefined` after each change. */
  text: string | undefined;
  /** The share as the registry has it, '' for none; `undefined` while that is not known. */
  said: string | undefined;
  /** No total is known to have been told since the last change. */
  untold: boolean;
  /** Not to be told before, ms by `performance.now()`. */
  askAt: number;
  /** The end of what is under way for the job, if something is. */
  last: Promise<void> | undefined;
}

/** Shares are written at least so often, however long the interval is. */
const LOOK_MS = 1_000;
/** Between two tries to tell a job that has gone, while it is still watched. */
const GONE_MS = 5_000;
/** Jobs that are worked at side by side. */
const AT_A_TIME = 32;
/** No trainer's producer has a space in its name. */
const PRODUCER = "hub presence";
/** Bytes of all users (JSON): an event must hold them. */
const USERS_BYTES = 49_152;

export class Presence {
  readonly #options: PresenceOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #listed = new Map<string, Listed>();
  /** Those of which something may be to do. */
  readonly #open = new Set<Listed>();
  #looking = false;
  /** Rises whenever the registry has lost what was said. */
  #round = 0;
  #closed = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    const { intervalMs } = options;
    this.#timer = setInterval(() => void this.#look(), Math.min(intervalMs || LOOK_MS, LOOK_MS));
  }

  /** A connection watches a job from now on, until `leave` is called as often as this. */
  join(job: JobName, subject: string): void {
    const listed = this.#list(job);
    listed.users.set(subject, (listed.users.get(subject) ?? 0) + 1);
    this.#count(listed, 1);
  }

  /** One that had joined watches it no more. */
  leave(job: JobName, subject: string): void {
    // It is on the list for as long as somebody watches it.
    const listed = this.#list(job);
    const others = (listed.users.get(subject) ?? 1) - 1;
    if (others > 0) listed.users.set(subject, others);
    else listed.users.delete(subject);
    this.#count(listed, -1);
  }

  #count(listed: Listed, more: 1 | -1): void {
    listed.watchers += more;
    listed.text = undefined;
    this.#open.add(listed);
  }

  /** Who watches a job, on all instances. @throws HubError `job_not_found`, `unavailable`. */
  async answer(identity: Identity, { job_id }: PresenceRequest): Promise<PresenceAnswer> {
    const job = jobOf(identity, job_id);
    const [head] = await this.#options.store.heads(job.tenantId, [job]);
    if (!head) throw new HubError("job_not_found");
    return { job_id, ...(await this.read(job)) };
  }

  /** All instances' watchers of a job; this instance's as they are now. @throws HubError `unavailable`. */
  async read(job: JobName): Promise<Required<PresenceData>> {
    const listed = this.#listed.get(feedId(job));
    if (listed && textOf(listed) !== listed.said) await this.#inTurn(listed, () => this.#write(listed));
    return totalOf(await this.#options.registry.shares(job));
  }

  /** The registry does not know what this instance has said. */
  again(): void {
    this.#round++;
    for (const listed of this.#listed.values()) {
      listed.said = undefined;
      this.#open.add(listed);
    }
  }

  /** Another instance is gone, and its jobs are on this one's list. */
  inherit(jobs: readonly JobName[]): void {
    for (const job of jobs) this.#list(job).untold = true;
    void this.#look();
  }

  /** Tells nothing any more; the registry forgets this instance when it leaves. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  #list(job: JobName): Listed {
    const id = feedId(job);
    let listed = this.#listed.get(id);
    if (!listed) {
      listed = {
        job,
        users: new Map(),
        watchers: 0,
        text: "",
        said: "",
        untold: false,
        askAt: 0,
        last: undefined,
      };
      this.#listed.set(id, listed);
    }
    this.#open.add(listed);
    return listed;
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const waiting = [...this.#open].values();
    const work = async () => {
      for (const listed of waiting) {
        if (this.#closed) return;
        await this.#inTurn(listed, () => this.#attend(listed)).catch((error: unknown) => {
          // The store is away or full: the next look comes.
          this.#options.onError(error, "presence failed");
        });
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, work));
    this.#looking = false;
  }

  /** Everything of one job goes one after the other: what is said later is heard later. */
  #inTurn(listed: Listed, work: () => Promise<void>): Promise<void> {
    const turn = (listed.last ?? Promise.resolve()).then(work);
    const end: Promise<void> = turn
      .catch(() => {})
      .then(() => {
        if (listed.last === end) listed.last = undefined;
      });
    listed.last = end;
    return turn;
  }

  async #attend(listed: Listed): Promise<void> {
    await this.#write(listed);
    if (this.#options.intervalMs === 0) listed.untold = false;
    if (listed.untold) await this.#tell(listed);
    if (listed.untold || textOf(listed) !== listed.said) return;
    if (listed.said === "") {
      // With the memory of when it was told last.
      if (performance.now() < listed.askAt) return;
      await this.#options.registry.release(listed.job);
      if (textOf(listed) !== listed.said || listed.untold) return;
      this.#listed.delete(feedId(listed.job));
    }
    this.#open.delete(listed);
  }

  async #write(listed: Listed): Promise<void> {
    const text = textOf(listed);
    if (text === listed.said || this.#closed) return;
    const round = this.#round;
    // Until the answer it is unknown; the same share once more is no change.
    listed.said = undefined;
    listed.untold = true;
    await this.#options.registry.share(listed.job, shareOf(listed));
    if (round === this.#round) listed.said = text;
  }

  async #tell(listed: Listed): Promise<void> {
    let told = false;
    // Before anything is read: what is inherited meanwhile has to be told as well.
    listed.untold = false;
    try {
      told = await this.#isTold(listed);
    } finally {
      if (!told) listed.untold = true;
    }
  }

  async #isTold(listed: Listed): Promise<boolean> {
    const { registry, intervalMs, exists } = this.#options;
    const now = performance.now();
    const known = exists(listed.job);
    // It is told once the job is there: the feed hears of that.
    if (now < listed.askAt || known === false) return false;
    const turn = await registry.turn(listed.job, intervalMs);
    if (turn === "told") return true;
    listed.askAt = now + ("waitMs" in turn ? turn.waitMs : intervalMs);
    return !("waitMs" in turn) && (await this.#append(listed, turn, known));
  }

  /** Whether there is nothing more to do. */
  async #append(
    listed: Listed,
    { shares, version }: Exclude<Turn, "told" | { waitMs: number }>,
    known: true | undefined,
  ): Promise<boolean> {
    const { registry, store } = this.#options;
    const { tenantId, jobId } = listed.job;
    const entry = hubEntry("presence", jobId, tenantId, totalOf(shares));
    const producer = { id: PRODUCER, ...version };
    const { stored } = await store.append(listed.job, [{ ...entry, producer, onlyIf: [] }]);
    const [result] = stored;
    if (result && "refused" in result && result.refused === "conflict") {
      // The job is not there. Whoever else watches it has it on his own list.
      if (known) listed.askAt = performance.now() + GONE_MS;
      return listed.watchers === 0;
    }
    if (result && "seq" in result && !result.duplicate) this.#options.onTold?.();
    // Another refusal is for good: the job has as many producers or keys as it may.
    await registry.told(listed.job, version);
    return true;
  }
}

function shareOf({ watchers, users }: Listed): Share | undefined {
  if (watchers === 0) return undefined;
  // The first ones of each instance hold the first ones of all.
  return { watchers, users: [...users.keys()].sort().slice(0, LIMITS.presenceUsers) };
}

function textOf(listed: Listed): string {
  if (listed.text === undefined) {
    const share = shareOf(listed);
    listed.text = share ? JSON.stringify(share) : "";
  }
  return listed.text;
}

function totalOf(shares: readonly Share[]): Required<PresenceData> {
  const all = [...new Set(shares.flatMap(({ users }) => users))].sort().slice(0, LIMITS.presenceUsers);
  let bytes = 0;
  const users = all.filter((user) => {
    bytes += Buffer.byteLength(JSON.stringify(user)) + 1;
    return bytes <= USERS_BYTES;
  });
  return { watchers: shares.reduce((sum, share) => sum + share.watchers, 0), users };
}
