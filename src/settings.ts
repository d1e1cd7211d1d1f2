/** The table of settings: names, defaults, bounds, one sentence each. README prints it. */
import { LIMITS } from "./protocol/limits.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Parts of the hub that log under their own name, and what a part tells below `warn`. */
export const LOG_MODULES = {
  hub: "start, end, drain; what nobody foresaw",
  sockets: "debug: what clients ask; info: who comes and goes",
  feeds: "debug: feeds that are held, healed and released; info: gaps",
  redis: "info: a connection that is found again",
  http: "debug: requests",
  cluster: "the processes of `trainwire cluster`",
} as const;
export type LogModule = keyof typeof LOG_MODULES;

/** The least level that is logged, and of modules that have another. */
export interface LogLevels {
  readonly level: LogLevel;
  readonly modules: Readonly<Partial<Record<LogModule, LogLevel>>>;
}

/** What a setting of each kind becomes. */
export interface Kinds {
  integer: number;
  text: string;
  name: string;
  host: string;
  redis: string;
  url: string;
  secret: string;
  publicKey: string;
  origins: readonly string[];
  networks: readonly string[];
  levels: LogLevels;
}

export interface Setting {
  /** The environment variable. Empty counts as not set. */
  readonly env: string;
  /** The field of Config. */
  readonly key: string;
  readonly kind: keyof Kinds;
  /** As one would type it. */
  readonly default?: string;
  /** How the default comes about where it is not a constant. With neither, the field is undefined unless set. */
  readonly derived?: string;
  /** Only of integers. */
  readonly unit?: "ms" | "s" | "bytes" | "events" | "lines" | "points" | "jobs" | "connections" | "requests";
  /** Bounds of integers, both allowed. */
  readonly min?: number;
  readonly max?: number;
  /** Names must match this. */
  readonly pattern?: string;
  /** The value is never shown. */
  readonly secret?: true;
  /** One sentence of documentation. */
  readonly about: string;
}

const HOUR_MS = 3_600_000;
const YEAR_S = 31_536_000;

