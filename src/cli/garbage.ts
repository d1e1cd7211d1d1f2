/** How V8 collects a hub's garbage: its defaults are those of a browser, which would rather be small than even. */
import { setFlagsFromString } from "node:v8";

/**
 * The young generation is made small (1 MB) whenever little happens, and grows by so much at a time. By V8's own 2 it
 * stays small for seconds after a lull, and a hub that takes 2 500 events a second stops a hundred times a second, for
 * a millisecond each; with 16 it is at its full size (16 MB) after the first step.
 */
const GROWTH_FACTOR = 16;
/**
 * After 8 s with little to do V8 collects the whole heap, in up to three rounds of 10 to 30 ms, so as to give memory
 * back: whatever comes then waits. A lull between two bursts is no reason to.
 */
const IDLE_MS = 60_000;

/** For the whole process, from now on. Both flags are looked at whenever they matter (V8's heap/new-spaces.cc, heap/memory-reducer.cc). */
export function collectGarbageEvenly(): void {
  setFlagsFromString(`--semi-space-growth-factor=${GROWTH_FACTOR}`);
  setFlagsFromString(`--gc-memory-reducer-start-delay-ms=${IDLE_MS}`);
}
