/**
 * This instance among the others: it says that it is there, and finds those that have fallen silent. Every instance
 * looks for itself; nobody is in charge.
 */

import type { JobName } from "../bus/bus.ts";
import type { Registry } from "../store/registry.ts";

export interface InstancesOptions {
  registry: Registry;
  /** ms of silence after which an instance is forgotten. */
  timeoutMs: number;
  /** What the others are told of this instance, as JSON of a few hundred bytes. */
  report: () => string;
  /** The others did not know this instance: whatever it has must be said again. */
  onAnew: () => void;
  /** An instance is gone: these jobs' watchers may be fewer, and it is for this instance to tell. */
  onForgotten: (jobs: readonly JobName[]) => void;
  /** What nobody foresaw. */
  onError: (error: unknown, what: string) => void;
}

/** How long the end of a hub waits for the registry. */
const LEAVE_MS = 1_000;
/** Between two reports, however short the beats are. */
const REPORT_MS = 1_000;

export class Instances {
  readonly #options: InstancesOptions;
  readonly #timer: NodeJS.Timeout;
  /** What is under way. */
  #beating: Promise<void> | undefined;
  #forgetting: Promise<void> | undefined;
  #lastBeat = Number.NEGATIVE_INFINITY;
  /** Since when the beats have gone through without a fault, ms by `performance.now()`. */
  #steadySince = 0;
  #reportedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: InstancesOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#look(), options.timeoutMs / 3);
    this.#look();
  }

  #look(): void {
    this.#beating ??= this.#beat()
      .catch((error: unknown) => {
        this.#lastBeat = Number.NEGATIVE_INFINITY;
        this.#tell(error, "beat failed");
      })
      .finally(() => {
        this.#beating = undefined;
      });
  }

  async #beat(): Promise<void> {
    const { registry, timeoutMs } = this.#options;
    const { anew, silent } = await registry.beat();
    if (this.#closed) return;
    const now = performance.now();
    // Late, by whomever's fault: the beats of the others may be as late, and must have the time to arrive.
    if (anew || now - this.#lastBeat > (timeoutMs * 2) / 3) this.#steadySince = now;
    this.#lastBeat = now;
    if (anew) this.#options.onAnew();
    if (silent.length > 0 && now - this.#steadySince >= timeoutMs) this.#startForgetting(silent);
    if (anew || now - this.#reportedAt >= REPORT_MS) await this.report();
  }

  /** Tells the others at once what else the next beat would. */
  async report(): Promise<void> {
    if (this.#closed) return;
    this.#reportedAt = performance.now();
    try {
      await this.#options.registry.report(this.#options.report());
    } catch (error) {
      this.#tell(error, "report failed");
    }
  }

  #startForgetting(silent: readonly string[]): void {
    // Beside the beats: a large instance takes a while.
    this.#forgetting ??= this.#forget(silent)
      .catch((error: unknown) => this.#tell(error, "forgetting an instance failed"))
      .finally(() => {
        this.#forgetting = undefined;
      });
  }

  async #forget(silent: readonly string[]): Promise<void> {
    for (const name of silent) {
      const jobs = await this.#options.registry.forget(name);
      if (this.#closed) return;
      if (jobs.length > 0) this.#options.onForgotten(jobs);
    }
  }

  /** The store is away: the next beat comes. Anything else nobody foresaw. */
  #tell(error: unknown, what: string): void {
    this.#options.onError(error, what);
  }

  /** Takes this instance away. If the store does not answer, the others find it silent after the time-out. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LEAVE_MS);
    });
    const left = (async () => {
      await Promise.all([this.#beating, this.#forgetting]);
      await this.#options.registry.leave();
    })().catch((error: unknown) => this.#tell(error, "leaving failed"));
    await Promise.race([left, late]);
    clearTimeout(timer);
  }
}
