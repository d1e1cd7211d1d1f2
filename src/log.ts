/**
 * The log: one JSON object a line on a pipe, readable lines on a terminal. Whatever is logged, tokens and passwords
 * do not appear, and hostile text can neither forge a line nor command the terminal.
 */
import { type DestinationStream, type Logger, pino, stdSerializers, stdTimeFunctions } from "pino";
import pretty from "pino-pretty";
import type { LogLevel, LogLevels, LogModule } from "./settings.ts";

/** What the hub's parts get to see of pino: `log.info({ job_id }, "text")`; errors go under `err`. */
export interface Log extends Pick<Logger, "trace" | "debug" | "info" | "warn" | "error" | "fatal"> {
  /** A log whose lines all carry these fields. */
  child(bindings: Record<string, unknown>): Log;
  /** A part's log: its lines carry `module`, and its level is its own where LOG_LEVEL names one. */
  module(name: LogModule): Log;
  /** Whether a line of this level is written: asked before the fields of frequent lines are put together. */
  isLevelEnabled(level: LogLevel): boolean;
}

export interface LogOptions {
  levels: LogLevels;
  /** Readable lines instead of JSON; default: whether standard output is a terminal. */
  pretty?: boolean;
  /** Where lines go; default: standard output, written at once, so that a killed process leaves its last line. */
  destination?: DestinationStream;
}

/** Makes the root log; fields `level` (name), `time` (ISO 8601), `msg`, and what the caller gives. Throws nothing. */
export function createLog(options: LogOptions): Log {
  const { levels } = options;
  const root = pino(
    {
      level: levels.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
      serializers: { err: errorOf },
    },
    createLines(options),
  );
  // pino's children have their parent as prototype, and so its `module`.
  return Object.assign(root, {
    module(this: Logger, name: LogModule): Logger {
      return this.child({ module: name }, { level: levels.modules[name] ?? levels.level });
    },
  }) as unknown as Log;
}

/** Takes lines of JSON, also those of other processes' logs, and writes them as this log's are written. */
export function createLines(options: Omit<LogOptions, "levels">): DestinationStream {
  const destination = options.destination ?? standardOutput();
  const readable = options.pretty ?? process.stdout.isTTY === true;
  return readable ? readableLines(destination, options.destination === undefined) : jsonLines(destination);
}

/** Bytes kept while standard output takes nothing (a full disk); further lines are dropped. */
const BACKLOG_BYTES = 1_048_576;

function standardOutput(): DestinationStream {
  const stream = pino.destination({ fd: 1, sync: true, maxLength: BACKLOG_BYTES });
  // A terminal that was closed, a full disk: no reason to end the hub, and no place to say so.
  stream.on("error", () => {});
  return stream;
}

function jsonLines(destination: DestinationStream): DestinationStream {
  return { write: (line) => destination.write(redact(escapeInvisible(line))) };
}

function readableLines(destination: DestinationStream, terminal: boolean): DestinationStream {
  const format = pretty.prettyFactory({
    colorize: terminal && pretty.isColorSupported,
    singleLine: true,
    translateTime: "SYS:HH:MM:ss.l",
    ignore: "module",
    messageFormat: ({ module, msg = "" }) => (module === undefined ? `${msg}` : `${module}: ${msg}`),
  });
  return { write: (line) => destination.write(format(showEscapes(redact(escapeInvisible(line))))) };
}

/** Not all that an error carries: a client of Redis adds the command that failed, and with it an event's text. */
function errorOf(error: Error): object {
  const { type, message, stack, code } = stdSerializers.err(error) as {
    type?: string;
    message?: string;
    stack?: string;
    code?: unknown;
  };
  return { type, message, stack, ...(code !== undefined && { code }) };
}

const REDACTED = "[redacted]";

/**
 * Fields by name at any depth, and by form wherever they are: JWTs, `Bearer …`, `?token=…`, passwords in URLs.
 * Works on the JSON line, where a quote inside a text is always escaped: a name between bare quotes is a field's.
 */
const SECRETS: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /"([\w-]*(?:token|authorization|cookie|password|secret))":"[^"\\]*(?:\\.[^"\\]*)*"/gi,
    `"$1":"${REDACTED}"`,
  ],
  [/(?<![\w-])eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?/g, REDACTED],
  [/\b(Bearer\s+)[^\s"'\\,;]+/gi, `$1${REDACTED}`],
  [/([?&](?:access_)?token=)[^\s"'\\&#]+/gi, `$1${REDACTED}`],
  [/\b((?:redis|amqp|http|ws)s?:\/\/[^\s"'\\/@:]*:)[^\s"'\\/@]+@/gi, `$1${REDACTED}@`],
];

function redact(line: string): string {
  return SECRETS.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), line);
}

/** What JSON.stringify leaves as it is: DEL and C1 (terminal commands), line separators, marks that reorder text. */
const INVISIBLE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

function escapeInvisible(line: string): string {
  return line.replace(INVISIBLE, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * Escapes of control characters become texts that show the escape; only quotes and backslashes keep theirs. Stack
 * frames keep their line breaks: no line of the log begins like one.
 */
function showEscapes(line: string): string {
  return line.replace(/\\n(?= {4,}at |caused by: )|\\(["\\/])|\\/g, (found, kept) =>
    found === "\\n" || kept !== undefined ? found : "\\\\",
  );
}
