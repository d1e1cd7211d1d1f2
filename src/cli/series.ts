/** The loss from before one came: the curve that the hub keeps of a job. */
import type { SeriesAnswer } from "../protocol/types.ts";
import type { Access } from "./access.ts";

const TIMEOUT_MS = 5_000;

export interface LossSoFar {
  readonly epoch: string;
  /** Points up to here are in it. */
  readonly seq: number;
  readonly attempt: number;
  /** Oldest first: the last value of each bucket, NaN for one in which a value was no number. */
  readonly values: readonly number[];
}

/** The job's own, of its last attempt. Undefined when there is nothing to get: the curve then begins now. */
export async function lossSoFar(
  { connection }: Access,
  tenant: string,
  job: string,
): Promise<LossSoFar | undefined> {
  const { url, token, getToken } = connection;
  const path = `/api/v1/tenants/${tenant}/training/jobs/${job}/series?metric=loss&rank=0`;
  try {
    const response = await fetch(`${url}${path}`, {
      headers: { authorization: `Bearer ${token ?? (await getToken?.())}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const { epoch, seq, series } = (await response.json()) as SeriesAnswer;
    const buckets = series.find(({ product }) => product === undefined)?.buckets ?? [];
    const attempt = buckets.at(-1)?.attempt;
    if (attempt === undefined) return undefined;
    const values = buckets
      .filter((bucket) => bucket.attempt === attempt)
      .map(({ last, nan }) => (last === null || nan > 0 ? Number.NaN : last));
    return { epoch, seq, attempt, values };
  } catch {
    return undefined;
  }
}
