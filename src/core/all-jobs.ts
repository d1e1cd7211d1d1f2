/**
 * `subscribe {job_id: "*"}`: every active job of the tenant as a job feed of its own. New jobs are heard of on the
 * tenant feed and joined from their first event; a job that has ended stays until its place is needed.
 */
import type { Identity } from "../auth.ts";
import type { FeedEvent } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { TERMINAL_STATUSES } from "../protocol/events.ts";
import { LIMITS } from "../protocol/limits.ts";
import type {
  Cursor,
  DeliveredEvent,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
} from "../protocol/types.ts";
import type { Hub } from "./hub.ts";
import { type Opening, START } from "./open.ts";
import type { Subscriber, Subscription } from "./subscription.ts";

const RETRY_MS = 500;

export class AllJobs {
  readonly #hub: Hub;
  readonly #identity: Identity;
  /** What each job's own subscription asks for. */
  readonly #asked: Pick<SubscribeRequest, "types" | "max_rate">;
  /** For jobs without a cursor. */
  readonly #history: Pick<SubscribeRequest, "history">;
  readonly #subscriber: Subscriber;
  /** Jobs that are followed; `null` while the first events are read. */
  readonly #following = new Map<string, Subscription | null>();
  /** Jobs of later pages. */
  readonly #pending = new Map<string, Cursor | undefined>();
  /** Of the jobs that are followed. */
  readonly #ended = new Set<string>();
  /** Jobs heard of before the first answer: what they bring follows it. */
  readonly #heard = new Map<string, Cursor>();
  #answered = false;
  #tenant: Subscription | undefined;
  #page = 0;
  #closed = false;

  constructor(hub: Hub, identity: Identity, request: SubscribeRequest, subscriber: Subscriber) {
    this.#hub = hub;
    this.#identity = identity;
    const { types, max_rate, history } = request;
    this.#asked = { ...(types && { types }), ...(max_rate !== undefined && { max_rate }) };
    this.#history = history ? { history } : {};
    this.#subscriber = subscriber;
  }

