/** Text for a terminal: what others wrote made harmless, and how many columns it takes. */
import { stripVTControlCharacters } from "node:util";

/**
 * C0, DEL and C1 (commands to the terminal), line separators, and marks that reorder the text beside them
 * (https://trojansource.codes).
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
/** The control pictures of C0 begin here: U+241B shows an escape. */
const PICTURES = 0x2400;

/** One line that commands nothing: colours and the like are removed, other control characters shown. */
export function harmless(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/\s+$/, "")
    .replace(/\s*[\r\n]+\s*/g, " ⏎ ")
    .replaceAll("\t", "  ")
    .replace(CONTROL, (mark) => {
      const code = mark.charCodeAt(0);
      return code < 0x20 ? String.fromCharCode(PICTURES + code) : "\ufffd";
    });
}

/** The same for every text and every name in a JSON value. */
export function harmlessAll<T>(value: T): T {
  if (typeof value === "string") return harmless(value) as T;
  if (Array.isArray(value)) return value.map(harmlessAll) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [harmless(name), harmlessAll(inner)]),
  ) as T;
}

/** JSON in one line without any control character, for whatever reads it, a terminal too. */
export function harmlessJson(value: unknown): string {
  return JSON.stringify(value).replace(
    CONTROL,
    (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const SEGMENTER = new Intl.Segmenter();
const ZERO = /^[\p{Mark}\p{Format}]+$/u;
/** East Asian wide and full-width, and what is shown as an emoji (Unicode, annex 11). */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\ufe0f/u;

/** Columns that the text takes. */
export function columns(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let sum = 0;
  for (const { segment } of SEGMENTER.segment(text)) sum += columnsOf(segment);
  return sum;
}

function columnsOf(segment: string): number {
  if (ZERO.test(segment)) return 0;
  return WIDE.test(segment) ? 2 : 1;
}

/** The text, or its beginning and an ellipsis, in at most so many columns. */
export function cut(text: string, room: number): string {
  if (room <= 0) return "";
  if (columns(text) <= room) return text;
  let kept = "";
  let left = room - 1;
  for (const { segment } of SEGMENTER.segment(text)) {
    left -= columnsOf(segment);
    if (left < 0) break;
    kept += segment;
  }
  return `${kept}…`;
}
