import type { TrainingStatus } from "../src/protocol/types.ts";
import { type Item, merge } from "./conflate.ts";
import { TERMINAL_STATUSES } from "./event-table.ts";

interface Lane {
  items: Item[];
  /** By `performance.now()`: the hub refused its first event for now. */
  blockedUntil: number;
  refusals: number;
}

/** What each step of making room may drop, in turn. */
const VICTIMS: ReadonlyArray<(item: Item) => boolean> = [
  (item) => item.event.type === "log",
  (item) => item.event.type !== "training_status",
  (item) => !isTerminal(item),
  () => true,
];

function isTerminal({ event }: Item): boolean {
  return event.type === "training_status" && TERMINAL_STATUSES.has((event.data as TrainingStatus).status);
}

/** Room is made for a sixteenth at a time, so that a full buffer does not sort itself at every event. */
const ROOM = 15 / 16;

/** Events that wait to be sent: in order per job, within limits of count and bytes. */
export class Backlog {
  readonly #maxEvents: number;
  readonly #maxBytes: number;
  readonly #dropped: (items: Item[]) => void;
  readonly #lanes = new Map<string, Lane>();
  count = 0;
  bytes = 0;
  /** `order` of the newest event. */
  last = 0;
  /** Events that became part of another one to make room. */
  merged = 0;

  constructor(maxEvents: number, maxBytes: number, dropped: (items: Item[]) => void) {
    this.#maxEvents = maxEvents;
    this.#maxBytes = maxBytes;
    this.#dropped = dropped;
  }

  push(item: Item): void {
    item.order = ++this.last;
    this.#lane(item.lane).items.push(item);
    this.#add(item, 1);
    this.#makeRoom();
  }

  /** Events that were taken and have to be sent again, to their old places. */
  putBack(items: readonly Item[]): void {
    for (const name of new Set(items.map(({ lane }) => lane))) {
      this.#lane(name).items.unshift(...items.filter(({ lane }) => lane === name));
    }
    for (const item of items) this.#add(item, 1);
    this.#makeRoom();
  }

  /** The next events to send; the first one always fits. Of a job either its oldest or none. */
  take(maxEvents: number, maxBytes: number, now: number): Item[] {
    const taken: Item[] = [];
    let bytes = 0;
    for (const [name, lane] of this.#lanes) {
      if (lane.blockedUntil > now) continue;
      let end = 0;
      for (const item of lane.items) {
        if (taken.length + end === maxEvents) break;
        if (bytes + item.bytes > maxBytes && taken.length + end > 0) break;
        bytes += item.bytes;
        end += 1;
      }
      taken.push(...lane.items.splice(0, end));
      if (lane.items.length === 0 && lane.refusals === 0) this.#lanes.delete(name);
      if (taken.length === maxEvents || bytes >= maxBytes) break;
    }
    for (const item of taken) this.#add(item, -1);
    return taken;
  }

  takeAll(): Item[] {
    const taken = [...this.#lanes.values()].flatMap(({ items }) => items).sort((a, b) => a.order - b.order);
    this.#lanes.clear();
    this.count = 0;
    this.bytes = 0;
    return taken;
  }

  /** Holds a job's events back, because the hub refused one for now; how long is said by the number of refusals. */
  block(name: string, until: (refusals: number) => number): void {
    const lane = this.#lane(name);
    lane.blockedUntil = until(lane.refusals++);
  }

  unblock(name: string): void {
    const lane = this.#lanes.get(name);
    if (!lane) return;
    lane.refusals = 0;
    lane.blockedUntil = 0;
    if (lane.items.length === 0) this.#lanes.delete(name);
  }

  /** When the first lane with events is free; in the past if one is now, Infinity if there are no events. */
  nextAt(): number {
    let at = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes.values()) if (lane.items.length > 0) at = Math.min(at, lane.blockedUntil);
    return at;
  }

  /** `order` of the oldest event, of one job or of all; Infinity if there is none. */
  oldest(name?: string): number {
    if (name !== undefined) return this.#lanes.get(name)?.items[0]?.order ?? Number.POSITIVE_INFINITY;
    let order = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes.values()) order = Math.min(order, lane.items[0]?.order ?? order);
    return order;
  }

  #lane(name: string): Lane {
    let lane = this.#lanes.get(name);
    if (!lane) {
      lane = { items: [], blockedUntil: 0, refusals: 0 };
      this.#lanes.set(name, lane);
    }
    return lane;
  }

  #add(item: Item, sign: 1 | -1): void {
    this.count += sign;
    this.bytes += sign * item.bytes;
  }

  get #full(): boolean {
    return this.count > this.#maxEvents || this.bytes > this.#maxBytes;
  }

  #makeRoom(): void {
    if (!this.#full) return;
    this.#conflate();
    if (!this.#full) return;
    const dropped: Item[] = [];
    for (const isVictim of VICTIMS) {
      dropped.push(...this.#drop(isVictim));
      if (!this.#full) break;
    }
    this.#dropped(dropped);
  }

  /** Conflatable events of one key become one, in the place of the oldest. */
  #conflate(): void {
    for (const lane of this.#lanes.values()) {
      const places = new Map<string, number>();
      const kept: Item[] = [];
      for (const item of lane.items) {
        const place = item.key === undefined ? undefined : places.get(item.key);
        const older = place === undefined ? undefined : kept[place];
        const both = older && merge(older, item);
        if (both && place !== undefined) {
          kept[place] = both;
          this.#add(older, -1);
          this.#add(item, -1);
          this.#add(both, 1);
          this.merged += 1;
        } else {
          if (item.key !== undefined) places.set(item.key, kept.length);
          kept.push(item);
        }
      }
      lane.items = kept;
    }
  }

  /** Drops the oldest of these until there is some room again. */
  #drop(isVictim: (item: Item) => boolean): Item[] {
    const victims = [...this.#lanes.values()].flatMap(({ items }) => items.filter(isVictim));
    victims.sort((a, b) => a.order - b.order);
    const dropped = new Set<Item>();
    for (const item of victims) {
      if (this.count <= this.#maxEvents * ROOM && this.bytes <= this.#maxBytes * ROOM) break;
      dropped.add(item);
      this.#add(item, -1);
    }
    if (dropped.size > 0) {
      for (const [name, lane] of this.#lanes) {
        lane.items = lane.items.filter((item) => !dropped.has(item));
        if (lane.items.length === 0) this.#lanes.delete(name);
      }
    }
    return [...dropped];
  }
}
