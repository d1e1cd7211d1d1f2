/** From what the rounds have found to a row of the table. */
import type { Finding, Round, Target } from "./measure.ts";
import { type Interval, interval, median } from "./statistics.ts";

/** What one system has come to. */
export interface Figure {
  /** Median of its rounds, or what they come to together. */
  readonly median: number;
  /** 95 % of that. */
  readonly interval: Interval;
  /** Rounds in which it took part. */
  readonly rounds: readonly number[];
}

/** A line of the table, and of results. */
export interface Row {
  readonly key: string;
  readonly measure: string;
  readonly title: string;
  readonly kind: "ratio" | "absolute";
  readonly higherIsBetter: boolean;
  /** As in the table of targets: a ratio, or a figure where there is no reference. */
  readonly target: number;
  /** Ours by the reference's, or by the target where there is none. `undefined`: nothing was found. */
  readonly ratio: number | undefined;
  /** 95 % of the ratio. */
  readonly spread: Interval | undefined;
  /** The faster of the references. */
  readonly reference: string | undefined;
  /** Never when void. */
  readonly met: boolean;
  readonly void: string | undefined;
  readonly figures: Readonly<Record<string, Figure>>;
}

export interface Judged {
  readonly ours: string;
  readonly references: readonly string[];
}

export function rowOf(measure: string, target: Target, finding: Finding, { ours, references }: Judged): Row {
  const { kind = "ratio", higherIsBetter = false } = target;
  const better = higherIsBetter ? Math.max : Math.min;
  const estimate = (rounds: readonly Round[]): number | undefined => {
    const own = figureOf(finding, rounds, ours);
    if (own === undefined) return undefined;
    if (kind === "absolute") return own / target.target;
    const others = references.flatMap((name) => figureOf(finding, rounds, name) ?? []);
    return others.length === 0 ? undefined : own / better(...others);
  };
  const ratio = estimate(finding.rounds);
  const limit = kind === "absolute" ? 1 : target.target;
  const holds = ratio !== undefined && (higherIsBetter ? ratio >= limit : ratio <= limit);
  return {
    key: target.key,
    measure,
    title: target.title,
    kind,
    higherIsBetter,
    target: target.target,
    ratio,
    spread: interval(finding.rounds, estimate),
    reference: kind === "absolute" ? undefined : bestOf(finding, references, higherIsBetter),
    met: holds && finding.void === undefined,
    void: finding.void ?? (ratio === undefined ? "nothing was found" : undefined),
    figures: figuresOf(finding),
  };
}

/** A target of which a measure says nothing, because it failed or had no time. */
export function missingRow(measure: string, target: Target, reason: string, judged: Judged): Row {
  return rowOf(measure, target, { key: target.key, rounds: [], void: reason }, judged);
}

function figuresOf(finding: Finding): Record<string, Figure> {
  const { rounds } = finding;
  const names = new Set(rounds.flatMap((round) => Object.keys(round)));
  const figures: Record<string, Figure> = {};
  for (const name of names) {
    const values = valuesOf(rounds, name);
    const middle = figureOf(finding, rounds, name);
    const found = interval(rounds, (drawn) => figureOf(finding, drawn, name));
    if (middle !== undefined && found) figures[name] = { median: middle, interval: found, rounds: values };
  }
  return figures;
}

function bestOf(finding: Finding, names: readonly string[], higherIsBetter: boolean): string | undefined {
  const found = names.flatMap((name) => {
    const value = figureOf(finding, finding.rounds, name);
    return value === undefined ? [] : [{ name, value }];
  });
  found.sort((a, b) => (higherIsBetter ? b.value - a.value : a.value - b.value));
  return found[0]?.name;
}

function figureOf(finding: Finding, rounds: readonly Round[], name: string): number | undefined {
  return finding.pooled ? finding.pooled(rounds, name) : median(valuesOf(rounds, name));
}

function valuesOf(rounds: readonly Round[], name: string): number[] {
  return rounds.flatMap((round) => round[name] ?? []);
}
