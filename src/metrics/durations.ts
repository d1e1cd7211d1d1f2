/** The meter behind core and doors: histograms, observed once for a publish and once for a message of the bus. */
import type { Duration, Meter } from "../core/meter.ts";

interface Observed {
  observe(value: number): void;
}

export interface Histograms extends Readonly<Record<Duration, Observed>> {
  readonly storedToWritten: Observed;
  readonly trainerToWritten: Observed;
}

/** In the order of the envelope, in which a text can hold neither before: its quotes are escaped. */
const TIMESTAMP = ',"timestamp":"';
const RECEIVED_AT = ',"received_at":"';

export class Durations implements Meter {
  /** Times that lay in the future. */
  readonly clockDifferences = { hub: 0, trainer: 0 };
  readonly #histograms: Histograms;

  constructor(histograms: Histograms) {
    this.#histograms = histograms;
  }

  observe(what: Duration, seconds: number): void {
    this.#histograms[what].observe(seconds);
  }

  written(wire: string): void {
    const now = Date.now();
    const stamped = wire.indexOf(TIMESTAMP);
    const received = wire.indexOf(RECEIVED_AT, stamped);
    if (stamped < 0 || received < 0) return;
    this.#since("hub", this.#histograms.storedToWritten, now, timeAt(wire, received + RECEIVED_AT.length));
    this.#since("trainer", this.#histograms.trainerToWritten, now, timeAt(wire, stamped + TIMESTAMP.length));
  }

  #since(clock: "hub" | "trainer", histogram: Observed, now: number, then: number): void {
    if (Number.isNaN(then)) return;
    if (then > now) this.clockDifferences[clock]++;
    histogram.observe(Math.max(0, now - then) / 1_000);
  }
}

/** The time that a text begins with there, ms since 1970; NaN for none. */
function timeAt(wire: string, from: number): number {
  return Date.parse(wire.slice(from, wire.indexOf('"', from)));
}
