/**
 * Judges a run from its histories alone: I1 to I4 and I8 of the promise. It knows neither hubs nor Redis; what is
 * stored comes as the feeds' logs. Every function answers what it has to complain about, and nothing means that
 * everything is as promised.
 */
import { isDeepStrictEqual } from "node:util";
import type { DeliveredEvent, EventType } from "../../src/protocol/types.ts";
import { crcOf } from "./events.ts";
import type { Answered, FeedLog, Mark, Sent, Told, View } from "./history.ts";

export interface Complaint {
  /** Of the promise. */
  rule: "I1" | "I2" | "I3" | "I4" | "I5" | "I6" | "I7" | "I8" | "bytes" | "newest" | "snapshot" | "wire";
  text: string;
}

/**
 * What trainers sent against what is stored in the end. `begun` are the jobs whose log has begun anew: what was
 * acknowledged under another epoch than the log's is gone with that.
 */
export function judgeStored(
  sent: readonly Sent[],
  logs: readonly FeedLog[],
  begun: (jobId: string) => boolean = () => false,
): Complaint[] {
  const complaints: Complaint[] = [];
  const stored = new Map<string, number>();
  const known = new Map(sent.map((one) => [nameOf(one), one]));
  for (const log of logs) {
    const last = new Map<string, number>();
    for (const [i, told] of log.events.entries()) {
      if (told.type === "job_created" && i === 0) continue;
      const { mark, data } = readMark(told.text);
      const one = mark && known.get(nameOf({ ...mark, jobId: log.jobId }));
      if (!mark || !one) {
        complaints.push({ rule: "I8", text: `${labelOf(log)}: nobody sent ${told.text.slice(0, 300)}` });
        continue;
      }
      const name = nameOf(one);
      const times = (stored.get(name) ?? 0) + 1;
      stored.set(name, times);
      if (times > 1)
        complaints.push({ rule: one.acked ? "I2" : "I8", text: `${name} is stored ${times} times` });
      if (one.crc !== mark.crc || one.crc !== crcOf(data) || one.type !== told.type) {
        complaints.push({
          rule: "bytes",
          text: `${name} was stored otherwise than sent: ${told.text.slice(0, 300)}`,
        });
      }
      const before = last.get(mark.producer) ?? 0;
      // Sent once and never answered, it may have waited in a hub that hung, while its trainer went on at another one.
      const isUnordered = one.guard === "none" && !one.acked;
      if (mark.n <= before && !isUnordered) {
        const text = `${name} (guard: ${one.guard}) is stored behind a later event of the same producer, ${before}`;
        complaints.push({ rule: "I3", text });
      }
      last.set(mark.producer, isUnordered ? Math.max(mark.n, before) : mark.n);
    }
  }
  const epochs = new Map(logs.map(({ jobId, epoch }) => [jobId, epoch]));
  for (const one of sent) {
    if (one.acked && !stored.has(nameOf(one))) {
      if (begun(one.jobId) && one.epoch !== undefined && one.epoch !== epochs.get(one.jobId)) continue;
      complaints.push({ rule: "I1", text: `${nameOf(one)} was acknowledged and is not stored` });
    }
  }
  return complaints;
}

/** One feed, read through several hubs. */
export function judgeSameLog(logs: readonly FeedLog[]): Complaint[] {
  const [first, ...others] = logs;
  return others.flatMap((log): Complaint[] => {
    if (!first || log.epoch !== first.epoch || log.events.length !== first.events.length) {
      return [{ rule: "I3", text: `${labelOf(log)}: hubs read different logs` }];
    }
    const differs = log.events.findIndex(({ text }, i) => text !== first.events[i]?.text);
    if (differs === -1) return [];
    return [
      {
        rule: "bytes",
        text: `${labelOf(log)}: hubs read different bytes, first ${log.events[differs]?.text}`,
      },
    ];
  });
}

/** Positions rise, and nothing stands twice: whatever is read in pages could repeat or skip. */
export function judgeLog(log: FeedLog): Complaint[] {
  return log.events.flatMap((told, i): Complaint[] => {
    const before = log.events[i - 1]?.seq ?? 0;
    if (told.seq > before && told.epoch === log.epoch) return [];
    return [
      { rule: "I3", text: `${labelOf(log)}: ${told.epoch}:${told.seq} is read after ${log.epoch}:${before}` },
    ];
  });
}

/**
 * The tenant's feed holds exactly the jobs' events of its types, each job's in their order, with their position. With
 * `begun` a job's log may have got another epoch since: then the position has the one before.
 */
