/** A server of one process that takes PORT and REDIS_URL from its environment: each peer, and external ones. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../test/support/ports.ts";
import { type Exit, type RunningProcess, startProcess } from "../test/support/process.ts";
import type { ServerProcess } from "./system.ts";

const START_LIMIT_MS = 30_000;
const LOOK_MS = 20;
/** For what it has started itself; then it is killed. */
const STOP_GRACE_MS = 3_000;

export interface ServerCommand {
  command: string;
  args: readonly string[];
  env: NodeJS.ProcessEnv;
}

export class StartedServer implements ServerProcess {
  readonly pid: number;
  readonly url: string;
  /** Never rejects. */
  readonly exited: Promise<Exit>;
  readonly #process: RunningProcess;

  #ended = false;

  private constructor(url: string, running: RunningProcess) {
    this.url = url;
    this.pid = running.pid;
    this.#process = running;
    this.exited = running.exited.then((exit) => {
      this.#ended = true;
      return exit;
    });
  }

  /** Resolves when its port answers. */
  static async start({ command, args, env }: ServerCommand): Promise<StartedServer> {
    const port = await freePort();
    const running = startProcess(command, args, { env: { ...env, PORT: String(port) } });
    const server = new StartedServer(`http://127.0.0.1:${port}`, running);
    const limit = Date.now() + START_LIMIT_MS;
    while (!(await answers(port))) {
      if (server.#ended || Date.now() > limit) {
        await running.stop("SIGKILL");
        throw new Error(`${command} ${args.join(" ")} does not listen:\n${running.output.join("\n")}`);
      }
      await sleep(LOOK_MS);
    }
    return server;
  }

  /** Throws when it has ended by itself before. */
  async stop(): Promise<void> {
    const early = this.#ended;
    const { signal, code } = await this.#process.stop("SIGTERM", STOP_GRACE_MS);
    if (!early) return;
    throw new Error(
      `${this.url} has ended by itself (${signal ?? code}):\n${this.#process.output.join("\n")}`,
    );
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const tell = (open: boolean) => {
      socket.destroy();
      resolve(open);
    };
    socket.once("connect", () => tell(true));
    socket.once("error", () => tell(false));
  });
}
