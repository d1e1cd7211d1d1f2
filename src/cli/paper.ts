/** Lines of text for a terminal of a given size. */
import { columns, cut } from "./text.ts";

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
export type Span = string | readonly [Style, string];

/** One line: the left part is cut where it does not fit beside the right one, which goes first where there is no room. */
export function line({ width, paint }: Paper, left: readonly Span[], right: readonly Span[] = []): string {
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

/** The parts that are there, each preceded by two blanks. */
export function list(parts: ReadonlyArray<string | undefined | false>): string {
  return parts.flatMap((part) => (part ? [`  ${part}`] : [])).join("");
}
