/** An open loop: what is to be sent when is known beforehand, and is sent then, however the server fares. */
import { nowUs } from "./clock.ts";
import type { Driver, Outgoing, Publisher } from "./driver.ts";
import { Histogram } from "./histogram.ts";
import type { ScheduleCounts, ScheduleRequest, ScheduleTexts } from "./orders.ts";

/** Until the first one is due. */
const START_US = 100_000;
/** Timers are exact to a millisecond; the rest of the way is slept without the event loop. */
const TIMER_US = 2_000;
/** How long the last acknowledgements are waited for. */
const ACK_LIMIT_MS = 10_000;
const MAX_OPEN = 5_000;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** One cycle: each job publishes once in it, at its own moment. */
export interface Cycle {
  /** Events in one publish. */
  readonly events: number;
  readonly lengthUs: number;
  readonly cycles: number;
}

export function cycleOf({ perSecond, pattern, seconds }: Omit<ScheduleRequest, "driver" | "targets">): Cycle {
  const events = pattern === "even" ? 1 : pattern.burst;
  const lengthUs = (events * 1_000_000) / perSecond;
  return { events, lengthUs, cycles: Math.max(1, Math.round((seconds * 1_000_000) / lengthUs)) };
}

/** When the publish is due, counted from the start: publishes are numbered through, job after job and cycle after cycle. */
export function dueUs({ lengthUs }: Cycle, jobs: number, publish: number): number {
  return Math.round((publish * lengthUs) / jobs);
}

export class Schedule {
  readonly #request: ScheduleRequest;
  readonly #lateness = Histogram.empty();
  readonly #counts: ScheduleCounts;
  #open = 0;
  #drained: (() => void) | undefined;

  constructor(request: ScheduleRequest) {
    this.#request = request;
    this.#counts = {
      ...{ sent: 0, acknowledged: 0, refused: 0, last: request.after ?? 0 },
      overloaded: false,
    };
  }

  async run(driver: Driver): Promise<Omit<ScheduleTexts, "process">> {
    const publishers: Publisher[] = [];
    try {
      for (const target of this.#request.targets) publishers.push(await driver.publisher(target));
      await this.#play(publishers);
      await this.#acknowledged();
    } finally {
      for (const publisher of publishers) publisher.close();
    }
    return { ...this.#counts, lateness: String(this.#lateness) };
  }

  async #play(publishers: readonly Publisher[]): Promise<void> {
    const { jobs, maxOpen = MAX_OPEN } = this.#request;
    const cycle = cycleOf(this.#request);
    const startUs = nowUs() + START_US;
    for (let i = 0; i < cycle.cycles * jobs.length; i++) {
      const due = startUs + dueUs(cycle, jobs.length, i);
      await reach(due);
      const job = i % jobs.length;
      // A cycle that has begun goes to its end, so that every job's numbers are the same.
      if (job === 0 && this.#counts.overloaded) return;
      this.#lateness.record(nowUs() - due);
      this.#publish(
        publishers[job % publishers.length] as Publisher,
        jobs[job] as string,
        this.#events(cycle.events, due),
      );
      if (job === jobs.length - 1) this.#counts.last += cycle.events;
      if (this.#open > maxOpen) this.#counts.overloaded = true;
    }
  }

  #events(count: number, sentUs: number): Outgoing[] {
    const { bytes } = this.#request;
    return Array.from({ length: count }, (_, i) => ({
      ...{ n: this.#counts.last + 1 + i, sentUs },
      ...(bytes !== undefined && { bytes }),
    }));
  }

  #publish(publisher: Publisher, job: string, events: readonly Outgoing[]): void {
    const counts = this.#counts;
    counts.sent += events.length;
    this.#open++;
    publisher
      .publish(job, events)
      .then(
        () => {
          counts.acknowledged += events.length;
        },
        (error: Error) => {
          counts.refused += events.length;
          counts.fault ??= error.message;
        },
      )
      .finally(() => {
        if (--this.#open === 0) this.#drained?.();
      });
  }

  async #acknowledged(): Promise<void> {
    if (this.#open === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ACK_LIMIT_MS);
      this.#drained = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Gives the event loop its turn at every call, also when there is no time left. */
async function reach(due: number): Promise<void> {
  const ahead = due - nowUs();
  if (ahead > TIMER_US) await new Promise((resolve) => setTimeout(resolve, (ahead - TIMER_US) / 1_000));
  else await new Promise((resolve) => setImmediate(resolve));
  const rest = due - nowUs();
  if (rest > 0) Atomics.wait(sleeper, 0, 0, rest / 1_000);
}
