/** How V8 collects a hub's garbage: its defaults are those of a browser, which would rather be small than even. */
import { setFlagsFromString } from "node:v8";

/**
 * The two halves of the young generation are made small (1 MB) whenever little happens, and grow by so much at a time.
 * By V8's own 2 they stay small for seconds after a lull, and a hub that takes 2 500 events a second stops a hundred
 * times a second, for a millisecond each; with 16 they have their full size (16 MB) after the first step.
 */
const GROWTH_FACTOR = 16;

/** For the whole process. V8 asks for the factor at each step (heap/new-spaces.cc, `NewSpace::Grow`). */
export function collectGarbageEvenly(): void {
  setFlagsFromString(`--semi-space-growth-factor=${GROWTH_FACTOR}`);
}
