/** Everything that a run must have kept, judged from its histories. */

import { EVENT_TYPES, EVENTS } from "../../src/protocol/events.ts";
import type { DeliveredEvent, EventType } from "../../src/protocol/types.ts";
import {
  type Complaint,
  judgeLog,
  judgeSameLog,
  judgeStored,
  judgeTenant,
  judgeTenantLog,
  judgeView,
} from "./checker.ts";
import { type FeedLog, keyOf, type Merged, type Newest, type View } from "./history.ts";
import type { HubProcess } from "./hub-process.ts";
import type { Trainer } from "./load.ts";
import { compareNewest, comparePart, judgeNewest, judgeTenantNewest } from "./newest.ts";
import { judgeThroughResets, pastsOf } from "./resets.ts";
import { FOREIGN, HOME, type Stage, type StoredTenant } from "./stage.ts";

const TENANT_TYPES: ReadonlySet<EventType> = new Set(
  EVENT_TYPES.filter((type) => EVENTS[type].tenantFeed === true && EVENTS[type].class === "durable"),
);

/** What a trainer has to say. */
export type Published = Pick<Trainer, "sent" | "newest">;

export interface JudgeOptions {
  /** Redis lost its data: every feed's log begins anew, and whoever watches it must have been told. */
  begun?: boolean;
}

export function judge(run: Stage, { begun = false }: JudgeOptions = {}): Complaint[] {
  const complaints: Complaint[] = [];
  const views = run.watchers.flatMap((watcher) => watcher.views);
  for (const [tenant, stored] of run.stored) {
    const trainers = tenant === HOME ? run.trainers : run.foreignTrainers;
    const other = tenant === HOME ? FOREIGN : HOME;
    const own = views.filter(({ tenantId }) => tenantId === tenant.tenantId);
    complaints.push(
      ...judgeTenantStored(stored, trainers, begun),
      ...judgeViews(own, stored, trainers, begun),
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

export function judgeTenantStored(
  stored: StoredTenant,
  trainers: readonly Published[],
  begun: boolean,
): Complaint[] {
  const [jobs = []] = stored.jobs;
  const published = newestOf(trainers);
  return [
    ...judgeStored(
      trainers.flatMap(({ sent }) => sent),
      jobs,
      () => begun,
    ),
    ...jobs.flatMap((_, i) => judgeSameLog(stored.jobs.map((logs) => logs[i] as FeedLog))),
    ...judgeSameLog(stored.tenant),
    ...[...jobs, ...stored.tenant].flatMap(judgeLog),
    ...judgeTenantLog(stored.tenant[0] as FeedLog, jobs, TENANT_TYPES, begun),
    ...stored.snapshots.flatMap((snapshot) => {
      const { job_id: jobId } = snapshot;
      const compare = begun ? comparePart : compareNewest;
      return compare(progressOf(snapshot), published.get(jobId) ?? new Map(), `the snapshot of ${jobId}`);
    }),
  ];
}

export function judgeViews(
  views: readonly View[],
  stored: StoredTenant,
  trainers: readonly Published[],
  begun: boolean,
): Complaint[] {
  const logs = new Map((stored.jobs[0] ?? []).map((log) => [log.jobId, log]));
  const heads = new Map(stored.snapshots.map(({ job_id, seq }) => [job_id, seq]));
  const kept = new Map(stored.snapshots.map((snapshot) => [snapshot.job_id, progressOf(snapshot)]));
  // A history that has begun in between holds of each value what was published since.
  const expected = begun ? kept : newestOf(trainers);
  const whole = tenantNewestOf(stored);
  const complaints: Complaint[] = [];
  const pasts = new Map<string, Map<string, FeedLog>>();
  if (begun) {
    for (const log of [...logs.values(), ...stored.tenant.slice(0, 1)]) {
      const found = pastsOf(
        views.filter(({ jobId }) => jobId === log.jobId),
        log,
      );
      complaints.push(...found.complaints, ...judgePasts([...found.pasts.values()], trainers));
      pasts.set(log.jobId, found.pasts);
    }
  }
  for (const view of views) {
    const log = view.feed === "tenant" ? stored.tenant[0] : logs.get(view.jobId);
    if (!log) {
      complaints.push({ rule: "I8", text: `${view.watcher} watched ${view.jobId}, which is not stored` });
      continue;
    }
    const past = pasts.get(log.jobId);
    complaints.push(...(past ? judgeThroughResets(view, log, past) : judgeView(view, log)));
    // Who left early has not seen the end.
    const head = view.feed === "tenant" ? log.seq : (heads.get(view.jobId) ?? Number.POSITIVE_INFINITY);
    if (view.untilEpoch !== log.epoch || view.until < head) continue;
    complaints.push(
      ...(view.feed === "tenant"
        ? judgeTenantNewest(view, whole)
        : judgeNewest(view, expected.get(view.jobId) ?? new Map())),
    );
  }
  return complaints;
}

/** What was seen of jobs' histories that are gone: sent by somebody, whole, once, in order. */
function judgePasts(pasts: readonly FeedLog[], trainers: readonly Published[]): Complaint[] {
  const sent = trainers.flatMap((trainer) => trainer.sent.map((one) => ({ ...one, acked: false })));
  return pasts.flatMap((past) => (past.feed === "job" ? judgeStored(sent, [past]) : []));
}

function progressOf({ newest }: { newest: readonly DeliveredEvent[] }): Newest {
  const progress = newest.filter(({ type }) => type === "training_progress");
  return new Map(progress.map((event) => [keyOf(event), event.data as Merged]));
}

/** Job → what was published last; each key has one trainer. */
function newestOf(trainers: readonly Published[]): Map<string, Newest> {
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
