/**
 * What an event changes in its job, as a patch. The one place that knows it: stores only apply patches, so they
 * cannot differ.
 */
import { EVENTS } from "../protocol/events.ts";
import { predecessors, RESTING_STATUSES, TERMINAL_STATUSES } from "../protocol/status.ts";
import type { EventMap, EventType, JobStatus, PublishedEvent } from "../protocol/types.ts";
import type { Entry, Patch } from "./store.ts";
import { fieldsOf, jsonOf, quoted } from "./wire.ts";

/** A checked event: its `data` fits its type. */
export type CheckedEvent = { [T in EventType]: PublishedEvent<T> & { type: T } }[EventType];

/** Names the conflation key; its parts are separated by a character that they cannot contain. */
export function conflationKey(event: CheckedEvent): string {
  let key: string = event.type;
  for (const part of EVENTS[event.type].key ?? []) {
    key += "\u001f";
    if (part === "host") key += event.type === "system_stats" ? event.data.host : "";
    else if (event[part] !== undefined) key += event[part];
  }
  return key;
}

/** Progress of the job as a whole, which the tenant feed shows: of no product, and of rank 0 or none. */
export function isJobProgress(event: CheckedEvent): boolean {
  return event.type === "training_progress" && event.product === undefined && (event.rank ?? 0) === 0;
}
/** The conflation keys of such progress. */
export const JOB_PROGRESS_KEYS = ["training_progress\u001f\u001f", "training_progress\u001f\u001f0"] as const;

/** `progressHead`: envelope of the `training_progress` that tells a percentage which the hub has counted. */
export function reduce(event: CheckedEvent, progressHead: () => string): Patch {
  const patch: Patch = {};
  if (EVENTS[event.type].class === "conflatable") {
    patch.merge = {
      key: conflationKey(event),
      fields: fieldsOf(event.data),
    };
  } else if (event.type !== "log") patch.latest = true;

  switch (event.type) {
    case "training_status":
      Object.assign(patch, transitionTo(event.data.status, progressHead));
      break;
    case "job_created": {
      const { status = "pending", products_total, ...fields } = event.data;
      Object.assign(patch, transitionTo(status, progressHead), { set: setAll(fields) });
      // How far the job is with them shows when it says so again, after data analysis.
      if (products_total !== undefined) patch.productsTotal = { total: products_total };
      break;
    }
    case "job_updated": {
      const { status, products_total, ...fields } = event.data;
      if (status !== undefined) Object.assign(patch, transitionTo(status, progressHead));
      patch.set = setAll(fields);
      if (products_total !== undefined) {
        patch.productsTotal = { total: products_total, head: progressHead() };
      }
      break;
    }
    case "product_completed": {
      const { total, failed = false } = event.data;
      const counted = { name: event.product ?? "", failed, head: progressHead() };
      patch.product = { ...counted, ...(total !== undefined && { total }) };
      break;
    }
    case "training_progress": {
      const point = metricPoint(event);
      if (point !== undefined) patch.point = point;
      break;
    }
  }
  return patch;
}

/** What an event says of the job's life, beside what it changes. */
export function lifeOf(event: CheckedEvent): Pick<Entry, "ends" | "alive"> {
  const { type } = event;
  if (type === "training_status" || type === "job_updated" || type === "job_created") {
    const { status } = event.data;
    if (status === undefined) return {};
    return {
      ends: TERMINAL_STATUSES.has(status),
      ...(type !== "job_created" && { alive: !RESTING_STATUSES.has(status) }),
    };
  }
  return EVENTS[type].hubOnly || EVENTS[type].scope === "tenant" ? {} : { alive: true };
}

function transitionTo(to: JobStatus, progressHead: () => string): Patch {
  return {
    transition: { to, from: predecessors(to) },
    ...(to === "completed" && { productsDone: { head: progressHead() } }),
  };
}

function setAll(data: object): Array<readonly [string, string]> {
  return Object.entries(data)
    .filter(([, value]) => value !== undefined)
    .map(([field, value]) => [field, JSON.stringify(value)] as const);
}

/** Fields of progress that are metrics too. */
export const CURVE_FIELDS = ["loss", "smooth_loss", "learning_rate"] as const;
const CURVE_NAMES: ReadonlySet<string> = new Set(CURVE_FIELDS);

/** The numbers of one progress event, under the names that `series` is asked by. */
function metricPoint(event: PublishedEvent<"training_progress">): string | undefined {
  const { attempt, rank, product } = event;
  const data: EventMap["training_progress"] = event.data;
  const given = data.metrics ?? {};
  let metrics = "";
  for (const name of Object.keys(given)) {
    const own = CURVE_NAMES.has(name) ? data[name as (typeof CURVE_FIELDS)[number]] : undefined;
    metrics += `,${quoted(name)}:${jsonOf(own ?? given[name])}`;
  }
  for (const name of CURVE_FIELDS) {
    const own = data[name];
    if (own !== undefined && !Object.hasOwn(given, name)) metrics += `,"${name}":${jsonOf(own)}`;
  }
  if (metrics === "") return undefined;
  let point = data.step === undefined ? "" : `"step":${jsonOf(data.step)},`;
  if (attempt !== undefined) point += `"attempt":${attempt},`;
  if (rank !== undefined) point += `"rank":${rank},`;
  if (product !== undefined) point += `"product":${JSON.stringify(product)},`;
  return `{${point}"metrics":{${metrics.slice(1)}}}`;
}
