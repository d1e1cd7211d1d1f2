/** What others do on this machine while something is measured: it shows in every latency, and is nobody's fault. */
import { readFileSync } from "node:fs";
import { CpuClock } from "./processes.ts";

/** Linux tells all programs this, whatever the kernel's own rate. */
const US_PER_TICK = 10_000;
/** user, nice, system, idle, iowait, irq, softirq, steal: all but the two in which nothing runs. */
const BUSY: readonly number[] = [0, 1, 2, 5, 6, 7];
/** Cores of others. Above it their work is in the figures. */
const LIMIT = 0.2;

export class Neighbours {
  readonly #own: CpuClock;
  readonly #busyUs = busyUs();
  readonly #since = performance.now();

  /** From now on. `pid`: whose processes, with all that they have started, are no neighbours. */
  constructor(pid: number = process.pid) {
    this.#own = new CpuClock([pid]);
  }

  /** Cores that were busy with somebody else's work, on average: 0.5 is half a core. What a hypervisor has taken counts. */
  share(): number {
    const tookUs = (performance.now() - this.#since) * 1_000;
    return Math.max(0, (busyUs() - this.#busyUs - this.#own.spentUs()) / tookUs);
  }
}

function busyUs(): number {
  const [, ...ticks] = (readFileSync("/proc/stat", "utf8").split("\n", 1)[0] as string).split(/\s+/);
  return BUSY.reduce((sum, place) => sum + Number(ticks[place]), 0) * US_PER_TICK;
}

/** Why figures say nothing while others are on the machine with so many cores; `undefined`: they say something. */
export function neighboursLimit(share: number): string | undefined {
  if (share <= LIMIT) return undefined;
  return `other programs took ${Math.round(share * 100)} % of a core`;
}
