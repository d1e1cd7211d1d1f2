/**
 * Redis, hubs and nginx as processes of this machine, on loopback, in a folder that goes with them. Whatever becomes of
 * the process that started them, none of them outlives it.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.ts";
import { type Death, Member } from "./member.ts";
import { LEFT_OUT_MS, writeConf } from "./nginx.ts";
import { Output } from "./output.ts";
import { hubPart, nginxPart, type Part, redisPart } from "./parts.ts";
import { freePort, isFree } from "./ports.ts";
import { findPrograms, type Programs } from "./programs.ts";
import { Reaper } from "./reaper.ts";

export interface ClusterOptions {
  /** How this package's command is started: a program, and what comes before `serve`. */
  command: readonly [string, ...string[]];
  /** How many hubs. */
  replicas: number;
  /** Of nginx, on 127.0.0.1. Default 0: any free one. */
  port?: number;
  /** Brings back what dies, as a container's restart policy does. Default false: a death ends the cluster. */
  restart?: boolean;
  /** Settings of the hubs, and the PATH on which redis-server and nginx are looked for. */
  env: Readonly<Record<string, string | undefined>>;
  /** ms that a hub may take to end. Default 25 000. */
  hubGraceMs?: number;
  log: Log;
  /** A line that a hub has written, JSON or not. */
  line?(hub: string, line: string): void;
  /** Ends the start. */
  signal?: AbortSignal;
}

const HUB_GRACE_MS = 25_000;
/** Of hubs whose cluster has lost a part: there is nothing left to wait for. */
const FAILED_GRACE_MS = 3_000;
const ATTEMPTS = 10;
const LOOK_MS = 25;
const TRIM_MS = 10_000;
/** How long nginx may take to read its configuration again. */
const RELOAD_MS = 10_000;
/** nginx counts in whole seconds. */
const FOUND_AGAIN_MS = LEFT_OUT_MS + 1_000;

class PortTaken extends Error {}

