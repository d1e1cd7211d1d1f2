/**
 * How the hub is measured. Counts are plain integers, read by whoever asks for them; durations go to a meter, of which
 * core and doors know no more than this.
 */
import type { ErrorCode } from "../protocol/codes.ts";
import type { Gap, Liveness, SubscribeAnswer } from "../protocol/types.ts";

/** What is timed: a publish from its call to its answer, the store's part of it, a probe's way to Redis and back. */
export type Duration = "publish" | "append" | "probe";

export interface Meter {
  observe(what: Duration, seconds: number): void;
  /** An event of a feed has been handed to its watchers here. Its JSON text says when it was made and received. */
  written(wire: string): void;
}

export const NO_METER: Meter = { observe() {}, written() {} };

/** How often, by name; a name that is not there has not occurred. */
export type Tally<Name extends string> = Partial<Record<Name, number>>;

export function count<Name extends string>(tally: Tally<Name>, name: Name): void {
  tally[name] = (tally[name] ?? 0) + 1;
}

export type HealReason = "opening" | "renewed" | "hole" | "unreadable" | "head";

/** What has happened on this instance since its start, beside what the status tells. */
export class Tallies {
  /** Events of publishes, by the code of their refusal. */
  readonly refused: Tally<ErrorCode> = {};
  readonly heals: Tally<HealReason> = {};
  /** Gaps of feeds, and what watchers were told of them. */
  readonly gaps: Tally<NonNullable<Gap["reason"]>> = {};
  readonly gapsTold: Tally<NonNullable<Gap["reason"]>> = {};
  /** Events that doors have written to watchers, and characters of them. */
  readonly deliveries = { durable: 0, conflatable: 0, characters: 0 };
  /** Values that were merged into a newer one before their watcher got them. */
  conflated = 0;
  /** Answers to those who came back with a position: the last of each, and how many there were with their pages. */
  readonly replays = { recovered: 0, reset: 0, pages: 0 };
  /** Commands that were asked for here: `applied`, or the code of what became of them. */
  readonly commands: Tally<"applied" | ErrorCode> = {};
  readonly liveness: Tally<Liveness> = {};
  presence = 0;
  /** Answers of the HTTP door, by status. */
  readonly http: Tally<`${number}`> = {};
  /** What nobody foresaw. */
  internal = 0;

  /** An answer to somebody who came back with a position. */
  replayed({ recovered, more }: Pick<SubscribeAnswer, "recovered" | "more">): void {
    this.replays.pages++;
    if (!more) this.replays[recovered ? "recovered" : "reset"]++;
  }
}
