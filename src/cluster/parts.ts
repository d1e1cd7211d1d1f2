/** What a cluster is made of: how each kind of process is started, and how one sees that it serves. */
import { readFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import type { Program } from "./child.ts";
import { nginxArgs } from "./nginx.ts";
import type { Output } from "./output.ts";

export interface Part {
  name: string;
  port: number;
  /** Where it serves. */
  url: string;
  program: Program;
  /** Whether it serves; asked again and again after its start. */
  serves(pid: number): Promise<boolean>;
  /** What it has said last, where nobody else has heard it. */
  last?(): string[];
  /** Whether it has said that its port is another's. */
  portTaken(): boolean;
  /** ms it may take to end. */
  graceMs: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

const LOOPBACK = "127.0.0.1";
const GRACE_MS = 5_000;
const ANSWER_MS = 2_000;

/** Every write is on disk before it is answered: a restart has lost nothing, and epochs stay (ARCHITECTURE.md). */
export function redisPart(options: {
  command: string;
  port: number;
  folder: string;
  env: Environment;
  output: Output;
}): Part {
  const { command, port, folder, env, output } = options;
  const args = [
    ...["--port", String(port), "--bind", LOOPBACK, "--dir", folder, "--save", ""],
    ...["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"],
  ];
  return {
    name: "redis",
    port,
    url: `redis://${LOOPBACK}:${port}`,
    program: { command, args, env, cwd: folder, output },
    // Its own words: whatever answers on the port may be another one.
    serves: async () => /Ready to accept connections/.test(output.newest()),
    last: () => output.last(),
    portTaken: () => output.newest().includes("Address already in use"),
    graceMs: GRACE_MS,
  };
}

export function nginxPart(options: {
  command: string;
  port: number;
  folder: string;
  env: Environment;
  output: Output;
}): Part {
  const { command, port, folder, env, output } = options;
  const url = `http://${LOOPBACK}:${port}`;
  return {
    name: "nginx",
    port,
    url,
    program: { command, args: nginxArgs(folder), env, cwd: folder, output },
    // It writes the file when it has the port, which may have been another's until then.
    serves: async (pid) => pidIn(join(folder, "nginx.pid")) === pid && (await answers(`${url}/healthz`)),
    last: () => output.last(),
    portTaken: () => output.newest().includes("Address already in use"),
    graceMs: GRACE_MS,
  };
}

export function hubPart(options: {
  command: readonly [string, ...string[]];
  name: string;
  port: number;
  redisUrl: string;
  env: Environment;
  graceMs: number;
  line(line: string): void;
}): Part {
  const { command, name, port, redisUrl, env, graceMs, line } = options;
  const [program, ...args] = command;
  const url = `http://${LOOPBACK}:${port}`;
  let portTaken = false;
  return {
    name,
    port,
    url,
    program: {
      command: program,
      args: [...args, "serve"],
      env: { ...env, ...hubSettings(redisUrl), PORT: String(port), TRAINWIRE_INSTANCE_ID: name },
      output(text) {
        portTaken ||= text.includes(`Port ${port} on ${LOOPBACK} is taken`);
        line(text);
      },
    },
    serves: () => answers(`${url}/readyz`),
    portTaken: () => portTaken,
    graceMs,
  };
}

/** Settings that all hubs of a cluster have, whatever the environment says. */
export function hubSettings(redisUrl: string): Environment {
  return {
    HOST: LOOPBACK,
    REDIS_URL: redisUrl,
    TRAINWIRE_TRUSTED_PROXIES: LOOPBACK,
    TRAINWIRE_METRICS_PORT: undefined, // one for all would be one too few
  };
}

function pidIn(file: string): number | undefined {
  try {
    return Number(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/** Whether it answers 200. On a connection of its own, which says nothing about the next one. */
function answers(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false, timeout: ANSWER_MS }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}
