/** Redis servers of the tests' own: each on a free loopback port, in a fresh folder, without persistence unless asked. */
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { tempFolder } from "./cleanup.ts";
import { CLUSTER_BUS_OFFSET, freePort } from "./ports.ts";
import { type Exit, type RunningProcess, startProcess } from "./process.ts";

export interface RedisOptions {
  /** A cluster of this one node, which holds all slots. */
  cluster?: boolean;
  /** Further settings; they win over the ones here, e.g. `["--appendonly", "yes"]`. */
  args?: readonly string[];
}

/** Somebody else listens on the port. */
class PortTaken extends Error {}

const START_LIMIT_MS = 15_000;

export class RedisServer {
  readonly port: number;
  /** For ioredis. */
  readonly url: string;
  readonly #options: RedisOptions;
  readonly #folder = tempFolder("redis");
  #process: RunningProcess | undefined;

  constructor(port: number, options: RedisOptions = {}) {
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.#options = options;
  }

  /** Data and, in a cluster, `nodes.conf`. */
  get folder(): string {
    return this.#folder.path;
  }

  /** Of the running server; throws when there is none. */
  get pid(): number {
    return this.#running().pid;
  }

  /** The log of the running server. */
  get output(): readonly string[] {
    return this.#running().output;
  }

  /** Starts it, again after `kill` on the same port and folder; answers when it serves commands. */
  async start(): Promise<void> {
    if (this.#process) throw new Error(`Redis on port ${this.port} runs already`);
    const { cluster = false, args = [] } = this.#options;
    const started = startProcess("redis-server", [
      ...["--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.folder],
      ...["--save", "", "--appendonly", "no"],
      ...["--enable-debug-command", "local"], // DEBUG SLEEP, DEBUG RELOAD
      ...["--set-proc-title", "no"], // a title overwrites the environment that the left-behind check reads
      // Without an address of its own a lone node answers CLUSTER SLOTS with an empty one, which ioredis skips.
      ...(cluster ? ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"] : []),
      ...args,
    ]);
    this.#process = started;
    const client = new Redis(this.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
    client.on("error", () => {}); // refused until the server listens
    const given = new AbortController();
    try {
      await Promise.race([
        this.#serves(client, started),
        started.exited.then(() => Promise.reject(failedStart(this.port, started))),
        sleep(START_LIMIT_MS, undefined, { signal: given.signal }).then(() => {
          throw new Error(`Redis on port ${this.port} does not answer:\n${started.output.join("\n")}`);
        }),
      ]);
    } catch (error) {
      await this.kill("SIGKILL");
      throw error;
    } finally {
      given.abort();
      client.disconnect();
    }
  }

  async #serves(client: Redis, started: RunningProcess): Promise<void> {
    await client.ping();
    const info = await client.info("server");
    // Two servers may have raced for the port: the one that answers must be ours.
    if (!info.includes(`process_id:${started.pid}\r\n`)) throw new PortTaken(`port ${this.port} is taken`);
    if (!this.#options.cluster) return;
    if ((await client.cluster("INFO")).includes("cluster_slots_assigned:0\r\n")) {
      await client.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    }
    while (!(await client.cluster("INFO")).includes("cluster_state:ok")) await sleep(20);
  }

  /** Ends the server at once, or in good order with SIGTERM; port and folder stay for `start`. */
  async kill(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<Exit | undefined> {
    const exit = await this.#process?.stop(signal);
    this.#process = undefined;
    return exit;
  }

  /** Stops answering, as a server does that swaps or whose machine hangs; connections stay open. */
  pause(): void {
    this.#running().signal("SIGSTOP");
  }

  resume(): void {
    this.#running().signal("SIGCONT");
  }

  /** What was not persisted is lost; what was (`args`) is kept. */
  async restart(signal: "SIGKILL" | "SIGTERM" = "SIGTERM"): Promise<void> {
    await this.kill(signal);
    await this.start();
  }

  /** Ends the server for good and removes its folder. */
  async stop(): Promise<void> {
    await this.kill("SIGTERM");
    this.#folder.remove();
  }

  #running(): RunningProcess {
    if (!this.#process) throw new Error(`Redis on port ${this.port} does not run`);
    return this.#process;
  }
}

function failedStart(port: number, started: RunningProcess): Error {
  const log = started.output.join("\n");
  if (
    /Address already in use|Could not create server TCP listening socket|Failed listening on port/.test(log)
  ) {
    return new PortTaken(`port ${port} is taken`);
  }
  return new Error(`Redis on port ${port} did not start:\n${log}`);
}

/** A running server; whoever starts it calls `stop`. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(options.cluster ? [CLUSTER_BUS_OFFSET] : []);
    const server = new RedisServer(port, options);
    try {
      await server.start();
      return server;
    } catch (error) {
      await server.stop();
      if (!(error instanceof PortTaken) || attempt === 10) throw error;
    }
  }
}
