/**
 * How often the log of each job was read, from what Redis' MONITOR tells. A read is a script, or a plain command, in which
 * Redis reads one of the job's streams and appends nothing: however the hub goes about it, it cannot read without that.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Redis } from "ioredis";

const STREAM = /:job:([A-Za-z0-9_.-]+):(?:events|log)$/;
const READS = new Set(["xrange", "xrevrange", "xread"]);
const WRITES = new Set(["xadd", "xtrim", "xdel", "xsetid"]);
/** As MONITOR names a command that a script runs. */
const SCRIPT = "lua";
/** `+<seconds> [<database> <source>] "<word>" …`, quotes and what is no printable character escaped. */
const LINE = /^\+(\d+\.\d+) \[\d+ ([^\]]+)\] (.*)$/;
const WORD = /"((?:[^"\\]|\\.)*)"/g;

/** What a client's call has done to streams so far. */
interface Call {
  atMs: number;
  jobs: Set<string>;
  writes: boolean;
}

export class LogReads {
  /** Job → when, in order, ms. */
  readonly #times = new Map<string, number[]>();
  #call: Call | undefined;

  /** One line of MONITOR: its time in seconds, the command's words, and who ran it (`lua`, or an address). */
  add(seconds: number, words: readonly string[], source: string): void {
    if (source !== SCRIPT || !this.#call) {
      this.#settle();
      this.#call = { atMs: seconds * 1_000, jobs: new Set(), writes: false };
    }
    const name = words[0]?.toLowerCase() ?? "";
    if (WRITES.has(name)) this.#call.writes = true;
    if (!READS.has(name)) return;
    for (const word of words) {
      const [, job] = STREAM.exec(word) ?? [];
      if (job !== undefined) this.#call.jobs.add(job);
    }
  }

  /** Job → when its log was read, in order, ms. */
  times(): ReadonlyMap<string, readonly number[]> {
    this.#settle();
    return this.#times;
  }

  #settle(): void {
    const call = this.#call;
    this.#call = undefined;
    if (!call || call.writes) return;
    for (const job of call.jobs) {
      const times = this.#times.get(job);
      if (times) times.push(call.atMs);
      else this.#times.set(job, [call.atMs]);
    }
  }
}

/**
 * The reads of what happens while it looks on. On a connection of its own: ioredis takes the first of these lines for an
 * answer where they come together with that to MONITOR (6.0.0).
 */
export class Monitor {
  readonly #socket: Socket;
  readonly #redis: Redis;
  readonly #reads = new LogReads();
  #ended = "";
  #onEnd: (() => void) | undefined;

  private constructor(socket: Socket, redis: Redis) {
    this.#socket = socket;
    this.#redis = redis;
  }

  /** From now on; `stop` it. */
  static async start(redis: Redis): Promise<Monitor> {
    const { host, port } = redis.options;
    const socket = connect(port as number, host);
    try {
      await once(socket, "connect");
      const monitor = new Monitor(socket, redis);
      const lines = createInterface(socket);
      socket.write("MONITOR\r\n");
      const [first] = await once(lines, "line");
      if (first !== "+OK") throw new Error(`MONITOR: ${first}`);
      lines.on("line", (line: string) => monitor.#add(line));
      return monitor;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  #add(line: string): void {
    const [, time, source = "", rest = ""] = LINE.exec(line) ?? [];
    const words = Array.from(rest.matchAll(WORD), ([, word]) => word as string);
    if (this.#ended !== "" && words[1] === this.#ended) this.#onEnd?.();
    else this.#reads.add(Number(time), words, source);
  }

  /** Job → when its log was read, ms. All that Redis was asked before this call is counted. */
  async stop(): Promise<ReadonlyMap<string, readonly number[]>> {
    this.#ended = `the end, ${process.hrtime.bigint()}`;
    try {
      const seen = new Promise<void>((resolve, reject) => {
        this.#onEnd = resolve;
        this.#socket.once("close", () => reject(new Error("Redis has closed the connection of MONITOR")));
      });
      await this.#redis.echo(this.#ended);
      await seen;
    } finally {
      this.#socket.destroy();
    }
    return this.#reads.times();
  }
}

/** Reads for each of the windows that have begun from the first read to the last: 1 or less is what sharing promises. */
export function readsPerWindow(times: readonly number[], windowMs: number): number {
  const [first] = times;
  const last = times.at(-1);
  if (first === undefined || last === undefined) return 0;
  return times.length / (Math.floor((last - first) / windowMs) + 1);
}

/** Most reads of any window, wherever it begins. */
export function mostReads(times: readonly number[], windowMs: number): number {
  let most = 0;
  for (let from = 0, to = 0; to < times.length; to++) {
    while ((times[to] as number) - (times[from] as number) >= windowMs) from++;
    most = Math.max(most, to - from + 1);
  }
  return most;
}
