/** The settings. The only file that reads process.env; README's table is compared with SETTINGS by a test. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { readPublicKey, readSecret } from "./auth.ts";
import { LIMITS } from "./protocol/limits.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What a setting of each kind becomes. */
interface Kinds {
  integer: number;
  text: string;
  name: string;
  host: string;
  redis: string;
  url: string;
  secret: string;
  publicKey: string;
  origins: readonly string[];
  level: LogLevel;
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
  readonly unit?: "ms" | "s" | "bytes" | "events" | "lines" | "points" | "jobs" | "connections";
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
    key: "logLevel",
    kind: "level",
    default: "info",
    about: "Least level that is logged: trace, debug, info, warn, error, fatal, or silent.",
  },
  {
    env: "TRAINWIRE_INSTANCE_ID",
    key: "instanceId",
    kind: "name",
    derived: "`hub-` and six random characters",
    pattern: "^[A-Za-z0-9_-]{1,32}$",
    about: "Name of this hub in `welcome`, status and logs, different on every instance.",
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
    default: "2048",
    unit: "points",
    min: 1,
    max: 100_000,
    about: "Raw metric points that are kept of a job; older ones are dropped.",
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
    env: "TRAINWIRE_SHUTDOWN_MS",
    key: "shutdownMs",
    kind: "integer",
    default: "10000",
    unit: "ms",
    min: 0,
    max: HOUR_MS,
    about: "How long a clean end may take before the process ends anyway.",
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

type Row = (typeof SETTINGS)[number];
type Value<R extends Row> =
  | Kinds[R["kind"]]
  | (R extends { default: string } | { derived: string } ? never : undefined);

/** The settings, checked; flat and frozen. */
export type Config = { readonly [R in Row as R["key"]]: Value<R> };

/** Settings that do not serve. The message is all faults, one a line; to be shown without stack, exit code 1. */
export class ConfigError extends Error {
  /** One sentence each. */
  readonly faults: string[];
  constructor(faults: string[]) {
    super(faults.join("\n"));
    this.name = "ConfigError";
    this.faults = faults;
  }
}

/**
 * Reads all settings.
 * Throws ConfigError with every fault at once: values that do not serve, unknown `TRAINWIRE_…` names, and a HOST that
 * other machines reach without a key to verify tokens with.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const faults = unknownNames(env);
  const values: Record<string, unknown> = {};
  for (const setting of SETTINGS as readonly Setting[]) {
    const given = env[setting.env];
    const isSet = given !== undefined && given.trim() !== "";
    const text = isSet ? given : setting.default;
    values[setting.key] = undefined;
    if (text === undefined) continue;
    try {
      values[setting.key] = PARSERS[setting.kind](setting.kind === "secret" ? text : text.trim(), setting);
    } catch (error) {
      const { message } = error as Error;
      const shown = setting.secret ? "" : ` is ${show(text)}`;
      faults.push(`${setting.env}${shown}: ${message.charAt(0).toLowerCase()}${message.slice(1)}`);
    }
  }
  const config = values as Config;
  if (config.host && !isLoopback(config.host) && !env.JWT_SECRET?.trim() && !env.JWT_PUBLIC_KEY?.trim()) {
    faults.push(
      `HOST is ${show(config.host)}, which other machines may reach: JWT_SECRET (for instance from: openssl rand -base64 48) or JWT_PUBLIC_KEY is wanted as well.`,
    );
  }
  if (faults.length > 0) throw new ConfigError(faults);
  values.instanceId ??= `hub-${randomBytes(3).toString("hex")}`;
  values.url ??= `http://127.0.0.1:${config.port}`;
  return Object.freeze(config);
}

/** Whether only this machine reaches a listener on the host: 127.0.0.0/8, `::1`, `localhost`. */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith("127.");
  return /^(?:localhost|::1|::ffff:127\.[\d.]+)$/i.test(host);
}

