import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface LeftProcess {
  pid: number;
  command: string;
}

/**
 * Processes that have `mark` in their environment, command line or working folder, and are still there after `graceMs`.
 * The mark is a path that only one run of the tests uses, so a second run beside it is not seen; descendants are
 * found even when their parents are gone.
 */
export async function processesLeft(mark: string, graceMs = 5_000): Promise<LeftProcess[]> {
  const deadline = Date.now() + graceMs;
  for (;;) {
    const left = process.platform === "linux" ? fromProc(mark) : fromPs(mark);
    if (left.length === 0 || Date.now() >= deadline) return left;
    await sleep(50);
  }
}

function fromProc(mark: string): LeftProcess[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return pids.flatMap((pid) => {
    const commandLine = attempt(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"));
    const environment = attempt(() => readFileSync(`/proc/${pid}/environ`, "utf8"));
    const folder = attempt(() => readlinkSync(`/proc/${pid}/cwd`));
    if (![commandLine, environment, folder].some((text) => text.includes(mark))) return [];
    return [{ pid: Number(pid), command: commandLine.replaceAll("\0", " ").trim() }];
  });
}

/** Another user's process, or one that has just ended: not ours. */
function attempt(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

/** macOS: `-E` appends the environment to the command line. */
function fromPs(mark: string): LeftProcess[] {
  const list = execFileSync("ps", ["-AEww", "-o", "pid=,command="], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  return list.split("\n").flatMap((line) => {
    const [, pid, command] = line.match(/^\s*(\d+)\s+(.*)$/) ?? [];
    if (!pid || !command?.includes(mark) || Number(pid) === process.pid) return [];
    return [{ pid: Number(pid), command: command.slice(0, 200) }];
  });
}