/** All settings, in the order of README's table. */
export const SETTINGS = [
  {
    env: "PORT",
    key: "port",
    kind: "integer",
    default: "3000",
    min: 0,
    max: 65_535,
    about: "TCP port of HTTP and sockets; 0 takes any free one.",
  },
  {
    env: "HOST",
    key: "host",
    kind: "host",
    default: "127.0.0.1",
    about: "Address to listen on; `0.0.0.0` or `::` is reachable from other machines and needs a JWT key.",
  },
  {
    env: "REDIS_URL",
    key: "redisUrl",
    kind: "redis",
    secret: true,
    about:
      "Redis (`redis://` or `rediss://`) that joins several hubs; without it one hub keeps everything in memory.",
  },
  {
    env: "JWT_SECRET",
    key: "jwtSecret",
    kind: "secret",
    secret: true,
    about: "Secret of 32 bytes or more that verifies HS256 tokens.",
  },
  {
    env: "JWT_PUBLIC_KEY",
    key: "jwtPublicKey",
    kind: "publicKey",
    secret: true,
    about:
      "Public key that verifies RS256 (RSA, 2048 bits or more) or ES256 (EC on P-256) tokens: PEM text, in which `\\n` may stand for a line break, or the path of a PEM file.",
  },
  { env: "JWT_ISSUER", key: "jwtIssuer", kind: "text", about: "What `iss` of every token must be." },
  {
    env: "JWT_AUDIENCE",
    key: "jwtAudience",
    kind: "text",
    about: "What `aud` of every token must be, or contain.",
  },
  {
    env: "CORS_ORIGINS",
    key: "corsOrigins",
    kind: "origins",
    default: "",
    about:
      "Origins, separated by commas, whose pages may connect beside the hub's own; `*` allows every origin, empty none.",
  },
  {
    env: "LOG_LEVEL",
    key: "logLevels",
    kind: "levels",
    default: "info",
    about:
      "Least level that is logged: trace, debug, info, warn, error, fatal, or silent; for one module its own, as in `info,sockets=debug`.",
  },
  {
    env: "TRAINWIRE_INSTANCE_ID",
    key: "instanceId",
    kind: "name",
    derived: "`hub-` and six random characters",
    pattern: "^[A-Za-z0-9_-]{1,32}$",
    about:
      "Name of this hub in `welcome`, session ids, status and logs, different on every instance, also when case is ignored.",
  },
  {
    env: "TRAINWIRE_KEY_PREFIX",
    key: "keyPrefix",
    kind: "name",
    default: "trainwire",
    pattern: "^[A-Za-z0-9_.:-]{1,64}$",
    about: "What all keys and channels in Redis begin with; hubs with the same prefix form one system.",
  },
  {
    env: "TRAINWIRE_SECRET_FILE",
    key: "secretFile",
    kind: "text",
    default: ".trainwire/jwt-secret",
    about:
      "File of the secret that is made, only on a loopback HOST, when neither JWT_SECRET nor JWT_PUBLIC_KEY is set.",
  },
  {
    env: "TRAINWIRE_MAX_EVENTS",
    key: "maxEvents",
    kind: "integer",
    default: "5000",
    unit: "events",
    min: 1,
    max: 1_000_000,
    about: "Durable events, log lines apart, that are kept of a job; older ones are trimmed.",
  },
  {
    env: "TRAINWIRE_MAX_LOG_LINES",
    key: "maxLogLines",
    kind: "integer",
    default: "5000",
    unit: "lines",
    min: 1,
    max: 1_000_000,
    about: "Log lines that are kept of a job; older ones are trimmed.",
  },
  {
    env: "TRAINWIRE_MAX_FEED_BYTES",
    key: "maxFeedBytes",
    kind: "integer",
    default: "16777216",
    unit: "bytes",
    min: LIMITS.eventBytes,
    max: 1_073_741_824,
    about: "Bytes of events that are kept of a job; older ones are trimmed.",
  },
  {
    env: "TRAINWIRE_MAX_POINTS",
    key: "maxPoints",
    kind: "integer",
    default: "16384",
    unit: "points",
    min: 1_000,
    max: 100_000,
    about: "Raw metric points of a job that wait to be folded into its curves; older ones are dropped.",
  },
  {
    env: "TRAINWIRE_MAX_JOBS",
    key: "maxJobs",
    kind: "integer",
    default: "10000",
    unit: "jobs",
    min: 1,
    max: 1_000_000,
    about: "Jobs of one tenant; more are refused `too_many_jobs`.",
  },
  {
    env: "TRAINWIRE_TTL_FINISHED",
    key: "ttlFinished",
    kind: "integer",
    default: "86400",
    unit: "s",
    min: 1,
    max: YEAR_S,
    about: "How long a job is kept after its terminal status.",
  },
  {
    env: "TRAINWIRE_TTL_SILENT",
    key: "ttlSilent",
    kind: "integer",
    default: "604800",
    unit: "s",
    min: 1,
    max: YEAR_S,
    about:
      "How long a job without a terminal status is kept after its last event; renewed when half of it is over.",
  },
  {
    env: "TRAINWIRE_STALE_MS",
    key: "staleMs",
    kind: "integer",
    default: "60000",
    unit: "ms",
    min: 100,
    max: 24 * HOUR_MS,
    about: "How long a running job's trainer may give no sign of life before the job's liveness is `stale`.",
  },
  {
    env: "TRAINWIRE_LOST_MS",
    key: "lostMs",
    kind: "integer",
    default: "900000",
    unit: "ms",
    min: 200,
    max: 168 * HOUR_MS,
    about: "The same until it is `lost`.",
  },
  {
    env: "TRAINWIRE_PRESENCE_INTERVAL_MS",
    key: "presenceIntervalMs",
    kind: "integer",
    default: "1000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about: "How often, at most, the watchers of a job are told who watches it; 0 does not tell.",
  },
  {
    env: "TRAINWIRE_INSTANCE_TIMEOUT_MS",
    key: "instanceTimeoutMs",
    kind: "integer",
    default: "3000",
    unit: "ms",
    min: 100,
    max: HOUR_MS,
    about: "How long an instance may be silent before the others forget its watchers and trainers.",
  },
  {
    env: "TRAINWIRE_TOKEN_WARNING_MS",
    key: "tokenWarningMs",
    kind: "integer",
    default: "60000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about: "How long before a token ends its connection is told `token_expiring`.",
  },
  {
    env: "TRAINWIRE_TOKEN_GRACE_MS",
    key: "tokenGraceMs",
    kind: "integer",
    default: "25000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about: "How long after a token's end its connection may still bring a new one.",
  },
  {
    env: "TRAINWIRE_CHECK_INTERVAL_MS",
    key: "checkIntervalMs",
    kind: "integer",
    default: "2000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about:
      "How often the feeds that are held are compared with the store, which finds what Redis pub/sub has lost.",
  },
  {
    env: "TRAINWIRE_RELEASE_MS",
    key: "releaseMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about: "How long a feed is held after its last watcher has left.",
  },
  {
    env: "TRAINWIRE_POSITION_INTERVAL_MS",
    key: "positionIntervalMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about: "How often, at most, a filtered or throttled watcher is sent its `position`.",
  },
  {
    env: "TRAINWIRE_PING_INTERVAL_MS",
    key: "pingIntervalMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about: "How often each connection is pinged.",
  },
  {
    env: "TRAINWIRE_PING_TIMEOUT_MS",
    key: "pingTimeoutMs",
    kind: "integer",
    default: "8000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about: "How long a ping may stay unanswered before the connection counts as dead.",
  },
  {
    env: "TRAINWIRE_CONNECT_TIMEOUT_MS",
    key: "connectTimeoutMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about: "How long a new connection may take to join a namespace before it is closed.",
  },
  {
    env: "TRAINWIRE_MAX_CONNECTIONS",
    key: "maxConnections",
    kind: "integer",
    default: "15000",
    unit: "connections",
    min: 1,
    max: 1_000_000,
    about: "Connections of one instance; the system's limit of open files must lie above.",
  },
  {
    env: "TRAINWIRE_MAX_REPLAYS",
    key: "maxReplays",
    kind: "integer",
    default: "256",
    unit: "requests",
    min: 1,
    max: 100_000,
    about:
      "How many requests may read what was missed, or how a feed begins, at a time. The others wait, and go by turns: one of each tenant, and of a tenant one of each client.",
  },
  {
    env: "TRAINWIRE_HOLD_BYTES",
    key: "holdBytes",
    kind: "integer",
    default: "262144",
    unit: "bytes",
    min: 1_024,
    max: 1_073_741_824,
    about:
      "Bytes that may wait for a watcher to read them before conflatable values are held back for it and merged; also what may be on its way to a client that takes longer than 1.5 s to say that it has read, but not less than 16 KB.",
  },
  {
    env: "TRAINWIRE_SLOW_BYTES",
    key: "slowBytes",
    kind: "integer",
    default: "1048576",
    unit: "bytes",
    min: LIMITS.messageBytes,
    max: 1_073_741_824,
    about:
      "Bytes that may wait for a client to read them before its connection is closed as `slow`; it comes back and reads on by pages.",
  },
  {
    env: "TRAINWIRE_FLUSH_MS",
    key: "flushMs",
    kind: "integer",
    default: "20",
    unit: "ms",
    min: 0,
    max: 1_000,
    about:
      "How long events may wait at most to leave in one write with others. Nothing waits while the event loop has room; the busier it is, the longer. Answers never wait. With 0, events leave with their turn whatever is.",
  },
  {
    env: "TRAINWIRE_PROBE_INTERVAL_MS",
    key: "probeIntervalMs",
    kind: "integer",
    default: "1000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about:
      "How often the hub sends a message to itself through Redis; if two are lost while Redis answers, it is not ready and connects its subscriptions anew.",
  },
  {
    env: "TRAINWIRE_METRICS_PORT",
    key: "metricsPort",
    kind: "integer",
    min: 0,
    max: 65_535,
    about:
      "TCP port on which `/metrics` alone is served, on HOST; without it, `/metrics` is on PORT like the rest.",
  },
  {
    env: "TRAINWIRE_TRUSTED_PROXIES",
    key: "trustedProxies",
    kind: "networks",
    default: "",
    about:
      "Addresses or networks (`10.0.0.0/8`), separated by commas, whose `X-Forwarded-For` is believed; empty believes nobody.",
  },
  {
    env: "TRAINWIRE_DRAIN_MS",
    key: "drainMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about:
      "Over how long, after SIGTERM, connections are asked to leave, each at a moment of its own; only with Redis, where there may be other hubs to go to.",
  },
  {
    env: "TRAINWIRE_SHUTDOWN_MS",
    key: "shutdownMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about: "How long a clean end may take, after the drain, before the process ends anyway.",
  },
  {
    env: "TRAINWIRE_REDIS_TIMEOUT_MS",
    key: "redisTimeoutMs",
    kind: "integer",
    default: "5000",
    unit: "ms",
    min: 10,
    max: HOUR_MS,
    about: "How long a Redis command may stay without reply before it counts as failed.",
  },
  {
    env: "TRAINWIRE_URL",
    key: "url",
    kind: "url",
    derived: "`http://127.0.0.1:` and PORT",
    about: "Base URL of the hub that the CLI talks to.",
  },
  {
    env: "TRAINWIRE_TOKEN",
    key: "token",
    kind: "text",
    secret: true,
    about: "Token of the CLI; without it, the CLI signs one with JWT_SECRET or the secret file.",
  },
] as const satisfies readonly Setting[];
