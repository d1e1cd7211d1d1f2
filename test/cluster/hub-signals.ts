/** Makes hubs do at a signal what no hub does by itself. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import { startProcess } from "../support/process.ts";
import { until } from "../support/until.ts";
import type { HubBuild } from "./hub-process.ts";
import type { SignalOrder } from "./on-signal.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PROGRAM = fileURLToPath(new URL("on-signal.ts", import.meta.url));

export class HubSignals {
  /** For the environment of processes that are to take orders. */
  readonly env: { NODE_OPTIONS: string; ON_SIGNAL: string };
  readonly #folder: TempFolder;

  private constructor(preload: string, folder: TempFolder) {
    this.#folder = folder;
    this.env = { NODE_OPTIONS: `--import ${pathToFileURL(preload)}`, ON_SIGNAL: folder.path };
  }

  /** Compiles the preload beside the build, so that hubs need no loader. */
  static async create({ main }: HubBuild): Promise<HubSignals> {
    const out = join(dirname(main), "../../../preload");
    const compiling = startProcess(
      join(ROOT, "node_modules/.bin/tsc"),
      [
        ...[
          "--ignoreConfig",
          "--target",
          "es2023",
          "--module",
          "nodenext",
          "--types",
          "node",
          "--skipLibCheck",
        ],
        ...["--outDir", out, PROGRAM],
      ],
      { cwd: ROOT },
    );
    const { code } = await compiling.exited;
    if (code !== 0) throw new Error(`the preload does not compile:\n${compiling.output.join("\n")}`);
    return new HubSignals(join(out, "on-signal.js"), tempFolder("orders"));
  }

  /** Heap and external bytes that are in use after two collections. */
  async memoryOf(pid: number): Promise<number> {
    const { heapUsed, external } = (await this.#give(pid, { do: "collect" })) as NodeJS.MemoryUsage;
    return heapUsed + external;
  }

  /** The same, when the process has also given back what it does not need. */
  async releasedMemoryOf(pid: number): Promise<number> {
    const { heapUsed, external } = (await this.#give(pid, { do: "release" })) as NodeJS.MemoryUsage;
    return heapUsed + external;
  }

  /** The event loop stands still for so long; resolves when it is over. */
  async spin(pid: number, ms: number): Promise<void> {
    await this.#give(pid, { do: "spin", ms });
  }

  remove(): void {
    this.#folder.remove();
  }

  async #give(pid: number, order: SignalOrder): Promise<unknown> {
    const answer = join(this.#folder.path, `${pid}.json`);
    rmSync(answer, { force: true });
    writeFileSync(join(this.#folder.path, "order.json"), JSON.stringify(order));
    process.kill(pid, "SIGUSR2");
    let said: string | undefined;
    await until(() => {
      said = read(answer);
      return said !== undefined;
    });
    return JSON.parse(said as string);
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
