/** Everything that is measured in one run: Trainwire, its peers, and whoever comes by the door for further ones. */
import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { HubProcess } from "../test/cluster/hub-process.ts";
import type { DriverName } from "./driver.ts";
import type { PeerProgram, Programs } from "./programs.ts";
import { StartedServer } from "./server-process.ts";
import { settled } from "./stops.ts";
import type { RunningSystem, ServerProcess, System, SystemOptions } from "./system.ts";
import { SECRET } from "./token.ts";

/** The ratio is taken against the faster of these. */
export const REFERENCES: readonly string[] = ["socket.io-default", "socket.io-sharded"];

interface Peer {
  name: string;
  description: string;
  lacks: readonly string[];
  maxInstances: number;
  driver: DriverName;
  program: PeerProgram;
}

/** What none of the peers has. */
const LACKS = [
  "history",
  "a notice of what is missing",
  "duplicates refused",
  "snapshots",
  "a policy for slow watchers",
  "authorisation",
] as const;

const LOST = "events while Redis or a connection is away";
/** What comes from this instance's trainers does not go through Redis, what comes from others does. */
const ORDER = "one order of events for all watchers";
const SOCKET_IO = "websocket only, no deflate, first requests dropped";

const PEERS: readonly Peer[] = [
  {
    name: "ws",
    description: "ws and ioredis: a Redis channel for each job",
    lacks: [...LACKS, LOST, "Socket.IO's clients", "pings"],
    maxInstances: Number.POSITIVE_INFINITY,
    driver: "ws",
    program: "ws",
  },
  {
    name: "socket.io",
    description: `Socket.IO alone; ${SOCKET_IO}`,
    lacks: [...LACKS, "events while a connection is away", "a second instance"],
    maxInstances: 1,
    driver: "socket.io",
    program: "socket-io",
  },
  {
    name: "socket.io-default",
    description: `Socket.IO with @socket.io/redis-adapter, createAdapter; ${SOCKET_IO}`,
    lacks: [...LACKS, LOST, ORDER],
    maxInstances: Number.POSITIVE_INFINITY,
    driver: "socket.io",
    program: "socket-io-default",
  },
  {
    name: "socket.io-sharded",
    description: `Socket.IO with @socket.io/redis-adapter, createShardedAdapter, dynamic; ${SOCKET_IO}`,
    lacks: [...LACKS, LOST, ORDER],
    maxInstances: Number.POSITIVE_INFINITY,
    driver: "socket.io",
    program: "socket-io-sharded",
  },
  {
    name: "socket.io-streams",
    description: `Socket.IO with @socket.io/redis-streams-adapter, state recovery on; ${SOCKET_IO}`,
    lacks: [...LACKS, "events beyond the last 10 000 of all rooms together", ORDER],
    maxInstances: Number.POSITIVE_INFINITY,
    driver: "socket.io",
    program: "socket-io-streams",
  },
];

/** Clients of Trainwire: raw WebSockets, socket.io-client, our SDK. */
export const CLIENTS = ["trainwire", "trainwire-client", "trainwire-sdk"] as const;
export type ClientName = (typeof CLIENTS)[number];

/** What every measured hub is told. */
export function hubEnv(redisUrl: string): NodeJS.ProcessEnv {
  return { REDIS_URL: redisUrl, JWT_SECRET: SECRET, LOG_LEVEL: "warn" };
}

export function trainwire({ build, signals }: Programs, client: ClientName = "trainwire"): System {
  const system: System = {
    name: "trainwire",
    description: `this hub on Redis; log level warn, else its defaults; driver ${client}`,
    lacks: [],
    maxInstances: Number.POSITIVE_INFINITY,
    driver: client,
    async start({ instances = 1, redisUrl, env }) {
      const common = {
        ...signals.env,
        ...hubEnv(redisUrl),
        // What an earlier start has left in the same Redis is another system's.
        TRAINWIRE_KEY_PREFIX: `bench-${randomBytes(3).toString("hex")}`,
        ...env,
      };
      const hubs = await startAll(instances, async (i) => {
        const hub = await HubProcess.create({ build, name: `hub-${i + 1}`, env: common });
        await hub.start();
        return { url: hub.url, pid: hub.pid as number, stop: () => stopHub(hub) };
      });
      return running(system, hubs, (pid) => signals.releasedMemoryOf(pid));
    },
  };
  return system;
}

