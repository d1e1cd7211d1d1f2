/**
 * How stored text becomes a DeliveredEvent's JSON. Texts are joined and split, never parsed, so that numbers stay as written.
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

/**
 * Fields as they are merged: names and JSON texts in turns, each a line. Names are JSON already: `"loss"`, and
 * `m"val/accuracy"` for one of `metrics`.
 */
export function fieldsOf(data: object): string {
  let fields = "";
  for (const name of Object.keys(data)) {
    const value = (data as Record<string, unknown>)[name];
    if (value === undefined) continue;
    if (name === "metrics") fields += metricFields(value as Record<string, unknown>);
    else fields += `${quoted(name)}\n${jsonOf(value)}\n`;
  }
  return fields;
}

function metricFields(metrics: Record<string, unknown>): string {
  let fields = "";
  for (const name of Object.keys(metrics)) fields += `m${quoted(name)}\n${jsonOf(metrics[name])}\n`;
  return fields;
}

/** The fields that such lines hold. */
export function* fieldsIn(lines: string): Iterable<[field: string, json: string]> {
  for (let at = 0; at < lines.length; ) {
    const middle = lines.indexOf("\n", at);
    const end = lines.indexOf("\n", middle + 1);
    yield [lines.slice(at, middle), lines.slice(middle + 1, end)];
    at = end + 1;
  }
}

/** As JSON.stringify; most values are numbers, which it takes a detour for. */
export function jsonOf(value: unknown): string {
  return typeof value === "number" && Number.isFinite(value) ? String(value) : JSON.stringify(value);
}

/** A trainer's events have the same names again and again. */
const MAX_NAMES = 4_096;
const names = new Map<string, string>();

/** A name as JSON. */
export function quoted(name: string): string {
  const known = names.get(name);
  if (known !== undefined) return known;
  const json = JSON.stringify(name);
  if (names.size === MAX_NAMES) names.clear();
  names.set(name, json);
  return json;
}

/** The same of `data` that is text already. */
export function fieldsOfText(data: string): Array<readonly [string, string]> {
  const fields: Array<readonly [string, string]> = [];
  for (const [name, json] of membersOf(data)) {
    if (name !== '"metrics"') fields.push([name, json]);
    else for (const [metric, number] of membersOf(json)) fields.push([`m${metric}`, number]);
  }
  return fields;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;

/** An object's members, names in their quotes. `json` is as `JSON.stringify` writes it: without spaces. */
export function membersOf(json: string): Array<[name: string, json: string]> {
  const members: Array<[name: string, json: string]> = [];
  for (let at = 1; json.charCodeAt(at) === QUOTE; ) {
    const colon = endOfString(json, at);
    const end = endOfValue(json, colon + 1);
    members.push([json.slice(at, colon), json.slice(colon + 1, end)]);
    at = end + 1;
  }
  return members;
}

/** Behind the string that begins here. */
function endOfString(json: string, from: number): number {
  let at = from + 1;
  while (at < json.length && json.charCodeAt(at) !== QUOTE) at += json.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at + 1;
}

/** Behind the value that begins here: at the comma or bracket that follows it. */
function endOfValue(json: string, from: number): number {
  let depth = 0;
  let at = from;
  while (at < json.length) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(json, at);
      continue;
    }
    if (depth === 0 && (code === COMMA || code === 0x5d || code === 0x7d)) break;
    if (code === 0x5b || code === 0x7b) depth++;
    else if (code === 0x5d || code === 0x7d) depth--;
    at++;
  }
  return at;
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
  // Merged from many events: what it tells is no point of a curve.
  const head = newest.type === "training_progress" ? `"points":[],${newest.head}` : newest.head;
  return feed === "job"
    ? jobWire(epoch, newest.seq, head, data)
    : tenantWire(epoch, newest.seq, newest.job?.position, newest.head, data);
}
