/** What the tests need from the system besides npm packages: found on the PATH, or installed where apt-get may be used. */
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";

export interface Requirement {
  /** The names a system may have it under, the usual one first. Absolute paths are looked at as they are. */
  commands: readonly [string, ...string[]];
  /** Package of Debian. */
  debian: string;
  /** Formula of Homebrew. */
  brew: string;
  version?: {
    args: readonly string[];
    atLeast: string;
  };
}

export const REQUIREMENTS: readonly Requirement[] = [
  {
    commands: ["redis-server"],
    debian: "redis-server",
    brew: "redis",
    version: { args: ["--version"], atLeast: "7.0" },
  },
  {
    commands: ["nginx"],
    debian: "nginx",
    brew: "nginx",
    version: { args: ["-v"], atLeast: "1.22" },
  },
  // Of either generation, in Python or Go. Only `config` is asked of it, which needs no engine.
  {
    commands: ["docker-compose"],
    debian: "docker-compose",
    brew: "docker-compose",
    version: { args: ["version", "--short"], atLeast: "1.29" },
  },
];

/** The machine, as far as `ensure` asks it. */
export interface System {
  /** The full path of a command, if it is there. */
  find(command: string): string | undefined;
  /** What the command says about its version. */
  run(path: string, args: readonly string[]): string;
  hasApt(): boolean;
  isRoot(): boolean;
  /** Whether sudo works without a question. */
  hasSudo(): boolean;
  /** Installs packages of Debian; returns whether that worked. */
  install(packages: readonly string[], withSudo: boolean): boolean;
}

/** Its message is one line that says what to install. */
export class MissingRequirements extends Error {}

/** Installs what is missing, or throws `MissingRequirements`. Returns one line for each requirement: what was found. */
export function ensure(requirements: readonly Requirement[], system: System = thisSystem): string[] {
  const missing = requirements.filter((requirement) => !look(requirement, system).ok);
  if (missing.length > 0 && system.hasApt() && (system.isRoot() || system.hasSudo())) {
    const packages = missing.map(({ debian }) => debian);
    system.install(packages, !system.isRoot());
  }
  const now = requirements.map((requirement) => ({ requirement, ...look(requirement, system) }));
  const lacking = now.filter(({ ok }) => !ok);
  if (lacking.length > 0) {
    const list = (each: (requirement: Requirement) => string) =>
      lacking.map(({ requirement }) => each(requirement)).join(" ");
    throw new MissingRequirements(
      `Missing: ${lacking.map(({ line }) => line).join(", ")}. ` +
        `On Debian: sudo apt-get install ${list(({ debian }) => debian)}. ` +
        `On macOS: brew install ${list(({ brew }) => brew)}.`,
    );
  }
  return now.map(({ line }) => line);
}

function look({ commands, version }: Requirement, system: System): { ok: boolean; line: string } {
  const path = commands.map((command) => system.find(command)).find((found) => found !== undefined);
  const wanted = version ? `${commands[0]} >= ${version.atLeast}` : commands[0];
  if (!path) return { ok: false, line: wanted };
  if (!version) return { ok: true, line: path };
  const found = system.run(path, version.args).match(/\d+(?:\.\d+)+/)?.[0] ?? "of no known version";
  if (!atLeast(found, version.atLeast)) return { ok: false, line: `${wanted} (${path} is ${found})` };
  return { ok: true, line: `${path} ${found}` };
}

function atLeast(found: string, wanted: string): boolean {
  const has = found.split(".").map(Number);
  const needs = wanted.split(".").map(Number);
  for (const [index, needed] of needs.entries()) {
    const part = has[index] ?? 0;
    if (part !== needed) return part > needed;
  }
  return true;
}

/** Where Debian puts servers, and leaves it out of the PATH of ordinary users. */
const SBIN = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** The PATH on which the tests find what `ensure` found. */
export function searchPath(path = process.env.PATH ?? ""): string {
  const folders = path.split(delimiter);
  return [...folders, ...SBIN.filter((folder) => !folders.includes(folder))].join(delimiter);
}

/**
 * Run by root. Debian starts and enables the service of a new package, here a Redis on 6379 that outlives the tests;
 * policy-rc.d is Debian's own way to refuse the start, and an administrator's is left alone. The lock is held on a folder,
 * so that two runs do not meet and no lock file stays behind.
 */
const INSTALL = `
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' HUP TERM
  printf '#!/bin/sh\\nexit 101\\n' > "$policy"
  chmod 755 "$policy"
fi
fresh=
for package in "$@"; do
  dpkg-query -W -f '\${Status}' "$package" 2> /dev/null | grep -q ' installed$' || fresh="$fresh $package"
done
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo 'apt-get update failed; going on with the lists that are there'
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
if command -v systemctl > /dev/null; then
  for package in $fresh; do
    systemctl disable --quiet "$package" 2> /dev/null || true
  done
fi
`;

export const thisSystem: System = {
  find(command) {
    const places = isAbsolute(command)
      ? [command]
      : searchPath()
          .split(delimiter)
          .map((folder) => join(folder, command));
    return places.find(isExecutable);
  },
  run(path, args) {
    const { stdout, stderr } = spawnSync(path, args, { encoding: "utf8" });
    return `${stdout}${stderr}`;
  },
  hasApt() {
    return this.find("apt-get") !== undefined;
  },
  isRoot() {
    return process.getuid?.() === 0;
  },
  hasSudo() {
    return spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0;
  },
  install(packages, withSudo) {
    const lock = ["flock", "--close", "/var/lib/dpkg", "sh", "-c", INSTALL, "install", ...packages];
    const [command, ...args] = withSudo ? ["sudo", "-n", ...lock] : lock;
    console.log(`Installing ${packages.join(" ")} with apt-get`);
    const path = searchPath();
    return spawnSync(command!, args, { stdio: "inherit", env: { ...process.env, PATH: path } }).status === 0;
  },
};

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
