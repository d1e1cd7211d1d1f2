/** How much of a core each process takes, from /proc. */
import { readFileSync } from "node:fs";

const LOOK_MS = 250;
/** Linux tells all programs this, whatever the kernel's own rate. */
const TICKS_PER_SECOND = 100;

/** Name → share of one core, 0 to 1 and above; processes of one name are summed up. */
export type CpuShares = Record<string, number>;

export class CpuMeter {
  readonly #names: () => ReadonlyMap<number, string>;
  readonly #timer: NodeJS.Timeout;
  readonly #ticks = new Map<number, number>();
  #spent: Record<string, number> = {};
  #since = performance.now();

  /** `names`: of the processes that there are at the moment, by pid. */
  constructor(names: () => ReadonlyMap<number, string>) {
    this.#names = names;
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Since the last time. Of a process that has died its last quarter of a second is missing. */
  take(): CpuShares {
    this.#look();
    const now = performance.now();
    const ticks = ((now - this.#since) / 1_000) * TICKS_PER_SECOND;
    const shares = Object.fromEntries(
      Object.entries(this.#spent).map(([name, spent]) => [name, Math.round((spent / ticks) * 100) / 100]),
    );
    this.#since = now;
    this.#spent = {};
    return shares;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    for (const [pid, name] of this.#names()) {
      const ticks = ticksOf(pid);
      if (ticks === undefined) continue;
      const before = this.#ticks.get(pid) ?? ticks;
      this.#ticks.set(pid, ticks);
      this.#spent[name] = (this.#spent[name] ?? 0) + ticks - before;
    }
  }
}

/** Of user and system, of all threads. `undefined` when there is no such process. */
function ticksOf(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The name, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
