/** Latencies of any number of events in a few kilobytes, three digits exact. The only file that knows the package. */
import * as hdr from "hdr-histogram-js";
import type { Finding, Round } from "./measure.ts";

/** What takes longer counts as this much. */
const MOST_US = 60_000_000;
const DIGITS = 3;

/** Values that there are, rising, and how many there are up to each. */
interface Steps {
  values: number[];
  upTo: number[];
}

export class Histogram {
  readonly #counts = new hdr.Int32Histogram(1, MOST_US, DIGITS);
  #steps: Steps | undefined;

  static empty(): Histogram {
    return new Histogram();
  }

  static parse(text: string): Histogram {
    const own = new Histogram();
    own.#counts.add(hdr.decodeFromCompressedBase64(text) as hdr.JsHistogram);
    return own;
  }

  /** All of them in one. */
  static merged(all: Iterable<Histogram>): Histogram {
    const sum = Histogram.empty();
    for (const each of all) sum.#counts.add(each.#counts);
    return sum;
  }

  /** What `share` (0 to 100) per cent of all their values together do not exceed, µs; quick enough to be asked often. */
  static percentileOf(all: readonly Histogram[], share: number): number | undefined {
    const wanted = (all.reduce((sum, { count }) => sum + count, 0) * share) / 100;
    if (wanted === 0) return undefined;
    let [low, high] = [0, MOST_US];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (all.reduce((sum, each) => sum + each.#upTo(middle), 0) >= wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  get count(): number {
    return this.#counts.totalCount;
  }

  /** µs; 0 when there is none. */
  get max(): number {
    return this.count === 0 ? 0 : this.#counts.maxValue;
  }

  /** µs. */
  record(us: number): void {
    this.#steps = undefined;
    this.#counts.recordValue(us < 0 ? 0 : us > MOST_US ? MOST_US : Math.round(us));
  }

  /** µs that `share` (0 to 100) per cent do not exceed; 0 when there is none. */
  percentile(share: number): number {
    return this.count === 0 ? 0 : this.#counts.getValueAtPercentile(share);
  }

  reset(): void {
    this.#steps = undefined;
    this.#counts.reset();
  }

  toString(): string {
    return hdr.encodeIntoCompressedBase64(this.#counts);
  }

  /** How many values there are up to this one. */
  #upTo(value: number): number {
    this.#steps ??= this.#takeSteps();
    const { values, upTo } = this.#steps;
    let [low, high] = [0, values.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((values[middle] as number) <= value) low = middle + 1;
      else high = middle;
    }
    return upTo[low - 1] ?? 0;
  }

  #takeSteps(): Steps {
    const steps: Steps = { values: [], upTo: [] };
    let sum = 0;
    for (let i = 0; sum < this.count; i++) {
      const count = this.#counts.getCountAtIndex(i);
      if (count === 0) continue;
      sum += count;
      steps.values.push(this.#counts.highestEquivalentValue(this.#counts.valueFromIndex(i)));
      steps.upTo.push(sum);
    }
    return steps;
  }
}

/** What each round has found of each system. */
export type Distributions = ReadonlyArray<ReadonlyMap<string, Histogram>>;

/**
 * Percentiles of all rounds' values together: a round alone has too few of them for its tail.
 *
 * @param percentile 0 to 100
 * @param unit of the answer, µs
 */
export function pooled(
  rounds: readonly Round[],
  distributions: Distributions,
  percentile: number,
  unit: number,
): NonNullable<Finding["pooled"]> {
  const numbers = new Map(rounds.map((round, i) => [round, i]));
  return (drawn, system) => {
    const found = drawn.flatMap((round) => distributions[numbers.get(round) as number]?.get(system) ?? []);
    const us = Histogram.percentileOf(found, percentile);
    return us === undefined ? undefined : us / unit;
  };
}