/** One parser a kind. Each throws an Error whose message says, as a sentence, what is wanted. */
const PARSERS: { [K in keyof Kinds]: (text: string, setting: Setting) => Kinds[K] } = {
  integer(text, { min = 0, max = Number.MAX_SAFE_INTEGER, unit }) {
    const value = Number(text);
    if (/^\d{1,16}$/.test(text) && value >= min && value <= max) return value;
    throw new Error(`a whole number from ${min} to ${max} is wanted${unit ? ` (${unit})` : ""}.`);
  },
  text: (text) => text,
  name(text, { pattern = "" }) {
    if (new RegExp(pattern).test(text)) return text;
    throw new Error(`a name that matches ${pattern} is wanted.`);
  },
  host(text) {
    if (isIP(text) || (/^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$/.test(text) && !/^[\d.]+$/.test(text))) return text;
    throw new Error("an IP address, without brackets, or a host name is wanted.");
  },
  redis(text) {
    const url = parseUrl(text);
    if (url && /^rediss?:$/.test(url.protocol) && url.hostname && /^\/?\d*$/.test(url.pathname)) return text;
    throw new Error("redis://[user:password@]host[:port][/number], or the same with rediss://, is wanted.");
  },
  url(text) {
    const url = parseUrl(text);
    if (url && /^https?:$/.test(url.protocol) && !url.search && !url.hash)
      return url.href.replace(/\/+$/, "");
    throw new Error("an http:// or https:// URL without query is wanted.");
  },
  secret(text) {
    readSecret(text);
    return text;
  },
  publicKey(text) {
    const pem = text.includes("-----BEGIN") ? text.replaceAll("\\n", "\n") : readPem(text);
    readPublicKey(pem);
    return pem;
  },
  origins(text) {
    if (text === "*") return Object.freeze(["*"]);
    const entries = text.split(",").flatMap((entry) => entry.trim() || []);
    const origins = entries.flatMap((entry) => originOf(entry) ?? []);
    if (origins.length === entries.length) return Object.freeze([...new Set(origins)]);
    const wrong = entries.filter((entry) => originOf(entry) === undefined).map(show);
    throw new Error(
      `${wrong.join(" and ")} cannot be; scheme://host[:port] without path, or * alone, is wanted.`,
    );
  },
  level(text) {
    const level = LOG_LEVELS.find((name) => name === text.toLowerCase());
    if (level) return level;
    throw new Error(`one of ${LOG_LEVELS.join(", ")} is wanted.`);
  },
};

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(
      `neither PEM text nor the path of a file that can be read (${code}); one of the two is wanted.`,
    );
  }
}

/** As a browser writes it in `Origin`: lower case, no default port. Apps in a web view have schemes of their own. */
function originOf(text: string): string | undefined {
  const url = /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@*]+\/?$/i.test(text) ? parseUrl(text) : undefined;
  if (!url) return undefined;
  return url.origin === "null" ? text.toLowerCase().replace(/\/$/, "") : url.origin;
}

function unknownNames(env: Readonly<Record<string, string | undefined>>): string[] {
  const known: string[] = SETTINGS.map((setting) => setting.env);
  return Object.keys(env)
    .filter((name) => name.startsWith("TRAINWIRE_") && !known.includes(name))
    .sort()
    .map((name) => {
      const plain = name.slice("TRAINWIRE_".length);
      const near = known.includes(plain) ? plain : nearest(name, known);
      return `${name} is not a setting; ${near ? `did you mean ${near}?` : "README.md has the table of them."}`;
    });
}

const NEAR = 4;

function nearest(name: string, known: string[]): string | undefined {
  const [best] = known
    .map((candidate) => ({ candidate, edits: editDistance(name, candidate) }))
    .sort((a, b) => a.edits - b.edits);
  return best && best.edits <= NEAR ? best.candidate : undefined;
}

/** Characters to insert, remove or replace (Levenshtein). */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [line, letter] of [...from].entries()) {
    const next = [line + 1];
    for (const [column, other] of [...to].entries()) {
      const replaced = (row[column] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}

/** A value as it may be printed: escaped, and no longer than a line. */
function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
