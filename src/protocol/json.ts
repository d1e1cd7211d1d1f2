/** JSON from strangers: its nesting is measured before it is parsed, because deep JSON overflows the stack later. */
import { HubError } from "./codes.ts";
import { LIMITS } from "./limits.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Whether objects and arrays are nested no deeper than `limit`. Brackets in strings do not count. */
export function isShallow(text: string, limit: number = LIMITS.depth): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      i++;
      while (i < text.length && text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > limit) return false;
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
  return true;
}

/** @throws HubError `too_deep` or `malformed`. */
export function parseJson(text: string): unknown {
  if (!isShallow(text)) throw new HubError("too_deep");
  try {
    return JSON.parse(text);
  } catch {
    throw new HubError(
      "malformed",
      'not JSON; NaN and infinities are written "NaN", "Infinity", "-Infinity"',
    );
  }
}
