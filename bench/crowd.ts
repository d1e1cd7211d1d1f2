/** A generator's part of a group of watchers: what each has received, and how long that took. */
import type { Driver, Endpoint, WatchingClient } from "./driver.ts";
import { jobOf, stampOf } from "./event.ts";
import { Histogram } from "./histogram.ts";
import { Numbers } from "./numbers.ts";
import type { Counts, JobsOf, PartFigures, PartRequest } from "./orders.ts";

/** Connections that are being opened at a time. */
const OPENING = 50;
const OPEN_LIMIT_MS = 30_000;
/** Source addresses: each has 28 000 ports. */
const ADDRESSES = 100;
/** A line of progress for so many connections. */
const TOLD_EACH = 1_000;

interface Member {
  jobs: readonly string[];
  target: Endpoint;
  client?: WatchingClient;
  /** By job; of one job alone the job is not looked up. */
  numbers: Map<string, Numbers>;
  only?: Numbers;
  received: number;
  /** When its last event came, µs; 0: none since the last reset. */
  lastUs: number;
}

interface Waiting {
  events: number;
  reached: number;
  answer(): void;
}

export class Crowd {
  readonly #request: PartRequest;
  readonly #members: Member[] = [];
  readonly #latency = Histogram.empty();
  /** Doubles are not among them. */
  #received = 0;
  #losses = 0;
  #closed = false;
  #waiting: Waiting | undefined;

  constructor(request: PartRequest) {
    this.#request = request;
    const { watchers, targets, after = 0 } = request;
    for (let i = request.part; i < watchers; i += request.of) {
      const jobs = jobsOf(request.jobs, i);
      const target = targets[Math.floor(i / request.of) % targets.length] as Endpoint;
      const numbers = new Map(jobs.map((job) => [job, new Numbers(after)]));
      const only = jobs.length === 1 ? (numbers.get(jobs[0] as string) as Numbers) : undefined;
      const localAddress = target.localAddress ?? `127.0.0.${2 + (i % ADDRESSES)}`;
      this.#members.push({
        ...{ jobs, numbers, received: 0, lastUs: 0, target: { ...target, localAddress } },
        ...(only && { only }),
      });
    }
  }

  /** Everybody connects; answers how many these are. */
  async open(driver: Driver, say: (line: string) => void): Promise<number> {
    const left = [...this.#members.entries()];
    const openNext = async () => {
      for (let next = left.shift(); next && !this.#closed; next = left.shift()) {
        const [i, member] = next;
        member.client = await within(OPEN_LIMIT_MS, this.#watch(driver, member), `watcher ${i}`);
        if (this.#closed) member.client.close();
        if ((i + 1) % TOLD_EACH === 0) say(`${i + 1} of ${this.#members.length} watchers are there`);
      }
    };
    await Promise.all(Array.from({ length: OPENING }, openNext));
    return this.#members.length;
  }

  /** How many have received so many events since the last reset, at once when all have, or when the limit is over. */
  waitFor(events: number, limitMs: number): Promise<number> {
    if (this.#waiting) throw new Error("somebody waits already");
    return new Promise((resolve) => {
      const answer = () => {
        clearTimeout(timer);
        this.#waiting = undefined;
        resolve(waiting.reached);
      };
      const timer = setTimeout(answer, limitMs);
      const waiting: Waiting = { events, reached: 0, answer };
      waiting.reached = this.#members.filter(({ received }) => received >= events).length;
      if (waiting.reached === this.#members.length) answer();
      else this.#waiting = waiting;
    });
  }

  figures(upTo?: number): PartFigures {
    const counts: Counts = {
      ...{ watchers: this.#members.length, open: 0, received: this.#received, losses: this.#losses },
      ...{ lost: 0, doubled: 0, misordered: 0 },
    };
    for (const { client, numbers } of this.#members) {
      if (client && client.ended === undefined) counts.open++;
      for (const each of numbers.values()) {
        counts.lost += upTo === undefined ? each.lost : each.lostUpTo(upTo);
        counts.doubled += each.doubled;
        counts.misordered += each.misordered;
      }
    }
    return { ...counts, latency: String(this.#latency) };
  }

  lasts(sinceUs: number): string {
    const found = Histogram.empty();
    for (const { lastUs } of this.#members) if (lastUs > 0) found.record(lastUs - sinceUs);
    return String(found);
  }

  reset(): void {
    this.#received = this.#losses = 0;
    this.#latency.reset();
    for (const member of this.#members) {
      member.received = member.lastUs = 0;
      for (const numbers of member.numbers.values()) numbers.reset();
    }
  }

  stopReading(percent: number): number {
    const stopped = this.#members.slice(0, Math.round((this.#members.length * percent) / 100));
    for (const { client } of stopped) client?.stopReading();
    return stopped.length;
  }

  readAgain(): void {
    for (const { client } of this.#members) client?.readAgain();
  }

  ended(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { client } of this.#members) {
      const why = client?.ended;
      if (why !== undefined) counts[why] = (counts[why] ?? 0) + 1;
    }
    return counts;
  }

  close(): void {
    this.#closed = true;
    this.#waiting?.answer();
    for (const { client } of this.#members) client?.close();
  }

  #watch(driver: Driver, member: Member): Promise<WatchingClient> {
    const { targets, others = targets.map(({ url }) => url), reconnect = false } = this.#request;
    return driver.watch({
      ...{ ...member.target, jobs: member.jobs, reconnect },
      others: others.filter((url) => url !== member.target.url),
      received: (text, atUs) => this.#note(member, text, atUs),
      lost: () => {
        if (!this.#closed) this.#losses++;
      },
    });
  }

  #note(member: Member, text: string, atUs: number): void {
    const stamp = stampOf(text);
    if (!stamp) return;
    const numbers = member.only ?? member.numbers.get(jobOf(text));
    if (!numbers?.note(stamp.n)) return;
    this.#received++;
    this.#latency.record(atUs - stamp.sentUs);
    member.lastUs = atUs;
    const waiting = this.#waiting;
    if (++member.received !== waiting?.events) return;
    if (++waiting.reached === this.#members.length) waiting.answer();
  }
}

function jobsOf(all: JobsOf, i: number): readonly string[] {
  switch (all.kind) {
    case "same":
      return [all.job];
    case "spread":
      return [all.jobs[Math.floor(i / all.perJob) % all.jobs.length] as string, ...(all.also ?? [])];
  }
}

async function within<Value>(ms: number, work: Promise<Value>, what: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} is not there within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
