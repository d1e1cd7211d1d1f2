import type {
  AnswerError,
  Cursor,
  DeliveredEvent,
  Gap,
  JobStatus,
  Position,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
} from "../src/protocol/types.ts";
import { TrainwireError } from "./errors.ts";
import { KEPT_LIMITS, TERMINAL_STATUSES } from "./event-table.ts";
import { type Out, Track } from "./track.ts";

/** What one subscription has received, and what to ask for next. Two kinds: of one feed, and of all jobs. */
export interface Follow {
  readonly live: boolean;
  /** Of the one feed. */
  readonly cursor: Cursor | undefined;
  /** By job, with `job_id: "*"`. */
  readonly cursors: Record<string, Cursor>;
  /** The next page to ask for: from the beginning, from the cursor, or from where the last page ended. */
  request(): SubscribeRequest;
  /**
   * Whether live events follow, there are more pages, or the hub could not go on for now and has to be asked again.
   *
   * @throws TrainwireError when the answer is not what PROTOCOL.md says.
   */
  answer(answer: SubscribeAnswer | SubscribeAllAnswer): "live" | "more" | "again";
  /** Whether a refusal means: begin again at the cursor. */
  restart(error: AnswerError): boolean;
  event(event: DeliveredEvent): void;
  gap(gap: Gap): void;
  position(position: Position): void;
  /** The connection is gone. */
  detach(): void;
}

export function follow(request: SubscribeRequest, out: Out): Follow {
  return request.job_id === "*" ? new AllFollow(request, out) : new FeedFollow(request, out);
}

class FeedFollow implements Follow {
  readonly #request: SubscribeRequest;
  readonly #track: Track;
  #wasLive = false;

  constructor({ since, ...request }: SubscribeRequest, out: Out) {
    this.#request = request;
    const feed = request.job_id === undefined ? "tenant" : "job";
    this.#track = new Track(feed, request.job_id, since as Cursor | undefined, out);
  }

  get live(): boolean {
    return this.#track.live;
  }

  get cursor(): Cursor | undefined {
    return this.#track.cursor;
  }

  get cursors(): Record<string, Cursor> {
    return {};
  }

  request(): SubscribeRequest {
    const { history, ...request } = this.#request;
    if (this.cursor) return { ...request, since: this.cursor };
    // It waited for a job that may have begun while the connection was gone: from its first event on.
    if (this.#wasLive) return { ...request, since: { epoch: "", seq: 0 } };
    return history === undefined ? request : { ...request, history };
  }

  answer(answer: SubscribeAnswer | SubscribeAllAnswer): "live" | "more" | "again" {
    if (!isFeedAnswer(answer)) throw malformed("is not the answer of a feed");
    const since = this.cursor;
    if (answer.more && !answer.next) throw malformed("does not say where its next page begins");
    this.#track.answer(answer);
    this.#wasLive ||= this.live;
    if (this.live) return "live";
    return answer.next && sameCursor(since, answer.next) ? "again" : "more";
  }

  restart(): boolean {
    return false;
  }

  event(event: DeliveredEvent): void {
    this.#track.event(event);
  }

  gap(gap: Gap): void {
    this.#track.gap(gap);
  }

  position(position: Position): void {
    this.#track.position(position);
  }

  detach(): void {
    this.#track.live = false;
  }
}

/** Events of jobs that an unfinished answer may still bring. */
const EARLY = 1_000;

class AllFollow implements Follow {
  readonly #request: SubscribeRequest;
  readonly #out: Out;
  /** Least recently moved first. */
  readonly #tracks = new Map<string, Track>();
  live = false;
  #wasLive = false;
  #next: string | undefined;
  /**
   * Live events that came before the last page, of jobs that no page has brought yet. A job that the answer will bring
   * (the event came by a subscription of its own) and one that is new look alike until the last page is there.
   */
  #early: Array<DeliveredEvent | Gap> = [];
  /** There were more than fit: after the last page everything is asked for once more, from the cursors on. */
  #overflow = false;

  /** Jobs that are over: the first to be forgotten. */
  readonly #ended = new Set<string>();
  /** Whether the application itself resumes. */
  readonly #resumes: boolean;

  constructor({ since, ...request }: SubscribeRequest, out: Out) {
    this.#request = request;
    this.#out = out;
    this.#resumes = since !== undefined;
    for (const [jobId, cursor] of Object.entries((since ?? {}) as Record<string, Cursor>))
      this.#track(jobId, cursor);
  }

  get cursor(): undefined {
    return undefined;
  }

