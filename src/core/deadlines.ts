/**
 * Whatever in a job has a time: its liveness, its commands. One instance at a time looks which deadlines are over, and
 * another one does when that is gone. What then changes is compared and set by the store, so even two at once would do no
 * harm. Times are the store's: clocks of hubs may differ.
 */
import type { Registry } from "../store/registry.ts";
import type { Due, Store } from "../store/store.ts";

export interface DeadlinesOptions {
  store: Store;
  registry: Registry;
  /** ms between two looks. */
  intervalMs: number;
  /** ms that trainers have to come back after the store was away, before any of them is missed. */
  graceMs: number;
  /** Fields of the job that are needed to judge. */
  fields: readonly string[];
  /** Does what is to be done, and answers in how many ms the deadline is next; `null`: not any more. */
  judge: (tenantId: string, due: Due) => Promise<number | null>;
  onError: (error: unknown, what: string) => void;
}

const AT_ONCE = 100;
/** The lease outlives so many looks that fail. */
const LEASE_LOOKS = 3;
/** A deadline that could not be judged is looked at again after this. */
const AGAIN_MS = 1_000;

export class Deadlines {
  readonly #options: DeadlinesOptions;
  readonly #timer: NodeJS.Timeout;
  /** Since when the store answers, ms by `performance.now()`. */
  #readySince: number | undefined;
  #looking = false;

  constructor(options: DeadlinesOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#look(), options.intervalMs);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      if (await this.#mayLook()) await this.#judgeAll();
    } catch (error) {
      this.#tell(error);
    } finally {
      this.#looking = false;
    }
  }

  async #mayLook(): Promise<boolean> {
    const { store, registry, intervalMs, graceMs } = this.#options;
    const now = performance.now();
    if (!store.ready) {
      this.#readySince = undefined;
      return false;
    }
    this.#readySince ??= now;
    if (now - this.#readySince < graceMs) return false;
    return await registry.lease("deadlines", intervalMs * LEASE_LOOKS);
  }

  async #judgeAll(): Promise<void> {
    const { store, fields } = this.#options;
    for (const tenantId of await store.tenants()) {
      for (;;) {
        const due = await store.due(tenantId, AT_ONCE, fields);
        for (const one of due) await this.#judge(tenantId, one);
        if (due.length < AT_ONCE) break;
      }
    }
  }

  async #judge(tenantId: string, due: Due): Promise<void> {
    const { store, judge } = this.#options;
    let next: number | null = AGAIN_MS;
    try {
      next = due.fields ? await judge(tenantId, due) : null;
    } catch (error) {
      this.#tell(error);
    }
    await store.defer(tenantId, due.jobId, due.what, next);
  }

  #tell(error: unknown): void {
    // The next look comes.
    this.#options.onError(error, "judging deadlines failed");
  }
}
