/**
 * A laptop: watchers in a process of their own, which a test stops and wakes. On each message it answers what they have
 * seen so far; it ends with its parent.
 *
 * Arguments: URL, token, tenant, jobs.
 */
import { Texts, type View } from "../cluster/history.ts";
import { Watcher } from "../cluster/watcher.ts";

/** What the program answers. `until` of each view is up to date. */
export interface SleeperAnswer {
  views: View[];
  faults: string[];
  reconnects: number;
}

const [url, token, tenantId, ...jobs] = process.argv.slice(2) as [string, string, string, ...string[]];
const texts = new Texts();
const watchers = jobs.map(
  (jobId) => new Watcher({ name: `sleeper ${jobId}`, url, token, tenantId, polling: false, jobId, texts }),
);
const joined = Promise.all(watchers.map((watcher) => watcher.join()));

process.on("message", async () => {
  await joined;
  await Promise.all(watchers.map((watcher) => watcher.ping()));
  const answer: SleeperAnswer = {
    views: watchers.flatMap(({ views }) => views),
    faults: watchers.flatMap(({ faults }) => faults),
    reconnects: watchers.reduce((sum, { reconnects }) => sum + reconnects, 0),
  };
  process.send?.(answer);
});
process.on("disconnect", () => process.exit());
