/**
 * How stored text becomes a DeliveredEvent's JSON. Texts are joined, never parsed, so that numbers stay as written.
 * `lua/common.lua` joins the same way; the store suite compares the two.
 */
import type { Cursor } from "../protocol/types.ts";
import type { Logged, Newest } from "./store.ts";

export function jobWire(epoch: string, seq: number, head: string, data: string): string {
  return `{"feed":"job","epoch":"${epoch}","seq":${seq},${head},"data":${data}}`;
}

export function tenantWire(
  epoch: string,
  seq: number,
  job: Cursor | undefined,
  head: string,
  data: string,
): string {
  const position = job ? `"job_position":{"epoch":"${job.epoch}","seq":${job.seq}},` : "";
  return `{"feed":"tenant","epoch":"${epoch}","seq":${seq},${position}${head},"data":${data}}`;
}

/** Names of merged fields are JSON already: `"loss"`, and `m"val/accuracy"` for one of `metrics`. */
export function fieldsOf(data: object): Array<readonly [string, string]> {
  const fields: Array<readonly [string, string]> = [];
  for (const [name, value] of Object.entries(data)) {
    if (value === undefined) continue;
    if (name === "metrics") {
      for (const [metric, number] of Object.entries(value as object)) {
        fields.push([`m${JSON.stringify(metric)}`, JSON.stringify(number)]);
      }
    } else fields.push([JSON.stringify(name), JSON.stringify(value)]);
  }
  return fields;
}

/** By code points: in UTF-8, as the scripts see the names, this is the order of the bytes. */
function byCodePoint(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return rank(x) - rank(y);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all others. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** The `data` of merged fields, in the order of their names. */
export function joinFields(fields: ReadonlyMap<string, string>): string {
  const plain: string[] = [];
  const metrics: string[] = [];
  for (const [field, json] of [...fields].sort(([a], [b]) => byCodePoint(a, b))) {
    if (field.startsWith("m")) metrics.push(`${field.slice(1)}:${json}`);
    else plain.push(`${field}:${json}`);
  }
  if (metrics.length > 0) plain.push(`"metrics":{${metrics.join(",")}}`);
  return `{${plain.join(",")}}`;
}

export function loggedWire(feed: "job" | "tenant", epoch: string, event: Logged): string {
  return feed === "job"
    ? jobWire(epoch, event.seq, event.head, event.data)
    : tenantWire(epoch, event.seq, event.job?.position, event.head, event.data);
}

export function newestWire(feed: "job" | "tenant", epoch: string, newest: Newest): string {
  const data = joinFields(newest.fields);
  return feed === "job"
    ? jobWire(epoch, newest.seq, newest.head, data)
    : tenantWire(epoch, newest.seq, newest.job?.position, newest.head, data);
}
