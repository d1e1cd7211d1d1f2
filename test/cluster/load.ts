/** A trainer with the plain Socket.IO client, as a careful program without our SDK would be. */
import { setTimeout as sleep } from "node:timers/promises";
import { io, type Socket } from "socket.io-client";
import type { Answer, PublishAnswer, PublishedEvent } from "../../src/protocol/types.ts";
import { durableEvent, largeEvent, lastStatus, progressData } from "./events.ts";
import { keyOf, mergeInto, type Newest, type Sent } from "./history.ts";
import type { Random } from "./random.ts";

export interface TrainerOptions {
  name: string;
  /** The first is its own hub; when that is lost it goes on to the next. With one it waits until that is back. */
  urls: readonly string[];
  token: string;
  /** In every event: names the tenant. */
  marker: string;
  random: Random;
  /** The jobs at this part (0 to 1) of the run. */
  jobs: (part: number) => readonly string[];
  durable: number;
  progress: number;
  perSecond: number;
  /** Part of the calls after which its connection breaks, before the answer or after it. */
  breaks: number;
  /** Its durable events are log lines of so many characters. */
  large?: number;
  /** Conflation keys that this trainer alone writes. */
  keys: ReadonlyArray<{ product?: string; rank?: number }>;
  /** Makes no more events from then on. */
  end?: AbortSignal;
  /**
   * Jobs in turn, and to each one durable event and one of progress by turns, in batches of no least size: how long
   * something takes then does not depend on the luck of the load.
   */
  steady?: boolean;
}

interface Item {
  event: PublishedEvent;
  /** Absent for progress, which may be stored twice. */
  sent?: Sent;
}

/** Events in one `publish`. */
const BATCH = { least: 10, most: 50 };
const PACE_MS = 10;
const BUSY_MS = 50;
/** A broken connection breaks within this after the call. */
const BREAK_MS = 8;
/** Far above what an answer takes: a lost one shows as a disconnect. */
const ACK_LIMIT_MS = 15_000;
/** Part of the durable events that is sent without anything to know it by, and so never again. */
const UNGUARDED = 0.02;

export class Trainer {
  readonly sent: Sent[] = [];
  /** Job → merged progress as it must be in the end. */
  readonly newest = new Map<string, Newest>();
  /** Refusals that are not temporary, and other answers that must not be. */
  readonly faults: string[] = [];
  /** Progress events that it has made. */
  progress = 0;
  resends = 0;
  duplicates = 0;
  /** Calls without an answer. */
  losses = 0;
  refusals = 0;
  /** How often each code was the answer to a whole call or one of its events. */
  readonly codes = new Map<string, number>();
  /** Called once, when the next batch has gone out. */
  onNextSent: (() => void) | undefined;
  readonly #options: TrainerOptions;
  readonly #queue: Item[] = [];
  readonly #n = new Map<string, number>();
  #closed = false;
  #socket: Socket;
  #hub = 0;
  #made = 0;
  #step = 0;
  #durableLeft: number;
  #progressLeft: number;

  constructor(options: TrainerOptions) {
    this.#options = options;
    this.#durableLeft = options.durable;
    this.#progressLeft = options.progress;
    this.#socket = this.#connect();
  }

