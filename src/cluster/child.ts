/** A process that leads a group of its own: the terminal's Ctrl-C does not reach it, and what it has started goes with it. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Output } from "./output.ts";
import type { Reaper } from "./reaper.ts";

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface Program {
  command: string;
  args: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  /** Default: this process's own. */
  cwd?: string;
  /** Where what it writes goes: to a file, or line by line. */
  output: Output | ((line: string) => void);
}

export class Child {
  readonly pid: number;
  /** Never rejects. */
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;

  /** @throws Error when there is no such program. */
  constructor({ command, args, env, cwd, output }: Program, reaper: Reaper) {
    const file = typeof output === "function" ? undefined : output.open();
    const written = file ?? "pipe";
    this.#process = spawn(command, args, { env, cwd, detached: true, stdio: ["ignore", written, written] });
    if (file !== undefined) closeSync(file);
    this.#process.on("error", () => {}); // it has no pid then
    const { pid } = this.#process;
    if (pid === undefined) throw new Error(`${command} cannot be started.`);
    this.pid = pid;
    reaper.add(pid);
    this.#process.once("exit", () => {
      this.#signalGroup("SIGKILL"); // workers of an nginx that was killed go on without it
      reaper.remove(pid);
    });
    // Its last words are read by then.
    this.exited = new Promise((resolve) => {
      this.#process.once("close", (code, signal) => resolve({ code, signal }));
    });
    if (typeof output === "function") {
      for (const stream of [this.#process.stdout, this.#process.stderr]) {
        if (stream)
          createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on("line", output);
      }
    }
  }

  /** Sends a signal to the process alone, and does not wait. */
  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** A signal, and SIGKILL when it is still there `graceMs` later. */
  async stop(signal: "SIGTERM" | "SIGINT", graceMs: number): Promise<Exit> {
    this.signal(signal);
    this.signal("SIGCONT"); // a paused process does not see the signal before
    const late = setTimeout(() => this.kill(), graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(late);
    }
  }

  /** At once, with all that it has started. */
  kill(): void {
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#signalGroup("SIGKILL");
  }

  #signalGroup(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, signal);
    } catch {
      // Nothing of it is left.
    }
  }
}