  /** Finds the jobs. Then `page` reads the answers, one page a call. */
  async begin(since: Record<string, Cursor> | undefined): Promise<void> {
    for (const [jobId, cursor] of Object.entries(since ?? {})) this.#pending.set(jobId, cursor);
    this.#tenant = await this.#hub.listen(this.#identity, {
      deliver: (event) => this.#hear(event),
      gap: () => void this.#rescan(),
      position() {},
      waitExpired() {},
    });
    const active = await this.#hub.activeJobs(this.#identity, LIMITS.allJobs);
    for (const jobId of active) {
      if (this.#pending.size >= LIMITS.allJobs) break;
      // Who resumes has missed the beginning of jobs that it does not name.
      if (!this.#pending.has(jobId)) this.#pending.set(jobId, since && START);
    }
  }

  /** Whether `next` is what the last page's answer said. */
  expects(next: string): boolean {
    return this.#pending.size > 0 && next === String(this.#page);
  }

  /** As `Hub.open`, for as many jobs as fit into one page. */
  async page(): Promise<{ finish(): SubscribeAllAnswer; start(): void; abandon(): void }> {
    const read: Array<{ jobId: string; opening?: Opening; bytes: number }> = [];
    let bytes = 0;
    try {
      for (const [jobId, since] of this.#pending) {
        const opening = await this.#open(jobId, since);
        const size = opening ? sizeOf(opening.finish()) : 0;
        // The first job always fits; one that does not is read again for the next page.
        if (read.length > 0 && bytes + size > LIMITS.pageBytes) {
          opening?.abandon();
          break;
        }
        bytes += size;
        read.push({ jobId, bytes: size, ...(opening && { opening }) });
        if (bytes >= LIMITS.pageBytes) break;
      }
    } catch (error) {
      for (const { opening } of read) opening?.abandon();
      throw error;
    }
    const abandon = () => {
      for (const { opening } of read) opening?.abandon();
    };
    return {
      abandon,
      finish: () => {
        const jobs = read.map(({ jobId, opening }) => answerOf(jobId, opening));
        for (const answer of jobs) {
          this.#pending.delete(answer.job_id);
          if (answer.more) this.#pending.set(answer.job_id, answer.next);
        }
        const more = this.#pending.size > 0 && { more: true, next: String(++this.#page) };
        return { job_id: "*", jobs, ...more };
      },
      start: () => {
        if (this.#closed) return abandon();
        for (const { jobId, opening } of read) this.#join(jobId, opening);
        this.#answered = true;
        for (const [jobId, from] of this.#heard) this.#learn(jobId, from);
        this.#heard.clear();
      },
    };
  }

  positions() {
    return [...this.#following.values()].flatMap((subscription) => subscription?.position() ?? []);
  }

  close(): void {
    this.#closed = true;
    if (this.#tenant) this.#hub.leave(this.#tenant);
    for (const subscription of this.#following.values()) if (subscription) this.#hub.leave(subscription);
    this.#following.clear();
    this.#pending.clear();
  }

  /** `undefined` for a job that is gone. */
  async #open(jobId: string, since: Cursor | undefined): Promise<Opening | undefined> {
    const request = { ...this.#asked, job_id: jobId, ...(since ? { since } : this.#history) };
    try {
      return await this.#hub.open(this.#identity, request, this.#subscriber);
    } catch (error) {
      if (error instanceof HubError && error.code === "job_not_found") return undefined;
      throw error;
    }
  }

  #join(jobId: string, opening: Opening | undefined): void {
    const before = this.#following.get(jobId);
    const subscription = opening?.start();
    if (!subscription) return;
    if (before) this.#hub.leave(before);
    this.#following.set(jobId, subscription);
  }

  #hear(event: FeedEvent): void {
    const { jobId, type } = event;
    if (jobId === "" || (type !== "job_created" && type !== "training_status")) return;
    const { data, job_position } = JSON.parse(event.wire) as DeliveredEvent<"training_status">;
    const ended = type === "training_status" && TERMINAL_STATUSES.has(data.status);
    if (!ended) this.#ended.delete(jobId);
    else if (this.#following.has(jobId)) this.#ended.add(jobId);
    if (ended || !job_position) return;
    this.#learn(jobId, { epoch: job_position.epoch, seq: job_position.seq - 1 });
  }

  /** A job that is not followed yet has something new after this position. */
  #learn(jobId: string, from: Cursor): void {
    if (this.#following.has(jobId) || this.#pending.has(jobId)) return;
    if (this.#answered) void this.#follow(jobId, from);
    else if (!this.#heard.has(jobId)) this.#heard.set(jobId, from);
  }

  /** Some news of jobs was lost: look which ones there are. */
  async #rescan(): Promise<void> {
    while (!this.#closed) {
      try {
        for (const jobId of await this.#hub.activeJobs(this.#identity, LIMITS.allJobs)) {
          if (this.#following.has(jobId) || this.#pending.has(jobId)) continue;
          this.#learn(jobId, START);
        }
        return;
      } catch (error) {
        await this.#pause(error, "looking for jobs failed, trying again");
      }
    }
  }

  /** Delivers a job from a position on, as events: the watcher did not ask for this one by name. */
  async #follow(jobId: string, from: Cursor): Promise<void> {
    if (!this.#makeRoom(jobId, from)) return;
    this.#following.set(jobId, null);
    let since = from;
    while (!this.#closed) {
      try {
        const opening = await this.#open(jobId, since);
        if (!opening) return void this.#following.delete(jobId);
        if (this.#closed) return opening.abandon();
        const answer = opening.finish();
        if (!answer.recovered) this.#tellLost(jobId, answer);
        for (const item of opening.items) {
          if ("wire" in item) this.#subscriber.deliver(item);
          else this.#subscriber.gap(item);
        }
        this.#join(jobId, opening);
        if (!answer.more) return;
        since = answer.next as Cursor;
      } catch (error) {
        await this.#pause(error, "following a job failed, trying again");
      }
    }
  }

  #tellLost(jobId: string, { epoch, seq, snapshot }: SubscribeAnswer): void {
    this.#subscriber.gap({
      type: "gap",
      feed: "job",
      job_id: jobId,
      epoch,
      seq,
      reason: "reset",
      snapshot: snapshot ?? null,
    });
  }

  /** At the limit an ended job gives way; without one the new job is told as missing. */
  #makeRoom(jobId: string, { epoch, seq }: Cursor): boolean {
    if (this.#following.size + this.#pending.size < LIMITS.allJobs) return true;
    for (const ended of this.#ended) {
      const subscription = this.#following.get(ended);
      if (!subscription) continue;
      this.#hub.leave(subscription);
      this.#following.delete(ended);
      this.#ended.delete(ended);
      return true;
    }
    this.#subscriber.gap({
      type: "gap",
      feed: "job",
      job_id: jobId,
      epoch: epoch || null,
      seq,
      reason: "overflow",
    });
    return false;
  }

  async #pause(error: unknown, what: string): Promise<void> {
    if (!(error instanceof HubError)) this.#hub.internal(error, what);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS * (0.5 + Math.random())));
  }
}

function answerOf(jobId: string, opening: Opening | undefined): SubscribeAnswer & { job_id: string } {
  if (opening) return { ...opening.finish(), job_id: jobId };
  return { job_id: jobId, feed: "job", epoch: null, seq: 0, recovered: false, snapshot: null, events: [] };
}

function sizeOf(answer: SubscribeAnswer): number {
  return JSON.stringify(answer).length;
}
