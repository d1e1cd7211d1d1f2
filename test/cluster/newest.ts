/** Judges the newest values of conflatable events: whatever a watcher has merged, it must end as published. */
import { isDeepStrictEqual } from "node:util";
import type { Num } from "../../src/protocol/types.ts";
import { type Complaint, labelOf } from "./checker.ts";
import {
  type Answered,
  type GapTold,
  keyOf,
  type Merged,
  mergeInto,
  type Newest,
  type View,
} from "./history.ts";

/**
 * Merged from what a watcher got of a job, field by field, the progress must be what was published last; and it must
 * be so already when the terminal status comes.
 */
export function judgeNewest(view: View, expected: Newest): Complaint[] {
  if (view.types && !view.types.has("training_progress")) return [];
  const complaints: Complaint[] = [];
  const newest: Newest = new Map();
  const about = `${view.watcher} on ${labelOf(view)}`;
  for (const entry of view.entries) {
    if (entry.kind !== "event" && (entry.snapshot || isReset(entry))) {
      newest.clear();
      for (const event of entry.snapshot?.newest ?? []) {
        if (event.type === "training_progress") mergeInto(newest, keyOf(event), event.data as Merged);
      }
    } else if (entry.kind === "event") {
      if (entry.ends) complaints.push(...compareNewest(newest, expected, `${about} at the job's end`));
      if (entry.type === "training_progress") mergeInto(newest, entry.key, entry.data as Merged);
    }
  }
  return [...complaints, ...compareNewest(newest, expected, about)];
}

/** On the tenant's feed each progress is whole: that of the job's newest key. */
export function judgeTenantNewest(view: View, expected: Newest): Complaint[] {
  if (view.types && !view.types.has("training_progress")) return [];
  const complaints: Complaint[] = [];
  const newest: Newest = new Map();
  const about = `${view.watcher} on ${labelOf(view)}`;
  const only = (all: Newest, jobId: string): Newest => new Map([...all].filter(([key]) => key === jobId));
  for (const entry of view.entries) {
    if (entry.kind !== "event") {
      if (isReset(entry)) newest.clear();
      for (const { job_id, progress } of entry.jobs ?? []) {
        if (progress) newest.set(job_id, { ...progress });
      }
      continue;
    }
    const { jobId } = entry;
    if (entry.ends) {
      const at = `${about} at the job's end`;
      complaints.push(...compareNewest(only(newest, jobId), only(expected, jobId), at));
    }
    if (entry.type === "training_progress") newest.set(jobId, entry.data as Merged);
  }
  return [...complaints, ...compareNewest(newest, expected, about)];
}

/** What the watcher knew is of a history that is gone. */
function isReset(entry: Answered | GapTold): boolean {
  return entry.kind === "gap" ? entry.gap.reason === "reset" : !entry.recovered;
}

/** Where a history may have begun in between: each value that is there is the one published last. */
export function comparePart(found: Newest, expected: Newest, about: string): Complaint[] {
  const merged = new Map(
    [...found].map(([key, value]) => {
      const last = expected.get(key) ?? {};
      const { metrics, ...fields } = value;
      const part: Merged = Object.fromEntries(Object.keys(fields).map((name) => [name, last[name]]));
      if (metrics) {
        part.metrics = Object.fromEntries(
          Object.keys(metrics).map((name) => [name, last.metrics?.[name] as Num]),
        );
      }
      return [key, part];
    }),
  );
  return compareNewest(found, merged, about);
}

export function compareNewest(found: Newest, expected: Newest, about: string): Complaint[] {
  return [...new Set([...found.keys(), ...expected.keys()])].flatMap((key): Complaint[] => {
    if (isDeepStrictEqual(found.get(key), expected.get(key))) return [];
    const [is, published] = [found.get(key), expected.get(key)].map((value) => JSON.stringify(value));
    return [
      { rule: "newest", text: `${about}: progress ${key} ends with ${is}, published was ${published}` },
    ];
  });
}
