/**
 * One feed as this instance follows it: where it stands, who is subscribed here, and how holes are healed.
 *
 * Every event of either class raises `seq` by one and is published, so a feed is complete here exactly as long as
 * each event is the next one. Whatever breaks that (a hole, a renewed subscription, an unreadable message, a head that
 * is ahead of us) leads to the same place: `#heal` reads the log after our position and goes on.
 */
import {
  addressOf,
  type Bus,
  type FeedEvent,
  type FeedHandler,
  type FeedName,
  streamsOf,
} from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Cursor, Gap } from "../protocol/types.ts";
import type { Page, Store } from "../store/store.ts";
import type { PartLog } from "./log.ts";
import { count, type HealReason, type Meter, type Tallies } from "./meter.ts";
import { type Item, itemsOf } from "./page.ts";
import type { Subscription } from "./subscription.ts";

/** Between two tries to read while the store is away: doubling from the first to the second. */
const RETRY_MS = [100, 1_000] as const;

/** What a feed needs of the hub. */
export interface FeedContext {
  store: Store;
  bus: Bus;
  /** A watcher's view of the feed's present state, for a gap. */
  snapshot(name: FeedName): Promise<Gap["snapshot"]>;
  log: PartLog;
  counters: HealCounters;
  tallies: Pick<Tallies, "heals" | "gaps">;
  meter: Meter;
}

export interface HealCounters {
  heals: number;
  gaps: number;
  delivered: number;
}

/** Events that arrive while a subscriber reads its page. What it holds in the end lies above that page. */
export class Join {
  readonly events: FeedEvent[] = [];
  /** It has missed something (too much came, or the feed was reset): read on instead of joining. */
  broken = false;
  #bytes = 0;

  push(event: FeedEvent): void {
    if (this.broken) return;
    this.#bytes += event.wire.length;
    if (this.events.length >= LIMITS.healEvents || this.#bytes > LIMITS.healBytes) this.broken = true;
    else this.events.push(event);
  }
}

export class Feed implements FeedHandler {
  readonly name: FeedName;
  readonly subscriptions = new Set<Subscription>();
  /** ms since 1970 since nobody here needs it. */
  idleSince = Date.now();
  /** Not there while nobody is joining: there are thousands of feeds, mostly idle. */
  #joins: Set<Join> | undefined;
  /** Told when it is open; `undefined` from then on. */
  #opening: Array<() => void> | undefined = [];
  #epoch: string | null = null;
  #seq = 0;
  #state: "opening" | "live" | "healing" | "closed" = "opening";
  /** Nothing comes at the moment. */
  #isCut = false;
  /** Something came up while healing that the present read may not cover. */
  #again = false;
  #buffer: FeedEvent[] = [];
  #buffered = 0;
  readonly #context: FeedContext;

  constructor(name: FeedName, context: FeedContext) {
    this.name = name;
    this.#context = context;
    context.bus.hold(name, this);
    if (context.log.isLevelEnabled("debug")) context.log.debug(fieldsOf(name), "feed held");
  }

  get epoch(): string | null {
    return this.#epoch;
  }

  get seq(): number {
    return this.#seq;
  }

  get idle(): boolean {
    return this.subscriptions.size === 0 && this.#joins === undefined;
  }

  /** Resolves when the feed is subscribed and its position known. */
  async opened(): Promise<void> {
    const opening = this.#opening;
    if (opening) await new Promise<void>((resolve) => opening.push(resolve));
  }

  /** Events are kept for it from now on, until `part`. */
  join(join: Join): void {
    this.#joins ??= new Set();
    this.#joins.add(join);
  }

