/** Histories for the checker's tests: good ones, and the means to plant a fault in them. */
import type { DeliveredEvent, EventType } from "../../src/protocol/types.ts";
import type { Complaint } from "./checker.ts";
import { crcOf } from "./events.ts";
import {
  type Answered,
  type FeedLog,
  type GapTold,
  type Mark,
  type Merged,
  type Sent,
  type Told,
  toldOf,
  type View,
} from "./history.ts";

export const EPOCH = "epoch-1";
export const JOB = "job-0";
/** Durable events of the log, 1 to 12; log lines at even positions. Progress is at 5 and 9, so not among them. */
export const SEQS = [1, 2, 3, 4, 6, 7, 8, 10, 11, 12];

export function rules(complaints: readonly Complaint[]): string[] {
  return complaints.map(({ rule }) => rule);
}

export function typeOf(seq: number): EventType {
  if (seq === 1) return "job_created";
  return seq % 2 === 0 ? "log" : "training_status";
}

export function dataOf(seq: number, message = `event ${seq}`): object {
  if (seq === 1) return { created_by: "trainer" };
  return seq % 2 === 0 ? { message } : { status: "running", message };
}

export interface Changes {
  n?: number;
  message?: string;
  crc?: number;
  /** Type and data of this one. */
  like?: number;
}

export function event(
  seq: number,
  { n = SEQS.indexOf(seq), message, crc, like = seq }: Changes = {},
): DeliveredEvent {
  const data = dataOf(like, message);
  const mark: Mark = { producer: "p", n, crc: crc ?? crcOf(data), marker: "mark-of-home" };
  return {
    ...{ feed: "job", epoch: EPOCH, seq, type: typeOf(like), tenant_id: "home", job_id: JOB },
    ...{ timestamp: "2026-01-01T00:00:00Z", received_at: "2026-01-01T00:00:00Z" },
    ...(seq !== 1 && { metadata: { ...mark } }),
    data,
  } as DeliveredEvent;
}

export function durable(seq: number, changes?: Changes): Told {
  return toldFrom(event(seq, changes));
}

export function progress(seq: number, data: Merged): Told {
  return toldFrom({ ...event(4), seq, type: "training_progress", data } as DeliveredEvent);
}

export function toldFrom(event: DeliveredEvent): Told {
  return toldOf(JSON.stringify(event), event);
}

/** Durable events from one position to another. */
export function told(from: number, to: number): Told[] {
  return SEQS.filter((seq) => seq >= from && seq <= to).map((seq) => durable(seq));
}

export function log(): FeedLog {
  return { feed: "job", jobId: JOB, epoch: EPOCH, seq: 12, events: told(1, 12) };
}

export function tenantLog(): FeedLog {
  const statuses = log().events.filter(({ type }) => type === "training_status");
  const events = statuses.map(({ text, seq, epoch }, i) => {
    const original = JSON.parse(text);
    return toldFrom({
      ...original,
      feed: "tenant",
      epoch: "tenant-1",
      seq: i + 1,
      job_position: { epoch, seq },
    });
  });
  return { feed: "tenant", jobId: "", epoch: "tenant-1", seq: events.length, events };
}

export function sent(): Sent[] {
  return SEQS.slice(1).map((seq) => ({
    ...{ producer: "p", jobId: JOB, n: SEQS.indexOf(seq), type: typeOf(seq), crc: crcOf(dataOf(seq)) },
    ...{ guard: "producer" as const, times: 1, acked: true },
  }));
}

export function answer(seq: number, changes: Partial<Answered> = {}): Answered {
  return { kind: "answer", epoch: EPOCH, seq, recovered: true, events: 0, more: false, ...changes };
}

/** From before the first event to the end. */
export function view(): View {
  return {
    ...{
      watcher: "a watcher",
      tenantId: "home",
      feed: "job",
      jobId: JOB,
      types: undefined,
      fromStart: false,
    },
    ...{ entries: [answer(0), ...told(1, 12)], until: 12 },
  };
}

/** What a feed holds that has begun anew: positions 21 to 23. */
export const ANEW: readonly Told[] = [21, 22, 23].map((seq) =>
  toldFrom({ ...event(seq, { like: 2, n: seq }), epoch: "epoch-2" }),
);

export function anew(): FeedLog {
  return { ...log(), epoch: "epoch-2", seq: 23, events: [...ANEW] };
}

export function reset(seq: number | null, epoch = "epoch-2"): GapTold {
  const at = { epoch: seq === null ? null : epoch, seq: seq ?? 0 };
  return { kind: "gap", gap: { type: "gap", feed: "job", job_id: JOB, ...at, reason: "reset" } };
}

export function notRecovered(seq: number): Answered {
  return answer(seq, { since: { epoch: EPOCH, seq: 12 }, recovered: false, epoch: "epoch-2" });
}

/** A watcher that has seen both histories, and was told in between. */
export function through(said: Answered | GapTold, after: ReadonlyArray<Told | GapTold> = ANEW): View {
  const entries = [...view().entries, said, ...after];
  return { ...view(), entries, until: 23, untilEpoch: "epoch-2", stayed: true };
}

export type History = { entries: View["entries"] } | { events: Told[] };

export function without<H extends History>(history: H, seq: number): H {
  return changed(history, (entry) => (isAt(entry, seq) ? [] : [entry]));
}

export function replaced<H extends History>(history: H, seq: number, by: Told): H {
  return changed(history, (entry) => [isAt(entry, seq) ? by : entry]);
}

/** Behind the event at this position. */
export function inserted(history: View, seq: number, more: View["entries"][number]): View {
  return changed(history, (entry) => (isAt(entry, seq) ? [entry, more] : [entry]));
}

export function changed<H extends History>(
  history: H,
  change: (entry: View["entries"][number]) => View["entries"],
): H {
  const name = "entries" in history ? "entries" : "events";
  const list = ("entries" in history ? history.entries : history.events) as View["entries"];
  return { ...history, [name]: list.flatMap(change) };
}

export function isAt(entry: View["entries"][number], seq: number): boolean {
  return entry.kind === "event" && entry.seq === seq;
}
