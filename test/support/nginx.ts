/** nginx with the project's own nginx.conf, on a free loopback port in a folder of its own. */
import { readFileSync } from "node:fs";
import { type HubAddress, nginxArgs, writeConf } from "../../src/cluster/nginx.ts";
import { type TempFolder, tempFolder } from "./cleanup.ts";
import { freePort } from "./ports.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { until } from "./until.ts";

export class NginxServer {
  readonly url: string;
  readonly #folder: TempFolder;
  readonly #process: RunningProcess;

  private constructor(url: string, folder: TempFolder, running: RunningProcess) {
    this.url = url;
    this.#folder = folder;
    this.#process = running;
  }

  /** Resolves when it answers. Hubs need not be there yet. */
  static async start(hubs: readonly HubAddress[]): Promise<NginxServer> {
    const port = await freePort();
    const folder = tempFolder("nginx");
    writeConf(folder.path, hubs, `127.0.0.1:${port}`);
    const running = startProcess("nginx", nginxArgs(folder.path));
    const server = new NginxServer(`http://127.0.0.1:${port}`, folder, running);
    let ended = false;
    void running.exited.then(() => {
      ended = true;
    });
    await until(async () => {
      if (ended) throw new Error(`nginx does not start:\n${running.output.join("\n")}`);
      return await server.#answers();
    });
    return server;
  }

  /** Pids of the workers, also of old ones that are about to end. */
  get workers(): number[] {
    return childrenOf(this.#process.pid);
  }

  /** Resolves when the old workers have gone, with the connections that they had. */
  async reload(): Promise<void> {
    const old = this.workers;
    this.#process.signal("SIGHUP");
    await until(() => this.workers.every((pid) => !old.includes(pid)) && this.workers.length > 0);
  }

  /** Resolves when there is another one instead. */
  async killWorker(pid: number): Promise<void> {
    const { length } = this.workers;
    process.kill(pid, "SIGKILL");
    await until(() => !this.workers.includes(pid) && this.workers.length === length);
  }

  async stop(): Promise<void> {
    await this.#process.stop();
    this.#folder.remove();
  }

  async #answers(): Promise<boolean> {
    try {
      await fetch(this.url, { signal: AbortSignal.timeout(1_000) });
      return true;
    } catch {
      return false;
    }
  }
}

/** Pids of a process's children. */
export function childrenOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return children.split(" ").filter(Boolean).map(Number);
}