export function peers({ peers: programs, signals }: Programs): System[] {
  return PEERS.map(({ program, ...peer }) => {
    const system: System = {
      ...peer,
      async start(options) {
        const servers = await startServers(system, options, {
          command: process.execPath,
          args: [programs[program]],
          env: signals.env,
        });
        return running(system, servers, (pid) => signals.releasedMemoryOf(pid));
      },
    };
    return system;
  });
}

/** The door for further peers. */
export interface ExternalPeer {
  name: string;
  /**
   * A shell gives its place to it (`exec`), so that it is this process that is measured, with all that it starts, and
   * that gets SIGTERM in the end. Each instance has a PORT of its own in its environment, and REDIS_URL.
   */
  command: string;
  /**
   * Path of a module whose default export is a Driver. It may also export `description` (text), `lacks` (texts) and
   * `maxInstances` (default 1).
   */
  driver: string;
}

export async function externalPeer({ name, command, driver }: ExternalPeer): Promise<System> {
  const path = resolve(driver);
  const told = (await import(pathToFileURL(path).href)) as {
    default?: unknown;
    description?: string;
    lacks?: readonly string[];
    maxInstances?: number;
  };
  if (told.default === undefined) throw new Error(`${driver} has no default export`);
  const system: System = {
    name,
    description: told.description ?? command,
    lacks: told.lacks ?? ["unknown"],
    maxInstances: told.maxInstances ?? 1,
    driver: path,
    async start(options) {
      const shell = { command: "/bin/sh", args: ["-c", `exec ${command}`], env: {} };
      return running(system, await startServers(system, options, shell), () => {
        throw new Error(`${name} cannot be told to collect its garbage`);
      });
    },
  };
  return system;
}

interface Stoppable extends ServerProcess {
  stop(): Promise<void>;
}

function startServers(
  { name, maxInstances }: System,
  { instances = 1, redisUrl }: SystemOptions,
  { command, args, env }: { command: string; args: readonly string[]; env: NodeJS.ProcessEnv },
): Promise<Stoppable[]> {
  if (instances > maxInstances) throw new Error(`${name} joins ${maxInstances} instances, not ${instances}`);
  return startAll(instances, () =>
    StartedServer.start({ command, args, env: { ...env, REDIS_URL: redisUrl } }),
  );
}

/** All of them, or none. */
async function startAll(count: number, start: (i: number) => Promise<Stoppable>): Promise<Stoppable[]> {
  const starts = Array.from({ length: count }, (_, i) => start(i));
  try {
    return await settled(starts);
  } catch (error) {
    await Promise.allSettled(starts.map(async (each) => (await each).stop()));
    throw error;
  }
}

function running(
  system: System,
  servers: readonly Stoppable[],
  collect: (pid: number) => Promise<number>,
): RunningSystem {
  return {
    system,
    servers,
    async collect() {
      const inUse: number[] = [];
      for (const { pid } of servers) inUse.push(await collect(pid));
      return inUse;
    },
    async stop() {
      await settled(servers.map((server) => server.stop()));
    },
  };
}

/** Nobody waits for a drain. Throws when it has ended by itself before. */
async function stopHub(hub: HubProcess): Promise<void> {
  await hub.kill();
  const [death] = hub.deaths;
  if (!death) return;
  throw new Error(
    `${hub.name} has ended by itself (${death.signal ?? death.code}):\n${hub.output.join("\n")}`,
  );
}
