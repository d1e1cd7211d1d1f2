/**
 * Loaded into a hub before anything else (`node --import`, see hub-signals.ts). At SIGUSR2 it does what the file
 * `order.json` of the folder ON_SIGNAL says, and writes to `<pid>.json` what became of it.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

export type SignalOrder =
  /** Collects garbage twice and tells `process.memoryUsage()`. */
  | { do: "collect" }
  /** The same, and gives back the room that V8 keeps for new objects: what is resident afterwards is needed. */
  | { do: "release" }
  /** Keeps the event loop busy. */
  | { do: "spin"; ms: number };

const folder = process.env.ON_SIGNAL;
const GAP_MS = 100;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

if (folder !== undefined) process.on("SIGUSR2", () => void carryOut(folder));

async function carryOut(within: string): Promise<void> {
  const order = JSON.parse(readFileSync(join(within, "order.json"), "utf8")) as SignalOrder;
  if (order.do === "spin") {
    const end = performance.now() + order.ms;
    while (performance.now() < end);
    tell(within, { spun: order.ms });
  } else {
    const work = order.do === "collect" ? collect : release;
    await work();
    await sleep(GAP_MS);
    await work();
    await sleep(GAP_MS); // pages are given back in the background
    tell(within, process.memoryUsage());
  }
}

/** As V8 does when the system is short of memory; `gc` leaves up to 32 MB of the young generation as they are. */
async function release(): Promise<void> {
  const session = new Session();
  session.connect();
  await session.post("HeapProfiler.collectGarbage");
  session.disconnect();
}

/** Whoever reads it reads all of it. */
function tell(within: string, answer: object): void {
  const path = join(within, `${process.pid}.json`);
  writeFileSync(`${path}.part`, JSON.stringify(answer));
  renameSync(`${path}.part`, path);
}
