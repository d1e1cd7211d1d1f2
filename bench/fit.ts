/** What an event costs by itself, and what each of its deliveries adds, from what runs have cost altogether. */

/** One run. The server's cost of doing nothing is not in it. */
export interface RunCost {
  events: number;
  deliveries: number;
  /** µs of CPU. */
  costUs: number;
}

export interface Cost {
  /** µs. */
  perEvent: number;
  /** µs. */
  perDelivery: number;
}

/** Below this the runs are too much alike: noise alone would part events from deliveries. */
const LEAST_SPREAD = 1e-6;

/**
 * Least squares of `cost = perEvent · events + perDelivery · deliveries`, by the relative error of each run: they differ
 * by orders of magnitude, and the largest would be fitted alone.
 *
 * @throws Error when the runs do not differ in their deliveries per event, or one of them has cost nothing.
 */
export function fitCost(runs: readonly RunCost[]): Cost {
  let [xx, xy, yy, x, y] = [0, 0, 0, 0, 0];
  for (const { events, deliveries, costUs } of runs) {
    if (!(costUs > 0)) throw new Error(`a run of ${events} events cost ${costUs} µs`);
    const e = events / costUs;
    const d = deliveries / costUs;
    xx += e * e;
    xy += e * d;
    yy += d * d;
    x += e;
    y += d;
  }
  const determinant = xx * yy - xy * xy;
  if (!(determinant > LEAST_SPREAD * xx * yy)) {
    throw new Error("all runs have as many deliveries per event: the two costs cannot be told apart");
  }
  return {
    perEvent: (x * yy - y * xy) / determinant,
    perDelivery: (y * xx - x * xy) / determinant,
  };
}

/** What is left of a run for each of its events when its deliveries are taken off. µs. */
export function eventCost({ events, deliveries, costUs }: RunCost, perDelivery: number): number {
  return (costUs - perDelivery * deliveries) / events;
}
