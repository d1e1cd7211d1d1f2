/** From what a trainer sends to what the store appends: one bad event refuses only itself. */
import { Compile } from "typebox/compile";
import { type Identity, maySee } from "../auth.ts";
import { HubError } from "../protocol/codes.ts";
import { EVENT_TYPES, EVENTS, publishedSchema } from "../protocol/events.ts";
import { LIMITS } from "../protocol/limits.ts";
import { STATUS_SPELLINGS } from "../protocol/status.ts";
import type { EventMap, EventType } from "../protocol/types.ts";
import { describeFault } from "../protocol/validate.ts";
import { type CheckedEvent, isJobProgress, lifeOf, reduce } from "../store/reduce.ts";
import type { Entry } from "../store/store.ts";
import { seesTenant } from "./access.ts";
import type { EtaEstimator } from "./eta.ts";

const validators = new Map(EVENT_TYPES.map((type) => [type as string, Compile(publishedSchema(type))]));

/** Half a character: written as UTF-8, two such names would become the same. */
const SURROGATE = /\p{Surrogate}/u;
const isBroken = (name: string | undefined) => name !== undefined && SURROGATE.test(name);

/** Bytes that the hub adds to an event: positions and their names. */
const POSITION_BYTES = 160;

export interface CheckContext {
  identity: Identity;
  /** The hub's time, ISO 8601. */
  receivedAt: string;
  /** Tells the time left where a trainer does not. */
  eta?: EtaEstimator;
}

/** @throws HubError that says what is wrong with this event. */
export function checkEvent(
  input: unknown,
  { identity, receivedAt, eta }: CheckContext,
): { jobId?: string; entry: Entry } {
  const event = checked(input);
  const kind = EVENTS[event.type];
  if (kind.scope === "job" && event.job_id === undefined)
    throw new HubError("invalid_event", "job_id is required");
  if (kind.scope === "tenant" && event.job_id !== undefined) {
    throw new HubError("invalid_event", `job_id must be absent: ${event.type} is the tenant's`);
  }
  if ((event.producer === undefined) !== (event.n === undefined)) {
    throw new HubError("invalid_event", "producer and n go together");
  }
  if (isBroken(event.id) || isBroken(event.product)) {
    throw new HubError("invalid_event", "id and product must be well-formed Unicode");
  }
  if (event.id !== undefined && event.producer) {
    throw new HubError("invalid_event", "either id or producer, not both");
  }
  if (!(event.job_id === undefined ? seesTenant(identity) : maySee(identity, event.job_id))) {
    throw new HubError("job_not_found");
  }
  const entry = encode(estimated(signed(event, identity), identity, eta), identity.tenantId, receivedAt);
  return event.job_id === undefined ? { entry } : { jobId: event.job_id, entry };
}

/** The event that makes a job when its first event is another one. */
export function createdEntry(jobId: string, { identity, receivedAt }: CheckContext): Entry {
  const data = { created_by: identity.subject };
  return encode({ type: "job_created", job_id: jobId, data }, identity.tenantId, receivedAt);
}

function checked(input: unknown): CheckedEvent {
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    throw new HubError("invalid_event", "an event is an object");
  }
  const { type } = input as { type?: unknown };
  const validator = typeof type === "string" ? validators.get(type) : undefined;
  if (!validator) {
    throw new HubError("unknown_type", `No such event type; there are ${EVENT_TYPES.join(", ")}.`);
  }
  if (EVENTS[type as EventType].hubOnly) throw new HubError("forbidden_type");
  const event = respelled(input as CheckedEvent);
  if (!validator.Check(event)) throw new HubError("invalid_event", describeFault(validator, event));
  if (event.type === "job_updated" && event.data.commands !== undefined) {
    throw new HubError("invalid_event", "commands are told by `announce`");
  }
  const { current, total } = event.data as { current?: number; total?: number };
  if (current !== undefined && total !== undefined && current > total) {
    throw new HubError("invalid_total", `current (${current}) is more than total (${total})`);
  }
  if (event.metadata && Buffer.byteLength(JSON.stringify(event.metadata)) > LIMITS.metadataBytes) {
    throw new HubError("event_too_large", `metadata is over ${LIMITS.metadataBytes} bytes`);
  }
  return event;
}

