/** What hubs and Redis hold, which has to be the same before anybody has come and after everybody has gone. */
import { readMetrics, sumOf } from "../cluster/metrics.ts";
import type { Cluster } from "./cluster.ts";

const HELD = [
  "trainwire_sessions",
  "trainwire_connections",
  "trainwire_subscriptions",
  "trainwire_feeds",
  "trainwire_channels",
  "trainwire_rooms",
  "trainwire_queue_bytes",
  "trainwire_connections_behind",
] as const;

/** What → how many. */
export type BaseLine = ReadonlyMap<string, number>;

export async function readBaseLine(cluster: Cluster): Promise<BaseLine> {
  const counts = new Map<string, number>();
  for (const hub of cluster.hubs) {
    const metrics = await readMetrics(cluster.urlOf(hub));
    for (const name of HELD) counts.set(`${hub} ${name}`, sumOf(metrics, name));
  }
  const clients = ((await cluster.redis.client("LIST")) as string).split("\n");
  counts.set("Redis clients", clients.filter((line) => line.includes(" name=trainwire-")).length);
  const channels = (await cluster.redis.call("PUBSUB", "SHARDCHANNELS")) as string[];
  counts.set("Redis channels", channels.length);
  return counts;
}

/** What is not as it was, in words. */
export function differences(before: BaseLine, now: BaseLine): string[] {
  return [...before].flatMap(([what, count]) => {
    const found = now.get(what);
    return found === count ? [] : [`${what}: ${found}, before ${count}`];
  });
}
