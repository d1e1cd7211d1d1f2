/** What the store holds of jobs, as those see it who ask: one job, a list, curves. */
import { type Identity, maySee } from "../auth.ts";
import type { FeedName, JobName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { JobSummary, SeriesAnswer, SeriesRequest, Snapshot, TenantSnapshot } from "../protocol/types.ts";
import type { Store } from "../store/store.ts";
import { jobOf } from "./access.ts";
import type { Shares } from "./shares.ts";
import { snapshotOf, summaryOf } from "./snapshot.ts";

/** Jobs in a tenant's snapshot. */
const TENANT_SNAPSHOT_JOBS = 100;
/** Jobs that are read at once when all are wanted. */
const PAGE = 100;

interface JobList {
  readonly jobs: JobSummary[];
  readonly next?: string;
}

export class Jobs {
  readonly #store: Store;
  readonly #shares: Shares;

  constructor(store: Store, shares: Shares) {
    this.#store = store;
    this.#shares = shares;
  }

  /** @throws HubError `job_not_found`. */
  async snapshot(identity: Identity, jobId: string): Promise<Snapshot> {
    const snapshot = await this.#snapshotOfJob(jobOf(identity, jobId));
    if (!snapshot) throw new HubError("job_not_found");
    return snapshot;
  }

  /** What begins a feed, of a tenant with all its jobs; `null` for a job that is not there. */
  async snapshotOfFeed({ tenantId, jobId }: FeedName): Promise<Snapshot | TenantSnapshot | null> {
    if (jobId !== undefined) return await this.#snapshotOfJob({ tenantId, jobId });
    const ids = await this.#store.jobs(tenantId, { limit: TENANT_SNAPSHOT_JOBS });
    return { jobs: await this.#summaries(tenantId, ids) };
  }

  async #snapshotOfJob({ tenantId, jobId }: JobName): Promise<Snapshot | null> {
    const state = await this.#store.job(tenantId, jobId);
    return state ? snapshotOf(tenantId, jobId, state) : null;
  }

  async #summaries(tenantId: string, ids: readonly string[]): Promise<JobSummary[]> {
    const states = await Promise.all(ids.map((jobId) => this.#store.job(tenantId, jobId, true)));
    return ids.flatMap((jobId, i) => {
      const state = states[i];
      return state ? [summaryOf(jobId, state)] : [];
    });
  }

  /** Jobs that the token may see, newest first. `next` says where to go on. Shared: not to be changed. */
  async list(identity: Identity, page: { limit: number; before?: string }): Promise<JobList> {
    const list = () => this.#list(identity, page);
    if (identity.jobs) return await list();
    // Who sees all of the tenant sees the same.
    return await this.#shares.take(`list ${page.limit} ${page.before ?? ""} ${identity.tenantId}`, list);
  }

  async #list(identity: Identity, { limit, before }: { limit: number; before?: string }): Promise<JobList> {
    const jobs: JobSummary[] = [];
    let cursor = before;
    for (;;) {
      const page = { limit, ...(cursor !== undefined && { before: cursor }) };
      const ids = await this.#store.jobs(identity.tenantId, page);
      const visible = ids.filter((id) => maySee(identity, id));
      const taken = visible.slice(0, limit - jobs.length);
      jobs.push(...(await this.#summaries(identity.tenantId, taken)));
      // Never the id of a job that the token may not see.
      if (jobs.length >= limit) {
        const over = taken.length === visible.length && ids.length < limit;
        return { jobs, ...(!over && { next: taken.at(-1) as string }) };
      }
      if (ids.length < limit) return { jobs };
      cursor = ids.at(-1);
    }
  }

  /** All jobs that the token may see, newest first: as many as a tenant may have. */
  async all(identity: Identity): Promise<JobSummary[]> {
    const all = new Map<string, JobSummary>();
    let before: string | undefined;
    for (;;) {
      try {
        const page = await this.list(identity, { limit: PAGE, ...(before !== undefined && { before }) });
        for (const job of page.jobs) all.set(job.job_id, job);
        if (page.next === undefined) return [...all.values()];
        before = page.next;
      } catch (error) {
        // The job at which the next page begins has just expired.
        if (!(error instanceof HubError && error.code === "invalid_cursor")) throw error;
        before = undefined;
      }
    }
  }

  /** The job's curves, whole. @throws HubError `job_not_found`. */
  async series(identity: Identity, { job_id, ...wanted }: SeriesRequest): Promise<SeriesAnswer> {
    const { tenantId } = jobOf(identity, job_id);
    const series = await this.#store.series(tenantId, job_id, wanted);
    if (!series) throw new HubError("job_not_found");
    return series;
  }
}
