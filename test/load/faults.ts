/** What is done to the cluster under load, one after the other. */
import { setTimeout as sleep } from "node:timers/promises";
import { readMetrics, sumOf } from "../cluster/metrics.ts";
import type { Random } from "../cluster/random.ts";
import type { Cluster } from "./cluster.ts";

export interface Fault {
  name: string;
  /** Resolves when everything runs again as before; answers whose hub it was. */
  inject(cluster: Cluster, random: Random): Promise<readonly string[] | "all">;
}

const HUNG_MS = 5_000;
/** Longer than a ping's interval and time-out together. */
const HUNG_LONG_MS = 25_000;
const CUTS = 5;
const CUT_EVERY_MS = 1_000;

export const FAULTS: readonly Fault[] = [
  {
    name: "rolling restart",
    async inject(cluster) {
      await cluster.rollingRestart();
      return "all";
    },
  },
  {
    name: "hub killed",
    async inject(cluster, random) {
      const hub = await busyHub(cluster, random);
      await cluster.kill(hub);
      return [hub];
    },
  },
  hung("hub hangs 5 s", HUNG_MS),
  hung("hub hangs 25 s", HUNG_LONG_MS),
  {
    name: "nginx reload",
    async inject(cluster) {
      await cluster.reloadNginx();
      return [];
    },
  },
  {
    name: "nginx worker killed",
    async inject(cluster, random) {
      await cluster.killWorker((workers) => random.pick(workers));
      return [];
    },
  },
  {
    name: "Redis restart",
    async inject(cluster) {
      await cluster.restartRedis();
      return "all";
    },
  },
  {
    name: "subscribers cut",
    async inject(cluster) {
      for (let i = 0; i < CUTS; i++) {
        if (i > 0) await sleep(CUT_EVERY_MS);
        await cluster.redis.call("CLIENT", "KILL", "TYPE", "pubsub");
      }
      return "all";
    },
  },
];

/** Those that leave all hubs running: the rounds that memory is compared of need the same processes. */
export const GENTLE: readonly Fault[] = FAULTS.filter(({ name }) => /^(nginx worker|subscribers)/.test(name));

/** One with clients: whoever was restarted last has few. */
async function busyHub(cluster: Cluster, random: Random): Promise<string> {
  const sessions = await Promise.all(
    cluster.hubs.map(async (hub) => sumOf(await readMetrics(cluster.urlOf(hub)), "trainwire_sessions")),
  );
  const all = sessions.reduce((sum, count) => sum + count, 0);
  return random.pick(cluster.hubs.filter((_, i) => (sessions[i] as number) >= all / 6));
}

function hung(name: string, ms: number): Fault {
  return {
    name,
    async inject(cluster, random) {
      const hub = await busyHub(cluster, random);
      const pid = cluster.pidOf(hub);
      process.kill(pid, "SIGSTOP");
      try {
        await sleep(ms);
      } finally {
        process.kill(pid, "SIGCONT");
      }
      return [hub];
    },
  };
}