  get cursors(): Record<string, Cursor> {
    const cursors: Record<string, Cursor> = {};
    for (const [jobId, { cursor }] of this.#tracks) if (cursor) cursors[jobId] = cursor;
    return cursors;
  }

  request(): SubscribeRequest {
    if (this.#next !== undefined) return { ...this.#request, next: this.#next };
    const request: SubscribeRequest = { ...this.#request };
    // A map, even an empty one, resumes: jobs that it does not name come from their first event on. A first answer that
    // was cut is no beginning: the jobs that it has not brought are not new.
    if (this.#wasLive || this.#resumes) request.since = this.cursors;
    return request;
  }

  answer(answer: SubscribeAnswer | SubscribeAllAnswer): "live" | "more" | "again" {
    if (!("jobs" in answer) || !Array.isArray(answer.jobs) || !answer.jobs.every(isFeedAnswer)) {
      throw malformed("is not the answer of all jobs");
    }
    if (answer.more && !answer.next) throw malformed("does not say where its next page begins");
    const asked = this.#next;
    for (const job of answer.jobs) {
      this.#track(job.job_id).answer(job);
      // Told as a gap; there is nothing to come back to.
      if (job.epoch === null) this.#tracks.delete(job.job_id);
    }
    this.#next = answer.more ? answer.next : undefined;
    if (answer.more) return answer.next === asked ? "again" : "more";
    if (this.#overflow) {
      this.detach();
      this.#wasLive = true;
      return "more";
    }
    this.#joined();
    return "live";
  }

  restart(error: AnswerError): boolean {
    if (error.code !== "invalid_cursor" || this.#next === undefined) return false;
    this.detach();
    return true;
  }

  event(event: DeliveredEvent): void {
    const jobId = event.job_id;
    if (jobId === undefined) return;
    this.#note(jobId, event);
    if (this.live || this.#tracks.get(jobId)?.live) {
      const track = this.#track(jobId);
      track.live = true;
      track.event(event);
    } else if (this.#early.length < EARLY) this.#early.push(event);
    else this.#overflow = true;
  }

  gap(gap: Gap): void {
    if (gap.job_id === undefined) return;
    if (!this.live && !this.#tracks.get(gap.job_id)?.live) {
      if (this.#early.length < EARLY) this.#early.push(gap);
      else this.#overflow = true;
      return;
    }
    const track = this.#track(gap.job_id);
    track.live = true;
    track.gap(gap);
    if (gap.epoch === null) this.#tracks.delete(gap.job_id);
  }

  position(position: Position): void {
    if (position.job_id !== undefined) this.#tracks.get(position.job_id)?.position(position);
  }

  detach(): void {
    this.live = false;
    this.#next = undefined;
    this.#early = [];
    this.#overflow = false;
    for (const track of this.#tracks.values()) track.live = false;
  }

  #joined(): void {
    this.live = true;
    this.#wasLive = true;
    // Jobs that were not in the answer are not active; when they are again, their events come by themselves.
    for (const track of this.#tracks.values()) track.live = true;
    const early = this.#early;
    this.#early = [];
    for (const entry of early) {
      if (entry.type === "gap") this.gap(entry);
      else this.event(entry);
    }
  }

  #note(jobId: string, { type, data }: DeliveredEvent): void {
    if (type !== "training_status" && type !== "job_updated") return;
    const { status } = data as { status?: JobStatus };
    if (status === undefined) return;
    if (TERMINAL_STATUSES.has(status)) this.#ended.add(jobId);
    else this.#ended.delete(jobId);
  }

  /** The track of a job, moved to the end; beyond the limit the one that has not moved for longest is forgotten. */
  #track(jobId: string, cursor?: Cursor): Track {
    const track = this.#tracks.get(jobId) ?? new Track("job", jobId, cursor, this.#out);
    this.#tracks.delete(jobId);
    this.#tracks.set(jobId, track);
    if (this.#tracks.size > KEPT_LIMITS.allJobs) {
      const [oldest = [...this.#tracks.keys()][0]] = this.#ended;
      if (oldest !== undefined) this.#tracks.delete(oldest);
      this.#ended.delete(oldest ?? "");
    }
    return track;
  }
}

function isFeedAnswer(answer: SubscribeAnswer | SubscribeAllAnswer): answer is SubscribeAnswer {
  return "events" in answer && Array.isArray(answer.events) && Number.isSafeInteger(answer.seq);
}

function sameCursor(a: Cursor | undefined, b: Cursor): boolean {
  return a?.epoch === b.epoch && a.seq === b.seq;
}

function malformed(what: string): TrainwireError {
  return new TrainwireError("malformed_answer", `The hub's answer ${what}.`, { temporary: true });
}
