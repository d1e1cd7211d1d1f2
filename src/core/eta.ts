/**
 * How long a job still needs, where its trainer does not say: from the steps that this instance has seen. Only
 * differences count, so that instances need not know of each other, and only this process' own clock, so that the hubs'
 * clocks may differ.
 */
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type { JobStatus } from "../protocol/types.ts";
import { type CheckedEvent, conflationKey } from "../store/reduce.ts";

/** Keys (jobs by rank and product) that are remembered, the least recently used are forgotten. */
const MAX_KEYS = 10_000;
/** Steps before which nothing is said. */
const MIN_STEPS = 30;
/** An observation has half its weight after so much time or so many steps, whichever takes longer. */
const HALF_LIFE_MS = 60_000;
const HALF_LIFE_STEPS = 30;
/** What arrives within so many ms is one observation: the events of a batch, and batches that follow at once. */
const MOMENT_MS = 250;
/** A silence of so many ms, and so many times what its steps should have taken, was a pause. */
const SILENCE_MS = 30_000;
const FAR_OFF = 10;
/** Observations in between after which a silence is an exception again. */
const SILENCE_MEMORY = 4;

export interface EtaOptions {
  /** Milliseconds of a clock that never goes back; default: `performance.now`. */
  now?: () => number;
  /** Default: 10 000. */
  maxKeys?: number;
}

/** The estimates of one instance. */
export class EtaEstimator {
  readonly #now: () => number;
  readonly #maxKeys: number;
  readonly #jobs = new Map<string, Map<string, Pace>>();
  /** All paces, least recently used first. */
  readonly #recent = new Set<Pace>();

  constructor({ now = () => performance.now(), maxKeys = MAX_KEYS }: EtaOptions = {}) {
    this.#now = now;
    this.#maxKeys = maxKeys;
  }

  /** Keys that are remembered. */
  get size(): number {
    return this.#recent.size;
  }

  /**
   * Takes note of an event, whatever its type.
   *
   * @returns seconds left, 0 or more with at most one decimal, if this is progress that needs them and they are known.
   */
  observe(tenantId: string, event: CheckedEvent): number | undefined {
    if (event.type === "training_status" || event.type === "job_updated") {
      const { status } = event.data;
      if (status !== undefined) this.#onStatus(`${tenantId}/${event.job_id}`, status, event.attempt);
    }
    if (event.type !== "training_progress") return undefined;
    const { step, total_steps, eta_seconds } = event.data;
    if (step === undefined && total_steps === undefined && eta_seconds === undefined) return undefined;
    const pace = this.#pace(`${tenantId}/${event.job_id}`, conflationKey(event), event.attempt);
    if (event.attempt !== undefined && event.attempt < pace.attempt) return undefined;
    if (eta_seconds !== undefined) pace.told = true;
    if (pace.told) return undefined;
    if (total_steps !== undefined) pace.total = total_steps;
    if (step === undefined) return undefined;
    // Moving it for every event would cost more than the estimate.
    if (pace.reach(step, this.#now())) this.#touch(pace);
    return pace.secondsLeft(step);
  }

  #onStatus(job: string, status: JobStatus, attempt: number | undefined): void {
    if (status === "running") return;
    for (const pace of this.#jobs.get(job)?.values() ?? []) {
      // A status of an attempt that is over says nothing of the present one.
      if (attempt !== undefined && attempt < pace.attempt) continue;
      if (TERMINAL_STATUSES.has(status)) this.#forget(pace);
      else pace.pause();
    }
  }

  /** Without an attempt it is of the newest that was seen here. */
  #pace(job: string, key: string, attempt = 0): Pace {
    let keys = this.#jobs.get(job);
    const known = keys?.get(key);
    if (known && known.attempt >= attempt) return known;
    if (known) this.#recent.delete(known);
    if (!keys) {
      keys = new Map();
      this.#jobs.set(job, keys);
    }
    const pace = new Pace(job, key, Math.max(attempt, 1));
    keys.set(key, pace);
    this.#touch(pace);
    return pace;
  }

  #touch(pace: Pace): void {
    this.#recent.delete(pace);
    this.#recent.add(pace);
    if (this.#recent.size <= this.#maxKeys) return;
    const [oldest] = this.#recent;
    if (oldest) this.#forget(oldest);
  }

  #forget(pace: Pace): void {
    this.#recent.delete(pace);
    const keys = this.#jobs.get(pace.job);
    keys?.delete(pace.key);
    if (keys?.size === 0) this.#jobs.delete(pace.job);
  }
}

