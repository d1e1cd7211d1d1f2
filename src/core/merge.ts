/**
 * Conflatable events of one key put together, for watchers that do not get each. Texts are split and joined, never
 * parsed, so that numbers stay as written. The JSON is made when somebody gets it: of a thousand that are merged, one is.
 */
import type { FeedEvent } from "../bus/bus.ts";
import { LIMITS } from "../protocol/limits.ts";
import { CURVE_FIELDS } from "../store/reduce.ts";
import { fieldsOfText, joinFields, membersOf } from "../store/wire.ts";
import { newPoint, type Point, Points } from "./points.ts";

/** What an event is made of. */
interface Parts {
  /** All but `data` and `points`. Names are JSON, as in `fields`. */
  envelope: ReadonlyMap<string, string>;
  fields: ReadonlyArray<readonly [name: string, json: string]>;
  attempt: number | undefined;
  /** Where its metrics are those of one moment, on a job's own feed. */
  point: Point | undefined;
}

/** Merging costs more than writing, and all who hold the same value get the same event: it is merged for the first. */
const merges = new WeakMap<FeedEvent, { newer: FeedEvent; result: FeedEvent }>();

/**
 * Field by field, each its newest; a new attempt clears, and an older one changes nothing. The envelope and the position
 * are the newer event's; of progress on a job's feed, `points` holds what both tell of the curves.
 */
export function merged(older: FeedEvent, newer: FeedEvent): FeedEvent {
  const before = merges.get(older);
  if (before?.newer === newer) return before.result;
  const result = put(older, newer);
  merges.set(older, { newer, result });
  return result;
}

function put(older: FeedEvent, newer: FeedEvent): FeedEvent {
  const before = older instanceof Merged ? older : Merged.of(older);
  const parts = partsOf(newer);
  // Without an attempt it is of the newest.
  const attempt = parts.attempt ?? before.attempt;
  if ((attempt ?? 1) > (before.attempt ?? 1)) return newer;
  if ((attempt ?? 1) < (before.attempt ?? 1)) return older;
  return before.with(newer, parts, attempt);
}

class Merged implements FeedEvent {
  readonly epoch: string;
  readonly seq: number;
  readonly type: FeedEvent["type"];
  readonly durable: boolean;
  readonly jobId: string;
  readonly key: string;
  readonly attempt: number | undefined;
  readonly #envelope: ReadonlyMap<string, string>;
  readonly #fields: ReadonlyMap<string, string>;
  readonly #points: Points;
  #wire: string | undefined;

  private constructor(
    { epoch, seq, type, durable, jobId, key }: FeedEvent,
    { envelope }: Parts,
    attempt: number | undefined,
    fields: ReadonlyMap<string, string>,
    points: Points,
  ) {
    this.epoch = epoch;
    this.seq = seq;
    this.type = type;
    this.durable = durable;
    this.jobId = jobId;
    this.key = key;
    this.attempt = attempt;
    this.#envelope = envelope;
    this.#fields = fields;
    this.#points = points;
  }

  static of(event: FeedEvent): Merged {
    const parts = partsOf(event);
    return new Merged(event, parts, parts.attempt, new Map(parts.fields), Points.NONE.with(parts.point));
  }

  with(newer: FeedEvent, parts: Parts, attempt: number | undefined): Merged {
    const fields = new Map(this.#fields);
    for (const [name, json] of parts.fields) fields.set(name, json);
    return new Merged(newer, parts, attempt, fields, this.#points.with(parts.point));
  }

  get wire(): string {
    this.#wire ??= this.#written();
    return this.#wire;
  }

  #written(): string {
    const envelope = new Map(this.#envelope);
    // The event that named it does not come by itself.
    if (this.attempt !== undefined) envelope.set('"attempt"', String(this.attempt));
    const head = joined(envelope);
    const data = joinFields(this.#fields);
    if (!hasCurves(this.type, envelope)) return `{${head},"data":${data}}`;
    const room = LIMITS.eventBytes - Buffer.byteLength(head) - Buffer.byteLength(data) - POINTS_OVERHEAD;
    return `{${head},${this.#points.members(room)},"data":${data}}`;
  }
}

/** Names and brackets around points and data. */
const POINTS_OVERHEAD = 64;

/** The tenant's feed is a list of jobs: its progress comes merged as it is, and has no points. */
function hasCurves(type: FeedEvent["type"], envelope: ReadonlyMap<string, string>): boolean {
  return type === "training_progress" && envelope.get('"feed"') !== '"tenant"';
}

/** Watchers that hold different values merge the same newer one into them. */
const known = new WeakMap<FeedEvent, Parts>();

function partsOf(event: FeedEvent): Parts {
  let parts = known.get(event);
  if (!parts) {
    parts = split(event);
    known.set(event, parts);
  }
  return parts;
}

function split({ type, wire }: FeedEvent): Parts {
  const envelope = new Map(membersOf(wire));
  const fields = fieldsOfText(envelope.get('"data"') ?? "{}");
  // A newest value that was read from the store says so by a list without points.
  const isOne = hasCurves(type, envelope) && !envelope.has('"points"');
  envelope.delete('"data"');
  envelope.delete('"points"');
  const attempt = envelope.get('"attempt"');
  return {
    envelope,
    fields,
    attempt: attempt === undefined ? undefined : Number(attempt),
    point: isOne ? pointOf(envelope, fields) : undefined,
  };
}

const CURVES: ReadonlySet<string> = new Set(CURVE_FIELDS.map((name) => JSON.stringify(name)));

/** What `reduce` tells the series of it, with its position and time. */
function pointOf(envelope: ReadonlyMap<string, string>, fields: Parts["fields"]): Point | undefined {
  let step = "";
  const metrics = new Map<string, string>();
  for (const [name, json] of fields) if (name.startsWith("m")) metrics.set(name.slice(1), json);
  for (const [name, json] of fields) {
    if (name === '"step"') step = `"step":${json},`;
    // Over one of `metrics` that has the same name.
    else if (CURVES.has(name)) metrics.set(name, json);
  }
  if (metrics.size === 0) return undefined;
  const at = `"seq":${envelope.get('"seq"')},${step}"timestamp":${envelope.get('"timestamp"')}`;
  return newPoint(`{${at},"metrics":{${joined(metrics)}}}`);
}

function joined(members: ReadonlyMap<string, string>): string {
  const texts: string[] = [];
  for (const [name, json] of members) texts.push(`${name}:${json}`);
  return texts.join(",");
}
