/** The loss from before one came: the curve that the hub keeps of a job. */
import type { SeriesAnswer } from "../protocol/types.ts";
import type { Access } from "./access.ts";

const TIMEOUT_MS = 5_000;

/**
 * The job's own, of its last attempt, oldest first: the last value of each bucket, NaN for one in which a value was no
 * number. Empty when there is nothing to get: the curve then begins now.
 */
export async function lossSoFar({ connection }: Access, tenant: string, job: string): Promise<number[]> {
  const { url, token, getToken } = connection;
  const path = `/api/v1/tenants/${tenant}/training/jobs/${job}/series?metric=loss&rank=0`;
  try {
    const response = await fetch(`${url}${path}`, {
      headers: { authorization: `Bearer ${token ?? (await getToken?.())}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const { series = [] } = (await response.json()) as Partial<SeriesAnswer>;
    const buckets = series.find(({ product }) => product === undefined)?.buckets ?? [];
    const newest = buckets.at(-1)?.attempt;
    return buckets
      .filter(({ attempt }) => attempt === newest)
      .map(({ last, nan }) => (last === null || nan > 0 ? Number.NaN : last));
  } catch {
    return [];
  }
}
