/** The settings as they are. The only file that reads process.env. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { readPublicKey, readSecret } from "./auth.ts";
import {
  type Kinds,
  LOG_LEVELS,
  LOG_MODULES,
  type LogLevel,
  type LogModule,
  SETTINGS,
  type Setting,
} from "./settings.ts";

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
 * Throws ConfigError with every fault at once: values that do not serve or contradict each other, unknown
 * `TRAINWIRE_…` names, and a HOST that other machines reach without a key to verify tokens with.
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
  if (config.lostMs <= config.staleMs) {
    faults.push(
      `TRAINWIRE_LOST_MS (${config.lostMs}) must be more than TRAINWIRE_STALE_MS (${config.staleMs}): a job is stale before it is lost.`,
    );
  }
  if (config.metricsPort && config.metricsPort === config.port) {
    faults.push(
      `TRAINWIRE_METRICS_PORT (${config.metricsPort}) is PORT; without it, /metrics is on PORT anyway.`,
    );
  }
  if (faults.length > 0) throw new ConfigError(faults);
  values.instanceId ??= `hub-${randomBytes(3).toString("hex")}`;
  values.url ??= `http://127.0.0.1:${config.port}`;
  return Object.freeze(config);
}

/** What child processes inherit. */
export function environment(): Readonly<Record<string, string | undefined>> {
  return process.env;
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
  networks(text) {
    const entries = text.split(",").flatMap((entry) => entry.trim() || []);
    const wrong = entries.filter((entry) => !isNetwork(entry)).map(show);
    if (wrong.length === 0) return Object.freeze([...new Set(entries)]);
    throw new Error(
      `${wrong.join(" and ")} cannot be; addresses or networks such as 10.0.0.0/8 or fd00::/8 are wanted, separated by commas.`,
    );
  },
  levels(text) {
    let level: LogLevel | undefined;
    const modules: Partial<Record<LogModule, LogLevel>> = {};
    for (const entry of text.toLowerCase().split(",")) {
      if (entry.trim() === "") continue;
      const at = entry.indexOf("=");
      const module = at < 0 ? undefined : moduleOf(entry.slice(0, at).trim());
      const told = levelOf(entry.slice(at + 1).trim());
      if ((module === undefined ? level : modules[module]) !== undefined)
        throw new Error(`one level is wanted for ${module ?? "all that have none of their own"}, not two.`);
      if (module === undefined) level = told;
      else modules[module] = told;
    }
    return Object.freeze({ level: level ?? "info", modules: Object.freeze(modules) });
  },
};

function levelOf(text: string): LogLevel {
  const level = LOG_LEVELS.find((name) => name === text);
  if (level) return level;
  throw new Error(`${show(text)} is no level; one of ${LOG_LEVELS.join(", ")} is wanted.`);
}

function moduleOf(text: string): LogModule {
  const modules = Object.keys(LOG_MODULES) as LogModule[];
  const module = modules.find((name) => name === text);
  if (module) return module;
  throw new Error(`${show(text)} is no module; one of ${modules.join(", ")} is wanted.`);
}

/** An address, or one with the number of bits that count. */
function isNetwork(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0 || address.includes("%")) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

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