  /** Publishes all its events at its pace; resolves when every one that can be sent again is acknowledged. */
  async run(): Promise<void> {
    const { perSecond, durable, progress } = this.#options;
    const total = durable + progress;
    await connected(this.#socket);
    const started = performance.now();
    const least = this.#options.steady ? 1 : BATCH.least;
    const makes = () => this.#made < total && !this.#options.end?.aborted;
    while (makes() || this.#queue.length > 0) {
      const due = Math.min(total, Math.floor(((performance.now() - started) / 1_000) * perSecond));
      while (makes() && this.#made < due) this.#queue.push(this.#make(this.#made++ / total));
      if (this.#queue.length < least && makes()) await sleep(PACE_MS);
      else await this.#publishNext();
    }
  }

  /** The terminal status of jobs that nobody publishes to any more. */
  async end(jobs: readonly string[]): Promise<void> {
    for (const jobId of jobs) {
      this.#queue.push(this.#guarded(lastStatus(jobId, this.#mark(jobId)), "producer"));
    }
    while (this.#queue.length > 0) await this.#publishNext();
  }

  close(): void {
    this.#closed = true;
    this.#socket.disconnect();
  }

  #make(part: number): Item {
    const { random, jobs, keys, marker, steady, large } = this.#options;
    const list = jobs(part);
    const jobId = steady ? (list[this.#made % list.length] as string) : random.pick(list);
    const isDurable = steady
      ? Math.floor(this.#made / list.length) % 2 === 0
      : random.int(0, this.#durableLeft + this.#progressLeft) < this.#durableLeft;
    if (isDurable) {
      this.#durableLeft--;
      const guard = random.chance(UNGUARDED) ? "none" : random.chance(0.2) ? "id" : "producer";
      const mark = this.#mark(jobId);
      return this.#guarded(large ? largeEvent(jobId, mark, large) : durableEvent(random, jobId, mark), guard);
    }
    this.#progressLeft--;
    this.progress++;
    const key = random.pick(keys);
    const data = progressData(random, this.#step++, marker);
    let newest = this.newest.get(jobId);
    if (!newest) {
      newest = new Map();
      this.newest.set(jobId, newest);
    }
    mergeInto(newest, keyOf(key), { ...data });
    return { event: { type: "training_progress", job_id: jobId, ...key, data } };
  }

  #mark(jobId: string) {
    const n = (this.#n.get(jobId) ?? 0) + 1;
    this.#n.set(jobId, n);
    return { producer: this.#options.name, n, marker: this.#options.marker };
  }

  #guarded(event: ReturnType<typeof durableEvent>, guard: Sent["guard"]): Item {
    const { name } = this.#options;
    const { n, crc } = event.metadata;
    const jobId = event.job_id as string;
    const sent: Sent = { producer: name, jobId, n, type: event.type, crc, guard, times: 0, acked: false };
    this.sent.push(sent);
    const known =
      guard === "producer"
        ? { producer: { id: name, incarnation: 1 }, n }
        : guard === "id"
          ? { id: `${name}-${n}` }
          : {};
    return { event: { ...event, ...known }, sent };
  }

  /** One batch at a time: what has to be sent again goes before what follows it. */
  async #publishNext(): Promise<void> {
    const size = this.#options.random.int(BATCH.least, BATCH.most + 1);
    const batch = this.#queue.splice(0, size);
    for (const { sent } of batch) {
      if (!sent) continue;
      if (sent.times++ > 0) this.resends++;
    }
    const answer = await this.#call(batch.map(({ event }) => event));
    if (!answer) {
      this.losses++;
      this.#again(batch);
      await this.#moveOn();
    } else if (answer.ok) await this.#settle(batch, answer.data);
    else if (answer.error.temporary) {
      this.#again(batch);
      await sleep(BUSY_MS);
    } else this.faults.push(`${this.#options.name}: ${answer.error.code}: ${answer.error.message}`);
  }

  async #settle(batch: readonly Item[], answer: PublishAnswer): Promise<void> {
    const { accepted, duplicates, refused, positions } = answer;
    this.duplicates += duplicates;
    const errors = new Map(refused.map((error) => [error.index, error]));
    const again: Item[] = [];
    for (const [index, item] of batch.entries()) {
      const error = errors.get(index);
      if (!error) {
        if (item.sent) acknowledge(item.sent, positions[item.sent.jobId]?.epoch);
      } else if (error.temporary) {
        this.#refused(error.code);
        again.push(item);
      } else this.faults.push(`${this.#options.name}: ${error.code}: ${error.message}`);
    }
    if (accepted + duplicates + refused.length !== batch.length) {
      this.faults.push(`${this.#options.name}: ${batch.length} events sent, the answer counts others`);
    }
    if (again.length === 0) return;
    this.refusals += again.length;
    this.#again(again);
    await sleep(BUSY_MS);
  }

  #refused(code: string): void {
    this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
  }

  #again(items: readonly Item[]): void {
    this.#queue.unshift(...items.filter(({ sent }) => sent?.guard !== "none"));
  }

  /** `undefined` when no answer came. */
  #call(events: PublishedEvent[]): Promise<Answer<PublishAnswer> | undefined> {
    if (!this.#socket.connected) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#socket
        .timeout(ACK_LIMIT_MS)
        .emit("publish", events, (error: Error | null, answer: Answer<PublishAnswer>) =>
          resolve(error ? undefined : answer),
        );
      this.onNextSent?.();
      this.onNextSent = undefined;
      this.#mayBreak();
    });
  }

  /** Not near the end: of progress a late first copy would stand above the last. */
  #mayBreak(): void {
    const { random, breaks, durable, progress } = this.#options;
    if (!random.chance(breaks) || this.#made > (durable + progress) * 0.9) return;
    const { engine } = this.#socket.io;
    setTimeout(() => engine.close(), random.int(0, BREAK_MS));
  }

  async #moveOn(): Promise<void> {
    if (this.#closed) throw new Error(`${this.#options.name} was closed`);
    const { urls } = this.#options;
    if (!this.#socket.connected && urls.length > 1) {
      this.#socket.disconnect();
      this.#hub = (this.#hub + 1) % urls.length;
      this.#socket = this.#connect();
    }
    await connected(this.#socket);
  }

  #connect(): Socket {
    return io(`${this.#options.urls[this.#hub]}/trainer`, {
      auth: { token: this.#options.token },
      transports: ["websocket"],
      forceNew: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 500,
    });
  }
}

function acknowledge(sent: Sent, epoch: string | undefined): void {
  sent.acked = true;
  if (epoch !== undefined) sent.epoch = epoch;
}

function connected(socket: Socket): Promise<void> {
  if (socket.connected) return Promise.resolve();
  return new Promise((resolve) => socket.once("connect", resolve));
}
