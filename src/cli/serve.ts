/** `trainwire serve`: one hub until a signal ends it. */
import { styleText } from "node:util";
import { Command } from "commander";
import { type Config, loadConfig } from "../config.ts";
import type { Log } from "../log.ts";
import { startDemo } from "./demo.ts";

export function serveCommand(): Command {
  return new Command("serve")
    .description("start one hub; its settings come from the environment (README, Settings)")
    .option("--demo", "also run the demo trainer against it")
    .action(serve);
}

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"];
/** The terminal sends Ctrl-C to npm and to us, and npm passes its own on: what comes so soon is the same signal. */
const SAME_SIGNAL_MS = 500;

async function serve({ demo = false }: { demo?: boolean }): Promise<void> {
  const config = loadConfig();
  // Only here: they take half a second that the other commands do not need.
  const { createLog } = await import("../log.ts");
  const { startHub } = await import("../server.ts");
  const log = createLog({ level: config.logLevel });
  const running = await startHub(config, log);
  const store = config.redisUrl === undefined ? "in memory, for one process on one machine" : "Redis";
  log.info({ url: running.url, instance: config.instanceId, store }, "trainwire is listening");
  const trainer = demo ? demoAt(loopback(running.url), config, log) : undefined;

  let endedAt: number | undefined;
  const end = async (signal: NodeJS.Signals) => {
    log.info({ signal }, "closing");
    const late = setTimeout(() => process.exit(1), config.shutdownMs).unref();
    await trainer?.stop();
    await running.close();
    // A process that is about to end no longer catches the signal's double.
    await new Promise((resolve) => setTimeout(resolve, SAME_SIGNAL_MS));
    clearTimeout(late);
  };
  for (const name of SIGNALS) {
    process.on(name, (signal) => {
      if (endedAt === undefined) {
        endedAt = Date.now();
        void end(signal);
      } else if (Date.now() - endedAt > SAME_SIGNAL_MS) process.exit(130); // a second one does not wait
    });
  }
}

/** So long the job of a demo that was killed stays stale before the next process takes it up. */
const SEEN_STALE_MS = 5_000;

function demoAt(url: string, config: Config, log: Log) {
  let told = false;
  return startDemo({
    url,
    log,
    killedMs: config.staleMs + SEEN_STALE_MS,
    onJob(jobId, pid) {
      log.info({ job_id: jobId, demo_pid: pid }, "the demo trains");
      if (!told) tellHowToWatch(url, config, log);
      told = true;
    },
  });
}

/** Where `watch` looks when it is not told. */
const USUAL_URL = "http://127.0.0.1:3000";

function tellHowToWatch(url: string, { jwtSecret }: Config, log: Log): void {
  const command = `npx trainwire watch${url === USUAL_URL ? "" : ` --url ${url}`}`;
  if (!process.stdout.isTTY) {
    log.info({ command }, `to watch it: ${command}`);
    return;
  }
  const where = jwtSecret === undefined ? "in this folder" : "with the same JWT_SECRET";
  const line = (text = "") => console.log(`  ${text}`.trimEnd());
  line();
  line(`To watch it, type in a second terminal, ${where}:`);
  line();
  line(`    ${styleText(["bold", "cyan"], command)}`);
  line();
  line(styleText("dim", "Ctrl-C ends the hub and the demo."));
  line();
}

/** A hub that listens on every address is reached on this machine's own. */
function loopback(url: string): string {
  return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
}
