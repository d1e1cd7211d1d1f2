/** Everything that the load must have kept, judged where the histories are. */
import { type Complaint, judgeTenant } from "../cluster/checker.ts";
import type { Merged } from "../cluster/history.ts";
import type { StoredTenant } from "../cluster/stage.ts";
import { judgeTenantStored, judgeViews, type Published } from "../cluster/verdict.ts";
import type { Watcher } from "../cluster/watcher.ts";
import type { LoadTenant } from "./orders.ts";

/** By tenant: job → key → progress as published last, as JSON carries it. */
export type SentNewest = ReadonlyArray<
  ReadonlyArray<readonly [string, ReadonlyArray<readonly [string, Merged]>]>
>;

/** By a generator: what its watchers have seen. */
export function judgeWatchers(
  watchers: readonly Watcher[],
  tenants: readonly LoadTenant[],
  stored: readonly StoredTenant[],
  newest: SentNewest,
): Complaint[] {
  const complaints = watchers.flatMap(({ options, faults }) =>
    faults.map((text): Complaint => ({ rule: "wire", text: `${options.name} ${text}` })),
  );
  for (const [i, { tenantId, marker }] of tenants.entries()) {
    const views = watchers.flatMap((watcher) => watcher.views).filter((view) => view.tenantId === tenantId);
    const jobs = new Map((newest[i] ?? []).map(([jobId, values]) => [jobId, new Map(values)]));
    const others = tenants.map((each) => each.marker).filter((each) => each !== marker);
    complaints.push(
      ...judgeViews(views, stored[i] as StoredTenant, [{ sent: [], newest: jobs }], false),
      ...judgeTenant(views, others),
    );
  }
  return complaints;
}

/** By the parent: what is stored of a tenant against what its trainers have sent. */
export function judgeTrainers(
  stored: StoredTenant,
  trainers: ReadonlyArray<Published & { faults: readonly string[] }>,
): Complaint[] {
  return [
    ...judgeTenantStored(stored, trainers, false),
    ...trainers.flatMap(({ faults }) => faults.map((text): Complaint => ({ rule: "wire", text }))),
  ];
}

export function sentNewest(trainers: ReadonlyArray<readonly Published[]>): SentNewest {
  return trainers.map((own) =>
    own.flatMap(({ newest }) => [...newest].map(([jobId, values]) => [jobId, [...values]] as const)),
  );
}
