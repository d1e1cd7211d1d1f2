/** `trainwire serve`: one hub until a signal ends it. */
import { Command } from "commander";
import { type Config, loadConfig } from "../config.ts";
import type { Log } from "../log.ts";
import { startDemo } from "./demo.ts";
import { collectGarbageEvenly } from "./garbage.ts";
import { tellHowToWatch } from "./invitation.ts";
import { onEnd, SAME_SIGNAL_MS } from "./signals.ts";

export function serveCommand(): Command {
  return new Command("serve")
    .description("start one hub; its settings come from the environment (README, Settings)")
    .option("--demo", "also run the demo trainer against it")
    .action(serve);
}

async function serve({ demo = false }: { demo?: boolean }): Promise<void> {
  const config = loadConfig();
  collectGarbageEvenly();
  // Only here: they take half a second that the other commands do not need.
  const { createLog } = await import("../log.ts");
  const { startHub } = await import("../server.ts");
  const root = createLog({ levels: config.logLevels });
  const running = await startHub(config, root);
  const log = root.module("hub");
  const store = config.redisUrl === undefined ? "in memory, for one process on one machine" : "Redis";
  const { url, metricsUrl } = running;
  const metrics = metricsUrl !== undefined && { metrics: `${metricsUrl}/metrics` };
  log.info({ url, instance: config.instanceId, store, ...metrics }, "trainwire is listening");
  const trainer = demo ? demoAt(loopback(running.url), config, log) : undefined;

  const end = async (signal: NodeJS.Signals) => {
    // Who ends a hub with SIGTERM has others, if they can be: with everything in memory there is nobody to go to.
    const drains = signal === "SIGTERM" && config.redisUrl !== undefined;
    const { drainMs, shutdownMs } = config;
    log.info({ signal, ...(drains && { drain_ms: drainMs }) }, drains ? "draining" : "closing");
    setTimeout(() => process.exit(1), shutdownMs + (drains ? drainMs : 0)).unref();
    await Promise.all([trainer?.stop(), drains && running.drain()]);
    if (drains) log.info("drained");
    await running.close();
    // A process that is about to end no longer catches the signal's double.
    await new Promise((resolve) => setTimeout(resolve, SAME_SIGNAL_MS));
  };
  // A second one does not wait.
  onEnd(
    (signal) => void end(signal),
    () => process.exit(130),
  );
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
      if (!told) tellHowToWatch(url, config, log, { ending: "Ctrl-C ends the hub and the demo." });
      told = true;
    },
  });
}

/** A hub that listens on every address is reached on this machine's own. */
function loopback(url: string): string {
  return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
}
