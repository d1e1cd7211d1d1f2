/**
 * A curve of bounded size, however many points it gets: when it is full, neighbours become their mean. One value that is no
 * number makes its point none: where training went wrong stays to be seen.
 */
export interface Curve {
  readonly points: readonly number[];
  /** Values that one point stands for. */
  readonly each: number;
  /** Values of the point that is not full yet. */
  readonly open: readonly number[];
}

const POINTS = 256;

export const NO_CURVE: Curve = { points: [], each: 1, open: [] };

export function extended({ points, each, open }: Curve, value: number): Curve {
  const values = [...open, value];
  if (values.length < each) return { points, each, open: values };
  const longer = [...points, mean(values)];
  if (longer.length < POINTS) return { points: longer, each, open: [] };
  return { points: thinned(longer, POINTS / 2), each: each * 2, open: [] };
}

/** As many points at most, each the mean of its neighbourhood. */
export function thinned(points: readonly number[], most: number): number[] {
  if (points.length <= most) return [...points];
  return Array.from({ length: most }, (_, index) => {
    const from = Math.floor((index * points.length) / most);
    return mean(points.slice(from, Math.floor(((index + 1) * points.length) / most)));
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