export function judgeTenantLog(
  tenant: FeedLog,
  jobs: readonly FeedLog[],
  types: ReadonlySet<EventType>,
  begun = false,
): Complaint[] {
  const complaints: Complaint[] = [];
  for (const job of jobs) {
    const expected = job.events.filter(({ type }) => types.has(type)).map(({ text }) => JSON.parse(text));
    const found = tenant.events
      .filter(({ jobId }) => jobId === job.jobId)
      .map(({ text }) => JSON.parse(text));
    if (expected.length !== found.length) {
      const text = `the tenant's feed has ${found.length} events of ${job.jobId}, which has ${expected.length}`;
      complaints.push({ rule: found.length < expected.length ? "I1" : "I2", text });
    }
    for (const [i, { feed: _f, epoch: _e, seq: _s, job_position, ...event }] of found.entries()) {
      const { feed: _, epoch, seq, ...original } = expected[i] ?? {};
      const position = begun ? { ...job_position, epoch } : job_position;
      if (isDeepStrictEqual(event, original) && isDeepStrictEqual(position, { epoch, seq })) continue;
      const text = `the tenant's feed differs from ${job.jobId} at ${JSON.stringify(found[i]).slice(0, 300)}`;
      complaints.push({ rule: "I3", text });
      break;
    }
  }
  return complaints;
}

/**
 * What one watcher got of one feed against the log: each durable event of its types once, in order, byte by byte, from
 * the position of its first answer up to the last one that the hub has confirmed; no gap; keys that never fall.
 */
export function judgeView(view: View, log: FeedLog): Complaint[] {
  return new ViewJudge(view, log).judge();
}

class ViewJudge {
  readonly #view: View;
  readonly #log: FeedLog;
  readonly #complaints: Complaint[] = [];
  readonly #wanted: Told[];
  readonly #bySeq: Map<number, Told>;
  readonly #seen = new Set<number>();
  readonly #missing = new Set<number>();
  readonly #keys = new Map<string, number>();
  /** Index of the next event in `wanted`; undefined before the first answer. */
  #next: number | undefined;

  constructor(view: View, log: FeedLog) {
    this.#view = view;
    this.#log = log;
    this.#wanted = log.events.filter(({ type }) => !view.types || view.types.has(type));
    this.#bySeq = new Map(log.events.map((told) => [told.seq, told]));
    if (view.fromStart) this.#next = 0;
  }

