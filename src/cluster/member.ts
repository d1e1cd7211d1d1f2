/** One of a cluster's processes: started until it serves, ended, and brought back when it dies. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.ts";
import { Child, type Exit } from "./child.ts";
import type { Part } from "./parts.ts";
import type { Reaper } from "./reaper.ts";

export interface MemberOptions {
  reaper: Reaper;
  log: Log;
  /** It has ended, and nobody had told it to. Whether it is to be brought back. */
  died(death: Death): boolean;
  /** It has died for good, or does not come up any more. One line. */
  failed(reason: string): void;
  /** Between attempts to bring it back, doubled each time. Default 200 ms, up to 5 000. */
  backoffMs?: { first: number; longest: number };
}

/** An end that nobody asked for. */
export interface Death extends Exit {
  name: string;
  pid: number;
}

const LOOK_MS = 25;
const START_MS = 60_000;
const BACKOFF_MS = { first: 200, longest: 5_000 };
/** It does not come up after so many attempts in a row. */
const ATTEMPTS = 8;
/** Who served for so long was well: the back-off begins anew. */
const WELL_MS = 10_000;

export class Member {
  readonly #part: Part;
  readonly #options: MemberOptions;
  readonly #closed = new AbortController();
  #child: Child | undefined;
  /** While it serves, since when. */
  #servesSince: number | undefined;
  /** Deaths and failed starts since it was well last. */
  #troubles = 0;

  constructor(part: Part, options: MemberOptions) {
    this.#part = part;
    this.#options = options;
  }

  /** `redis`, `nginx`, and of hubs their instance id. */
  get name(): string {
    return this.#part.name;
  }

  /** On 127.0.0.1; stays. */
  get port(): number {
    return this.#part.port;
  }

  /** `http://…`, of Redis `redis://…` */
  get url(): string {
    return this.#part.url;
  }

  /** Undefined while it is down. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether it is up and has served since its start. */
  get serves(): boolean {
    return this.#servesSince !== undefined;
  }

  /** @throws Error when it ends before it serves, does not serve within a minute, or is closed meanwhile. */
  async start(): Promise<void> {
    const { reaper, log } = this.#options;
    const { name, url, program } = this.#part;
    if (this.#closed.signal.aborted) throw new Error(`${name} is closed.`);
    const child = new Child(program, reaper);
    this.#child = child;
    let exit: Exit | undefined;
    void child.exited.then((told) => {
      exit = told;
      if (this.#child !== child) return;
      this.#child = undefined;
      if (this.#servesSince !== undefined) this.#died(child.pid, told);
    });
    const limit = Date.now() + START_MS;
    while (!(await this.#part.serves(child.pid))) {
      if (exit) throw new Error(`${name} has ended before it served (${describe(exit)}).`);
      if (this.#closed.signal.aborted) throw new Error(`${name} is closed.`);
      if (Date.now() > limit) {
        this.#child = undefined;
        child.kill();
        throw new Error(`${name} does not serve ${START_MS / 1_000} s after its start.`);
      }
      await sleep(LOOK_MS);
    }
    if (exit) throw new Error(`${name} has ended as soon as it served (${describe(exit)}).`);
    this.#servesSince = Date.now();
    log.info({ name, pid: child.pid, url }, "started");
  }

  /** In good order, then anew. Resolves when it serves again; where it was down, when it has been brought back. */
  async restart(): Promise<void> {
    if (this.serves) {
      await this.#end("SIGTERM", this.#part.graceMs);
      await this.start().catch((error: Error) => this.#bringBack(error));
    }
    while (!this.serves) {
      if (this.#closed.signal.aborted) throw new Error(`${this.name} is closed.`);
      await sleep(LOOK_MS);
    }
  }

  /** For good. `graceMs`: before it is killed; default: what its kind needs. */
  async close(signal: "SIGTERM" | "SIGINT" = "SIGTERM", graceMs = this.#part.graceMs): Promise<void> {
    this.#closed.abort();
    await this.#end(signal, graceMs);
  }

  /** For good, and at once. */
  kill(): void {
    this.#closed.abort();
    this.#child?.kill();
  }

  /** As the process itself gets it; it is not ended by that as far as anybody knows here. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.signal(signal);
  }

  async #end(signal: "SIGTERM" | "SIGINT", graceMs: number): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#servesSince = undefined;
    const exit = await child.stop(signal, graceMs);
    const isWell = exit.code === 0 && exit.signal === null;
    const line = { name: this.name, pid: child.pid, ...exit };
    if (isWell) this.#options.log.info(line, "ended");
    else this.#options.log.warn(line, "ended, but not in good order");
  }

  #died(pid: number, exit: Exit): void {
    const { log, died, failed } = this.#options;
    const { name } = this;
    const since = this.#servesSince as number;
    this.#servesSince = undefined;
    if (this.#closed.signal.aborted) return;
    log.error({ name, pid, ...exit }, "died");
    this.#tellLast();
    if (!died({ name, pid, ...exit })) {
      failed(`${name} (pid ${pid}) died: ${describe(exit)}.`);
      return;
    }
    if (Date.now() - since > WELL_MS) this.#troubles = 0;
    void this.#bringBack();
  }

  /** Again and again, ever more slowly. */
  async #bringBack(reason?: Error): Promise<void> {
    const { log, failed, backoffMs: { first, longest } = BACKOFF_MS } = this.#options;
    const { name } = this;
    let error = reason;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (error) log.warn({ name, reason: error.message }, "does not come up");
      const wait = Math.min(longest, first * 2 ** this.#troubles++);
      await sleep(wait, undefined, { signal: this.#closed.signal }).catch(() => {});
      if (this.#closed.signal.aborted) return;
      try {
        return await this.start();
      } catch (failure) {
        if (this.#closed.signal.aborted) return;
        error = failure as Error;
      }
    }
    this.#tellLast();
    failed(`${name} does not come up: ${error?.message}`);
  }

  #tellLast(): void {
    if (!this.#part.last) return;
    for (const line of this.#part.last())
      this.#options.log.error({ name: this.name, line }, "its last lines");
  }
}

function describe({ code, signal }: Exit): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`;
}
