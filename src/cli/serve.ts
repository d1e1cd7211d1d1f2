/** `trainwire serve`: one hub until a signal ends it. */
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { createLog } from "../log.ts";
import { startHub } from "../server.ts";
import { startDemo } from "./demo.ts";

export function serveCommand(): Command {
  return new Command("serve")
    .description("start one hub; its settings come from the environment (README, Settings)")
    .option("--demo", "also run the demo trainer against it")
    .action(serve);
}

async function serve({ demo = false }: { demo?: boolean }): Promise<void> {
  const config = loadConfig();
  const log = createLog({ level: config.logLevel });
  const running = await startHub(config, log);
  const store = config.redisUrl === undefined ? "embedded store, for one process on one machine" : "Redis";
  log.info({ url: running.url, instance: config.instanceId, store }, "trainwire is listening");
  const trainer = demo ? startDemo(running.url, config, log) : undefined;

  const end = async (signal: NodeJS.Signals) => {
    // A second signal does not wait.
    for (const name of SIGNALS) process.removeAllListeners(name).once(name, () => process.exit(130));
    log.info({ signal }, "closing");
    const late = setTimeout(() => process.exit(1), config.shutdownMs).unref();
    await trainer?.stop();
    await running.close();
    clearTimeout(late);
  };
  for (const signal of SIGNALS) process.once(signal, () => void end(signal));
}

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"];
