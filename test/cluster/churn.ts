/** Watchers that come and go all the time. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "./random.ts";
import { Watcher, type WatcherOptions } from "./watcher.ts";

const STAY_MS = { least: 200, most: 2_500 };
const AWAY_MS = { least: 20, most: 600 };
const HISTORY = 100;

export interface VisitOptions {
  random: Random;
  end: AbortSignal;
  /** Told of every watcher that this person becomes. */
  onWatcher: (watcher: Watcher) => void;
}

/** One person who opens and closes the page of a job until `end`. */
export async function comeAndGo(
  options: WatcherOptions,
  { random, end, onWatcher }: VisitOptions,
): Promise<void> {
  const pause = (ms: number) => sleep(ms, undefined, { signal: end }).catch(() => {});
  let watcher: Watcher | undefined;
  for (let visit = 0; !end.aborted; visit++) {
    if (!watcher) {
      watcher = new Watcher({ ...options, name: `${options.name}.${visit}` });
      onWatcher(watcher);
    }
    // Also while its hub is away. Who closes in the middle of a handshake leaves the hub waiting for the ping timeout.
    await watcher.join(random.chance(0.5) ? random.int(1, HISTORY) : 0);
    await pause(random.int(STAY_MS.least, STAY_MS.most));
    if (random.chance(0.4)) {
      watcher.close();
      watcher = undefined;
    } else await watcher.leave({ keep: random.chance(0.5) });
    await pause(random.int(AWAY_MS.least, AWAY_MS.most));
  }
  watcher?.close();
}
