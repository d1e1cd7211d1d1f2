/** A page of the store as the items that a watcher gets: events and gaps, in order. */
import { addressOf, type FeedEvent, type FeedName } from "../bus/bus.ts";
import { EVENTS } from "../protocol/events.ts";
import type { EventType, Gap } from "../protocol/types.ts";
import type { Logged, Newest, Page } from "../store/store.ts";
import { loggedWire, newestWire } from "../store/wire.ts";

export type Item = FeedEvent | Gap;

/**
 * What the page holds, in order of position; a gap stands where its events would. `made` has what became of events in
 * other pages of the same read, and gets what is made here.
 */
export function itemsOf(name: FeedName, page: Page, made?: Map<Logged | Newest, FeedEvent>): Item[] {
  const address = addressOf(name);
  const epoch = page.epoch as string;
  const placed: Array<{ at: number; item: Item }> = [];
  const place = (stored: Logged | Newest, make: () => FeedEvent) => {
    const item = made?.get(stored) ?? make();
    made?.set(stored, item);
    placed.push({ at: stored.seq, item });
  };
  for (const logged of page.logged) {
    place(logged, () => ({
      epoch,
      seq: logged.seq,
      type: logged.type,
      durable: true,
      jobId: name.jobId ?? logged.job?.jobId ?? "",
      key: "",
      wire: loggedWire(address.feed, epoch, logged),
    }));
  }
  for (const newest of page.newest) {
    if (newest.seq > page.upTo) continue;
    place(newest, () => ({
      epoch,
      seq: newest.seq,
      type: newest.type,
      durable: false,
      jobId: name.jobId ?? newest.job?.jobId ?? "",
      key: newest.key,
      wire: newestWire(address.feed, epoch, newest),
    }));
  }
  for (const { stream, from, to } of page.trimmed) {
    const item: Gap = {
      type: "gap",
      ...address,
      epoch,
      // Not further: events of the other stream may follow.
      seq: from - 1,
      from,
      to,
      stream,
      reason: "trimmed",
    };
    placed.push({ at: from - 0.5, item });
  }
  return placed.sort((a, b) => a.at - b.at).map(({ item }) => item);
}

/** Which events a subscription wants. */
export interface Filter {
  readonly types: ReadonlySet<EventType> | undefined;
  /** On the tenant feed: whether the token may see that job ('' for the tenant itself). */
  readonly maySee: ((jobId: string) => boolean) | undefined;
}

export function wants(filter: Filter, item: Item): boolean {
  return "wire" in item ? wantsEvent(filter, item) : concerns(filter, item.stream);
}

export function wantsEvent({ types, maySee }: Filter, event: FeedEvent): boolean {
  return (types === undefined || types.has(event.type)) && (maySee === undefined || maySee(event.jobId));
}

/** Whether a gap in a stream can have swallowed something that the filter lets through. */
export function concerns({ types }: Filter, stream: "events" | "log" | undefined): boolean {
  if (!types || stream === undefined) return true;
  return [...types].some((type) => EVENTS[type].stream === stream);
}

/** The tenant's snapshot shows only what the token may see. */
export function visible({ maySee }: Filter, snapshot: Gap["snapshot"]): Gap["snapshot"] {
  if (!snapshot || !("jobs" in snapshot) || !maySee) return snapshot ?? null;
  return { jobs: snapshot.jobs.filter(({ job_id }) => maySee(job_id)) };
}
