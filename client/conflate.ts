import type { EventMap, PublishedEvent } from "../src/protocol/types.ts";
import { CONFLATION, KEPT_LIMITS } from "./event-table.ts";

/** An event that waits to be sent. */
export interface Item {
  /** Rises with every event that the backlog takes; 0 before. */
  order: number;
  /** Its job, `""` for events of the tenant: what must be stored in order. */
  lane: string;
  event: PublishedEvent;
  /** Of its JSON. */
  bytes: number;
  /** Conflatable events with the same key may become one. */
  key?: string;
  /** Whether it was sent before. */
  sent?: boolean;
}

export function newItem(event: PublishedEvent): Item {
  const item: Item = { order: 0, lane: event.job_id ?? "", event, bytes: jsonBytes(event) };
  const names = CONFLATION[event.type];
  if (names) {
    const { host } = event.data as { host?: string };
    const parts = names.map((name) => (name === "host" ? host : event[name]) ?? null);
    // Not across attempts: a new one begins with nothing.
    item.key = JSON.stringify([event.type, item.lane, event.attempt ?? null, ...parts]);
  }
  return item;
}

const encoder = new TextEncoder();

/** Bytes of a value's JSON (UTF-8). */
export function jsonBytes(value: unknown): number {
  return encoder.encode(JSON.stringify(value)).length;
}

/** Both as one event in the older one's place, each field its newest; undefined if it would break a limit of the hub. */
export function merge(older: Item, newer: Item): Item | undefined {
  const a = older.event.data as EventMap["training_progress"];
  const b = newer.event.data as EventMap["training_progress"];
  const data = { ...a, ...b };
  if (a.metrics && b.metrics) {
    data.metrics = { ...a.metrics, ...b.metrics };
    if (Object.keys(data.metrics).length > KEPT_LIMITS.metrics) return undefined;
  }
  const event: PublishedEvent = { ...older.event, ...newer.event, data };
  const bytes = jsonBytes(event);
  if (bytes > KEPT_LIMITS.eventBytes) return undefined;
  return { ...newer, order: older.order, event, bytes };
}
