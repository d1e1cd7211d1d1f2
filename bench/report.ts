/** What a run prints: the table, and one object for programs. */
import type { Row } from "./judge.ts";
import type { Machine } from "./machine.ts";
import type { Interval } from "./statistics.ts";
import type { System } from "./system.ts";

export interface BenchResult {
  /** ISO 8601. */
  readonly date: string;
  readonly commit: string | undefined;
  readonly quick: boolean;
  readonly alternations: number;
  readonly seconds: number;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  /** Ours first. */
  readonly systems: ReadonlyArray<Pick<System, "name" | "description" | "lacks">>;
  readonly rows: readonly Row[];
  /** Measures that did not come to their end, and why. */
  readonly failed: ReadonlyArray<{ measure: string; error: string }>;
}

const GAP = "  ";

/** Lines. One column for each system; the ratio is ours by the faster reference's. */
export function tableOf({ systems, rows }: BenchResult): string[] {
  const names = systems.map(({ name }) => name);
  const head = ["", ...names, "ratio (95 %)", "target", ""];
  const body = rows.map((row) => [
    row.key,
    ...names.map((name) => figureText(row, name)),
    ratioText(row),
    targetText(row),
    verdictOf(row),
  ]);
  const widths = head.map((_, i) => Math.max(...[head, ...body].map((cells) => (cells[i] as string).length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) =>
        i === 0 || i === cells.length - 1 ? cell.padEnd(at(widths, i)) : cell.padStart(at(widths, i)),
      )
      .join(GAP)
      .trimEnd();
  return [
    line(head),
    ...rows.flatMap((row, i) => [
      line(body[i] as string[]),
      `${GAP}${row.title}${row.void === undefined ? "" : `; says nothing: ${row.void}`}`,
    ]),
  ];
}

/** Who was measured, what each of the others does not do, and under what this holds. */
export function footOf(result: BenchResult): string[] {
  return [
    ...result.systems.flatMap(({ name, description, lacks }) => [
      `${name}: ${description}`,
      ...(lacks.length > 0 ? [`${GAP}does not do: ${lacks.join(", ")}`] : []),
    ]),
    "",
    ...Object.values(settingOf(result)),
  ];
}

/** Under what the figures hold, a line each. */
export function settingOf({
  machine,
  versions,
  ...result
}: BenchResult): Record<"machine" | "versions" | "method", string> {
  const { cpu, cores, memoryGb, kernel, load } = machine;
  return {
    machine: `${result.date}, ${result.commit ?? "no commit"}: ${cpu}, ${cores} cores, ${memoryGb} GB, Linux ${kernel}, load ${load} at the start`,
    versions: Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", "),
    method: `medians of up to ${result.alternations} alternations; the ratio is ours by the faster of the references; ${result.seconds} s`,
  };
}

/** As in the last line of `--json`. */
export interface Summary {
  /** Ours by the reference's; ours by the target where that is a figure of its own. `null`: nothing was found. */
  ratio: number | null;
  /** 95 % of the ratio. */
  spread: Interval | null;
  /** What the ratio is held against: 1 where the target is a figure of its own. */
  target: number;
  met: boolean;
  higher_is_better?: true;
  /** Our figure and its target, where there is no reference. */
  value?: number;
  value_target?: number;
  /** Why it says nothing. */
  void?: string;
}

/** Target → what was found. */
export function summaryOf({ rows, systems }: BenchResult): Record<string, Summary> {
  const ours = systems[0]?.name as string;
  return Object.fromEntries(
    rows.map((row) => {
      const own = row.figures[ours]?.median;
      const summary: Summary = {
        ratio: row.ratio === undefined ? null : rounded(row.ratio),
        spread: row.spread === undefined ? null : [rounded(row.spread[0]), rounded(row.spread[1])],
        target: row.kind === "absolute" ? 1 : row.target,
        met: row.met,
        ...(row.higherIsBetter && { higher_is_better: true as const }),
        ...(row.kind === "absolute" && own !== undefined && { value: rounded(own) }),
        ...(row.kind === "absolute" && { value_target: row.target }),
        ...(row.void !== undefined && { void: row.void }),
      };
      return [row.key, summary];
    }),
  );
}

export function verdictOf(row: Row): string {
  if (row.void !== undefined) return "void";
  return row.met ? "met" : "missed";
}

export function targetText({ higherIsBetter, target }: Row): string {
  return `${higherIsBetter ? "≥" : "≤"} ${figure(target)}`;
}

/** Three digits that count; whole numbers above 1 000. */
export function figure(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return size >= 10 ? value.toFixed(1) : size >= 0.1 ? value.toFixed(2) : value.toPrecision(2);
}

export function ratioText({ ratio, spread }: Row): string {
  if (ratio === undefined) return "–";
  return spread ? `${figure(ratio)} (${figure(spread[0])}–${figure(spread[1])})` : figure(ratio);
}

/** The median, of the system of this name. */
export function figureText({ figures }: Row, name: string): string {
  const found = figures[name];
  return found ? figure(found.median) : "–";
}

/** Four digits are more than any run can tell. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function at(widths: readonly number[], i: number): number {
  return widths[i] as number;
}
