/** The labelled lines of the screen, one for each thing that a job tells. */
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type { CommandUpdate, Num } from "../protocol/types.ts";
import { thinned } from "./curve.ts";
import { load, metric, metrics, ofTotal } from "./describe.ts";
import { bytes, count, NO_NUMBER, number, sparkline } from "./figures.ts";
import { line, list, type Paper, type Span, type Style } from "./paper.ts";
import { inShort } from "./parts.ts";
import { columns } from "./text.ts";
import type { View } from "./view.ts";

const LABEL = 12;
const MACHINES = 4;
const COMMANDS = 2;

export interface Row {
  label: string;
  text: string;
}

/** `inWords`: the products line says how far each part is, because there is no table of them. */
export function rowsOf(view: View, paper: Paper, inWords: boolean): Row[] {
  const { loss, smooth_loss, metrics: measured } = view.parts.get(view.shown) ?? {};
  const { validation, samples, sample, checkpoints, checkpoint, products, machines } = view;
  const rows: Row[] = [];
  const add = (label: string, ...spans: Span[]) =>
    rows.push({ label, text: line(paper, [["dim", label.padEnd(LABEL)], ...spans]) });
  if (loss !== undefined) {
    const smooth = smooth_loss === undefined ? "" : `  smooth ${number(smooth_loss)}`;
    const room = paper.width - LABEL - 12 - columns(smooth);
    add("loss", figure(loss), ...curve(view.losses.points, Math.min(60, Math.max(0, room))), ["dim", smooth]);
  }
  if (validation) {
    const { best, step, message } = validation;
    const [first, ...others] = Object.entries(validation.metrics).map(([name, value]) => metric(name, value));
    add(
      "validation",
      ["bold", first ?? ""],
      ["yellow", best ? "  ★ best" : ""],
      ["dim", list([step !== undefined && `at step ${count(step)}`])],
      list(others),
      ["dim", list([message])],
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
  if (checkpoints > 0) {
    const { step, name, path, size_bytes, best } = checkpoint ?? {};
    const about = [
      name ?? path ?? (step !== undefined && `step ${count(step)}`),
      size_bytes !== undefined && bytes(size_bytes),
    ];
    add(
      "checkpoints",
      count(checkpoints),
      ["dim", `  last: ${about.filter(Boolean).join("  ")}`],
      ["yellow", best ? "  ★ best" : ""],
    );
  }
  if (products.completed + products.failed > 0 || products.total !== undefined) {
    const { completed, failed, total, progress } = products;
    add(
      "products",
      `${ofTotal(completed, total)} done`,
      ["red", failed > 0 ? `  ${count(failed)} failed` : ""],
      ["dim", `  ${progress.toFixed(0)} %`],
      ["dim", inWords ? list(inShort(view)) : ""],
    );
  }
  for (const [host, stats] of [...machines].slice(0, MACHINES)) {
    add("machine", load(stats).join("  "), ["dim", `  ${host}`]);
  }
  commands(view, add);
  return rows;
}

/** A curve in which values that are no numbers are red. */
function curve(points: readonly number[], room: number): Span[] {
  const text = sparkline(thinned(points, room));
  const pieces = text.match(new RegExp(`${NO_NUMBER}+|[^${NO_NUMBER}]+`, "g")) ?? [];
  return pieces.map((piece) => [piece.startsWith(NO_NUMBER) ? "red" : "cyan", piece]);
}

const STATES: Record<CommandUpdate["state"], Style> = {
  requested: "yellow",
  delivered: "yellow",
  applied: "green",
  failed: "red",
  expired: "red",
};

/** The last ones, newest first; before there is any, what may be given. */
function commands(
  { commands: given, takes, status }: View,
  add: (label: string, ...spans: Span[]) => void,
): void {
  if (given.length === 0) {
    const isOver = status !== undefined && TERMINAL_STATUSES.has(status);
    if (takes.length > 0 && !isOver) add("commands", ["dim", takes.join(", ")]);
    return;
  }
  for (const [index, update] of given.slice(-COMMANDS).reverse().entries()) {
    const { action, state, message, code, data, requested_by: by } = update;
    const why = message ?? code ?? (data && JSON.stringify(data));
    add(
      index === 0 ? "commands" : "",
      `${action} `,
      [STATES[state], state],
      why === undefined ? "" : `  ${why}`,
      ["dim", by === undefined ? "" : `  by ${by}`],
    );
  }
}

/** A loss in a column of its own, red where it is no number any more. */
function figure(value: Num): Span {
  return [typeof value === "string" ? "red" : "bold", number(value).padEnd(12)];
}
