/** The page of plots: one file, nothing loaded, no script. */
import type { Row } from "./judge.ts";
import { type BenchResult, figure, ratioText, settingOf, targetText, verdictOf } from "./report.ts";

const WIDTH = 760;
const LABELS = 170;
const VALUES = 90;
const LINE = 28;
const TOP = 22;
const AXIS = 26;
const TICKS = 4;
/** What is beyond them comes from the arithmetic. */
const DIGITS = 12;
const STEPS = [1, 2, 2.5, 5, 10] as const;

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --line: #e3e7ee; --back: #fff; --card: #fff;
  --ours: #0b6bcb; --reference: #c2571a; --peer: #98a2b3; --met: #157347; --missed: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b3340; --back: #11151b;
  --card: #171c24; --ours: #5aa9f7; --reference: #f0935a; --peer: #667085; --met: #4cc38a; --missed: #f97066; } }
body { margin: 0 auto; max-width: 820px; padding: 32px 24px; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 16px; margin: 0; }
p { margin: 4px 0; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 16px 0; }
header { display: flex; justify-content: space-between; gap: 16px; align-items: baseline; }
.met { color: var(--met); } .missed { color: var(--missed); } .void { color: var(--soft); }
.verdict { white-space: nowrap; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; margin-top: 8px; font-size: 12px; }
text { fill: var(--ink); } .tick { fill: var(--soft); }
.grid { stroke: var(--line); } .limit { stroke: var(--met); stroke-dasharray: 4 3; } .limit-text { fill: var(--met); }
.bar.ours { fill: var(--ours); } .bar.reference { fill: var(--reference); } .bar.peer { fill: var(--peer); }
.interval { stroke: var(--ink); stroke-width: 1.5; } .round { fill: var(--ink); opacity: 0.35; }
dt { font-weight: 600; margin-top: 10px; } dd { margin: 0; color: var(--soft); }
.key span { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 5px 0 14px; }
.key span:first-child { margin-left: 0; }
`;

export function pageOf(result: BenchResult, references: readonly string[]): string {
  const { systems, rows, quick } = result;
  const names = systems.map(({ name }) => name);
  const peers = systems
    .slice(1)
    .map(
      ({ name, description, lacks }) =>
        `<dt>${escaped(name)}</dt><dd>${escaped(description)}. Does not do: ${escaped(lacks.join(", "))}.</dd>`,
    );
  const { machine, versions, method } = settingOf(result);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trainwire beside its peers</title>
<style>${STYLE}</style>
<h1>Trainwire beside its peers${quick ? ", quick" : ""}</h1>
<p>${escaped(machine)}</p>
<p>${escaped(versions)}</p>
<p>${escaped(method)}</p>
<p class="key"><span style="background:var(--ours)"></span>${escaped(names[0] ?? "")}<span
  style="background:var(--reference)"></span>references<span style="background:var(--peer)"></span>other peers;
  bars are medians, lines their 95 % intervals, dots the rounds</p>
${rows.map((row) => section(row, plot(row, names, references))).join("\n")}
<section><h2>Peers, and what they do not do</h2><dl>${peers.join("")}</dl></section>
</html>
`;
}

function section(row: Row, drawn: string): string {
  const verdict = verdictOf(row);
  const against = row.kind === "absolute" ? "" : `ratio ${ratioText(row)}, `;
  const why = row.void === undefined ? "" : `<p>Says nothing: ${escaped(row.void)}</p>`;
  return `<section>
<header><h2>${escaped(row.title)}</h2><span class="verdict">${escaped(against)}${targetText(row)}:
  <b class="${verdict}">${verdict}</b></span></header>
<p>${escaped(row.key)}; ${row.higherIsBetter ? "more" : "less"} is better</p>${why}
${drawn}
</section>`;
}

/** `names`: in the order of the table, ours first. */
function plot(row: Row, names: readonly string[], references: readonly string[]): string {
  const figures = names.flatMap((name) => {
    const found = row.figures[name];
    return found ? [{ name, ...found }] : [];
  });
  if (figures.length === 0) return "";
  const limit = limitOf(row);
  const most = Math.max(limit ?? 0, ...figures.flatMap(({ interval, rounds }) => [interval[1], ...rounds]));
  const ticks = ticksUpTo(most);
  const end = ticks.at(-1) as number;
  const x = (value: number) => LABELS + (value / end) * (WIDTH - LABELS - VALUES);
  const bottom = TOP + figures.length * LINE;
  const grid = ticks.map(
    (tick) =>
      `<line class="grid" x1="${px(x(tick))}" x2="${px(x(tick))}" y1="${TOP}" y2="${bottom}"/>
<text class="tick" x="${px(x(tick))}" y="${bottom + 16}" text-anchor="middle">${figure(tick)}</text>`,
  );
  const bars = figures.map(({ name, median, interval, rounds }, i) => {
    const middle = TOP + i * LINE + LINE / 2;
    const kind = name === names[0] ? "ours" : references.includes(name) ? "reference" : "peer";
    const [low, high] = interval;
    return `<text x="${LABELS - 10}" y="${middle + 4}" text-anchor="end">${escaped(name)}</text>
<rect class="bar ${kind}" x="${LABELS}" y="${middle - 8}" width="${px(x(median) - LABELS)}" height="16" rx="2"/>
${rounds.map((round) => `<circle class="round" cx="${px(x(round))}" cy="${middle}" r="2.5"/>`).join("")}
<line class="interval" x1="${px(x(low))}" x2="${px(x(high))}" y1="${middle}" y2="${middle}"/>
<text x="${px(x(Math.max(high, median)) + 8)}" y="${middle + 4}">${figure(median)}</text>`;
  });
  const mark =
    limit === undefined
      ? ""
      : `<line class="limit" x1="${px(x(limit))}" x2="${px(x(limit))}" y1="${TOP - 6}" y2="${bottom}"/>
<text class="limit-text" x="${px(x(limit))}" y="${TOP - 10}" text-anchor="middle">target</text>`;
  return `<svg viewBox="0 0 ${WIDTH} ${bottom + AXIS}" role="img" aria-label="${escaped(row.title)}">
${grid.join("\n")}
${bars.join("\n")}
${mark}
</svg>`;
}

/** Where our own bar has to end. */
function limitOf({ kind, target, reference, figures }: Row): number | undefined {
  if (kind === "absolute") return target;
  const of = reference === undefined ? undefined : figures[reference]?.median;
  return of === undefined ? undefined : of * target;
}

/** From 0, in steps that people count in, the last one not below `most`. */
export function ticksUpTo(most: number): number[] {
  if (!(most > 0)) return [0, 1];
  const size = 10 ** Math.floor(Math.log10(most / TICKS));
  const step = (STEPS.find((each) => each * size * TICKS >= most) ?? 10) * size;
  const count = Math.ceil(Number((most / step).toPrecision(DIGITS)));
  return Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(DIGITS)));
}

function px(value: number): string {
  return value.toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
