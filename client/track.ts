import type {
  Cursor,
  DeliveredEvent,
  EventType,
  Gap,
  Position,
  Snapshot,
  SubscribeAnswer,
  TenantSnapshot,
} from "../src/protocol/types.ts";
import { isDurable } from "./event-table.ts";

/** Where a track's events go. */
export interface Out {
  event(event: DeliveredEvent): void;
  gap(gap: Gap): void;
  snapshot(snapshot: Snapshot | TenantSnapshot): void;
}

/**
 * How far one watcher has come in one feed: takes answers, events and gaps, gives out each durable event once, and
 * keeps the cursor to resume from.
 */
export class Track {
  readonly #feed: "job" | "tenant";
  readonly #jobId: string | undefined;
  readonly #out: Out;
  /** Everything up to here has been given out, or told as a gap. Undefined: nothing yet, or there is no such feed. */
  cursor: Cursor | undefined;
  /** Whether live events continue at the cursor. Before that they belong to an answer that is still to come. */
  live = false;

  constructor(feed: "job" | "tenant", jobId: string | undefined, cursor: Cursor | undefined, out: Out) {
    this.#feed = feed;
    this.#jobId = jobId;
    this.cursor = cursor;
    this.#out = out;
  }

  /** One page of an answer to the request that began at the cursor. */
  answer(answer: SubscribeAnswer): void {
    const since = this.cursor;
    if (!answer.recovered) this.cursor = undefined;
    if (!answer.recovered && since) this.#out.gap(this.#lost(since, answer));
    if (answer.snapshot) this.#out.snapshot(answer.snapshot);
    // Compared with the cursor before this page: the page itself is in order.
    const before = this.cursor;
    for (const entry of answer.events) {
      if (entry.type === "gap") this.#out.gap(entry);
      else if (!covers(before, entry)) this.#give(entry);
    }
    if (answer.more && answer.next) this.cursor = answer.next;
    else this.cursor = answer.epoch === null ? undefined : { epoch: answer.epoch, seq: answer.seq };
    this.live = !answer.more;
  }

  event(event: DeliveredEvent): void {
    if (this.live && !covers(this.cursor, event)) this.#give(event);
  }

  gap(gap: Gap): void {
    if (!this.live) return;
    // A gap of trimmed events is one in the middle: what follows it is still to come.
    if (gap.reason !== "trimmed" || gap.snapshot) {
      this.cursor = gap.epoch === null ? undefined : { epoch: gap.epoch, seq: gap.seq };
    }
    this.#out.gap(gap);
    if (gap.snapshot) this.#out.snapshot(gap.snapshot);
  }

  position(position: Position): void {
    if (this.live) this.#advance(position);
  }

  #give(event: DeliveredEvent<EventType>): void {
    this.#advance(event);
    this.#out.event(event);
  }

  #advance({ epoch, seq }: Cursor): void {
    if (this.cursor?.epoch === epoch && seq <= this.cursor.seq) return;
    this.cursor = { epoch, seq };
  }

  /** An answer says "not recovered" with a flag; whoever listens for gaps must hear of it as well. */
  #lost(since: Cursor, { epoch, seq, snapshot }: SubscribeAnswer): Gap {
    const gap: Gap = { type: "gap", feed: this.#feed, epoch, seq, reason: "reset" };
    if (this.#jobId !== undefined) gap.job_id = this.#jobId;
    if (snapshot) gap.snapshot = snapshot;
    if (since.epoch === epoch && since.seq <= seq) {
      gap.reason = "trimmed";
      gap.from = since.seq + 1;
    }
    return gap;
  }
}

/**
 * Whether a durable event had been given out before. Conflatable ones are never taken for that: a value that was held
 * back keeps its position and comes after later durable events.
 */
function covers(cursor: Cursor | undefined, event: DeliveredEvent): boolean {
  return (
    cursor !== undefined && cursor.epoch === event.epoch && event.seq <= cursor.seq && isDurable(event.type)
  );
}
