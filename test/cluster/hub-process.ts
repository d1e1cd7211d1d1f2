/** Hubs as processes of their own, from one build in a temporary folder: a start takes half a second, not two. */
import { cpSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { tempFolder } from "../support/cleanup.ts";
import { freePort } from "../support/ports.ts";
import { type Exit, type RunningProcess, startProcess } from "../support/process.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const START_LIMIT_MS = 30_000;
const LOOK_MS = 25;
/** Nobody waits longer for an end than `stop` does. */
const DEFAULTS: NodeJS.ProcessEnv = { TRAINWIRE_DRAIN_MS: "1000" };

export interface HubBuild {
  /** The compiled `src/cli/main.ts`. */
  readonly main: string;
  remove(): void;
}

/** Builds what `npm run build` builds, but not into the shared `dist`. Whoever makes it removes it. */
export async function buildHub(): Promise<HubBuild> {
  const folder = tempFolder("build");
  try {
    const compiler = join(ROOT, "node_modules/.bin/tsc");
    const dist = join(folder.path, "dist");
    const args = ["-p", join(ROOT, "tsconfig.build.json"), "--outDir", dist];
    const building = startProcess(compiler, args, { cwd: ROOT });
    const { code } = await building.exited;
    if (code !== 0) throw new Error(`the build fails:\n${building.output.join("\n")}`);
    cpSync(join(ROOT, "src/store/lua"), join(dist, "src/store/lua"), { recursive: true });
    cpSync(join(ROOT, "nginx.conf"), join(folder.path, "nginx.conf"));
    // Modules and their packages are looked for in the folders above the file.
    symlinkSync(join(ROOT, "node_modules"), join(folder.path, "node_modules"), "dir");
    cpSync(join(ROOT, "package.json"), join(folder.path, "package.json"));
    return { main: join(dist, "src/cli/main.js"), remove: () => folder.remove() };
  } catch (error) {
    folder.remove();
    throw error;
  }
}

export interface HubProcessOptions {
  build: HubBuild;
  name: string;
  /** Beside PORT, which stays the same over restarts. */
  env: NodeJS.ProcessEnv;
  /** How many files and sockets it may have open; default: as many as this process may. */
  openFiles?: number;
}

export class HubProcess {
  readonly name: string;
  readonly port: number;
  readonly url: string;
  /** Ends that nobody asked for, and ends that were asked for but went wrong. */
  readonly deaths: Exit[] = [];
  /** Lines of every process so far. */
  readonly output: string[] = [];
  readonly #options: HubProcessOptions;
  #process: RunningProcess | undefined;
  /** Processes that were told to end. */
  readonly #told = new Set<RunningProcess>();

  private constructor(port: number, options: HubProcessOptions) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.name = options.name;
    this.#options = options;
  }

  /** Of the running process. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Does not start it yet. */
  static async create(options: HubProcessOptions): Promise<HubProcess> {
    return new HubProcess(await freePort(), options);
  }

  /** Always on the same port; resolves when it serves. */
  async start(): Promise<void> {
    const { build, env, openFiles } = this.#options;
    const serve = [process.execPath, build.main, "serve"];
    // Both limits, the hard one too: Node raises the soft one to it.
    const limited = ["/bin/sh", "-c", `ulimit -n ${openFiles} && exec "$@"`, "sh", ...serve];
    const [command, ...args] = (openFiles === undefined ? serve : limited) as [string, ...string[]];
    const started = startProcess(command, args, {
      env: { ...DEFAULTS, ...env, PORT: String(this.port), TRAINWIRE_INSTANCE_ID: this.name },
    });
    this.#process = started;
    let ended = false;
    void started.exited.then((exit) => {
      ended = true;
      this.output.push(...started.output);
      if (!this.#told.has(started)) this.deaths.push(exit);
    });
    const limit = Date.now() + START_LIMIT_MS;
    while (!(await this.#serves())) {
      if (ended || Date.now() > limit) {
        throw new Error(`${this.name} does not serve:\n${started.output.join("\n")}`);
      }
      await sleep(LOOK_MS);
    }
  }

  /** As a crash: no time for a last word. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** As an operator ends it. */
  async stop(): Promise<void> {
    const exit = await this.#end("SIGTERM");
    if (exit && exit.code !== 0) this.deaths.push(exit);
  }

  /** It does nothing any more, and nobody is told: connections stay open. */
  pause(): void {
    this.#process?.signal("SIGSTOP");
  }

  resume(): void {
    this.#process?.signal("SIGCONT");
  }

  async #end(signal: NodeJS.Signals): Promise<Exit | undefined> {
    const ending = this.#process;
    if (!ending) return undefined;
    this.#process = undefined;
    this.#told.add(ending);
    return await ending.stop(signal);
  }

  async #serves(): Promise<boolean> {
    try {
      const response = await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(2_000) });
      return response.ok && ((await response.json()) as { status: string }).status === "ok";
    } catch {
      return false;
    }
  }
}
