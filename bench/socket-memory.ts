/** What the kernel keeps for sockets: a reader that stops fills its own buffers before anything waits in the server. */
import { readFileSync } from "node:fs";

const PAGE_BYTES = 4_096;

/** Bytes of all TCP sockets of this machine. */
export function socketBytes(): number {
  return parseSockstat(readFileSync("/proc/net/sockstat", "utf8"));
}

/** From the text of /proc/net/sockstat, which counts pages. */
export function parseSockstat(text: string): number {
  const [, pages] = /^TCP:.*\bmem (\d+)$/m.exec(text) ?? [];
  if (pages === undefined) throw new Error("Linux does not tell the memory of its sockets");
  return Number(pages) * PAGE_BYTES;
}