  judge(): Complaint[] {
    const { entries } = this.#view;
    for (const [i, entry] of entries.entries()) {
      if (entry.kind === "answer") this.#answer(entry, i);
      else if (entry.kind === "gap") this.#complain("I1", `a gap: ${JSON.stringify(entry.gap)}`);
      else this.#event(entry);
    }
    const end = this.#wanted.findIndex(({ seq }) => seq > this.#view.until);
    const tail = this.#wanted.slice(this.#next ?? 0, end === -1 ? undefined : end);
    if (this.#next !== undefined) for (const { seq } of tail) this.#missing.add(seq);
    if (this.#missing.size > 0) {
      const seqs = [...this.#missing];
      this.#complain("I1", `${seqs.length} events are missing, ${seqs[0]} to ${seqs.at(-1)}`);
    }
    return this.#complaints;
  }

  #answer(answer: Answered, at: number): void {
    const { epoch, seq, recovered, since } = answer;
    if (!recovered) this.#complain("I1", `not recovered after ${JSON.stringify(since)}`);
    if (epoch !== null && epoch !== this.#log.epoch)
      this.#complain("I3", `an answer of another epoch, ${epoch}`);
    if (!since) this.#next = this.#begin(answer, at);
    if (answer.snapshot) this.#complaints.push(...judgeSnapshot(answer.snapshot, this.#log, this.#about()));
    if (!since && this.#seen.size > 0)
      this.#complain("wire", `the watcher has lost its cursor before seq ${seq}`);
  }

  /** Where a subscription without a cursor begins. */
  #begin({ seq, history = 0 }: Answered, at: number): number {
    const pages = this.#pages(at);
    const last = pages.at(-1) as { answer: Answered; durable: number };
    const asked = Math.min(history, this.#count(last.answer.seq));
    const given = pages.reduce((sum, { durable }) => sum + durable, 0);
    // A chain of pages that was cut goes on with `since`.
    if (given < asked && !last.answer.more)
      this.#complain("I1", `${given} events of history instead of ${asked}`);
    return this.#count(seq) - (pages[0]?.durable ?? 0);
  }

  /** The answer at this place and the pages that follow it, with the number of durable events in each. */
  #pages(at: number): Array<{ answer: Answered; durable: number }> {
    const { entries } = this.#view;
    const pages: Array<{ answer: Answered; durable: number }> = [];
    for (let i = at; ; ) {
      const answer = entries[i];
      if (answer?.kind !== "answer") return pages;
      const items = entries.slice(i + 1, i + 1 + answer.events);
      pages.push({ answer, durable: items.filter((item) => item.kind === "event" && item.durable).length });
      if (!answer.more) return pages;
      i += 1 + answer.events;
    }
  }

  /** Events that it wants up to this position. */
  #count(seq: number): number {
    return this.#wanted.filter((told) => told.seq <= seq).length;
  }

  #event(told: Told): void {
    const { seq, epoch, type } = told;
    if (this.#view.types && !this.#view.types.has(type)) this.#complain("wire", `${type} was not asked for`);
    if (epoch !== this.#log.epoch)
      this.#complain("I3", `an event of another epoch: ${told.text.slice(0, 200)}`);
    else if (told.durable) this.#durable(told);
    else {
      const before = this.#keys.get(`${type} ${told.key}`) ?? 0;
      if (seq < before) this.#complain("I3", `${type} ${told.key} falls from ${before} to ${seq}`);
      this.#keys.set(`${type} ${told.key}`, seq);
    }
  }

  #durable(told: Told): void {
    const { seq, text } = told;
    const stored = this.#bySeq.get(seq);
    if (stored && stored.text !== text) {
      this.#complain("bytes", `seq ${seq} differs:\n  ${text}\n  ${stored.text}`);
    }
    const fault = stored ? this.#place(stored) : (["I8", `not stored is ${text.slice(0, 200)}`] as const);
    if (fault) this.#complain(...fault);
  }

  /** Goes past the event; answers what is wrong with its coming now. */
  #place(stored: Told): readonly [Complaint["rule"], string] | undefined {
    const { seq } = stored;
    if (this.#seen.has(seq)) return ["I2", `seq ${seq} came twice`];
    this.#seen.add(seq);
    if (this.#next === undefined) return ["wire", `seq ${seq} came before the first answer`];
    if (this.#missing.delete(seq)) return ["I3", `seq ${seq} came after a later one`];
    const at = this.#wanted.indexOf(stored, this.#next);
    if (at === -1) return ["I2", `seq ${seq} was covered by the answer already`];
    for (const { seq: skipped } of this.#wanted.slice(this.#next, at)) this.#missing.add(skipped);
    this.#next = at + 1;
    return undefined;
  }

  #complain(rule: Complaint["rule"], text: string): void {
    this.#complaints.push({ rule, text: `${this.#about()}: ${text}` });
  }

  #about(): string {
    return `${this.#view.watcher} on ${labelOf(this.#view)}`;
  }
}

/** A snapshot says what the log says up to its position. */
function judgeSnapshot(
  { seq, counts, latest }: NonNullable<Answered["snapshot"]>,
  log: FeedLog,
  about: string,
): Complaint[] {
  const expected = new Map<EventType, { count: number; last: Told }>();
  for (const told of log.events) {
    if (told.seq <= seq)
      expected.set(told.type, { count: (expected.get(told.type)?.count ?? 0) + 1, last: told });
  }
  return [...expected].flatMap(([type, { count, last }]): Complaint[] => {
    const complaints: Complaint[] = [];
    const text = `${about}: the snapshot at ${seq}`;
    if (counts[type] !== count)
      complaints.push({ rule: "snapshot", text: `${text} counts ${counts[type]} ${type}, not ${count}` });
    if (type !== "log" && latest[type]?.seq !== last.seq) {
      complaints.push({
        rule: "snapshot",
        text: `${text} has ${type} ${latest[type]?.seq}, not ${last.seq}`,
      });
    }
    return complaints;
  });
}

/** No byte of another tenant: every text names its own tenant and carries none of the others' markers. */
export function judgeTenant(views: readonly View[], foreignMarkers: readonly string[]): Complaint[] {
  const complaints: Complaint[] = [];
  const judged = new Set<unknown>();
  for (const { watcher, tenantId, entries } of views) {
    for (const entry of entries) {
      if (judged.has(entry)) continue;
      judged.add(entry);
      const text = entry.kind === "event" ? entry.text : JSON.stringify(entry);
      const own = entry.kind !== "event" || text.includes(`"tenant_id":${JSON.stringify(tenantId)}`);
      if (own && !foreignMarkers.some((marker) => text.includes(marker))) continue;
      complaints.push({ rule: "I4", text: `${watcher} of ${tenantId} got ${text.slice(0, 300)}` });
    }
  }
  return complaints;
}

function readMark(text: string): { mark?: Mark; data: unknown } {
  const { metadata, data } = JSON.parse(text) as DeliveredEvent;
  return metadata ? { mark: metadata as unknown as Mark, data } : { data };
}

function nameOf({ producer, jobId, n }: Pick<Sent, "producer" | "jobId" | "n">): string {
  return `${producer}/${jobId}/${n}`;
}

export function labelOf({ feed, jobId }: Pick<FeedLog, "feed" | "jobId">): string {
  return feed === "tenant" ? "the tenant's feed" : jobId;
}
