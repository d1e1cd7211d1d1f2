/**
 * What an event changes in its job, as a patch. The one place that knows it: stores only apply patches, so they
 * cannot differ.
 */
import { EVENTS, TERMINAL_STATUSES } from "../protocol/events.ts";
import type { EventMap, EventType, PublishedEvent } from "../protocol/types.ts";
import type { Entry, Patch } from "./store.ts";
import { fieldsOf } from "./wire.ts";

/** A checked event: its `data` fits its type. */
export type CheckedEvent = { [T in EventType]: PublishedEvent<T> & { type: T } }[EventType];

/** Names the conflation key; its parts are separated by a character that they cannot contain. */
export function conflationKey(event: CheckedEvent): string {
  const parts: string[] = [event.type];
  for (const part of EVENTS[event.type].key ?? []) {
    if (part === "host") parts.push(event.type === "system_stats" ? event.data.host : "");
    else parts.push(event[part] === undefined ? "" : String(event[part]));
  }
  return parts.join("\u001f");
}

/** Progress of the job as a whole, which the tenant feed shows: of no product, and of rank 0 or none. */
export function isJobProgress(event: CheckedEvent): boolean {
  return event.type === "training_progress" && event.product === undefined && (event.rank ?? 0) === 0;
}
/** The conflation keys of such progress. */
export const JOB_PROGRESS_KEYS = ["training_progress\u001f\u001f", "training_progress\u001f\u001f0"] as const;

export function reduce(event: CheckedEvent): Patch {
  const patch: Patch = {};
  if (EVENTS[event.type].class === "conflatable") {
    patch.merge = {
      key: conflationKey(event),
      attempt: event.attempt ?? 1,
      fields: fieldsOf(event.data),
    };
  } else if (event.type !== "log") patch.latest = true;

  switch (event.type) {
    case "training_status":
      patch.set = [["status", JSON.stringify(event.data.status)]];
      break;
    case "job_created":
      patch.set = setAll({ status: "pending", ...event.data });
      break;
    case "job_updated":
      patch.set = setAll(event.data);
      break;
    case "product_completed":
      patch.add = { set: event.data.failed ? "failed" : "completed", member: event.product ?? "" };
      if (event.data.total !== undefined) patch.set = [["products_total", JSON.stringify(event.data.total)]];
      break;
    case "training_progress": {
      const point = metricPoint(event);
      if (point !== undefined) patch.point = point;
      break;
    }
  }
  return patch;
}

/** Whether a status ends the job's life (true), renews it (false) or says nothing of it. */
export function endsJob(event: CheckedEvent): Pick<Entry, "ends"> {
  return event.type === "training_status" ? { ends: TERMINAL_STATUSES.has(event.data.status) } : {};
}

function setAll(data: object): Array<readonly [string, string]> {
  return Object.entries(data)
    .filter(([, value]) => value !== undefined)
    .map(([field, value]) => [field, JSON.stringify(value)] as const);
}

/** The numbers of one progress event, under the names that `series` is asked by. */
function metricPoint(event: PublishedEvent<"training_progress">): string | undefined {
  const { loss, smooth_loss, learning_rate, metrics, step, epoch }: EventMap["training_progress"] =
    event.data;
  const values = { ...metrics, loss, smooth_loss, learning_rate };
  if (Object.values(values).every((value) => value === undefined)) return undefined;
  const { attempt, rank, product, timestamp } = event;
  return JSON.stringify({ step, epoch, attempt, rank, product, timestamp, metrics: values });
}