  part(join: Join): void {
    this.#joins?.delete(join);
    if (this.#joins?.size === 0) this.#joins = undefined;
    this.idleSince = Date.now();
  }

  close(): void {
    this.#state = "closed";
    this.#buffer = [];
    const { bus, log } = this.#context;
    bus.release(this.name);
    if (log.isLevelEnabled("debug")) log.debug(fieldsOf(this.name), "feed released");
  }

  // What the bus tells.

  events(events: readonly FeedEvent[]): void {
    let first: FeedEvent | undefined;
    for (const event of events) if (this.#receive(event)) first ??= event;
    // Once for all of them: they were received together, and the first has waited longest.
    // The tenant's progress is held back for up to a second, on purpose.
    const isHeld = first && !first.durable && this.name.jobId === undefined;
    if (first && !isHeld) this.#context.meter.written(first.wire);
  }

  unreadable(): void {
    this.heal("unreadable");
  }

  unsubscribed(): void {
    this.#isCut = true;
  }

  subscribed(): void {
    this.#isCut = false;
    this.heal(this.#state === "opening" ? "opening" : "renewed");
  }

  /**
   * Compares with a head read from the store. `before` is where this feed stood when the read began: only against that
   * can a lower head mean that the store has lost something.
   */
  compare(head: Cursor | undefined, before: Cursor | null): "same" | "behind" | "differs" {
    if (this.#state !== "live") return "same";
    if (!head) return this.#epoch === null || before === null ? "same" : "differs";
    if (head.epoch !== this.#epoch) return this.#epoch === (before?.epoch ?? null) ? "differs" : "same";
    if (before && head.seq < before.seq) return "differs";
    return head.seq > this.#seq ? "behind" : "same";
  }

  /** Where those stand who are subscribed here and have no more to read: what follows will be delivered, or healed. */
  standing(): Cursor | null {
    return this.#state === "live" && !this.#isCut ? this.position() : null;
  }

  position(): Cursor | null {
    return this.#epoch === null ? null : { epoch: this.#epoch, seq: this.#seq };
  }

  /** Reads the log after our position, delivers, and goes on. Never throws; tries until it succeeds or is closed. */
  heal(reason: HealReason): void {
    if (this.#state === "closed") return;
    if (this.#state === "healing") {
      this.#again = true;
      return;
    }
    const opening = this.#state === "opening";
    this.#state = "healing";
    if (!opening) {
      this.#context.counters.heals++;
      count(this.#context.tallies.heals, reason);
    }
    void this.#healUntilDone(opening, reason);
  }

  async #healUntilDone(opening: boolean, reason: HealReason): Promise<void> {
    const { log } = this.#context;
    const before = this.#seq;
    const startedAt = performance.now();
    let first = opening;
    let failures = 0;
    do {
      this.#again = false;
      try {
        if (first) await this.#findPosition();
        else await this.#readOn();
        first = false;
      } catch (error) {
        const expected = error instanceof HubError && error.temporary;
        if (!expected)
          log.warn({ err: error, ...fieldsOf(this.name), reason }, "healing failed, trying again");
        const wait = Math.min(RETRY_MS[0] * 2 ** failures++, RETRY_MS[1]);
        await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
        this.#again = true;
      }
      if (this.#state === "closed") return;
    } while (this.#again);
    this.#state = "live";
    for (const resume of this.#opening ?? []) resume();
    this.#opening = undefined;
    if (!opening && log.isLevelEnabled("debug")) {
      const ms = Math.round(performance.now() - startedAt);
      log.debug({ ...fieldsOf(this.name), reason, from: before, to: this.#seq, ms }, "feed healed");
    }
    const buffer = this.#buffer;
    this.#buffer = [];
    this.#buffered = 0;
    this.events(buffer);
  }

  async #findPosition(): Promise<void> {
    const [head] = await this.#context.store.heads(this.name.tenantId, [this.name]);
    this.#epoch = head?.epoch ?? null;
    this.#seq = head?.seq ?? 0;
  }

  async #readOn(): Promise<void> {
    let events = 0;
    let bytes = 0;
    for (;;) {
      const page = await this.#context.store.read(this.name, {
        epoch: this.#epoch,
        after: this.#seq,
        limit: LIMITS.pageEvents,
        bytes: LIMITS.pageBytes,
        streams: streamsOf(this.name),
      });
      if (this.#isClosed()) return;
      if (page.reset || this.#isElsewhere(page.epoch)) return await this.#jump(page, "reset");
      if (page.epoch === null) return;
      const items = itemsOf(this.name, page);
      for (const item of items) bytes += "wire" in item ? item.wire.length : 0;
      events += items.length;
      if (events > LIMITS.healEvents || bytes > LIMITS.healBytes) return await this.#jump(page, "overflow");
      this.#adopt(page.epoch);
      await this.#deliverItems(items);
      this.#seq = page.upTo;
      for (const subscription of this.subscriptions) subscription.pass(page.epoch, page.upTo);
      if (page.upTo >= page.seq) return;
    }
  }

  async #deliverItems(items: readonly Item[]): Promise<void> {
    let first: FeedEvent | undefined;
    for (const item of items) {
      if ("wire" in item) {
        if (this.#deliver(item)) first ??= item;
      } else {
        // Without its statuses and samples a watcher's picture is wrong: it gets a new one. Log lines are just missing.
        if (item.stream === "events") item.snapshot = await this.#context.snapshot(this.name);
        this.#gap(item, this.#epoch);
      }
    }
    if (first) this.#context.meter.written(first.wire);
  }

  /** Goes to the head, and says so to everybody who has not been there. */
  async #jump(page: Page, reason: "reset" | "overflow"): Promise<void> {
    const snapshot = page.epoch === null ? null : await this.#context.snapshot(this.name);
    if (this.#isClosed()) return;
    const gap: Gap = {
      type: "gap",
      ...addressOf(this.name),
      epoch: page.epoch,
      seq: page.seq,
      ...(reason === "overflow" && { from: this.#seq + 1, to: page.seq }),
      reason,
      snapshot: snapshot ?? null,
    };
    const previous = this.#epoch;
    this.#epoch = page.epoch;
    this.#seq = page.seq;
    this.#gap(gap, previous);
  }

  #gap(gap: Gap, previous: string | null): void {
    const { counters, tallies, log } = this.#context;
    counters.gaps++;
    count(tallies.gaps, gap.reason);
    const { reason, stream, from, to, seq } = gap;
    log.info({ ...fieldsOf(this.name), reason, stream, from, to, seq }, "gap");
    for (const join of this.#joins ?? []) join.broken = true;
    for (const subscription of this.subscriptions) subscription.gap(gap, previous);
  }

  /** Answers whether somebody here was handed it. */
  #receive(event: FeedEvent): boolean {
    if (this.#state === "closed") return false;
    if (this.#state !== "live") {
      // Bounded: what is thrown away here is in the log, and the hole that it leaves is healed next.
      if (this.#buffer.length < LIMITS.healEvents && this.#buffered < LIMITS.healBytes) {
        this.#buffer.push(event);
        this.#buffered += event.wire.length;
      }
      return false;
    }
    if (event.epoch === this.#epoch && event.seq <= this.#seq) return false;
    if (event.epoch === this.#epoch && event.seq === this.#seq + 1) {
      this.#seq = event.seq;
      return this.#deliver(event);
    }
    // The store published it after storing it, so the read finds it, or what has replaced it. A feed that did not
    // exist begins so too: its first message may be a late one of a history that is gone.
    this.heal("hole");
    return false;
  }

  /** The feed has come into being: those who waited for it begin at its start. */
  #adopt(epoch: string): void {
    if (this.#epoch !== null) return;
    this.#epoch = epoch;
    for (const subscription of this.subscriptions) subscription.begin(epoch);
  }

  /** Whether somebody here stands in a history that this feed, new as it is, has never heard of. */
  #isElsewhere(epoch: string | null): boolean {
    if (this.#epoch !== null || epoch === null) return false;
    return [...this.subscriptions].some((one) => one.epoch !== null && one.epoch !== epoch);
  }

  #deliver(event: FeedEvent): boolean {
    if (this.#joins) for (const join of this.#joins) join.push(event);
    let taken = 0;
    for (const subscription of this.subscriptions) if (subscription.offer(event)) taken++;
    this.#context.counters.delivered += taken;
    return taken > 0;
  }

  /** Apart, because TypeScript does not see that an await may have changed the state. */
  #isClosed(): boolean {
    return this.#state === "closed";
  }
}

/** How the log names a feed. */
function fieldsOf({ tenantId, jobId }: FeedName): object {
  return { tenant_id: tenantId, ...(jobId !== undefined && { job_id: jobId }) };
}
