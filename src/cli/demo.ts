/** `trainwire demo`: the demo trainer against a hub; and the same as a child process of `trainwire serve --demo`. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { Command, InvalidArgumentError } from "commander";
import type { TrainwireError } from "../../client/index.ts";
import { loadConfig } from "../config.ts";
import type { Log } from "../log.ts";
import { access, hubUrl } from "./access.ts";

const TENANT = "demo";

export function demoCommand(): Command {
  return new Command("demo")
    .description(
      `train networks that learn pictures, one after the other, as jobs of the tenant "${TENANT}"; SIGINT or SIGTERM ends it`,
    )
    .option("--url <url>", "the hub (default: TRAINWIRE_URL)", hubUrl)
    .option("--pace <times>", "times as fast as usual, as far as half a core goes", positive, 1)
    .option("--seed <n>", "number of the first picture (default: another one at each start)", whole)
    .option(
      "--checkpoint <file>",
      "keep the newest checkpoint there, and take up the job that it holds (default: in a temporary folder)",
    )
    .addHelpText("after", HELP)
    .action(demo);
}

const HELP = `
Each job trains three products side by side, one for each colour plane, and obeys pause, resume, stop, save, sample and
validate (trainwire command). One picture in five fails: its loss becomes NaN, or, under serve --demo, its process dies
and a new one takes the job up from the checkpoint. In another one in five a product fails.`;

interface Options {
  url?: string;
  pace: number;
  seed?: number;
  checkpoint?: string;
}

async function demo({ url, pace, seed, checkpoint }: Options): Promise<void> {
  const { connection, explain } = access(loadConfig(), {
    url,
    tenant: TENANT,
    role: "trainer",
    subject: "trainwire-demo",
  });
  const end = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => end.abort());
  // The hub that started this has died without a word, and nobody reads what is said any more.
  process.stderr.on("error", () => {});
  process.once("disconnect", () => end.abort());
  if (process.send && !process.connected) end.abort();
  const isOrphan = () => process.send !== undefined && !process.connected;
  process.channel?.unref();
  let refusal: TrainwireError | undefined;
  const [{ trainPictures }, { goodSeed }] = await Promise.all([
    import("../demo/train.ts"),
    import("../demo/fate.ts"),
  ]);
  const folder = checkpoint === undefined ? temporaryFolder() : undefined;
  const training = trainPictures({
    ...connection,
    signal: end.signal,
    // Whoever sees it for the first time is to see it succeed.
    seed: seed ?? goodSeed(Math.floor(Date.now() / 1_000)),
    pace,
    checkpointFile: folder === undefined ? resolve(checkpoint ?? "") : join(folder, "checkpoint"),
    // Only where somebody starts it again.
    die: process.send ? () => process.kill(process.pid, "SIGKILL") : undefined,
    onError: (error) => {
      if (error.temporary || error.events > 0) console.error(error.message);
      else {
        refusal = error;
        end.abort();
      }
    },
    onJob: (jobId) => {
      if (process.connected) process.send?.(jobId);
      else console.log(`training ${jobId}`);
    },
  });
  await training.finally(() => folder !== undefined && rmSync(folder, { recursive: true, force: true }));
  if (checkpoint !== undefined && isOrphan()) removeEmpty(dirname(resolve(checkpoint)));
  if (process.connected) process.disconnect();
  if (refusal) throw explain(refusal);
}

function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "trainwire-demo-"));
}

/** The folder that a hub which has died had made. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It is not empty, so it is somebody else's.
  }
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1_000))
    throw new InvalidArgumentError("a number above 0, up to 1000, is wanted");
  return value;
}

function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("a whole number is wanted");
  return Number(text);
}

const RESTART_MS = { first: 1_000, longest: 60_000 };
/** A demo that ran for so long was well: the back-off begins anew. */
const WELL_MS = 60_000;
/** The demo has a second for its last words. */
const END_MS = 3_000;

export interface RunningDemo {
  /** Ends it; resolves when the process is gone. */
  stop(): Promise<void>;
}

/**
 * Runs the demo in a process of its own, so that it takes no time from the hub; it is started again when it dies, and then
 * takes up the job that it had.
 */
export function startDemo(options: {
  url: string;
  log: Log;
  /** ms until it is started again after it was killed: long enough that people see its job go stale. */
  killedMs: number;
  onJob(jobId: string, pid: number): void;
}): RunningDemo {
  const { url, log, killedMs, onJob } = options;
  const folder = temporaryFolder();
  let child: ChildProcess | undefined;
  let timer: NodeJS.Timeout | undefined;
  let failures = 0;
  let stopped = false;

  const start = () => {
    const started = Date.now();
    // The same program with the same options of Node: built, or through a loader in development.
    const args = [...process.execArgv, process.argv[1] as string, "demo", "--url", url];
    args.push("--checkpoint", join(folder, "checkpoint"));
    child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    const { pid = 0 } = child;
    child.on("message", (jobId) => onJob(String(jobId), pid));
    child.on("error", (error) => log.warn({ err: error }, "the demo cannot be started"));
    if (child.stderr)
      createInterface({ input: child.stderr }).on("line", (line) => log.warn({ line }, "demo"));
    child.once("close", (code, signal) => {
      child = undefined;
      if (stopped) return;
      if (Date.now() - started > WELL_MS) failures = 0;
      const backoff = Math.min(RESTART_MS.longest, RESTART_MS.first * 2 ** failures++);
      const wait = signal === "SIGKILL" ? Math.max(killedMs, RESTART_MS.first) : backoff;
      log.warn({ code, signal, restart_ms: wait }, "the demo has ended");
      timer = setTimeout(start, wait);
    });
  };
  start();

  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      if (child) {
        const closed = once(child, "close");
        child.kill("SIGTERM");
        const late = setTimeout(() => child?.kill("SIGKILL"), END_MS);
        await closed;
        clearTimeout(late);
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
