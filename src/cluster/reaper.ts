/**
 * Ends what this process has started when this process can no longer do that itself: killed with SIGKILL, it has no last
 * word. A shell in a session of its own, out of the reach of the terminal's Ctrl-C, reads from a pipe which process groups
 * there are. The kernel closes the pipe when its other end is gone, however that went.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** POSIX; $1 is the folder. After TERM, groups have two seconds. */
const SCRIPT = `
trap '' HUP INT TERM
PATH=/usr/bin:/bin
groups=
while read -r word group; do
  rest=
  for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done
  groups=$rest
  [ "$word" = add ] && groups="$groups $group"
done
tell() { for each in $groups; do kill -"$1" -"$each"; done 2> /dev/null; }
left() { for each in $groups; do kill -0 -"$each" && return; done 2> /dev/null; return 1; }
tell TERM
tell CONT
count=0
while left && [ $count -lt 20 ]; do sleep 0.1; count=$((count + 1)); done
tell KILL
count=0
until rm -rf "$1" 2> /dev/null || [ $count -ge 20 ]; do sleep 0.1; count=$((count + 1)); done
`;

export class Reaper {
  readonly #folder: string;
  readonly #groups = new Set<number>();
  #shell: ChildProcess;
  #ending = false;

  /** `folder` is removed after the last group has ended. */
  constructor(folder: string) {
    this.#folder = folder;
    this.#shell = this.#start();
  }

  /** Its process, which ends after this one. */
  get pid(): number | undefined {
    return this.#shell.pid;
  }

  /** `group`: the pid of a process that leads a group. */
  add(group: number): void {
    this.#groups.add(group);
    this.#shell.stdin?.write(`add ${group}\n`);
  }

  /** It has ended: its number may soon be another's. */
  remove(group: number): void {
    this.#groups.delete(group);
    this.#shell.stdin?.write(`remove ${group}\n`);
  }

  /** Has it end what is left, and the folder removed. Resolves when that is done. */
  async end(): Promise<void> {
    this.#ending = true;
    const { exitCode, signalCode } = this.#shell;
    if (exitCode !== null || signalCode !== null) return;
    const ended = once(this.#shell, "exit");
    this.#shell.stdin?.end();
    await ended;
  }

  #start(): ChildProcess {
    const shell = spawn("/bin/sh", ["-c", SCRIPT, "trainwire-reaper", this.#folder], {
      cwd: "/",
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    shell.on("error", () => {});
    shell.stdin.on("error", () => {}); // it was killed; the next one hears of all
    shell.once("exit", () => {
      if (this.#ending) return;
      this.#shell = this.#start();
      for (const group of this.#groups) this.#shell.stdin?.write(`add ${group}\n`);
    });
    return shell;
  }
}
