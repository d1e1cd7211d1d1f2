/** One line of what a run was. */
import type { Run } from "./run.ts";

export function figuresOf(run: Run): string {
  const { cuts } = run;
  const { trainers, watchers } = run.stage;
  const sum = <T>(list: readonly T[], of: (one: T) => number) =>
    list.reduce((total, one) => total + of(one), 0);
  const delays = percentiles(run.delays);
  const recoveries = percentiles(watchers.flatMap(({ recoveries }) => recoveries));
  return [
    `${sum(trainers, ({ sent }) => sent.length)} durable and ${sum(trainers, ({ progress }) => progress)} progress events`,
    `in ${run.seconds.load.toFixed(1)} s`,
    `${sum(watchers, ({ deliveries }) => deliveries)} live deliveries to ${watchers.length} watchers`,
    `after ${delays.join(" / ")} ms (p50 / p99 / max, hubs that stayed)`,
    `${cuts.connections} subscriber connections cut in ${cuts.times} goes`,
    `${run.heals} heals, ${run.gaps} gaps`,
    `${sum(watchers, ({ reconnects }) => reconnects)} reconnects, recovered after ${recoveries.join(" / ")} ms`,
    `${sum(trainers, ({ losses }) => losses)} calls without an answer`,
    `${sum(trainers, ({ resends }) => resends)} events sent again, ${sum(trainers, ({ duplicates }) => duplicates)} of them duplicates`,
    `${sum(trainers, ({ refusals }) => refusals)} temporary refusals`,
    `${run.seconds.total.toFixed(1)} s in all`,
  ].join("; ");
}

/** Median, 99 %, worst. */
export function percentiles(values: readonly number[]): number[] {
  const sorted = Float64Array.from(values).sort();
  return [0.5, 0.99, 1].map((part) => Math.round(sorted[Math.ceil(part * sorted.length) - 1] ?? 0));
}
