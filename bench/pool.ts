/** Percentiles of all rounds' values together: a round alone has too few of them for its tail. */
import { Histogram } from "./histogram.ts";
import type { Finding, Round } from "./measure.ts";

/** What each round has found of each system. */
export type Distributions = ReadonlyArray<ReadonlyMap<string, Histogram>>;

/**
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