export class Cluster {
  /** Ends of processes that nobody had told to end, brought back or not. */
  readonly deaths: Death[] = [];
  /** Resolves, to one line that says why, when the cluster cannot go on; it is to be closed then. */
  readonly failed: Promise<string>;
  /** All that it writes is in here. */
  readonly folder: string;
  readonly #options: ClusterOptions;
  readonly #log: Log;
  readonly #programs: Programs;
  readonly #reaper: Reaper;
  readonly #outputs: Record<"redis" | "nginx" | "access", Output>;
  readonly #trim: NodeJS.Timeout;
  readonly #members = new Set<Member>();
  #hubs: readonly Member[] = [];
  #redis: Member | undefined;
  #nginx: Member | undefined;
  #fail: (reason: string) => void = () => {};
  #hasFailed = false;
  #rolling: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: ClusterOptions, programs: Programs) {
    this.#options = options;
    this.#log = options.log.module("cluster");
    this.#programs = programs;
    this.failed = new Promise((resolve) => {
      this.#fail = (reason) => {
        this.#hasFailed = true;
        resolve(reason);
      };
    });
    this.folder = realpathSync(mkdtempSync(join(tmpdir(), "trainwire-cluster-")));
    this.#reaper = new Reaper(this.folder);
    mkdirSync(join(this.folder, "nginx"), { mode: 0o700 });
    mkdirSync(join(this.folder, "redis"), { mode: 0o700 });
    const output = (name: string) => new Output(join(this.folder, name));
    this.#outputs = {
      redis: output("redis.log"),
      nginx: output("nginx.log"),
      access: output("nginx/access.log"),
    };
    this.#trim = setInterval(() => {
      for (const each of Object.values(this.#outputs)) each.trim();
    }, TRIM_MS).unref();
  }

  /**
   * Resolves when every hub is ready and nginx answers. Whoever starts it closes it.
   *
   * @throws Error in one line: a program is missing, the port is taken, a process does not come up, `signal`.
   */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const { port = 0, env, signal } = options;
    const programs = findPrograms(env.PATH ?? "");
    if (port !== 0 && !(await isFree(port))) throw new Error(taken(port));
    const cluster = new Cluster(options, programs);
    const abort = () => void cluster.close("SIGINT", FAILED_GRACE_MS);
    signal?.addEventListener("abort", abort);
    try {
      signal?.throwIfAborted();
      await cluster.#open(port);
      return cluster;
    } catch (error) {
      await cluster.close("SIGINT", FAILED_GRACE_MS);
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** `http://127.0.0.1:port`, of nginx. */
  get url(): string {
    return this.nginx.url;
  }

  get hubs(): readonly Member[] {
    return this.#hubs;
  }

  get redis(): Member {
    return started(this.#redis);
  }

  get nginx(): Member {
    return started(this.#nginx);
  }

  /**
   * Has nginx read its configuration again. Resolves when its new workers run; those before end within 10 s.
   *
   * @throws Error when the configuration does not serve: nginx goes on with the one before.
   */
  async reloadNginx(): Promise<void> {
    const output = this.#outputs.nginx;
    const before = output.size;
    this.nginx.signal("SIGHUP");
    const limit = Date.now() + RELOAD_MS;
    for (;;) {
      const said = output.since(before);
      if (/start worker process \d/.test(said)) return;
      if (said.includes("[emerg]") || Date.now() > limit) throw new Error(`nginx does not reload:\n${said}`);
      await sleep(LOOK_MS);
    }
  }

  /** Ends each hub in good order and starts it anew, one after the other. Asked again meanwhile, it is the same one. */
  rollingRestart(): Promise<void> {
    this.#rolling ??= this.#roll().finally(() => {
      this.#rolling = undefined;
    });
    return this.#rolling;
  }

  /**
   * Ends all: the hubs at the same time, then the others. Resolves when nothing is left.
   *
   * @param signal for the hubs: after SIGTERM they drain first
   * @param graceMs until hubs are killed; default: `hubGraceMs`
   */
  close(signal: "SIGTERM" | "SIGINT" = "SIGTERM", graceMs?: number): Promise<void> {
    this.#closing ??= this.#hasFailed ? this.#close("SIGINT", FAILED_GRACE_MS) : this.#close(signal, graceMs);
    return this.#closing;
  }

  /** Kills all at once. `close` resolves when nothing is left. */
  kill(): void {
    for (const member of this.#members) member.kill();
  }

  async #open(port: number): Promise<void> {
    const { replicas } = this.#options;
    const redis = await this.#start(0, (free) => this.#redisPart(free));
    this.#redis = redis;
    const names = Array.from({ length: replicas }, (_, index) => `hub-${index + 1}`);
    this.#hubs = await all(
      names.map((name) => this.#start(0, (free) => this.#hubPart(name, free, redis.url))),
    );
    this.#nginx = await this.#start(port, (free) => this.#nginxPart(free));
  }

  /** On the port, or on a free one for 0: the kernel cannot choose, since others must know it and it stays. */
  async #start(port: number, partOn: (port: number) => Part): Promise<Member> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#startMember(partOn(port === 0 ? await freePort() : port));
      } catch (error) {
        if (!(error instanceof PortTaken)) throw error;
        if (port !== 0 || attempt === ATTEMPTS) throw new Error(taken(port));
      }
    }
  }

  async #startMember(part: Part): Promise<Member> {
    const { restart = false } = this.#options;
    const member = new Member(part, {
      reaper: this.#reaper,
      log: this.#log,
      died: (death) => {
        this.deaths.push(death);
        return restart;
      },
      failed: this.#fail,
    });
    if (this.#closing) throw new Error("The cluster is closed.");
    this.#members.add(member);
    try {
      await member.start();
      return member;
    } catch (error) {
      this.#members.delete(member);
      await member.close();
      if (part.portTaken()) throw new PortTaken();
      for (const line of part.last?.() ?? []) this.#log.error({ name: part.name, line }, "its last lines");
      throw error;
    }
  }

  #redisPart(port: number): Part {
    const folder = join(this.folder, "redis");
    const { env } = this.#options;
    return redisPart({ command: this.#programs.redis, port, folder, env, output: this.#outputs.redis });
  }

  #hubPart(name: string, port: number, redisUrl: string): Part {
    const { command, env, hubGraceMs = HUB_GRACE_MS, line } = this.#options;
    return hubPart({
      command,
      name,
      port,
      redisUrl,
      env,
      graceMs: hubGraceMs,
      line: (text) => line?.(name, text),
    });
  }

  #nginxPart(port: number): Part {
    const folder = join(this.folder, "nginx");
    const hubs = this.#hubs.map((hub) => ({ name: hub.name, address: `127.0.0.1:${hub.port}` }));
    writeConf(folder, hubs, `127.0.0.1:${port}`);
    const { env } = this.#options;
    return nginxPart({ command: this.#programs.nginx, port, folder, env, output: this.#outputs.nginx });
  }

  async #roll(): Promise<void> {
    this.#log.info({ hubs: this.#hubs.length }, "rolling restart");
    for (const [index, hub] of this.#hubs.entries()) {
      // The one before has refused newcomers, and nginx leaves it out for a moment: not two at a time.
      if (index > 0) await sleep(FOUND_AGAIN_MS);
      if (this.#closing || this.#hasFailed) return;
      await hub.restart();
    }
    this.#log.info("rolling restart is over");
  }

  async #close(signal: "SIGTERM" | "SIGINT", graceMs: number | undefined): Promise<void> {
    const isHub = (member: Member) => member.name.startsWith("hub-");
    await Promise.all([...this.#members].filter(isHub).map((hub) => hub.close(signal, graceMs)));
    await Promise.all([...this.#members].map((member) => member.close()));
    clearInterval(this.#trim);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
    await this.#reaper.end();
  }
}

function taken(port: number): string {
  return port === 0
    ? "No free port was found."
    : `Port ${port} on 127.0.0.1 is taken; choose another one with --port.`;
}

function started(member: Member | undefined): Member {
  if (!member) throw new Error("It has not been started yet.");
  return member;
}

/** The results of all, or the first error when all are over. */
async function all<T>(promises: ReadonlyArray<Promise<T>>): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}