/** Other systems' names of states become ours. */
function respelled(event: CheckedEvent): CheckedEvent {
  const status = (event.data as { status?: unknown } | undefined)?.status;
  if (typeof status !== "string" || !Object.hasOwn(STATUS_SPELLINGS, status)) return event;
  return { ...event, data: { ...event.data, status: STATUS_SPELLINGS[status] } } as CheckedEvent;
}

/** Who created or changed something is the token's subject, not what the sender says. */
function signed(event: CheckedEvent, identity: Identity): CheckedEvent {
  switch (event.type) {
    case "job_created":
      return { ...event, data: { ...event.data, created_by: identity.subject } };
    case "job_updated":
    case "dataset_update":
      return { ...event, data: { ...event.data, updated_by: identity.subject } } as CheckedEvent;
    default:
      return event;
  }
}

/** Progress whose trainer does not say how long it still takes gets the hub's estimate. */
function estimated(event: CheckedEvent, { tenantId }: Identity, eta: EtaEstimator | undefined): CheckedEvent {
  const seconds = eta?.observe(tenantId, event);
  if (seconds === undefined) return event;
  return { ...event, data: { ...event.data, eta_seconds: seconds } } as CheckedEvent;
}

/** An event that the hub makes itself. */
export function hubEntry<T extends EventType>(
  type: T,
  jobId: string,
  tenantId: string,
  data: EventMap[T],
  receivedAt = new Date().toISOString(),
): Entry {
  return encode({ type, job_id: jobId, data } as unknown as CheckedEvent, tenantId, receivedAt);
}

function encode(event: CheckedEvent, tenantId: string, receivedAt: string): Entry {
  const kind = EVENTS[event.type];
  const { type, attempt, id, producer, n } = event;
  const head = headOf(event, type, tenantId, receivedAt);
  const data = JSON.stringify(event.data);
  // UTF-8 has three bytes at most for each unit of a string.
  const most = (head.length + data.length) * 3 + POSITION_BYTES;
  if (most > LIMITS.eventBytes && bytesOf(head, data) > LIMITS.eventBytes) {
    throw new HubError("event_too_large", `the event is over ${LIMITS.eventBytes} bytes`);
  }
  const { job_id, timestamp } = event;
  const progressHead = () =>
    headOf({ job_id, timestamp, attempt }, "training_progress", tenantId, receivedAt);
  const entry: Entry = {
    type,
    durable: kind.class === "durable",
    stream: kind.stream ?? "events",
    tenantFeed: kind.tenantFeed === "merged" ? isJobProgress(event) && "merged" : kind.tenantFeed,
    head,
    data,
    patch: reduce(event, progressHead),
  };
  const { ends, alive } = lifeOf(event);
  if (ends !== undefined) entry.ends = ends;
  if (alive !== undefined) entry.alive = alive;
  if (attempt !== undefined) entry.attempt = attempt;
  if (id !== undefined) entry.id = id;
  if (producer) entry.producer = { ...producer, n: n as number };
  return entry;
}

function bytesOf(head: string, data: string): number {
  return Buffer.byteLength(head) + Buffer.byteLength(data) + POSITION_BYTES;
}

type Envelope = Pick<CheckedEvent, "job_id" | "timestamp" | "attempt" | "rank" | "product" | "metadata">;

/** Ids and times have been held against their patterns: no character of theirs needs an escape. */
function headOf(envelope: Envelope, type: EventType, tenantId: string, receivedAt: string): string {
  const { job_id, timestamp = receivedAt, attempt, rank, product, metadata } = envelope;
  let head = `"type":"${type}","tenant_id":"${tenantId}"`;
  if (job_id !== undefined) head += `,"job_id":"${job_id}"`;
  head += `,"timestamp":"${timestamp}","received_at":"${receivedAt}"`;
  if (attempt !== undefined) head += `,"attempt":${attempt}`;
  if (rank !== undefined) head += `,"rank":${rank}`;
  if (product !== undefined) head += `,"product":${JSON.stringify(product)}`;
  if (metadata !== undefined) head += `,"metadata":${JSON.stringify(metadata)}`;
  return head;
}
