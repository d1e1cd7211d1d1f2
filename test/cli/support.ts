/** The command line as a user has it: real processes, in a folder of their own. */
import { spawn } from "node:child_process";
import { SETTINGS } from "../../src/settings.ts";
import { buildHub, type HubBuild } from "../cluster/hub-process.ts";
import { undoAtExit } from "../support/cleanup.ts";
import { type RunningProcess, startProcess } from "../support/process.ts";

let build: HubBuild | undefined;

/** To be called in a `describe` whose tests start commands. */
export function useCommands(): void {
  before(async () => {
    build = await buildHub();
  });
  after(() => build?.remove());
}

/** The compiled command, for whoever starts it by itself. */
export function main(): string {
  if (!build) throw new Error("useCommands() is missing");
  return build.main;
}

/** Nothing of the shell that runs the tests: no settings, no colours. */
export const BARE: NodeJS.ProcessEnv = {
  ...Object.fromEntries(SETTINGS.map(({ env }) => [env, undefined])),
  FORCE_COLOR: undefined,
};

export interface CommandOptions {
  cwd: string;
  env?: NodeJS.ProcessEnv;
  /** Standard input; empty by default. */
  input?: string;
  /** Milliseconds until it is killed. Default 15 000. */
  limitMs?: number;
}

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Starts `trainwire …`; whoever starts it calls `stop`. */
export function start(args: readonly string[], { cwd, env }: CommandOptions): RunningProcess {
  return startProcess(process.execPath, [main(), ...args], { cwd, env: { ...BARE, ...env } });
}

/** Runs `trainwire …` to its end. */
export function run(args: readonly string[], options: CommandOptions): Promise<Finished> {
  const { cwd, env, input = "", limitMs = 15_000 } = options;
  const child = spawn(process.execPath, [main(), ...args], {
    cwd,
    env: { ...process.env, ...BARE, ...env },
    stdio: "pipe",
  });
  const forget = undoAtExit(`trainwire ${args.join(" ")}`, () => child.kill("SIGKILL"));
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      texts[name] += text;
    });
  }
  child.stdin.on("error", () => {}); // it may end without reading
  child.stdin.end(input);
  return new Promise((resolve) => {
    child.once("close", (code) => {
      clearTimeout(timer);
      forget();
      resolve({ code, ...texts });
    });
  });
}

/** Starts a hub on a free port with a secret of its own; resolves to the process and its URL. */
export async function startHub(
  cwd: string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<{ hub: RunningProcess; url: string }> {
  const hub = start(["serve", ...args], { cwd, env: { PORT: "0", ...env } });
  try {
    await hub.waitForLine(/trainwire is listening/, 15_000);
  } catch (error) {
    await hub.stop("SIGKILL");
    throw error;
  }
  const listening = hub.output.find((text) => text.includes("trainwire is listening"));
  return { hub, url: (JSON.parse(listening as string) as { url: string }).url };
}
