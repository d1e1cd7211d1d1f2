/** Who watches: 30 on each hub, of all kinds. */
import type { EventType } from "../../src/protocol/types.ts";
import type { WatcherOptions } from "./watcher.ts";

export interface Member {
  hub: number;
  /** Joins and leaves all the time. */
  comesAndGoes: boolean;
  options: Pick<WatcherOptions, "name" | "polling" | "jobId" | "types">;
}

const PER_HUB = 30;
const TENANT = 3;
const ALL = 3;
const COMING_AND_GOING = 6;
const TYPES: ReadonlyArray<readonly EventType[]> = [
  ["training_status", "training_progress"],
  ["training_status", "validation_result", "training_progress"],
  ["log"],
  ["training_progress"],
  ["sample_generated", "validation_result"],
  ["training_status"],
];

/** On each hub 3 on the tenant's feed, 3 on `"*"`, 24 on jobs by name (6 of them come and go); a third with `types`. */
export function crowd(hubs: number, jobs: readonly string[]): Member[] {
  const members: Member[] = [];
  for (let hub = 0; hub < hubs; hub++) {
    for (let i = 0; i < PER_HUB; i++) {
      const feed =
        i < TENANT
          ? "tenant"
          : i < TENANT + ALL
            ? "*"
            : (jobs[(i + Math.floor(i / jobs.length) + hub) % jobs.length] as string);
      // Counted across kinds, so that of each kind a third has types and another third polls.
      const types = i % 3 === 2 ? TYPES[(Math.floor(i / 3) + hub) % TYPES.length] : undefined;
      const polling = (i + hub) % 3 === 0;
      members.push({
        hub,
        comesAndGoes: i >= PER_HUB - COMING_AND_GOING,
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
