/** Who watches: as many on each hub, of all kinds. */
import type { EventType } from "../../src/protocol/types.ts";
import type { WatcherOptions } from "./watcher.ts";

export interface Member {
  hub: number;
  /** Joins and leaves all the time. */
  comesAndGoes: boolean;
  options: Pick<WatcherOptions, "name" | "polling" | "jobId" | "types">;
}

const TYPES: ReadonlyArray<readonly EventType[]> = [
  ["training_status", "training_progress"],
  ["training_status", "validation_result", "training_progress"],
  ["log"],
  ["training_progress"],
  ["sample_generated", "validation_result"],
  ["training_status"],
];

/**
 * Of 10 on a hub 1 on the tenant's feed, 1 on `"*"`, 8 on jobs by name (2 of them come and go); a third polls, another
 * third has `types`.
 */
export function crowd(hubs: number, jobs: readonly string[], perHub = 30): Member[] {
  const tenth = Math.ceil(perHub / 10);
  const members: Member[] = [];
  for (let hub = 0; hub < hubs; hub++) {
    for (let i = 0; i < perHub; i++) {
      const feed =
        i < tenth
          ? "tenant"
          : i < tenth * 2
            ? "*"
            : (jobs[(i + Math.floor(i / jobs.length) + hub) % jobs.length] as string);
      // Counted across kinds, so that of each kind a third has types and another third polls.
      const types = i % 3 === 2 ? TYPES[(Math.floor(i / 3) + hub) % TYPES.length] : undefined;
      const polling = (i + hub) % 3 === 0;
      members.push({
        hub,
        comesAndGoes: i >= perHub - tenth * 2,
        options: {
          name: `${feed} ${hub}.${i}`,
          polling,
          ...(feed !== "tenant" && { jobId: feed }),
          ...(types && { types }),
        },
      });
    }
  }
  return members;
}
