/** Everything that a run must have kept, judged from its histories. */

import { EVENT_TYPES, EVENTS } from "../../src/protocol/events.ts";
import type { DeliveredEvent, EventType } from "../../src/protocol/types.ts";
import {
  type Complaint,
  compareNewest,
  judgeLog,
  judgeNewest,
  judgeSameLog,
  judgeStored,
  judgeTenant,
  judgeTenantLog,
  judgeTenantNewest,
  judgeView,
} from "./checker.ts";
import { type FeedLog, keyOf, type Merged, type Newest, type View } from "./history.ts";
import type { HubProcess } from "./hub-process.ts";
import type { Trainer } from "./load.ts";
import { FOREIGN, HOME, type Run, type StoredTenant } from "./run.ts";

const TENANT_TYPES: ReadonlySet<EventType> = new Set(
  EVENT_TYPES.filter((type) => EVENTS[type].tenantFeed === true && EVENTS[type].class === "durable"),
);

export function judge(run: Run): Complaint[] {
  const complaints: Complaint[] = [];
  const views = run.watchers.flatMap((watcher) => watcher.views);
  for (const [tenant, stored] of run.stored) {
    const trainers = tenant === HOME ? run.trainers : run.foreignTrainers;
    const other = tenant === HOME ? FOREIGN : HOME;
    const own = views.filter(({ tenantId }) => tenantId === tenant.tenantId);
    complaints.push(
      ...judgeTenantStored(stored, trainers),
      ...judgeViews(own, stored, trainers),
      ...judgeTenant(own, [other.marker]),
    );
  }
  const wire = [...run.watchers, ...run.trainers, ...run.foreignTrainers].flatMap(({ faults }) => faults);
  return [
    ...complaints,
    ...wire.map((text) => ({ rule: "wire" as const, text })),
    ...run.late.map((text) => ({ rule: "I1" as const, text })),
    ...run.left.map((text) => ({ rule: "I5" as const, text })),
    ...run.hubs.flatMap(judgeHub),
  ];
}

function judgeTenantStored(stored: StoredTenant, trainers: readonly Trainer[]): Complaint[] {
  const [jobs = []] = stored.jobs;
  const expected = newestOf(trainers);
  return [
    ...judgeStored(
      trainers.flatMap(({ sent }) => sent),
      jobs,
    ),
    ...jobs.flatMap((_, i) => judgeSameLog(stored.jobs.map((logs) => logs[i] as FeedLog))),
    ...judgeSameLog(stored.tenant),
    ...[...jobs, ...stored.tenant].flatMap(judgeLog),
    ...judgeTenantLog(stored.tenant[0] as FeedLog, jobs, TENANT_TYPES),
    ...stored.snapshots.flatMap(({ job_id, newest }) => {
      const found = new Map(newest.map((event) => [keyOf(event), event.data as Merged]));
      return compareNewest(found, expected.get(job_id) as Newest, `the snapshot of ${job_id}`);
    }),
  ];
}

function judgeViews(views: readonly View[], stored: StoredTenant, trainers: readonly Trainer[]): Complaint[] {
  const logs = new Map((stored.jobs[0] ?? []).map((log) => [log.jobId, log]));
  const heads = new Map(stored.snapshots.map(({ job_id, seq }) => [job_id, seq]));
  const expected = newestOf(trainers);
  const whole = tenantNewestOf(stored);
  return views.flatMap((view) => {
    const log = view.feed === "tenant" ? stored.tenant[0] : logs.get(view.jobId);
    if (!log)
      return [{ rule: "I8" as const, text: `${view.watcher} watched ${view.jobId}, which is not stored` }];
    const complaints = judgeView(view, log);
    // Who left early has not seen the end.
    if (view.until < (view.feed === "tenant" ? log.seq : (heads.get(view.jobId) as number)))
      return complaints;
    const newest =
      view.feed === "tenant"
        ? judgeTenantNewest(view, whole)
        : judgeNewest(view, expected.get(view.jobId) as Newest);
    return [...complaints, ...newest];
  });
}

/** Job → what was published last; each key has one trainer. */
function newestOf(trainers: readonly Trainer[]): Map<string, Newest> {
  const all = new Map<string, Newest>();
  for (const { newest } of trainers) {
    for (const [jobId, values] of newest) all.set(jobId, new Map([...(all.get(jobId) ?? []), ...values]));
  }
  return all;
}

/** The tenant's feed shows of each job the newest progress of no rank or rank 0 of the whole job. */
function tenantNewestOf({ snapshots }: StoredTenant): Newest {
  const newest: Newest = new Map();
  for (const { job_id, newest: values } of snapshots) {
    const own = values.filter(
      ({ type, product, rank = 0 }) => type === "training_progress" && product === undefined && rank === 0,
    );
    const last = own.reduce<DeliveredEvent | undefined>((a, b) => (a && a.seq > b.seq ? a : b), undefined);
    if (last) newest.set(job_id, last.data as Merged);
  }
  return newest;
}

/** No process ends by itself, and none logs a fault of its own. */
export function judgeHub({
  name,
  deaths,
  output,
}: Pick<HubProcess, "name" | "deaths" | "output">): Complaint[] {
  const bad = output.filter((line) => !/^\{"level":"(trace|debug|info|warn)"/.test(line));
  return [
    ...deaths.map((exit) => ({
      rule: "I7" as const,
      text: `${name} ended by itself: ${JSON.stringify(exit)}`,
    })),
    ...bad.map((line) => ({ rule: "I7" as const, text: `${name} logged: ${line}` })),
  ];
}
