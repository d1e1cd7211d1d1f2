/** One hub: store and bus, core, doors, put together from the settings; and taken apart again. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAuth } from "./auth.ts";
import type { Bus } from "./bus/bus.ts";
import { MemoryBus } from "./bus/memory.ts";
import { RedisBus } from "./bus/redis.ts";
import { type Config, isLoopback } from "./config.ts";
import { Hub } from "./core/hub.ts";
import { createApp } from "./http/app.ts";
import type { Log } from "./log.ts";
import { Keys } from "./redis/keys.ts";
import { RedisLink } from "./redis/link.ts";
import { localSecret } from "./secret.ts";
import { Sockets } from "./sockets/server.ts";
import { MemoryStore } from "./store/memory.ts";
import { MemoryRegistry } from "./store/memory-registry.ts";
import { RedisStore } from "./store/redis.ts";
import { RedisRegistry } from "./store/redis-registry.ts";
import type { Registry } from "./store/registry.ts";
import type { Store } from "./store/store.ts";
import { HEARTBEAT_PATH, Heartbeats } from "./websocket/heartbeat.ts";
import { routeUpgrades } from "./websocket/upgrade.ts";

export interface RunningHub {
  /** `http://host:port`, where it listens. */
  url: string;
  hub: Hub;
  /** Closes connections, telling why, then the store. Resolves when nothing is left. */
  close(): Promise<void>;
}

/** @throws Error in one line, when the port is taken or Redis cannot serve. */
export async function startHub(config: Config, log: Log): Promise<RunningHub> {
  // Before anything is opened: a faulty secret file is told here.
  const auth = createAuth(keysOf(config));
  const { store, registry, bus, redis, keys } = await openStore(config, log);
  const hub = new Hub({
    store,
    registry,
    bus,
    log,
    instanceId: config.instanceId,
    checkIntervalMs: config.checkIntervalMs,
    releaseMs: config.releaseMs,
    positionIntervalMs: config.positionIntervalMs,
    timeoutMs: config.redisTimeoutMs,
    presenceIntervalMs: config.presenceIntervalMs,
    instanceTimeoutMs: config.instanceTimeoutMs,
    staleMs: config.staleMs,
    lostMs: config.lostMs,
  });
  let sockets: Sockets | undefined;
  const connections = () => (sockets?.connections ?? 0) + heartbeats.connections;
  const heartbeats = new Heartbeats({
    auth,
    corsOrigins: config.corsOrigins,
    pingIntervalMs: config.pingIntervalMs,
    pingTimeoutMs: config.pingTimeoutMs,
    full: () => connections() >= config.maxConnections,
  });
  const app = createApp({
    hub,
    auth,
    corsOrigins: config.corsOrigins,
    status: () => ({ connections: { ...sockets?.counters, heartbeats: heartbeats.connections } }),
  });
  const server = createServer(app.callback());
  routeUpgrades(server, {
    others: (path) => Sockets.takes(path),
    routes: new Map([[HEARTBEAT_PATH, heartbeats.upgrade.bind(heartbeats)]]),
    internal: (error, what) => hub.internal(error, what),
  });
  const close = async () => {
    await Promise.all([sockets?.close(), heartbeats.close()]);
    await closeServer(server);
    await hub.close();
    await bus.close();
    await store.close();
  };
  try {
    sockets = await Sockets.open({
      server,
      hub,
      auth,
      corsOrigins: config.corsOrigins,
      pingIntervalMs: config.pingIntervalMs,
      pingTimeoutMs: config.pingTimeoutMs,
      connectTimeoutMs: config.connectTimeoutMs,
      tokenWarningMs: config.tokenWarningMs,
      tokenGraceMs: config.tokenGraceMs,
      maxConnections: config.maxConnections,
      otherConnections: () => heartbeats.connections,
      ...(redis && {
        adapter: {
          redis,
          channelPrefix: keys.adapter,
          onError: (error) => log.warn({ err: error }, "adapter"),
        },
      }),
    });
    await listen(server, config);
  } catch (error) {
    await close();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  const host = config.host.includes(":") ? `[${config.host}]` : config.host;
  return { url: `http://${host}:${port}`, hub, close };
}

async function openStore(
  config: Config,
  log: Log,
): Promise<{ store: Store; registry: Registry; bus: Bus; redis?: RedisLink; keys: Keys }> {
  const keys = new Keys(config.keyPrefix);
  if (config.redisUrl === undefined) {
    const bus = new MemoryBus({ onError: (error) => log.error({ err: error }, "bus") });
    return { store: new MemoryStore({ ...config, bus }), registry: new MemoryRegistry(config), bus, keys };
  }
  const redis = await RedisLink.open({
    url: config.redisUrl,
    timeoutMs: config.redisTimeoutMs,
    generationKey: keys.generation,
    onState: (state, detail) =>
      state === "ready"
        ? log.info({ generation: detail }, "Redis is back")
        : log.warn({ detail }, "Redis is away"),
  });
  const onError = (error: Error) => log.warn({ err: error }, "bus");
  const onFoldError = (error: Error) => log.warn({ err: error }, "folding of series");
  try {
    const bus = await RedisBus.open({ redis, keys, onError });
    const registry = new RedisRegistry({ ...config, redis, keys });
    return { store: new RedisStore({ ...config, redis, keys, onFoldError }), registry, bus, redis, keys };
  } catch (error) {
    redis.close();
    throw error;
  }
}

/** With no key at all, and only on loopback, a secret of this machine's own. */
function keysOf({ jwtSecret, jwtPublicKey, jwtIssuer, jwtAudience, host, secretFile }: Config) {
  const own = jwtSecret === undefined && jwtPublicKey === undefined && isLoopback(host);
  const secret = own ? localSecret(secretFile) : jwtSecret;
  return {
    ...(secret !== undefined && { secret }),
    ...(jwtPublicKey !== undefined && { publicKey: jwtPublicKey }),
    ...(jwtIssuer !== undefined && { issuer: jwtIssuer }),
    ...(jwtAudience !== undefined && { audience: jwtAudience }),
  };
}

function listen(server: Server, { port, host }: Config): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new Error(`Port ${port} on ${host} is taken; set PORT to another one.`)
          : error,
      );
    });
    server.listen(port, host, resolve);
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
