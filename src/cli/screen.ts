/** The screen of `watch`: a view as lines of text, for a terminal of a given size. */
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type { JobStatus, Level } from "../protocol/types.ts";
import { describeOutcome, ofTotal, percentDone } from "./describe.ts";
import { bar, clock, count, duration, number } from "./figures.ts";
import { line, type Paper, type Span, type Style } from "./paper.ts";
import { table } from "./parts.ts";
import { type Row, rowsOf } from "./rows.ts";
import type { LogLine, View } from "./view.ts";

const LOG_LINES = 20;
/** With fewer lines than these for the log, the empty lines go first. */
const LOG_LEAST = 4;
/** As long as `59m 59s`, so that the bar does not move. */
const ETA = 7;

/** At most `height` lines, none wider than `width`. */
export function render(view: View, paper: Paper): string[] {
  const { height, hint } = paper;
  const foot = hint === undefined ? [] : [footer(view, paper, hint)];
  const least = foot.length + 2 + LOG_LEAST;
  let fixed = view.jobId === undefined ? nothing(view, paper) : job(view, paper, height - least);
  const isTight = height - fixed.length < least;
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

/** Lines that a small terminal does without, the first one first, and what it keeps for the log. */
const SPARED = ["metrics", "machine", "samples", "checkpoints"] as const;
const TIGHT_LOG = 3;

/** About `room` lines, empty ones between its parts. */
function job(view: View, paper: Paper, room: number): string[] {
  const above = [...header(view, paper), ...training(view, paper)];
  const bare = above.filter((line) => line !== "").length;
  const left = room + 2 + LOG_LEAST - TIGHT_LOG - bare;
  const spared = (all: Row[]) =>
    SPARED.reduce(
      (rows, label) => (rows.length > left ? rows.filter((row) => row.label !== label) : rows),
      all,
    );
  let rows = spared(rowsOf(view, paper, false));
  const parts = table(view, paper, room - above.length - rows.length);
  if (parts.length === 0) rows = spared(rowsOf(view, paper, true));
  const lines = [
    ...above,
    ...rows.flatMap(({ label, text }) => [text, ...(label === "products" ? parts : [])]),
  ];
  if (!rows.some(({ label }) => label === "products")) lines.push(...parts);
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
  const { jobId = "", name, kind, tenant, status = "unknown", createdAt, attempt } = view;
  const seconds = createdAt === undefined ? 0 : ((ended(view) ?? paper.now) - Date.parse(createdAt)) / 1_000;
  const badge: Span[] = [BADGES[status], ["dim", `  ${duration(seconds)}`]];
  const about = [name && jobId, kind, `tenant ${tenant}`].filter(Boolean);
  const outcome = view.outcome === undefined ? "" : describeOutcome(view.outcome);
  const trouble = troubleOf(view, paper.now);
  const beside: Span[] = [
    ...(attempt > 1 ? [["bold", `attempt ${attempt}`] as const] : []),
    ...(attempt > 1 && view.liveness === "live" ? ["  "] : []),
    ...(view.liveness === "live" ? [["green", "live"] as const] : []),
  ];
  return [
    line(paper, [["bold", name ?? jobId]], badge),
    line(paper, [["dim", about.join(" · ")]], beside),
    ...(trouble ? [line(paper, [trouble])] : []),
    ...(outcome ? [line(paper, [[BADGES[status][0], outcome]])] : []),
    "",
  ];
}

/** So long a trainer that lives may be without a step before that is told. */
const QUIET_SECONDS = 30;

/** Why the job may not go on although nobody has said so. */
function troubleOf({ liveness, status, lastSeen, lastStepAt }: View, now: number): Span | undefined {
  const since = (iso: string | undefined) =>
    iso === undefined ? undefined : (now - Date.parse(iso)) / 1_000;
  if (liveness === "stale" || liveness === "lost") {
    const seen = since(lastSeen);
    const sign = seen === undefined ? "no sign of life" : `last sign of life ${duration(seen)} ago`;
    return [liveness === "lost" ? "red" : "yellow", `trainer ${liveness}: ${sign}`];
  }
  const step = since(lastStepAt);
  if (liveness !== "live" || status !== "running" || step === undefined || step < QUIET_SECONDS)
    return undefined;
  return ["yellow", `trainer live, but no step for ${duration(step)}`];
}

function ended({ status, endedAt }: View): number | undefined {
  return status && TERMINAL_STATUSES.has(status) && endedAt !== undefined ? Date.parse(endedAt) : undefined;
}

function training(view: View, paper: Paper): string[] {
  const progress = view.parts.get(view.shown) ?? {};
  const { total } = view.products;
  const { step, total_steps, epoch, total_epochs, learning_rate, eta_seconds, stage, stage_progress } =
    progress;
  const lines: string[] = [];
  const percent = percentDone(progress) ?? (total === undefined ? undefined : view.products.progress);
  if (percent !== undefined) {
    const goesOn = ended(view) === undefined && (view.liveness ?? "live") === "live";
    const eta = !goesOn || eta_seconds === undefined ? "" : `  ETA ${duration(eta_seconds).padEnd(ETA)}`;
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
    ...fact(
      "stage",
      stage && `${stage}${stage_progress === undefined ? "" : ` ${stage_progress.toFixed(0)} %`}`,
    ),
    ...fact("step", ofTotal(step, total_steps)),
    ...fact("epoch", ofTotal(epoch, total_epochs)),
    ...fact("learning rate", learning_rate === undefined ? undefined : number(learning_rate)),
    ...fact("of", view.shown || undefined),
  ];
  if (facts.length > 0) lines.push(line(paper, facts));
  if (progress.message) lines.push(line(paper, [["dim", progress.message]]));
  return lines.length > 0 ? [...lines, ""] : [];
}

function fact(label: string, value: string | undefined): Span[] {
  return value === undefined ? [] : [["dim", `${label} `], `${value}   `];
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
