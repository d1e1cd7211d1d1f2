/** The screen of `watch`: a view as lines of text, for a terminal of a given size. */
import { TERMINAL_STATUSES } from "../protocol/events.ts";
import type { JobStatus, Level, Num } from "../protocol/types.ts";
import { thinned } from "./curve.ts";
import { describeOutcome, load, metric, metrics, ofTotal, percentDone } from "./describe.ts";
import { bar, bytes, clock, count, duration, number, sparkline } from "./figures.ts";
import { columns, cut } from "./text.ts";
import type { LogLine, View } from "./view.ts";

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

export interface Paper {
  /** Columns. */
  width: number;
  /** Lines at most. */
  height: number;
  /** Ms since 1970. */
  now: number;
  /** What the last line offers, for instance `Ctrl-C ends`; without it there is no last line about the connection. */
  hint?: string;
  /** Gives a text its style; must not change its width. */
  paint(style: Style, text: string): string;
}

/** A piece of a line; `[style, text]` or plain. */
type Span = string | readonly [Style, string];

const LOG_LINES = 20;
/** With fewer lines than these for the log, the empty lines go first. */
const LOG_LEAST = 4;
const LABEL = 12;
/** As long as `59m 59s`, so that the bar does not move. */
const ETA = 7;
const MACHINES = 4;

/** At most `height` lines, none wider than `width`. */
export function render(view: View, paper: Paper): string[] {
  const { height, hint } = paper;
  const foot = hint === undefined ? [] : [footer(view, paper, hint)];
  let fixed = view.jobId === undefined ? nothing(view, paper) : job(view, paper);
  const isTight = height - fixed.length - foot.length - 2 < LOG_LEAST;
  if (isTight) fixed = fixed.filter((line) => line !== "");
  const gap = isTight ? [] : [""];
  const room = Math.max(0, height - fixed.length - foot.length - 2 * gap.length);
  const log = room === 0 ? [] : view.log.slice(-Math.min(room, LOG_LINES));
  return [
    ...fixed.slice(0, Math.max(1, height - foot.length)),
    ...(log.length > 0 ? gap : []),
    ...log.map((entry) => logLine(entry, paper)),
    ...(foot.length > 0 ? gap : []),
    ...foot,
  ].slice(0, height);
}

function job(view: View, paper: Paper): string[] {
  const lines = [...header(view, paper), ...training(view, paper), ...details(view, paper)];
  return lines.at(-1) === "" ? lines.slice(0, -1) : lines;
}

function nothing({ tenant, awaited }: View, paper: Paper): string[] {
  const text = awaited === undefined ? "Waiting for a job …" : `Waiting for ${awaited} …`;
  return [line(paper, [["bold", "Trainwire"]], [["dim", `tenant ${tenant}`]]), "", line(paper, [text])];
}

const BADGES: Record<JobStatus | "unknown", readonly [Style, string]> = {
  unknown: ["yellow", "○ unknown"],
  pending: ["yellow", "○ pending"],
  queued: ["yellow", "○ queued"],
  running: ["green", "● running"],
  paused: ["yellow", "◐ paused"],
  stopping: ["yellow", "◑ stopping"],
  completed: ["green", "✓ completed"],
  failed: ["red", "✗ failed"],
  cancelled: ["yellow", "■ cancelled"],
};

function header(view: View, paper: Paper): string[] {
  const { jobId = "", name, kind, tenant, status = "unknown", createdAt, liveness, attempt } = view;
  const seconds = createdAt === undefined ? 0 : ((ended(view) ?? paper.now) - Date.parse(createdAt)) / 1_000;
  const badge: Span[] = [BADGES[status], ["dim", `  ${duration(seconds)}`]];
  if (liveness && liveness !== "live") badge.unshift(["red", `trainer ${liveness}  `]);
  const about = [name && jobId, kind, attempt > 1 && `attempt ${attempt}`, `tenant ${tenant}`].filter(
    Boolean,
  );
  const outcome = view.outcome === undefined ? "" : describeOutcome(view.outcome);
  return [
    line(paper, [["bold", name ?? jobId]], badge),
    line(paper, [["dim", about.join(" · ")]]),
    ...(outcome ? [line(paper, [[BADGES[status][0], outcome]])] : []),
    "",
  ];
}

function ended({ status, endedAt }: View): number | undefined {
  return status && TERMINAL_STATUSES.has(status) && endedAt !== undefined ? Date.parse(endedAt) : undefined;
}

function training(view: View, paper: Paper): string[] {
  const progress = view.parts.get(view.shown) ?? {};
  const { step, total_steps, epoch, total_epochs, learning_rate, eta_seconds, stage, stage_progress } =
    progress;
  const lines: string[] = [];
  const percent = percentDone(progress);
  if (percent !== undefined) {
    const isOver = ended(view) !== undefined;
    const eta = isOver || eta_seconds === undefined ? "" : `  ETA ${duration(eta_seconds).padEnd(ETA)}`;
    const right = `  ${percent.toFixed(1).padStart(5)} %${eta}`;
    const [done, left] = bar(percent / 100, Math.max(0, paper.width - right.length));
    lines.push(
      line(paper, [
        [BADGES[view.status ?? "unknown"][0], done],
        ["dim", left],
        ["bold", right],
      ]),
    );
  }
  const facts: Span[] = [
    ...fact("step", ofTotal(step, total_steps)),
    ...fact("epoch", ofTotal(epoch, total_epochs)),
    ...fact("learning rate", learning_rate === undefined ? undefined : number(learning_rate)),
    ...fact(
      "stage",
      stage && `${stage}${stage_progress === undefined ? "" : ` ${stage_progress.toFixed(0)} %`}`,
    ),
    ...fact("of", view.shown || undefined),
  ];
  if (facts.length > 0) lines.push(line(paper, facts));
  if (progress.message) lines.push(line(paper, [["dim", progress.message]]));
  return lines.length > 0 ? [...lines, ""] : [];
}

