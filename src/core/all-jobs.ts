/**
 * `subscribe {job_id: "*"}`: every active job of the tenant as a job feed of its own. New jobs are heard of on the
 * tenant feed and joined from their first event; a job that has ended stays until its place is needed.
 */
import { type Identity, maySee } from "../auth.ts";
import type { FeedEvent } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type { Cursor, DeliveredEvent, EventType, JobSummary, SubscribeRequest } from "../protocol/types.ts";
import { AllAnswer, Answer } from "./answer.ts";
import type { Hub } from "./hub.ts";
import { type Opening, START } from "./open.ts";
import { type Subscriber, Subscription } from "./subscription.ts";

const RETRY_MS = 500;
/** Jobs that are opened side by side. */
const AT_A_TIME = 16;
/** A page that takes longer is answered with what it has. */
const PAGE_MS = 2_000;

/** One reading of a job's first events; it is over when another one, or nothing, stands in its place. */
class Reading {}

/** Events by which a job begins, ends, or goes on. */
const SAYS_STATUS: ReadonlySet<EventType> = new Set(["job_created", "job_updated", "training_status"]);

export class AllJobs {
  readonly #hub: Hub;
  #identity: Identity;
  /** What each job's own subscription asks for. */
  readonly #asked: Pick<SubscribeRequest, "types" | "max_rate">;
  /** For jobs without a cursor. */
  readonly #history: Pick<SubscribeRequest, "history">;
  readonly #subscriber: Subscriber;
  /** Jobs that are followed; a `Reading` while the first events are read. */
  readonly #following = new Map<string, Subscription | Reading>();
  /** Jobs of later pages. */
  readonly #pending = new Map<string, Cursor | undefined>();
  /** Jobs for which there is no room, told after the first answer. */
  readonly #left = new Set<string>();
  /** The job that was created last, as far as is known. */
  #newest: string | undefined;
  /** Of the jobs that are followed. */
  readonly #ended = new Set<string>();
  /** Jobs heard of before the first answer: what they bring follows it. */
  readonly #heard = new Map<string, Cursor>();
  #answered = false;
  #tenant: Subscription | undefined;
  #resumes = false;
  #page = 0;
  /** Whether the last answer said that there are more pages. */
  #more = false;
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
    this.#resumes = since !== undefined;
    this.#tenant = await this.#hub.replays.listen(this.#identity, {
      deliver: (event) => this.#hear(event),
      gap: () => void this.#rescan(),
      position() {},
      waitExpired() {},
    });
    const jobs = await this.#hub.jobs.all(this.#identity);
    this.#newest ??= jobs[0]?.job_id;
    // Who resumes has missed the beginning of jobs that it does not name.
    for (const { job_id } of jobs.filter(isActive)) this.#expect(job_id, since?.[job_id] ?? (since && START));
    for (const [jobId, cursor] of Object.entries(since ?? {})) {
      if (this.#pending.has(jobId)) continue;
      this.#ended.add(jobId);
      this.#expect(jobId, cursor);
    }
  }

  /**
   * Goes on with the watcher's newer token. Answers the jobs that it no longer allows and that were asked for: they end.
   * Active jobs that it shows for the first time are followed from where they stand.
   */
  identify(identity: Identity): string[] {
    const changed = JSON.stringify(identity.jobs) !== JSON.stringify(this.#identity.jobs);
    this.#identity = identity;
    if (this.#tenant) this.#hub.replays.identify(this.#tenant, identity);
    const ended = new Set<string>();
    for (const jobs of [this.#following, this.#pending, this.#left, this.#heard, this.#ended]) {
      for (const jobId of jobs.keys()) {
        if (maySee(identity, jobId)) continue;
        if (jobs === this.#following || jobs === this.#pending) ended.add(jobId);
        this.#leave(jobId);
        jobs.delete(jobId);
      }
    }
    if (changed && this.#tenant) void this.#review();
    return [...ended];
  }

  #leave(jobId: string): void {
    const subscription = this.#following.get(jobId);
    if (subscription instanceof Subscription) this.#hub.feeds.leave(subscription);
    this.#following.delete(jobId);
  }

  #expect(jobId: string, since: Cursor | undefined): void {
    if (this.#pending.size < LIMITS.allJobs) this.#pending.set(jobId, since);
    else this.#left.add(jobId);
  }

  /** Whether the watcher has come back with positions. */
  get resumes(): boolean {
    return this.#resumes;
  }

  /** Whether `next` is what the last page's answer said. */
  expects(next: string): boolean {
    return this.#more && next === String(this.#page);
  }

  /** As `Replays.open`, for as many jobs as fit into one page. */
  async page(): Promise<{ finish(): AllAnswer; start(): void; abandon(): void }> {
    const read = await this.#readJobs();
    const abandon = () => {
      for (const { opening } of read) opening?.abandon();
    };
    return {
      abandon,
      finish: () => {
        const jobs = read.map(({ jobId, opening }) => [jobId, answerOf(jobId, opening)] as const);
        for (const [jobId, { head }] of jobs) {
          this.#pending.delete(jobId);
          if (head.more) this.#pending.set(jobId, head.next);
        }
        this.#more = this.#pending.size > 0;
        return new AllAnswer(jobs, this.#more ? String(++this.#page) : undefined);
      },
      start: () => {
        if (this.#closed) return abandon();
        for (const { jobId, opening } of read) this.#join(jobId, opening);
        this.#answered = true;
        for (const jobId of this.#left) this.#tellLeft(jobId, START);
        this.#left.clear();
        for (const [jobId, from] of this.#heard) this.#learn(jobId, from);
        this.#heard.clear();
      },
    };
  }

  /** Jobs of one page: what fits by bytes and by time, and one at least. */
  async #readJobs(): Promise<Array<{ jobId: string; opening: Opening | undefined }>> {
    const read: Array<{ jobId: string; opening: Opening | undefined }> = [];
    const waiting = [...this.#pending];
    const until = performance.now() + PAGE_MS;
    let bytes = 0;
    while (waiting.length > 0 && bytes < LIMITS.pageBytes && performance.now() < until) {
      const part = waiting.splice(0, AT_A_TIME);
      const opened = await Promise.allSettled(part.map(([jobId, since]) => this.#open(jobId, since)));
      const failed = opened.find((one) => one.status === "rejected");
      for (const [i, one] of opened.entries()) {
        const opening = one.status === "fulfilled" ? one.value : undefined;
        const size = opening?.finish().text().length ?? 0;
        // What does not fit is read again for the next page.
        if (failed || (read.length > 0 && bytes + size > LIMITS.pageBytes)) {
          opening?.abandon();
          bytes = Number.POSITIVE_INFINITY;
        } else {
          bytes += size;
          read.push({ jobId: part[i]?.[0] as string, opening });
        }
      }
      if (failed) {
        for (const { opening } of read) opening?.abandon();
        throw failed.reason;
      }
    }
    return read;
  }

  positions() {
    return [...this.#following.values()].flatMap((each) =>
      each instanceof Subscription ? (each.position() ?? []) : [],
    );
  }

  close(): void {
    this.#closed = true;
    if (this.#tenant) this.#hub.feeds.leave(this.#tenant);
    for (const jobId of [...this.#following.keys()]) this.#leave(jobId);
    this.#pending.clear();
  }

  /** `undefined` for a job that is gone. */
  async #open(jobId: string, since: Cursor | undefined): Promise<Opening | undefined> {
    const request = { ...this.#asked, job_id: jobId, ...(since ? { since } : this.#history) };
    try {
      return await this.#hub.replays.open(this.#identity, request, this.#subscriber);
    } catch (error) {
      if (error instanceof HubError && error.code === "job_not_found") return undefined;
      throw error;
    }
  }

  #join(jobId: string, opening: Opening | undefined): void {
    const subscription = opening?.start();
    if (!subscription) return;
    this.#leave(jobId);
    this.#following.set(jobId, subscription);
  }

  #hear(event: FeedEvent): void {
    const { jobId, type } = event;
    if (jobId === "" || !SAYS_STATUS.has(type)) return;
    const { data, job_position } = JSON.parse(event.wire) as DeliveredEvent<"job_updated">;
    if (type === "job_updated" && data.status === undefined) return;
    const ended = TERMINAL_STATUSES.has(data.status ?? "");
    if (type === "job_created") this.#newest = jobId;
    if (!ended) this.#ended.delete(jobId);
    else if (this.#following.has(jobId) || this.#pending.has(jobId)) this.#ended.add(jobId);
    if (ended || !job_position) return;
    this.#learn(jobId, { epoch: job_position.epoch, seq: job_position.seq - 1 });
  }

  /** A job that is not followed yet has something new after this position. */
  #learn(jobId: string, from: Cursor): void {
    if (this.#following.has(jobId) || this.#pending.has(jobId) || !maySee(this.#identity, jobId)) return;
    if (this.#answered) void this.#follow(jobId, from);
    else if (!this.#heard.has(jobId)) this.#heard.set(jobId, from);
  }

  /** Some news of jobs was lost: look which ones there are, and which have come and ended meanwhile. */
  async #rescan(): Promise<void> {
    // As it is now: jobs that are heard of while it looks come after those that were missed.
    const newest = this.#newest;
    while (!this.#closed) {
      try {
        const jobs = await this.#hub.jobs.all(this.#identity);
        const known = jobs.findIndex(({ job_id }) => job_id === newest);
        this.#newest = jobs[0]?.job_id;
        for (const [i, job] of jobs.entries()) {
          if (!isActive(job) && i >= known && known >= 0) continue;
          if (!isActive(job)) this.#ended.add(job.job_id);
          this.#learn(job.job_id, START);
        }
        return;
      } catch (error) {
        await this.#pause(error, "looking for jobs failed, trying again");
      }
    }
  }

  /** The token shows other jobs now: those that are active are followed from where they stand. */
  async #review(): Promise<void> {
    const identity = this.#identity;
    while (!this.#closed && this.#identity === identity) {
      try {
        const jobs = await this.#hub.jobs.all(identity);
        if (this.#closed || this.#identity !== identity) return;
        this.#newest = jobs[0]?.job_id;
        for (const { job_id, epoch, seq } of jobs.filter(isActive)) this.#learn(job_id, { epoch, seq });
        return;
      } catch (error) {
        await this.#pause(error, "looking for jobs failed, trying again");
      }
    }
  }

  /** Delivers a job from a position on, as events: the watcher did not ask for this one by name. */
  async #follow(jobId: string, from: Cursor): Promise<void> {
    if (!this.#makeRoom(jobId, from)) return;
    const reading = new Reading();
    this.#following.set(jobId, reading);
    let since = from;
    while (this.#following.get(jobId) === reading) {
      try {
        const opening = await this.#open(jobId, since);
        if (this.#following.get(jobId) !== reading) return opening?.abandon();
        if (!opening) return void this.#following.delete(jobId);
        const { head, items } = opening.finish();
        if (!head.recovered) this.#tellLost(jobId, head);
        for (const item of items) {
          if ("wire" in item) this.#subscriber.deliver(item);
          else this.#subscriber.gap(item);
        }
        this.#join(jobId, opening);
        if (!head.more) return;
        since = head.next as Cursor;
      } catch (error) {
        await this.#pause(error, "following a job failed, trying again");
      }
    }
  }

  #tellLost(jobId: string, { epoch, seq, snapshot }: Answer["head"]): void {
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
  #makeRoom(jobId: string, from: Cursor): boolean {
    if (this.#following.size + this.#pending.size < LIMITS.allJobs) return true;
    for (const ended of this.#ended) {
      if (!(this.#following.get(ended) instanceof Subscription)) continue;
      this.#leave(ended);
      this.#ended.delete(ended);
      return true;
    }
    this.#tellLeft(jobId, from);
    return false;
  }

  /** There is no room for a job. */
  #tellLeft(jobId: string, { epoch, seq }: Cursor): void {
    this.#subscriber.gap({
      type: "gap",
      feed: "job",
      job_id: jobId,
      epoch: epoch || null,
      seq,
      reason: "overflow",
    });
  }

  async #pause(error: unknown, what: string): Promise<void> {
    if (!(error instanceof HubError)) this.#hub.internal(error, what);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS * (0.5 + Math.random())));
  }
}

function isActive({ status }: JobSummary): boolean {
  return !TERMINAL_STATUSES.has(status);
}

/** Of a job that is gone, that it is. */
function answerOf(jobId: string, opening: Opening | undefined): Answer {
  return (
    opening?.finish() ??
    new Answer({ job_id: jobId, feed: "job", epoch: null, seq: 0, recovered: false, snapshot: null })
  );
}
