/** What the bench asks of its generators, and what they answer. */
import type { DriverName, Endpoint, Outgoing } from "./driver.ts";

/** Which jobs each watcher is on. */
export type JobsOf =
  | { kind: "same"; job: string }
  /** `perJob` watchers on each, in turn; everybody on `also` besides. */
  | { kind: "spread"; jobs: readonly string[]; perJob: number; also?: readonly string[] };

export interface WatchRequest {
  driver: DriverName;
  /** In turn. Source addresses are given by the generator where a target names none. */
  targets: readonly Endpoint[];
  watchers: number;
  jobs: JobsOf;
  /** Number of each job's last event that was published before; default: 0. */
  after?: number;
  /** Whether they come back. Default: no. */
  reconnect?: boolean;
  /** Where to, in turn, when their target is gone. Default: the other targets. */
  others?: readonly string[];
}

/** A generator's part of a group: every `of`-th watcher, beginning with this one. */
export interface PartRequest extends WatchRequest {
  group: number;
  part: number;
  of: number;
}

/** How a generator itself fared since the last reset. */
export interface ProcessFigures {
  name: string;
  /** How late its event loop was, p99. */
  lagMs: number;
  /** Share of a core, 0 to 1 and above. */
  cpu: number;
}

/** Since the last reset, or the beginning. */
export interface Counts {
  watchers: number;
  /** Connections that are there. */
  open: number;
  /** Events, without doubles. */
  received: number;
  /** Numbers that were passed over and have not come yet; with `upTo`, also those that are missing at the end. */
  lost: number;
  doubled: number;
  /** Came after one with a higher number. */
  misordered: number;
  /** Connections that ended without being closed here. */
  losses: number;
}

export interface PartFigures extends Counts {
  /** Histogram of the time from the schedule to the arrival, as text. */
  latency: string;
}

export interface PublisherRequest {
  driver: DriverName;
  target: Endpoint;
}

export interface ScheduleRequest {
  driver: DriverName;
  /** Connections to publish by, in turn for the jobs. */
  targets: readonly Endpoint[];
  jobs: readonly string[];
  /** Events a second of each job. */
  perSecond: number;
  /** `even`: one event a publish, evenly. `{burst: n}`: n in one publish. Jobs are shifted against each other. */
  pattern: "even" | { burst: number };
  seconds: number;
  /** Number of each job's last event before; default: 0. */
  after?: number;
  /** Of each event's JSON. Default: `EVENT_BYTES`. */
  bytes?: number;
  /** Publishes without an answer at a time; more, and the schedule ends as overloaded. Default: 5 000. */
  maxOpen?: number;
}

/** What came of a schedule. Events, not publishes. */
export interface ScheduleCounts {
  sent: number;
  acknowledged: number;
  refused: number;
  /** Number of each job's last event. */
  last: number;
  /** It ended before its time: too many were not acknowledged. */
  overloaded: boolean;
  /** Of the first refusal. */
  fault?: string;
}

export interface ScheduleTexts extends ScheduleCounts {
  /** How late the generator itself sent. */
  lateness: string;
  process: ProcessFigures;
}

export interface Orders {
  /** Resolves when everybody is there. */
  watch: { request: PartRequest; answer: number };
  /** Answers how many of the group have received so many events each since the last reset: all, or fewer at the limit. */
  waitFor: { request: { group: number; events: number; limitMs: number }; answer: number };
  figures: { request: { group: number; upTo?: number }; answer: PartFigures };
  /** How long after this moment each watcher received its last event: a histogram, as text. */
  lasts: { request: { group: number; sinceUs: number }; answer: string };
  process: { request: null; answer: ProcessFigures };
  /** Counts and latencies begin anew, the process' own figures too. What is missing is forgotten. */
  reset: { request: { group: number }; answer: null };
  /** The first so many per cent of the group's watchers hang from now on; answers how many these are. */
  stopReading: { request: { group: number; percent: number }; answer: number };
  readAgain: { request: { group: number }; answer: null };
  /** Why connections have ended → how many. */
  ended: { request: { group: number }; answer: Record<string, number> };
  close: { request: { group: number }; answer: null };
  /** Answers the publisher's number. */
  publisher: { request: PublisherRequest; answer: number };
  publish: { request: { publisher: number; job: string; events: readonly Outgoing[] }; answer: null };
  closePublisher: { request: { publisher: number }; answer: null };
  /** Resolves when it is over. */
  schedule: { request: ScheduleRequest; answer: ScheduleTexts };
}
