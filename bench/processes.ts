/** What processes and sockets cost, as Linux counts it. */
import { readdirSync, readFileSync } from "node:fs";

const NS_PER_US = 1_000;
const KB = 1_024;
const PAGE_BYTES = 4_096;

/**
 * CPU time of processes, of all that they have started, and of all their threads, from when the clock was made. It is
 * exact to the microsecond where the process rests, else to a tick of the kernel (4 ms).
 */
export class CpuClock {
  readonly #clocks: readonly ProcessClock[];

  constructor(pids: readonly number[]) {
    this.#clocks = pids.map((pid) => new ProcessClock(pid));
  }

  /** µs of each process, in the order of the pids. It never falls: not when threads end, nor when the process does. */
  each(): number[] {
    return this.#clocks.map((clock) => clock.spentUs());
  }

  /** µs of all together. */
  spentUs(): number {
    return this.each().reduce((sum, us) => sum + us, 0);
  }
}

class ProcessClock {
  readonly #pid: number;
  /** Thread → what it had used when it was last looked at, ns. */
  readonly #seen = new Map<number, number>();
  #spentNs = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.#look();
    this.#spentNs = 0;
  }

  spentUs(): number {
    this.#look();
    return this.#spentNs / NS_PER_US;
  }

  #look(): void {
    for (const [thread, ns] of threadsOf(this.#pid)) {
      const before = this.#seen.get(thread) ?? 0;
      // Less than before is another thread by the same number.
      this.#spentNs += ns < before ? ns : ns - before;
      this.#seen.set(thread, ns);
    }
  }
}

/** Thread → ns that it has run; of the process and of all below it. */
function threadsOf(pid: number, found = new Map<number, number>()): Map<number, number> {
  for (const thread of threadIds(pid)) {
    const folder = `/proc/${pid}/task/${thread}`;
    const schedstat = read(`${folder}/schedstat`);
    if (schedstat !== undefined) found.set(thread, Number(schedstat.split(" ", 1)[0]));
    for (const child of read(`${folder}/children`)?.match(/\d+/g) ?? []) threadsOf(Number(child), found);
  }
  return found;
}

function threadIds(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return []; // it has ended
  }
}

/** Bytes in memory of one process, without those it has started. Throws when it has ended. */
export function residentBytes(pid: number): number {
  const [, kilobytes] = /^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8")) ?? [];
  if (kilobytes === undefined) throw new Error(`Linux does not tell the memory of process ${pid}`);
  return Number(kilobytes) * KB;
}

/**
 * Bytes that the kernel keeps for all TCP sockets of this machine: a reader that stops fills its own buffers before
 * anything waits in the server.
 */
export function socketBytes(): number {
  return parseSockstat(readFileSync("/proc/net/sockstat", "utf8"));
}

/** From the text of /proc/net/sockstat, which counts pages. */
export function parseSockstat(text: string): number {
  const [, pages] = /^TCP:.*\bmem (\d+)$/m.exec(text) ?? [];
  if (pages === undefined) throw new Error("Linux does not tell the memory of its sockets");
  return Number(pages) * PAGE_BYTES;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
