/** What the load prints. */
import { percentiles } from "../cluster/figures.ts";
import type { CpuShares } from "./cpu.ts";

/** ms: median, 99 %, worst; and of how many. */
export interface Times {
  count: number;
  p50: number;
  p99: number;
  max: number;
}

/** One fault, or a stretch without any. */
export interface Phase {
  round: string;
  name: string;
  /** From the injection until everybody had recovered. */
  seconds: number;
  /** Connections that were lost. */
  lost: number;
  /** Until the first durable event that was stored after the injection: of those who were hit, and of the others. */
  affected: Times;
  others: Times;
  /** From each loss of a connection until its watcher had caught up. */
  outages: Times;
  /** Who had not recovered when the phase was given up. */
  waiting: string[];
  /** Live deliveries: how long after the hub took the event. */
  delays: Times;
  deliveriesPerSecond: number;
  cpu: CpuShares;
  /** Event-loop lag of the worst generator, ms. */
  lag: { p99: number; max: number };
}

export function timesOf(values: readonly number[]): Times {
  const [p50 = 0, p99 = 0, max = 0] = percentiles(values);
  return { count: values.length, p50, p99, max };
}

const WIDTHS = [24, 7, 6, 24, 20, 24, 18, 8] as const;

export function phaseHead(): string {
  const titles = ["phase", "s", "lost", "affected", "others", "outages", "delays", "del/s"];
  return `${row(titles)}  (times: p50/p99/max ms ×count)`;
}

export function phaseLine(phase: Phase): string {
  const { name, seconds, lost, affected, others, outages, delays, deliveriesPerSecond } = phase;
  return row([
    name,
    seconds.toFixed(1),
    String(lost),
    ...[affected, others, outages].map(shown),
    `${delays.p50}/${delays.p99}/${delays.max}`,
    String(Math.round(deliveriesPerSecond)),
  ]);
}

/** CPU in per cent of one core. */
export function loadLine({ cpu, lag }: Phase): string {
  const shares = Object.entries(cpu).sort(([a], [b]) => (a < b ? -1 : 1));
  const percent = shares.map(([name, share]) => `${name} ${Math.round(share * 100)}`).join(", ");
  return `    CPU %: ${percent}; generators' event loop p99 ${lag.p99}, max ${lag.max} ms`;
}

function shown({ count, p50, p99, max }: Times): string {
  return count === 0 ? "–" : `${p50}/${p99}/${max} ×${count}`;
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => cell.padEnd(WIDTHS[i] ?? 0))
    .join(" ")
    .trimEnd();
}

/** A generator that works more than this, or is later than this, may be what was measured. */
const BUSY_SHARE = 0.9;
const LATE_MS = 250;

/** Why the run says nothing about the hubs; none when it does. */
export function voidReasons(phases: readonly Phase[]): string[] {
  return phases.flatMap(({ round, name, cpu, lag }) => {
    const busy = Object.entries(cpu).filter(
      ([who, share]) => /^generator|^trainers/.test(who) && share > BUSY_SHARE,
    );
    return [
      ...busy.map(([who, share]) => `${round}, ${name}: ${who} took ${Math.round(share * 100)} % of a core`),
      ...(lag.p99 > LATE_MS
        ? [`${round}, ${name}: a generator's event loop was ${lag.p99} ms late (p99)`]
        : []),
    ];
  });
}
