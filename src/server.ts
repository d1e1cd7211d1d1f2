/** One hub: store and bus, core, doors, put together from the settings; and taken apart again. */
import type { IncomingMessage } from "node:http";
import { clientAddress, networksOf } from "./address.ts";
import { createAuth } from "./auth.ts";
import type { Bus } from "./bus/bus.ts";
import { MemoryBus } from "./bus/memory.ts";
import { RedisBus } from "./bus/redis.ts";
import { type Config, isLoopback } from "./config.ts";
import { Hub } from "./core/hub.ts";
import type { Visit } from "./core/visits.ts";
import { createApp } from "./http/app.ts";
import { Listener } from "./listener.ts";
import type { Log } from "./log.ts";
import { Metrics, metricsRoute } from "./metrics/metrics.ts";
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
  /** The same of TRAINWIRE_METRICS_PORT. */
  metricsUrl?: string;
  hub: Hub;
  /**
   * Asks everybody to go to another hub, each at a moment of its own within TRAINWIRE_DRAIN_MS, and takes no new
   * connections. Resolves when nobody is left, or all have been asked; then `close`.
   */
  drain(): Promise<void>;
  /** Closes connections, telling why, then the store. Resolves when nothing is left. */
  close(): Promise<void>;
}

/** How long requests over HTTP may take to their end when the hub has drained. */
const ANSWERS_MS = 3_000;

/** @throws Error in one line, when the port is taken or Redis cannot serve. */
export async function startHub(config: Config, log: Log): Promise<RunningHub> {
  // Before anything is opened: a faulty secret file is told here.
  const auth = createAuth(keysOf(config));
  const { store, registry, bus, redis, keys, folds } = await openStore(config, log.module("redis"));
  const metrics = new Metrics();
  const trusted = networksOf(config.trustedProxies);
  const addressOf = (request: IncomingMessage) => clientAddress(request, trusted);
  const socketsLog = log.module("sockets");
  const hub = new Hub({
    ...config,
    timeoutMs: config.redisTimeoutMs,
    store,
    registry,
    bus,
    log: log.module("hub"),
    logs: { feeds: log.module("feeds"), sockets: socketsLog, redis: log.module("redis") },
    meter: metrics.meter,
    isStale: (since) => listener.isStale(since),
    connections: () => ({
      connections: sockets?.connections ?? 0,
      watchers: sockets?.counters.watchers ?? 0,
      trainers: sockets?.counters.trainers ?? 0,
      heartbeats: heartbeats.connections,
    }),
  });
  let sockets: Sockets | undefined;
  const connections = () => (sockets?.connections ?? 0) + heartbeats.connections;
  const heartbeats = new Heartbeats({
    ...config,
    auth,
    full: () => connections() >= config.maxConnections,
    onOpened: (identity, request) => {
      const visit: Visit = {
        ...{ door: "heartbeat", identity, transport: "websocket" },
        ...{ address: addressOf(request), since: performance.now() },
      };
      hub.visits.begin(visit);
      return (reason) => hub.visits.end(visit, reason);
    },
  });
  const scrape = () =>
    metrics.scrape({
      ...{ hub, bus, maxConnections: config.maxConnections, folds: folds() },
      // Nobody is answered before it is open.
      sockets: (sockets as Sockets).measures,
      heartbeats: heartbeats.connections,
      redisLost: redis?.losses ?? 0,
    });
  const app = createApp({
    hub,
    auth,
    corsOrigins: config.corsOrigins,
    log: log.module("http"),
    ...(config.metricsPort === undefined && { metrics: scrape }),
  });
  const listener = new Listener(app.callback(), {
    patienceMs: config.pingIntervalMs + config.pingTimeoutMs,
    onStall: (fields) =>
      log.module("hub").warn(fields, "this process stood still; all connections are closed"),
  });
  const { server } = listener;
  routeUpgrades(server, {
    others: (path) => Sockets.takes(path),
    routes: new Map([[HEARTBEAT_PATH, heartbeats.upgrade.bind(heartbeats)]]),
    internal: (error, what) => hub.internal(error, what),
    onRefused: ({ code }, request) => hub.visits.refuse(code, { address: addressOf(request) }),
  });
  const own = new Listener(metricsRoute(scrape, (error, what) => hub.internal(error, what)));
  const drain = async () => {
    hub.startDraining();
    listener.startDraining();
    await Promise.all([sockets?.drain(config.drainMs), heartbeats.drain(config.drainMs)]);
  };
  const close = async () => {
    await Promise.all([sockets?.close(), heartbeats.close()]);
    await listener.close(hub.state === "draining" ? ANSWERS_MS : undefined);
    await own.close();
    await hub.close();
    await bus.close();
    await store.close();
  };
  let url: string;
  let metricsUrl: string | undefined;
  try {
    sockets = await Sockets.open({
      ...config,
      server,
      hub,
      auth,
      addressOf,
      isStale: (since) => listener.isStale(since),
      log: socketsLog,
      otherConnections: () => heartbeats.connections,
      ...(redis && {
        adapter: {
          redis,
          channelPrefix: keys.adapter,
          onError: (err, times) => socketsLog.warn({ err, times }, "adapter"),
        },
      }),
    });
    if (config.metricsPort !== undefined) {
      const { metricsPort: port, host } = config;
      metricsUrl = await own.listen({ port, host, setting: "TRAINWIRE_METRICS_PORT" });
    }
    url = await listener.listen(config);
  } catch (error) {
    await close();
    throw error;
  }
  return { url, ...(metricsUrl !== undefined && { metricsUrl }), hub, drain, close };
}

interface Opened {
  store: Store;
  registry: Registry;
  bus: Bus;
  redis?: RedisLink;
  keys: Keys;
  /** Curves folded in the background. */
  folds: () => { done: number; failed: number };
}

async function openStore(config: Config, log: Log): Promise<Opened> {
  const keys = new Keys(config.keyPrefix);
  if (config.redisUrl === undefined) {
    const bus = new MemoryBus({ onError: (error) => log.error({ err: error }, "bus") });
    const store = new MemoryStore({ ...config, bus });
    return { store, registry: new MemoryRegistry(config), bus, keys, folds: () => ({ done: 0, failed: 0 }) };
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
    const bus = await RedisBus.open({ ...config, redis, keys, onError });
    const registry = new RedisRegistry({ ...config, redis, keys });
    const store = new RedisStore({ ...config, redis, keys, onFoldError });
    return { store, registry, bus, redis, keys, folds: () => store.folds };
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
