/**
 * `trainwire cluster`: Redis, several hubs and nginx on this machine. Exit codes: 0 ended by a signal, 1 it did not start
 * or a process died, 130 ended by a second signal.
 */
import { isatty } from "node:tty";
import { Command, InvalidArgumentError } from "commander";
import type { Cluster } from "../cluster/cluster.ts";
import { type Config, environment, loadConfig } from "../config.ts";
import type { Log } from "../log.ts";
import { tellHowToWatch } from "./invitation.ts";
import { onEnd } from "./signals.ts";

interface Options {
  replicas: number;
  port: number;
  restart?: boolean;
}

const LARGEST_CLUSTER = 16;

export function clusterCommand(): Command {
  return new Command("cluster")
    .description("start Redis, several hubs, and nginx in front of them, on this machine alone")
    .option("--replicas <n>", `how many hubs, 1 to ${LARGEST_CLUSTER}`, replicas, 3)
    .option("--port <port>", "where nginx listens on 127.0.0.1; 0 takes any free port", port, 8_080)
    .option("--restart", "start again what dies, instead of ending everything")
    .addHelpText("after", HELP)
    .action(cluster);
}

const HELP = `
redis-server and nginx must be installed. All of it is gone when it ends, also what was stored. Hubs take their settings
from the environment, but for PORT, HOST, REDIS_URL, TRAINWIRE_INSTANCE_ID, TRAINWIRE_METRICS_PORT and
TRAINWIRE_TRUSTED_PROXIES.

SIGINT (Ctrl-C) ends it, SIGTERM too, after the hubs have drained; a second one kills. SIGHUP restarts the hubs, one
after the other. Exit codes: 0 ended by a signal, 1 not started or a process died, 130 ended by a second signal.`;

/** Beyond what hubs allow themselves. */
const GRACE_MS = 5_000;

async function cluster({ replicas, port, restart = false }: Options): Promise<void> {
  // Only here: other commands do not need them.
  const [{ createLines, createLog }, { Cluster }, { hubSettings }] = await Promise.all([
    import("../log.ts"),
    import("../cluster/cluster.ts"),
    import("../cluster/parts.ts"),
  ]);
  const env = environment();
  const config = loadConfig({ ...env, ...hubSettings("redis://127.0.0.1"), PORT: undefined });
  const root = createLog({ levels: config.logLevels });
  const log = root.module("cluster");
  const lines = createLines({});
  const signals = new Signals(log);
  const running = await Cluster.start({
    // The same program with the same options of Node: built, or through a loader in development.
    command: [process.execPath, ...process.execArgv, process.argv[1] as string],
    replicas,
    port,
    restart,
    env,
    hubGraceMs: config.drainMs + config.shutdownMs + GRACE_MS,
    log: root,
    line: (hub, line) => passOn(hub, line, log, lines),
    signal: signals.ended,
  }).catch((error) => {
    if (!signals.ended.aborted) throw error;
  });
  if (!running) return;
  tell(running, config, log);
  await signals.serve(running);
}

/** Lines of JSON get the hub's name; what else a hub says (a crash, a warning of Node) becomes one. */
function passOn(hub: string, line: string, log: Log, lines: { write(line: string): void }): void {
  if (/^\{"/.test(line) && line.endsWith("}"))
    lines.write(`{"name":${JSON.stringify(hub)},${line.slice(1)}\n`);
  else log.warn({ name: hub, line }, "said");
}

function tell({ url, hubs, folder }: Cluster, config: Config, log: Log): void {
  log.info({ url, hubs: hubs.map(({ name }) => name), folder }, "trainwire cluster is listening");
  tellHowToWatch(url, config, log, {
    before: ["demo"],
    ending: `Ctrl-C ends all of it; kill -HUP ${process.pid} restarts the hubs, one after the other.`,
  });
}

/** What signals mean: before it runs, while it runs, and while it ends. */
class Signals {
  readonly #end = new AbortController();
  readonly #log: Log;
  /** Standard streams that are a terminal. */
  readonly #terminals = [0, 1, 2].filter((fd) => isatty(fd));
  #first: NodeJS.Signals | undefined;
  #running: Cluster | undefined;

  constructor(log: Log) {
    this.#log = log;
    onEnd(
      (signal) => this.#told(signal),
      () => this.#kill(),
    );
    process.on("SIGHUP", () => {
      // A terminal that was closed says the same as an operator.
      if (this.#terminals.some((fd) => !isatty(fd))) this.#told("SIGTERM");
      else this.#roll();
    });
  }

  /** Aborted by the first signal to end. */
  get ended(): AbortSignal {
    return this.#end.signal;
  }

  /** Until a signal or a death ends it; then all of it is ended, and the exit code is set. */
  async serve(running: Cluster): Promise<void> {
    this.#running = running;
    const told = new Promise<undefined>((resolve) => {
      if (this.ended.aborted) resolve(undefined);
      this.ended.addEventListener("abort", () => resolve(undefined));
    });
    const reason = await Promise.race([running.failed, told]);
    if (reason !== undefined) {
      this.#log.fatal(reason);
      process.exitCode = 1;
    }
    await running.close(this.#first === "SIGINT" ? "SIGINT" : "SIGTERM");
  }

  #told(signal: NodeJS.Signals): void {
    if (this.#first) this.#kill();
    else {
      this.#first = signal;
      this.#log.info({ signal }, "closing");
      this.#end.abort();
    }
  }

  #kill(): void {
    process.exitCode = 130;
    // While it starts there is nothing to kill by hand: what has been started is ended when this process is gone.
    if (this.#running) this.#running.kill();
    else process.exit();
  }

  #roll(): void {
    this.#running?.rollingRestart().catch((error) => this.#log.error({ err: error }, "rolling restart"));
  }
}

function replicas(text: string): number {
  const value = Number(text);
  if (/^\d{1,2}$/.test(text) && value >= 1 && value <= LARGEST_CLUSTER) return value;
  throw new InvalidArgumentError(`a whole number from 1 to ${LARGEST_CLUSTER} is wanted.`);
}

function port(text: string): number {
  const value = Number(text);
  if (/^\d{1,5}$/.test(text) && value <= 65_535) return value;
  throw new InvalidArgumentError("a port from 0 to 65535 is wanted.");
}
