/** What is measured, compiled: no loader in any process, the same flags for all of them. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildHub, type HubBuild } from "../test/cluster/hub-process.ts";
import { HubSignals } from "../test/cluster/hub-signals.ts";
import { startProcess } from "../test/support/process.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PEERS = ["ws", "socket-io", "socket-io-default", "socket-io-sharded", "socket-io-streams"] as const;

export type PeerProgram = (typeof PEERS)[number];

export interface Programs {
  readonly build: HubBuild;
  /** Collects garbage in processes that were started with its `env`. */
  readonly signals: HubSignals;
  /** Where each peer's compiled program is. */
  readonly peers: Readonly<Record<PeerProgram, string>>;
  remove(): void;
}

/** Takes some seconds. Whoever makes them removes them. */
export async function compilePrograms(): Promise<Programs> {
  const build = await buildHub();
  try {
    // Beside the build, where packages are found and files are modules.
    const folder = join(dirname(build.main), "../../../peers");
    const [signals] = await Promise.all([HubSignals.create(build), compilePeers(folder)]);
    return {
      build,
      signals,
      peers: Object.fromEntries(PEERS.map((name) => [name, join(folder, `${name}.js`)])) as Programs["peers"],
      remove() {
        signals.remove();
        build.remove();
      },
    };
  } catch (error) {
    build.remove();
    throw error;
  }
}

async function compilePeers(folder: string): Promise<void> {
  const compiling = startProcess(
    join(ROOT, "node_modules/.bin/tsc"),
    [
      ...["--ignoreConfig", "--target", "es2023", "--module", "nodenext", "--types", "node"],
      ...["--skipLibCheck", "--strict", "--rewriteRelativeImportExtensions"],
      ...["--rootDir", join(ROOT, "bench/peers"), "--outDir", folder],
      ...PEERS.map((name) => join(ROOT, "bench/peers", `${name}.ts`)),
    ],
    { cwd: ROOT },
  );
  const { code } = await compiling.exited;
  if (code !== 0) throw new Error(`the peers do not compile:\n${compiling.output.join("\n")}`);
}
