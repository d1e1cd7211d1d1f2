/** What of its tenant a token may see; what it may not looks as if it were not there. */
import { type Identity, maySee } from "../auth.ts";
import type { FeedName, JobName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { Filter } from "./page.ts";

/** The job of this id, be it there or not. @throws HubError `job_not_found` when it is not this token's. */
export function jobOf(identity: Identity, jobId: string): JobName {
  if (!maySee(identity, jobId)) throw new HubError("job_not_found");
  return { tenantId: identity.tenantId, jobId };
}

/** A job's feed, or the tenant's own. @throws HubError as `jobOf`. */
export function feedOf(identity: Identity, jobId: string | undefined): FeedName {
  return jobId === undefined ? { tenantId: identity.tenantId } : jobOf(identity, jobId);
}

/** Events without a job are for those who see the whole tenant. */
export function seesTenant(identity: Identity): boolean {
  return identity.jobs === undefined || identity.jobs.includes("*");
}

/** Which jobs' events of a feed a token may see; `undefined` for all, and the tenant's own events. */
export function sightOf(identity: Identity, name: FeedName): Filter["maySee"] {
  if (name.jobId !== undefined || seesTenant(identity)) return undefined;
  return (jobId) => jobId !== "" && maySee(identity, jobId);
}
