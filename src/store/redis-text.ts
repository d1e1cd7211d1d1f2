/** How the scripts' arguments and replies are written: the other side is in lua/entry.lua, lua/append.lua and lua/read.lua. */
import type { ErrorCode } from "../protocol/codes.ts";
import type { EventType } from "../protocol/types.ts";
import type { Reply } from "../redis/scripts.ts";
import type { Entry, Logged, Newest, Stored } from "./store.ts";

/**
 * As lua/entry.lua describes it. What is short shares one argument: each costs client and server more than its bytes.
 * The long texts stay apart, because Redis' Lua would read them twice.
 */
export function pushEntry(args: Array<string | number>, entry: Entry): void {
  const { patch, id, producer, attempt, onlyIf, ends, alive } = entry;
  const { set, transition, product, productsTotal, productsDone, deadlines, merge, point } = patch;
  let flags = `${entry.durable ? "d" : "c"}${entry.stream === "log" ? "l" : "e"}`;
  flags += `${entry.tenantFeed === "merged" ? "m" : entry.tenantFeed ? "1" : "0"}${patch.latest ? "1" : "0"}`;
  flags += `${ends === undefined ? "-" : ends ? "y" : "n"}${alive === undefined ? "-" : alive ? "1" : "0"}`;
  let more = "";
  const follow = (flag: string, ...values: Array<string | number>) => {
    flags += flag;
    for (const value of values) more += `${value}\n`;
  };
  if (id !== undefined) {
    flags += "i";
    more += `${id}\n`;
  }
  if (producer) follow("p", producer.id, producer.incarnation, producer.n);
  if (attempt !== undefined) follow("a", attempt);
  if (onlyIf) follow("o", onlyIf.length, ...onlyIf.flat());
  if (set) follow("s", set.length, ...set.flat());
  if (transition) follow("t", transition.to, `,${transition.from.join(",")},`);
  if (product) follow("c", product.name, product.failed ? "f" : "c", product.total ?? "", product.head);
  if (productsTotal) follow("n", productsTotal.total, productsTotal.head ?? "");
  if (productsDone) follow("e", productsDone.head);
  if (deadlines) follow("u", deadlines.length, ...deadlines.flatMap(([what, ms]) => [what, ms ?? ""]));
  if (merge) {
    flags += "m";
    more += `${merge.key}\n`;
  }
  if (point !== undefined) flags += "x";
  args.push(`${entry.type} ${flags}\n${more}`, entry.head, entry.data);
  if (merge) args.push(merge.fields);
  if (point !== undefined) args.push(point);
}

/** What became of each entry, from the reply of lua/append.lua. */
export function storedOf(reply: Reply[]): Stored[] {
  const stored: Stored[] = [];
  for (let i = 3; i < reply.length; i += 2) {
    if (reply[i] === "r") stored.push({ refused: reply[i + 1] as ErrorCode });
    else stored.push({ seq: Number(reply[i + 1]), duplicate: reply[i] === "d" });
  }
  return stored;
}

/** Names and values that take turns. */
export function* pairs(list: readonly string[]): Iterable<[string, string]> {
  for (let i = 0; i < list.length; i += 2) yield [list[i] as string, list[i + 1] as string];
}

/** An entry of a stream. */
export function loggedOf([id, list]: [string, string[]]): Logged {
  const fields = new Map(pairs(list));
  const logged: Logged = {
    seq: Number.parseInt(id, 10),
    type: fields.get("t") as EventType,
    prev: Number(fields.get("p")),
    head: fields.get("h") as string,
    data: fields.get("d") as string,
  };
  const jobId = fields.get("j");
  if (jobId) {
    logged.job = { jobId, position: { epoch: fields.get("e") as string, seq: Number(fields.get("q")) } };
  }
  return logged;
}

/** Newest values above a position, from keys and texts in turns (lua/common.lua), in order. */
export function newestOf(list: readonly string[], head: number, after = 0): Newest[] {
  const values: Newest[] = [];
  for (const [key, text] of pairs(list)) {
    const lines = text.split("\n");
    const [seq, attempt, type, own, jobEpoch, jobSeq] = lines as [
      string,
      string,
      EventType,
      string,
      string,
      string,
    ];
    const fields = new Map(pairs(lines.slice(6)));
    // Above the head: set by a script that broke.
    const newest: Newest = {
      key,
      seq: Math.min(Number(seq), head),
      attempt: Number(attempt),
      type,
      head: own,
      fields,
    };
    if (jobEpoch !== "-") newest.job = { jobId: key, position: { epoch: jobEpoch, seq: Number(jobSeq) } };
    if (newest.seq > after) values.push(newest);
  }
  return values.sort((a, b) => a.seq - b.seq);
}
