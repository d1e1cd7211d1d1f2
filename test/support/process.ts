import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { undoAtExit } from "./cleanup.ts";

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface RunningProcess {
  readonly pid: number;
  /** Lines of both standard streams so far, in the order of their arrival. */
  readonly output: readonly string[];
  /** Never rejects; the output is complete by then. */
  readonly exited: Promise<Exit>;
  /**
   * The first line that matches, be it there already or still to come. Rejects with the end of the output after `ms`
   * (10 000 by default), or when the process ends without that line.
   *
   * @param after lines of `output` to skip, for a line that comes more than once
   */
  waitForLine(pattern: RegExp, ms?: number, after?: number): Promise<RegExpMatchArray>;
  /** Sends a signal and does not wait. */
  signal(signal: NodeJS.Signals): void;
  /** Ends the process: with the signal (SIGTERM by default), and with SIGKILL when it is still there `graceMs` (10 000) later. */
  stop(signal?: NodeJS.Signals, graceMs?: number): Promise<Exit>;
}

export interface ProcessOptions {
  /** Added to the environment of the test process; `undefined` takes a variable out. */
  env?: NodeJS.ProcessEnv;
  cwd?: string;
}

/** How long a grandchild may hold the output open after the process itself has ended. */
const OUTPUT_GRACE_MS = 1_000;

/** Starts a program. It ends with the test process at the latest; whoever starts it calls `stop`. */
export function startProcess(
  command: string,
  args: readonly string[] = [],
  options: ProcessOptions = {},
): RunningProcess {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.on("error", () => {}); // a failed start shows as a missing pid
  const pid = child.pid;
  if (pid === undefined) throw new Error(`cannot start ${command}: is it on the PATH?`);
  const forget = undoAtExit(`process ${pid} (${command})`, () => child.kill("SIGKILL"));

  const output: string[] = [];
  const watchers = new Set<() => void>();
  const collect = (line: string) => {
    output.push(line);
    for (const watcher of watchers) watcher();
  };
  const drained = Promise.all([lines(child.stdout, collect), lines(child.stderr, collect)]);

  let ended = false;
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", async (code, signal) => {
      forget();
      await atMost(OUTPUT_GRACE_MS, drained);
      ended = true;
      for (const watcher of watchers) watcher();
      resolve({ code, signal });
    });
  });

  const tail = () => output.slice(-20).join("\n");

  return {
    pid,
    output,
    exited,
    waitForLine(pattern, ms = 10_000, after = 0) {
      return new Promise((resolve, reject) => {
        let next = after;
        const settle = (done: () => void) => {
          clearTimeout(timer);
          watchers.delete(look);
          done();
        };
        const look = () => {
          while (next < output.length) {
            const match = output[next++]!.match(pattern);
            if (match) return settle(() => resolve(match));
          }
          if (ended) settle(() => reject(new Error(`${command} ended without ${pattern}:\n${tail()}`)));
        };
        const timer = setTimeout(
          () => settle(() => reject(new Error(`${command}: no ${pattern} within ${ms} ms:\n${tail()}`))),
          ms,
        );
        watchers.add(look);
        look();
      });
    },
    signal(signal) {
      child.kill(signal);
    },
    async stop(signal = "SIGTERM", graceMs = 10_000) {
      child.kill(signal);
      if (signal !== "SIGKILL") child.kill("SIGCONT"); // a paused process does not see the signal before
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      try {
        return await exited;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

function lines(stream: Readable, collect: (line: string) => void): Promise<void> {
  return new Promise((resolve) => {
    createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })
      .on("line", collect)
      .on("close", resolve);
  });
}

async function atMost(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([
    promise,
    new Promise((resolve) => {
      timer = setTimeout(resolve, ms);
    }),
  ]);
  clearTimeout(timer);
}
