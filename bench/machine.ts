/** What a run was made on, and with. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGES = [
  "socket.io",
  "@socket.io/redis-adapter",
  "@socket.io/redis-streams-adapter",
  "ws",
  "ioredis",
] as const;

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  /** Processes that wanted a core in the minute before. */
  readonly load: number;
}

export function machineOf(): Machine {
  const all = cpus();
  return {
    cpu: all[0]?.model.trim() ?? "unknown",
    cores: all.length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    load: Math.round((loadavg()[0] as number) * 10) / 10,
  };
}

/** Node, Redis and packages → version. */
export function versionsOf(): Record<string, string> {
  const installed = PACKAGES.map((name) => {
    const manifest = readFileSync(`${ROOT}/node_modules/${name}/package.json`, "utf8");
    return [name, (JSON.parse(manifest) as { version: string }).version];
  });
  const [, redis = "unknown"] = /v=(\S+)/.exec(said("redis-server", ["--version"]) ?? "") ?? [];
  return { node: process.versions.node, redis, ...Object.fromEntries(installed) };
}

/** Of the working tree, with `+` when it has changes; `undefined` outside of a repository. */
export function commitOf(): string | undefined {
  const commit = said("git", ["rev-parse", "--short", "HEAD"]);
  if (!commit) return undefined;
  return said("git", ["status", "--porcelain", "--untracked-files=no"]) ? `${commit}+` : commit;
}

function said(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined;
  }
}
