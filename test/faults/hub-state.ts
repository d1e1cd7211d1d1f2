/** What a hub says of itself while a fault is there. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { HubProcess } from "../cluster/hub-process.ts";

const LOOK_MS = 10;
/** Far above what any of it takes. */
const LIMIT_MS = 20_000;

/** `/readyz`: its HTTP status and what it says, as in `200 degraded`. */
export async function readiness({ url }: HubProcess): Promise<string> {
  const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(LIMIT_MS) });
  const { status } = (await response.json()) as { status: string };
  return `${response.status} ${status}`;
}

/** Every different answer of `/readyz`, in order, until the returned function is called. */
export function watchReadiness(hub: HubProcess): () => Promise<string[]> {
  const seen: string[] = [];
  const over = new AbortController();
  const watching = (async () => {
    while (!over.signal.aborted) {
      const now = await readiness(hub).catch((error: Error) => `no answer (${error.name})`);
      if (now !== seen.at(-1)) seen.push(now);
      await sleep(LOOK_MS);
    }
  })();
  return async () => {
    over.abort();
    await watching;
    return seen;
  };
}

/** Resolves with true as soon as it is so, with false when it does not become so in time. */
export async function becomes(
  condition: () => boolean | Promise<boolean>,
  limitMs = LIMIT_MS,
): Promise<boolean> {
  const limit = Date.now() + limitMs;
  for (;;) {
    if (await condition()) return true;
    if (Date.now() > limit) return false;
    await sleep(LOOK_MS);
  }
}

/** Resident memory in bytes; 0 where the system does not say. */
export function memoryOf({ pid }: HubProcess): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1_024;
  } catch {
    return 0;
  }
}
