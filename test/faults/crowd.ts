/** More watchers than a scenario has by itself, on raw WebSockets. */
import { readMetrics } from "../cluster/metrics.ts";
import { rawSocket } from "../cluster/raw-socket.ts";
import { HOME } from "../cluster/stage.ts";
import { Watcher } from "../cluster/watcher.ts";
import { type Context, JOBS, type Scenario } from "./scenario.ts";

/** Socket.IO's own defaults. */
const RECONNECT = { delayMs: 1_000, delayMaxMs: 5_000 };
/** Source addresses. */
const ADDRESSES = 50;
const WATCHERS = { short: 60, long: 1_000 } as const;

export const isLong = ({ size }: Context) => size.name === "long";

/** With a crowd so much slower a load that this process keeps up. */
export function crowded(context: Context): Context {
  return isLong(context) ? { ...context, size: { ...context.size, perSecond: 24 } } : context;
}

/**
 * They stay to the end, each on one job. `url`: where they connect to, if not where the others do; `of`: only one of so
 * many parts of the crowd.
 */
export async function bringCrowd(scenario: Scenario, url?: string, of = 1): Promise<Watcher[]> {
  const count = Math.ceil(WATCHERS[scenario.context.size.name] / of);
  const watchers = Array.from({ length: count }, (_, i) => {
    const options = { name: `crowd ${i}`, polling: false, jobId: JOBS[i % JOBS.length] as string };
    return new Watcher({
      ...scenario.stage.watcherOptions(HOME, 0, options),
      ...{ open: rawSocket(`127.0.0.${2 + (i % ADDRESSES)}`), reconnect: RECONNECT },
      ...(url !== undefined && { url }),
    });
  });
  await Promise.all(watchers.map((watcher) => scenario.stage.join(watcher)));
  return watchers;
}

export const allConnected = ({ stage }: Scenario) => stage.staying.every(({ connected }) => connected);

/** Of a hub's event loop since its metrics were read last, ms. */
export async function lagOf(url: string, part: "p99" | "max"): Promise<number> {
  const metrics = await readMetrics(url);
  return Math.round((metrics.get(`nodejs_eventloop_lag_${part}_seconds`) ?? 0) * 1_000);
}
