/**
 * The metric points of progress that was held back: they travel with the value that it was merged into, so that a curve
 * has no holes. Bounded: of too many, the first, the last, the extremes of each metric, and an even choice of the others
 * stay. Points are text; their numbers are only looked at to choose.
 */
import { LIMITS } from "../protocol/limits.ts";
import type { MetricPoint, Num } from "../protocol/types.ts";

export interface Point {
  /** A `MetricPoint`. */
  readonly text: string;
  readonly bytes: number;
  /** How many points it stands for. */
  readonly weight: number;
}

/** @param text a `MetricPoint`, ASCII or well-formed. */
export function newPoint(text: string): Point {
  const utf8 = Buffer.from(text);
  // A copy: what is cut out of an event would keep the whole event in memory.
  return { text: utf8.toString(), bytes: utf8.length, weight: 1 };
}

export class Points {
  static readonly NONE = new Points([], 0);
  readonly #points: readonly Point[];
  /** Of all that were added. */
  readonly #count: number;

  private constructor(points: readonly Point[], count: number) {
    this.#points = points;
    this.#count = count;
  }

  /** These and one more, which is newer. */
  with(point: Point | undefined): Points {
    if (!point) return this;
    return new Points(fitted([...this.#points, point], LIMITS.mergedPointBytes), this.#count + 1);
  }

  /** Members of an event's JSON: the points in at most so many bytes, and how many are left out. */
  members(bytes: number): string {
    const points = fitted(this.#points, Math.min(bytes, LIMITS.mergedPointBytes));
    const omitted = this.#count - points.length;
    const list = `"points":[${points.map(({ text }) => text).join(",")}]`;
    return omitted === 0 ? list : `${list},"points_omitted":${omitted}`;
  }
}

function fitted(all: readonly Point[], bytes: number): readonly Point[] {
  let points = all;
  while (points.length > LIMITS.mergedPoints || (points.length > 0 && sizeOf(points) > bytes)) {
    points = points.length > 1 ? thinned(points, points.length >> 1) : [];
  }
  return points;
}

function sizeOf(points: readonly Point[]): number {
  let bytes = 0;
  for (const point of points) bytes += point.bytes + 1;
  return bytes;
}

/** At most so many of them, at least one. Resolution stays even over all, however often this is done. */
function thinned(points: readonly Point[], most: number): Point[] {
  const last = points.length - 1;
  const metrics = points.map(({ text }) => (JSON.parse(text) as MetricPoint).metrics);
  const kept = new Set(most > 1 ? [last, 0] : [last]);
  for (const index of extremes(metrics, 0, points.length)) if (kept.size <= most / 2) kept.add(index);
  // Of each group of neighbours that stand for about as many points: two, the least and the highest as far as can be.
  const groups = (most - kept.size) >> 1;
  const share = points.reduce((sum, { weight }) => sum + weight, 0) / groups;
  let from = 0;
  let weight = 0;
  for (let group = 1; group <= groups; group++) {
    let to = from;
    while (to <= last && (weight < group * share || group === groups)) weight += points[to++]?.weight ?? 0;
    const fresh = extremes(metrics, from, to).filter((index) => !kept.has(index));
    for (const index of fresh.slice(0, 2)) kept.add(index);
    from = to;
  }
  return weighed(points, kept);
}

/** Where the metrics have their least, their highest and their first value that is no number; most telling first. */
function extremes(metrics: ReadonlyArray<Record<string, Num>>, from: number, to: number): number[] {
  const found = new Map<string, { min?: number; max?: number; odd?: number }>();
  for (let i = from; i < to; i++) {
    const values = metrics[i] ?? {};
    for (const [name, value] of Object.entries(values)) {
      const at = found.get(name) ?? {};
      found.set(name, at);
      if (typeof value !== "number") at.odd ??= i;
      else {
        if (at.min === undefined || value < (metrics[at.min]?.[name] as number)) at.min = i;
        if (at.max === undefined || value >= (metrics[at.max]?.[name] as number)) at.max = i;
      }
    }
  }
  const votes = new Map<number, number>();
  for (const { min, max, odd } of found.values()) {
    for (const i of [min, max, odd]) if (i !== undefined) votes.set(i, (votes.get(i) ?? 0) + 1);
  }
  return [...votes].sort(([a, most], [b, other]) => other - most || a - b).map(([index]) => index);
}

/** Those that are kept, in order; each stands also for those before it that are not. */
function weighed(points: readonly Point[], kept: ReadonlySet<number>): Point[] {
  const result: Point[] = [];
  let weight = 0;
  for (const [index, point] of points.entries()) {
    weight += point.weight;
    if (!kept.has(index)) continue;
    result.push({ ...point, weight });
    weight = 0;
  }
  return result;
}
