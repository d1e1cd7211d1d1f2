/** What goes wrong during a run. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import type { HubProcess } from "./hub-process.ts";
import type { Trainer } from "./load.ts";

/** Cuts every connection that is subscribed to something, time and again until `end`. */
export async function cutSubscribers(
  client: Redis,
  { everyMs, end }: { everyMs: number; end: AbortSignal },
): Promise<{ times: number; connections: number }> {
  let times = 0;
  let connections = 0;
  while (!end.aborted) {
    connections += (await client.call("CLIENT", "KILL", "TYPE", "pubsub")) as number;
    times++;
    await sleep(everyMs, undefined, { signal: end }).catch(() => {});
  }
  return { times, connections };
}

/** A crash while a call of this trainer is under way, and some time later a new start on the same port. */
export async function crash(hub: HubProcess, trainer: Trainer, downMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    trainer.onNextSent = resolve;
  });
  await hub.kill();
  await sleep(downMs);
  await hub.start();
}
