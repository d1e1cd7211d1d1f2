/** Ranks and products on the screen: a table, or a few words. */
import { percentDone } from "./describe.ts";
import { bar, count, number } from "./figures.ts";
import { line, list, type Paper, type Span } from "./paper.ts";
import { columns, cut } from "./text.ts";
import type { View } from "./view.ts";

interface PartRow {
  name: string;
  /** Per cent. */
  percent: number | undefined;
  /** Undefined while it goes on. */
  failed: boolean | undefined;
  rest: string;
}

function partsOf({ parts, results, shown }: View): PartRow[] {
  return [...new Set([...parts.keys(), ...results.keys()])]
    .filter((part) => part !== "")
    .map((part) => {
      const progress = parts.get(part) ?? {};
      const result = results.get(part);
      const { loss } = progress;
      return {
        name: part.replace(/^product /, ""),
        percent: percentDone(progress) ?? (result && !result.failed ? 100 : undefined),
        failed: result && result.failed === true,
        rest: list([
          loss !== undefined && `loss ${number(loss)}`,
          result?.message,
          part === shown && "shown above",
        ]),
      };
    });
}

const PART_BAR = { least: 8, most: 24 };
const NAME = { least: 8, most: 24 };

/** A line for each part, in at most so many lines; none when there is no part but the job itself. */
export function table(view: View, paper: Paper, room: number): string[] {
  const all = partsOf(view);
  if (room < 2 || all.length === 0) return [];
  const isAll = all.length <= room;
  const rows = all.slice(0, isAll ? all.length : room - 1);
  const name = Math.min(NAME.most, Math.max(NAME.least, ...rows.map((row) => columns(row.name))));
  const bars = Math.max(PART_BAR.least, Math.min(PART_BAR.most, Math.floor(paper.width / 4)));
  const lines = rows.map((row) => partLine(row, paper, name, bars));
  return isAll ? lines : [...lines, line(paper, [["dim", `  … ${count(all.length - rows.length)} more`]])];
}

function partLine(
  { name, percent, failed, rest }: PartRow,
  paper: Paper,
  wide: number,
  bars: number,
): string {
  const mark: Span = failed === undefined ? "  " : failed ? ["red", "✗ "] : ["green", "✓ "];
  const [done, left] = bar((percent ?? 0) / 100, bars);
  const shownName = cut(name, wide);
  const pad = " ".repeat(Math.max(0, wide - columns(shownName)) + 1);
  const share = percent === undefined ? "" : `${percent.toFixed(0)} %`;
  return line(paper, [
    " ",
    mark,
    `${shownName}${pad}`,
    [failed ? "red" : "green", done],
    ["dim", left],
    share.padStart(6),
    ["dim", rest],
  ]);
}

/** The parts in a few words each. */
export function inShort(view: View): string[] {
  return partsOf(view).map(({ name, percent, failed }) => {
    if (failed !== undefined) return `${name} ${failed ? "✗" : "✓"}`;
    return percent === undefined ? name : `${name} ${percent.toFixed(0)} %`;
  });
}
