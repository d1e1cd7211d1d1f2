import type {
  EventMap,
  EventType,
  Json,
  JsonObject,
  PublishedEvent,
  TrainingProgress,
} from "../src/protocol/types.ts";
import { isObject } from "./answer.ts";
import { clean } from "./clean.ts";
import { TrainwireError } from "./errors.ts";
import { CONFLATION } from "./event-table.ts";

/** What may stand beside an event's data. */
export type Envelope = Pick<
  PublishedEvent,
  "job_id" | "timestamp" | "attempt" | "rank" | "product" | "metadata"
>;

const ENVELOPE = ["job_id", "timestamp", "attempt", "rank", "product", "metadata"] as const satisfies Array<
  keyof Envelope
>;
const ID = /^[A-Za-z0-9_.-]{1,64}$/;

type FiniteFields = {
  [K in keyof TrainingProgress]-?: NonNullable<TrainingProgress[K]> extends number ? K : never;
}[keyof TrainingProgress];

/** Fields for which the protocol has no `"NaN"`: left out, because an endless ETA must not cost the loss beside it. */
const FINITE: Record<FiniteFields, true> = {
  epoch: true,
  total_epochs: true,
  step: true,
  total_steps: true,
  eta_seconds: true,
  stage_progress: true,
  progress: true,
  current: true,
  total: true,
};

/** What the hub takes, in characters. */
const NAME = 256;
const MESSAGE = 16_384;
const TRACEBACK = 32_768;
/** Texts of a log line or a status may be this much too long and are shortened; beyond, the event is refused. */
const SHORTENED = 100;

/** The beginning and the end of text that is too long: a failed job must not stay unknown for its long traceback. */
function shorten(data: Record<string, unknown>, field: string, characters: number): void {
  const text = data[field];
  if (typeof text !== "string" || text.length <= characters) return;
  const half = Math.floor((characters - 3) / 2);
  data[field] = `${text.slice(0, half)} … ${text.slice(-half)}`;
}

/**
 * An event that JSON can carry, from whatever a training loop has handed over.
 *
 * @throws TrainwireError `unknown_type`, `invalid_event`, `too_deep`, `event_too_large`; and whatever getters throw.
 */
export function prepare(type: unknown, data: unknown, envelope: unknown): PublishedEvent {
  if (typeof type !== "string" || !Object.hasOwn(CONFLATION, type)) {
    throw new TrainwireError("unknown_type", "No such event type.");
  }
  const plain = clean(data, {
    omitNumbers: type === "system_stats",
    room: type === "log" || type === "training_status" ? SHORTENED : 1,
  });
  if (!isObject(plain)) throw new TrainwireError("invalid_event", `The data of ${type} is not an object.`);
  if (type === "training_progress") {
    for (const field of Object.keys(FINITE)) if (typeof plain[field] === "string") delete plain[field];
  }
  if (type === "log") shorten(plain, "message", MESSAGE);
  if (type === "training_status") {
    shorten(plain, "message", MESSAGE);
    if (isObject(plain.error)) {
      shorten(plain.error, "type", NAME);
      shorten(plain.error, "message", MESSAGE);
      shorten(plain.error, "traceback", TRACEBACK);
    }
  }
  const event: JsonObject = { type, timestamp: new Date().toISOString() };
  const around = clean(envelope ?? {});
  if (!isObject(around)) throw new TrainwireError("invalid_event", "The envelope is not an object.");
  for (const field of ENVELOPE) {
    const value = around[field];
    if (value !== undefined && value !== null) event[field] = value as Json;
  }
  if (event.job_id !== undefined && !(typeof event.job_id === "string" && ID.test(event.job_id))) {
    throw new TrainwireError("invalid_event", "`job_id` is not of the form [A-Za-z0-9_.-]{1,64}.");
  }
  event.data = plain as Json;
  return event as unknown as PublishedEvent<EventType> & { data: EventMap[EventType] };
}
