/** The loss from before one came: the raw points that the hub keeps of a job. */
import type { Num } from "../protocol/types.ts";
import type { Access } from "./access.ts";

const TIMEOUT_MS = 5_000;

interface Point {
  value: Num;
  attempt?: number;
  rank?: number;
  product?: string;
}

/** The job's own, of its last attempt, oldest first. Empty when there is nothing to get: the curve then begins now. */
export async function lossSoFar({ connection }: Access, tenant: string, job: string): Promise<number[]> {
  const { url, token, getToken } = connection;
  try {
    const response = await fetch(`${url}/api/v1/tenants/${tenant}/training/jobs/${job}/series?metric=loss`, {
      headers: { authorization: `Bearer ${token ?? (await getToken?.())}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const { metrics } = (await response.json()) as { metrics?: { loss?: Point[] } };
    const own = (metrics?.loss ?? []).filter(({ rank = 0, product }) => rank === 0 && product === undefined);
    const last = own.at(-1)?.attempt ?? 1;
    return own
      .filter(({ attempt = 1 }) => attempt === last)
      .flatMap(({ value }) => (typeof value === "number" ? value : []));
  } catch {
    return [];
  }
}