/**
 * Time per step of one key in one attempt: decayed sums of time and of steps. Sums, not a mean of rates, because the
 * steps of a batch arrive at once. A segment is a stretch without pause in which steps only rise.
 */
class Pace {
  readonly job: string;
  readonly key: string;
  readonly attempt: number;
  total: number | undefined;
  /** Whether the trainer has told an estimate of its own. */
  told = false;
  /** Steps that were counted, without decay. */
  #seen = 0;
  #ms = 0;
  #steps = 0;
  /** Up to where the sums go in this segment. */
  #countedAt = 0;
  #countedStep = 0;
  /** The last event of this segment. */
  #lastAt = 0;
  #lastStep = 0;
  /** When the present moment began; `undefined` between segments. */
  #momentAt: number | undefined;
  /** What comes in the first moment of a segment was made before it: how long it took is not known. */
  #isFirstMoment = true;
  /** Whether several events come in a moment. Then it is counted when it is over, else at once. */
  #isBatched = false;
  /** The highest step; steps up to it may be sent again. */
  #highest = 0;
  /** How usual silences are: raised by each, lowered by what comes in between. */
  #silences = 0;

  constructor(job: string, key: string, attempt: number) {
    this.job = job;
    this.key = key;
    this.attempt = attempt;
  }

  /** Takes a step; answers whether a moment begins with it. */
  reach(step: number, now: number): boolean {
    if (this.#momentAt !== undefined && step < this.#lastStep) this.pause();
    const isFirst = this.#momentAt === undefined;
    const begins = this.#momentAt === undefined || now - this.#momentAt >= MOMENT_MS;
    if (begins) {
      if (!isFirst) this.#count();
      this.#isFirstMoment = isFirst;
      this.#momentAt = now;
    } else this.#isBatched = true;
    this.#lastAt = now;
    this.#lastStep = step;
    if (!this.#isBatched || this.#isFirstMoment) this.#count();
    return begins;
  }

  /** Ends the segment: what lies between it and the next does not count. */
  pause(): void {
    if (this.#momentAt === undefined) return;
    this.#count();
    this.#momentAt = undefined;
  }

  secondsLeft(step: number): number | undefined {
    // None, or one that says "not known".
    if (!this.total) return undefined;
    if (step >= this.total) return 0;
    if (this.#seen < MIN_STEPS || this.#ms <= 0) return undefined;
    return Math.round(((this.total - step) * (this.#ms / this.#steps)) / 100) / 10;
  }

  /** Counts what has come since it was last counted. */
  #count(): void {
    const steps = this.#lastStep - this.#countedStep;
    if (!this.#isFirstMoment) {
      // While the step stays, time goes on: whether it was a pause shows when the step rises.
      if (steps === 0) return;
      this.#add(this.#lastAt - this.#countedAt, steps);
    }
    this.#countedAt = this.#lastAt;
    this.#countedStep = this.#lastStep;
    this.#highest = Math.max(this.#highest, this.#lastStep);
  }

  #add(ms: number, steps: number): void {
    const expected = this.#steps > 0 ? steps * (this.#ms / this.#steps) : Number.POSITIVE_INFINITY;
    const wasSilent = ms > SILENCE_MS && ms > FAR_OFF * expected;
    const isUsual = this.#silences >= 1;
    this.#silences = wasSilent ? this.#silences + 1 : Math.max(0, this.#silences - 1 / SILENCE_MEMORY);
    if (wasSilent && !isUsual) return;
    // Sent again, not trained again.
    if (this.#lastStep <= this.#highest && ms * FAR_OFF < expected) return;
    // One silence is a pause; when they go on, this is how slow it is now. What was before says nothing any more.
    if (wasSilent || this.#wasWarmUp(ms, steps)) {
      this.#ms = 0;
      this.#steps = 0;
    }
    const kept = 0.5 ** Math.min(ms / HALF_LIFE_MS, steps / HALF_LIFE_STEPS);
    this.#ms = this.#ms * kept + ms;
    this.#steps = this.#steps * kept + steps;
    this.#seen += steps;
  }

  /** Whether all before was a silence, seen by these steps: the first step often compiles the model. */
  #wasWarmUp(ms: number, steps: number): boolean {
    if (this.#steps >= MIN_STEPS || this.#ms <= SILENCE_MS || ms < MOMENT_MS) return false;
    return this.#ms > FAR_OFF * this.#steps * (ms / steps);
  }
}
