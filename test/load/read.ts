/** What is stored of the load's tenants, read over HTTP as anybody could. */
import type { Snapshot } from "../../src/protocol/types.ts";
import type { StoredTenant } from "../cluster/stage.ts";
import { type Access, findSnapshot, readJob, readTenant } from "../cluster/stored.ts";
import type { Crowd, LoadTenant } from "./orders.ts";

/** Tenant → job (`""` for the tenant's feed) → where its feed stands. */
export async function readHeads({
  url,
  tenants,
}: Pick<Crowd, "url" | "tenants">): Promise<Map<string, Map<string, number>>> {
  const all = new Map<string, Map<string, number>>();
  for (const tenant of tenants) {
    const access = accessOf(url, tenant);
    const heads = new Map([["", (await readTenant(access)).seq]]);
    for (const jobId of tenant.jobs) heads.set(jobId, (await readSnapshot(access, jobId)).seq);
    all.set(tenant.tenantId, heads);
  }
  return all;
}

/** In the tenants' order; through each of these URLs. */
export async function readTenants(
  urls: readonly string[],
  tenants: readonly LoadTenant[],
): Promise<StoredTenant[]> {
  const all: StoredTenant[] = [];
  for (const tenant of tenants) {
    const stored: StoredTenant = { jobs: [], tenant: [], snapshots: [] };
    for (const url of urls) {
      const access = accessOf(url, tenant);
      const { jobs } = tenant;
      stored.jobs.push(await Promise.all(jobs.map((jobId) => readJob(access, jobId))));
      stored.tenant.push(await readTenant(access));
      stored.snapshots.push(...(await Promise.all(jobs.map((jobId) => readSnapshot(access, jobId)))));
    }
    all.push(stored);
  }
  return all;
}

async function readSnapshot(access: Access, jobId: string): Promise<Snapshot> {
  const snapshot = await findSnapshot(access, jobId);
  if (!snapshot) throw new Error(`${access.tenantId}/${jobId} is not stored`);
  return snapshot;
}

function accessOf(url: string, { tenantId, token }: LoadTenant): Access {
  return { url, tenantId, token };
}
