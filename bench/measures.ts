/** Everything that can be measured, in the order of the table. */
import { fanout } from "./fanout.ts";
import { ingest } from "./ingest.ts";
import { latency } from "./latency.ts";
import type { Measure } from "./measure.ts";
import { memory } from "./memory.ts";
import { scale } from "./scale.ts";
import { slow } from "./slow.ts";
import { spread } from "./spread.ts";
import { storm } from "./storm.ts";

export const MEASURES: readonly Measure[] = [fanout, spread, latency, memory, ingest, storm, slow, scale];
