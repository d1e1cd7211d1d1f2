/** A page of the store as the items that a watcher gets: events and gaps, in order. */
import { addressOf, type FeedEvent, type FeedName } from "../bus/bus.ts";
import { EVENTS } from "../protocol/events.ts";
import type { DeliveredEvent, EventType, Gap } from "../protocol/types.ts";
import type { Page } from "../store/store.ts";
import { loggedWire, newestWire } from "../store/wire.ts";

export type Item = FeedEvent | Gap;

/** What the page holds, in order of position; a gap stands where its events would. */
export function itemsOf(name: FeedName, page: Page): Item[] {
  const address = addressOf(name);
  const epoch = page.epoch as string;
  const placed: Array<{ at: number; item: Item }> = [];
  for (const logged of page.logged) {
    const item: FeedEvent = {
      epoch,
      seq: logged.seq,
      type: logged.type,
      durable: true,
      jobId: name.jobId ?? logged.job?.jobId ?? "",
      key: "",
      wire: loggedWire(address.feed, epoch, logged),
    };
    placed.push({ at: logged.seq, item });
  }
  for (const newest of page.newest) {
    if (newest.seq > page.upTo) continue;
    const item: FeedEvent = {
      epoch,
      seq: newest.seq,
      type: newest.type,
      durable: false,
      jobId: name.jobId ?? newest.job?.jobId ?? "",
      key: newest.key,
      wire: newestWire(address.feed, epoch, newest),
    };
    placed.push({ at: newest.seq, item });
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
  if ("wire" in item) {
    return (!filter.types || filter.types.has(item.type)) && (!filter.maySee || filter.maySee(item.jobId));
  }
  return concerns(filter, item.stream);
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

/** As the client gets it in an answer. */
export function toClient(item: Item): DeliveredEvent | Gap {
  return "wire" in item ? (JSON.parse(item.wire) as DeliveredEvent) : item;
}
