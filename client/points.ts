import type { DeliveredEvent, MetricPoint } from "../src/protocol/types.ts";
import { CURVE_FIELDS } from "./event-table.ts";

/**
 * What a `training_progress` brings to the curves of its rank and product, oldest first: the points that the hub has held
 * back (`max_rate`, or a connection that was slow), or the event itself. Of everything that is delivered live, each point
 * comes once.
 *
 * Empty when it tells no metric, on the tenant's feed, and for a newest value that was read instead of published, which
 * comes with the answer after a reconnect: then `TrainwireClient.series` has the points, those up to the `seq` of its
 * answer. Attempt, rank and product are the event's. `points_omitted` of the event: how many more did not fit.
 */
export function pointsOf(event: DeliveredEvent<"training_progress">): MetricPoint[] {
  const { feed, seq, timestamp, points, data } = event;
  if (feed === "tenant") return [];
  if (points) return points;
  const metrics = { ...data.metrics };
  for (const name of CURVE_FIELDS) {
    const value = data[name];
    if (value !== undefined) metrics[name] = value;
  }
  if (Object.keys(metrics).length === 0) return [];
  return [{ seq, ...(data.step !== undefined && { step: data.step }), timestamp, metrics }];
}
