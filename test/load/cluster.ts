/** `trainwire cluster` from a build, and what is done to its processes, which its log names. */
import { constants, setPriority } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { HubBuild } from "../cluster/hub-process.ts";
import { childrenOf } from "../support/nginx.ts";
import { type RunningProcess, startProcess } from "../support/process.ts";

export interface ClusterOptions {
  build: HubBuild;
  replicas: number;
  /** Of the hubs. */
  env: NodeJS.ProcessEnv;
}

/** A line of the log. */
interface Line {
  level: string;
  msg: string;
  name?: string;
  pid?: number;
  url?: string;
  module?: string;
}

const START_MS = 60_000;
const STOP_MS = 60_000;
/** Only against hanging. */
const LIMIT_MS = 120_000;
const LOOK_MS = 25;
const BAD_END = "ended, but not in good order";

export class Cluster {
  /** Where nginx listens. */
  readonly url: string;
  readonly hubs: readonly string[];
  /** For whatever is to be done to Redis. */
  readonly redis: Redis;
  readonly #process: RunningProcess;
  #read = 0;
  /** Of each name, the process that serves at the moment, or did last. */
  readonly #serving = new Map<string, { pid: number; url: string }>();
  /** How often each name has begun to serve. */
  readonly #starts = new Map<string, number>();
  /** Lines that no well cluster writes: faults of hubs, ends that nobody has caused. */
  readonly faults: string[] = [];
  /** Deaths of these pids are meant. */
  readonly #killed = new Set<number>();

  private constructor(running: RunningProcess, { url, hubs }: { url: string; hubs: string[] }) {
    this.#process = running;
    this.url = url;
    this.hubs = hubs;
    this.#look();
    this.redis = new Redis(this.urlOf("redis"), { maxRetriesPerRequest: null, retryStrategy: () => 50 });
    this.redis.on("error", () => {}); // it is restarted
  }

  static async start({ build, replicas, env }: ClusterOptions): Promise<Cluster> {
    const args = [build.main, "cluster", "--replicas", String(replicas), "--port", "0", "--restart"];
    const running = startProcess(process.execPath, args, { env });
    // Where hubs and generators share a machine's cores, the generators go first: else it is they who are late.
    setPriority(running.pid, constants.priority.PRIORITY_BELOW_NORMAL);
    try {
      const [line] = await running.waitForLine(/^.*"trainwire cluster is listening".*$/, START_MS);
      return new Cluster(running, JSON.parse(line as string) as { url: string; hubs: string[] });
    } catch (error) {
      await running.stop();
      throw error;
    }
  }

  /** The process of `trainwire cluster` itself. */
  get pid(): number {
    return this.#process.pid;
  }

  /** All lines so far. */
  get output(): readonly string[] {
    return this.#process.output;
  }

  /** Of a hub, `nginx` or `redis`. */
  pidOf(name: string): number {
    return this.#servingOf(name).pid;
  }

  /** Past nginx. */
  urlOf(name: string): string {
    return this.#servingOf(name).url;
  }

  /** Pids of nginx's workers, old ones among them. */
  get workers(): number[] {
    return childrenOf(this.pidOf("nginx"));
  }

  /** What there is at the moment, by pid. */
  processes(): Map<number, string> {
    this.#look();
    const found = new Map([...this.#serving].map(([name, { pid }]) => [pid, name]));
    try {
      for (const pid of this.workers) found.set(pid, "nginx");
    } catch {
      // nginx is down.
    }
    return found.set(this.pid, "cluster");
  }

  /** Resolves when all hubs are new. */
  async rollingRestart(): Promise<void> {
    const after = this.output.length;
    this.#process.signal("SIGHUP");
    await this.#process.waitForLine(/"rolling restart is over"/, LIMIT_MS, after);
  }

  /** Resolves when another one serves in its place. */
  async kill(name: string): Promise<void> {
    await this.#replaced(name, (pid) => process.kill(pid, "SIGKILL"));
  }

  /** As an operator's `SHUTDOWN`. Resolves when another one serves. */
  async restartRedis(): Promise<void> {
    // A client that connects again would send it again.
    const once = new Redis(this.urlOf("redis"), { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    once.on("error", () => {});
    await this.#replaced("redis", () => void once.call("SHUTDOWN").catch(() => {}));
    once.disconnect();
  }

  /** Resolves when the old workers have gone, and their connections. */
  async reloadNginx(): Promise<void> {
    const old = this.workers;
    process.kill(this.pidOf("nginx"), "SIGHUP");
    await this.#until("nginx has new workers", () => {
      const now = this.workers;
      return now.length > 0 && now.every((pid) => !old.includes(pid));
    });
  }

  /** Resolves when there is another one in its place. */
  async killWorker(choose: (workers: readonly number[]) => number): Promise<void> {
    const before = this.workers;
    const pid = choose(before);
    process.kill(pid, "SIGKILL");
    const replaced = () => !this.workers.includes(pid) && this.workers.length === before.length;
    await this.#until("nginx has another worker", replaced);
  }

  /** In good order; complains if it was none. */
  async stop(): Promise<void> {
    this.redis.disconnect();
    const { code } = await this.#process.stop("SIGINT", STOP_MS);
    this.#look();
    if (code !== 0) this.faults.push(`trainwire cluster ended with ${code}`);
  }

  async #replaced(name: string, end: (pid: number) => void): Promise<void> {
    const { pid } = this.#servingOf(name);
    const starts = this.#starts.get(name);
    this.#killed.add(pid);
    end(pid);
    await this.#until(`${name} serves again`, () => {
      this.#look();
      return this.#starts.get(name) !== starts;
    });
  }

  #servingOf(name: string): { pid: number; url: string } {
    this.#look();
    const serving = this.#serving.get(name);
    if (!serving) throw new Error(`the cluster has no ${name}`);
    return serving;
  }

  async #until(what: string, condition: () => boolean): Promise<void> {
    const limit = Date.now() + LIMIT_MS;
    while (!condition()) {
      if (Date.now() > limit) throw new Error(`waited for: ${what}`);
      await sleep(LOOK_MS);
    }
  }

  #look(): void {
    for (; this.#read < this.output.length; this.#read++) this.#take(this.output[this.#read] as string);
  }

  #take(text: string): void {
    const line = parsed(text);
    const { name, pid, url, msg, level, module } = line ?? {};
    const isOwn = module === "cluster";
    if (isOwn && msg === "started" && name && pid && url) {
      this.#serving.set(name, { pid, url });
      this.#starts.set(name, (this.#starts.get(name) ?? 0) + 1);
    }
    const isMeant = isOwn && msg === "died" && pid !== undefined && this.#killed.has(pid);
    // What Redis has said before it went.
    const isLast = isOwn && msg === "its last lines" && name === "redis";
    const isBad = !line || level === "error" || level === "fatal" || msg === "said" || msg === BAD_END;
    if (isBad && !isMeant && !isLast) this.faults.push(text);
  }
}

function parsed(text: string): Line | undefined {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return undefined;
  }
}