function fact(label: string, value: string | undefined): Span[] {
  return value === undefined ? [] : [["dim", `${label} `], `${value}   `];
}

function details(view: View, paper: Paper): string[] {
  const { loss, smooth_loss, metrics: measured } = view.parts.get(view.shown) ?? {};
  const { validation, samples, sample, products, machines } = view;
  const lines: string[] = [];
  const add = (label: string, ...spans: Span[]) =>
    lines.push(line(paper, [["dim", label.padEnd(LABEL)], ...spans]));
  if (loss !== undefined) {
    const smooth = smooth_loss === undefined ? "" : `  smooth ${number(smooth_loss)}`;
    const room = paper.width - LABEL - 12 - columns(smooth);
    const curve = sparkline(thinned(view.losses.points, Math.min(60, Math.max(0, room))));
    add("loss", figure(loss), ["cyan", curve], ["dim", smooth]);
  }
  if (validation) {
    const { best, step, message } = validation;
    const at = [step !== undefined && `at step ${count(step)}`, message].filter(Boolean).join("  ");
    const [first, ...others] = Object.entries(validation.metrics).map(([name, value]) => metric(name, value));
    add(
      "validation",
      ["bold", first ?? ""],
      `  ${others.join("  ")}`,
      ["yellow", best ? "  ★ best" : ""],
      ["dim", `  ${at}`],
    );
  }
  const figures = metrics(measured);
  if (figures.length > 0) add("metrics", figures.join("  "));
  if (samples > 0) {
    const { step, width, height, media_type, size_bytes, prompt } = sample ?? {};
    const about = [
      step !== undefined && `step ${count(step)}`,
      width !== undefined && height !== undefined && `${width}×${height}`,
      media_type,
      size_bytes !== undefined && bytes(size_bytes),
      prompt && `“${prompt}”`,
    ];
    add("samples", count(samples), ["dim", `  last: ${about.filter(Boolean).join("  ")}`]);
  }
  if (products.completed + products.failed > 0 || products.total !== undefined) {
    add("products", `${ofTotal(products.completed, products.total)} done`, [
      "red",
      products.failed > 0 ? `  ${products.failed} failed` : "",
    ]);
  }
  for (const [host, stats] of [...machines].slice(0, MACHINES)) {
    add("machine", load(stats).join("  "), ["dim", `  ${host}`]);
  }
  return lines;
}

/** A loss in a column of its own, red where it is no number any more. */
function figure(value: Num): Span {
  return [typeof value === "string" ? "red" : "bold", number(value).padEnd(12)];
}

const LEVELS: Record<Level, Style | undefined> = {
  debug: "dim",
  info: undefined,
  warning: "yellow",
  error: "red",
  critical: "red",
};

function logLine({ time, level, text }: LogLine, paper: Paper): string {
  const style = LEVELS[level];
  return line(paper, [["dim", `${clock(time)}  `], style === undefined ? text : [style, text]]);
}

function footer({ connection, watchers }: View, paper: Paper, hint: string): string {
  const { state, hub, note = "" } = connection;
  const left: Span[] =
    state === "connected"
      ? [
          ["green", "● "],
          ["dim", `connected to ${hub} ${note}`],
        ]
      : [
          ["yellow", `◌ ${state === "closed" ? "disconnected from" : `${state} to`} ${hub} … `],
          ["dim", note],
        ];
  const others = watchers === undefined ? "" : `${count(watchers)} watching   `;
  return line(paper, left, [["dim", others + hint]]);
}

/** One line: the left part is cut where it does not fit beside the right one, which goes first where there is no room. */
function line({ width, paint }: Paper, left: readonly Span[], right: readonly Span[] = []): string {
  const length = (spans: readonly Span[]) => spans.reduce((sum, span) => sum + columns(textOf(span)), 0);
  const end = length(right);
  const isBeside = end > 0 && end <= width / 2;
  let room = isBeside ? width - end - 1 : width;
  let written = "";
  for (const span of left) {
    const text = cut(textOf(span), room);
    room -= columns(text);
    written += painted(span, text, paint);
  }
  if (!isBeside) return written.trimEnd();
  return written + " ".repeat(room + 1) + right.map((span) => painted(span, textOf(span), paint)).join("");
}

function textOf(span: Span): string {
  return typeof span === "string" ? span : span[1];
}

function painted(span: Span, text: string, paint: Paper["paint"]): string {
  return typeof span === "string" || text === "" ? text : paint(span[0], text);
}
