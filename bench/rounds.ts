/** Alternation: what changes on the machine in the course of a measure happens to all systems alike. */
import { Random } from "../test/cluster/random.ts";
import type { Round } from "./measure.ts";

const SEED = 20_260_729;

/**
 * Each round gives each system one turn, in an order that changes from round to round; the same in every run.
 *
 * @param turn what this system's turn has found, by target. A target that it leaves out: the system cannot do it
 * @returns for each target its rounds
 */
export async function alternate<Key extends string>(
  systems: readonly string[],
  rounds: number,
  keys: readonly Key[],
  turn: (system: string, round: number) => Promise<Partial<Record<Key, number>>>,
): Promise<Record<Key, Round[]>> {
  const random = new Random(SEED);
  const found = Object.fromEntries(keys.map((key) => [key, []])) as unknown as Record<Key, Round[]>;
  for (let round = 0; round < rounds; round++) {
    for (const key of keys) found[key].push({});
    for (const system of random.shuffled(systems)) {
      const figures = await turn(system, round);
      for (const key of keys) (found[key][round] as Round)[system] = figures[key];
    }
  }
  return found;
}
