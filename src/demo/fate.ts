/**
 * What becomes of the demo's runs. A job that fails is worth seeing, so of five pictures in a row exactly one does: its loss
 * becomes NaN, or its process dies without a word. In another one a product fails. The seed decides, nothing else.
 */
import { randomSource } from "./network.ts";

export type Fate = "good" | "weak product" | "diverges" | "dies";

const BLOCK = 5;

export function fateOf(seed: number): Fate {
  const block = Math.floor(seed / BLOCK);
  const random = randomSource(block);
  const failing = Math.floor(random() * BLOCK);
  const weak = (failing + 1 + Math.floor(random() * (BLOCK - 1))) % BLOCK;
  const place = seed - block * BLOCK;
  if (place === failing) return block % 2 === 0 ? "diverges" : "dies";
  return place === weak ? "weak product" : "good";
}

/** The first seed from this one on whose run goes well. */
export function goodSeed(from: number): number {
  let seed = from;
  while (fateOf(seed) !== "good") seed++;
  return seed;
}
