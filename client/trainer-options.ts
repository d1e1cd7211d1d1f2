import type { ConnectionOptions } from "./connection.ts";
import type { TrainwireError } from "./errors.ts";
import { KEPT_LIMITS } from "./event-table.ts";

/** How a trainer reaches the hub, and what it keeps while it cannot. */
export interface TrainerOptions extends ConnectionOptions {
  /**
   * Names this trainer, so that an event that is sent twice is stored once. Default: random. Give one that is the same
   * after a restart, where a trainer that still runs somewhere else should be refused (`producer_fenced`) from then on.
   * Operators see it as the trainer's id (`targets` of a command), with `_` for what may not stand in one.
   */
  producer?: string;
  /** Events that wait to be sent. Default 10 000. */
  maxBufferedEvents?: number;
  /** Bytes of events that wait to be sent. Default 33 554 432 (32 MiB). */
  maxBufferedBytes?: number;
  /** Milliseconds to wait for more before events are sent. Default 50. */
  flushIntervalMs?: number;
  /**
   * Milliseconds in which progress of one job, product and rank becomes one event. Default 100; 0 sends every call. Points
   * of a curve that fall within one interval become one: each field its newest.
   */
  progressIntervalMs?: number;
  /**
   * Milliseconds between the heartbeats of each live run. Default 15 000; 0 sends none: then only events and the
   * connection tell that the trainer is there.
   */
  heartbeatIntervalMs?: number;
  /**
   * What went wrong: events that were refused, dropped or not valid (`events`, `event`), announcements that were refused,
   * handlers of commands that threw, and the connection's errors.
   * Default: the first of each code is printed on the console. What it throws is ignored.
   */
  onError?: (error: TrainwireError) => void;
}

/**
 * Events since the trainer was made. `published` is the sum of `stored`, `duplicates`, `merged`, `refused`, `dropped` and
 * `buffered`, once nothing is held back by the throttle.
 */
export interface TrainerStats {
  /** Handed over and valid. */
  published: number;
  /** Stored by the hub. */
  stored: number;
  /** Found stored when they were sent again; `job_created` for a job that is there. */
  duplicates: number;
  /** Sent again, because the answer was lost or the hub had refused them for now. */
  resent: number;
  /** Progress and stats that became part of another event. */
  merged: number;
  /** Not valid, never sent. */
  invalid: number;
  /** Refused by the hub for good. */
  refused: number;
  /** Dropped because the buffer was full, the trainer was closed, or they broke every call. */
  dropped: number;
  /** Waiting, or sent and not answered. */
  buffered: number;
  /** Bytes of those that wait. */
  bufferedBytes: number;
}

type Own =
  | "producer"
  | "maxBufferedEvents"
  | "maxBufferedBytes"
  | "flushIntervalMs"
  | "progressIntervalMs"
  | "heartbeatIntervalMs";

/** A timer that is to take longer ends at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** With the defaults. @throws Error that says which one is wrong. */
export function checkedOptions(options: TrainerOptions): Required<Pick<TrainerOptions, Own>> {
  const producer = options?.producer ?? crypto.randomUUID();
  if (!/^[^\0-\x20]{1,64}$/.test(producer))
    throw new Error("`producer` is 1 to 64 characters without spaces.");
  return {
    producer,
    maxBufferedEvents: atLeast("maxBufferedEvents", options.maxBufferedEvents ?? 10_000, 1),
    maxBufferedBytes: atLeast(
      "maxBufferedBytes",
      options.maxBufferedBytes ?? 33_554_432,
      KEPT_LIMITS.eventBytes,
    ),
    flushIntervalMs: atLeast("flushIntervalMs", options.flushIntervalMs ?? 50, 0),
    progressIntervalMs: atLeast("progressIntervalMs", options.progressIntervalMs ?? 100, 0),
    heartbeatIntervalMs: Math.min(
      atLeast("heartbeatIntervalMs", options.heartbeatIntervalMs ?? 15_000, 0),
      LONGEST_TIMER_MS,
    ),
  };
}

function atLeast(name: string, value: number, least: number): number {
  if (!(typeof value === "number" && value >= least))
    throw new Error(`\`${name}\` is a number from ${least}.`);
  return value;
}
