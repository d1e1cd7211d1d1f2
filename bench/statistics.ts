/** What rounds say: medians, and how sure a ratio of them is. */
import { Random } from "../test/cluster/random.ts";

/** Both ends belong to it. */
export type Interval = readonly [low: number, high: number];

const RESAMPLES = 2_000;
const CONFIDENCE = 0.95;
/** One seed: the same rounds have the same interval. */
const SEED = 20_260_729;

/** The middle one, or the mean of the two in the middle; `undefined` of nothing. */
export function median(values: readonly number[]): number | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

/**
 * The 95 % interval of whatever `estimate` makes of rounds, by bootstrap: rounds are drawn whole, with repetition, so
 * that what one round did to all systems stays together. `undefined` where `estimate` says nothing of the rounds.
 */
export function interval<Round>(
  rounds: readonly Round[],
  estimate: (rounds: readonly Round[]) => number | undefined,
): Interval | undefined {
  const random = new Random(SEED);
  const found: number[] = [];
  for (let i = 0; i < RESAMPLES && rounds.length > 0; i++) {
    const value = estimate(rounds.map(() => random.pick(rounds)));
    if (value !== undefined) found.push(value);
  }
  if (found.length === 0) return undefined;
  const sorted = Float64Array.from(found).sort();
  const rest = (1 - CONFIDENCE) / 2;
  return [quantile(sorted, rest), quantile(sorted, 1 - rest)];
}

/** Linear between the two values that are nearest. */
function quantile(sorted: Float64Array, part: number): number {
  const at = part * (sorted.length - 1);
  const low = sorted[Math.floor(at)] as number;
  const high = sorted[Math.ceil(at)] as number;
  return low + (high - low) * (at - Math.floor(at));
}
