/**
 * Connections to Redis: the only file that imports ioredis. One connection for commands, further ones for subscribers.
 *
 * A command is sent once: nothing is queued while the link is down and nothing is resent by the client, because the
 * reply that was lost may belong to a command that ran, and because an append carries the generation of the server it
 * was meant for.
 */
import { Redis, type RedisOptions } from "ioredis";
import { HubError } from "../protocol/codes.ts";
import { confirmGeneration, field } from "./generation.ts";

export type { Redis } from "ioredis";

export interface RedisLinkOptions {
  url: string;
  /** ms; a command without a reply for so long is answered `unavailable`. */
  timeoutMs: number;
  /** Where the server keeps the name of its generation; default `trainwire:generation`. */
  generationKey?: string;
  /** Told once when the link is lost and once when it is back. */
  onState?: (state: "ready" | "lost", detail: string) => void;
}

/** How often each connection must show that it lives, and the server that it is still the same. */
const PING_MS = 2_000;
const DISCONNECT_MS = 100;

export class RedisLink {
  readonly commands: Redis;
  readonly #options: RedisLinkOptions;
  readonly #clients: Redis[] = [];
  #generation: string | undefined;
  /** Rises with every end of the connection for commands. */
  #connection = 0;
  #lost = false;
  #losses = 0;
  #closed = false;
  readonly #watch: NodeJS.Timeout;

  private constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.commands = this.#client("commands", {
      maxRetriesPerRequest: 0,
      commandTimeout: options.timeoutMs,
    });
    this.commands.on("close", () => {
      this.#connection++;
      this.#generation = undefined;
      if (!this.#lost && !this.#closed) {
        this.#losses++;
        options.onState?.("lost", "connection closed");
      }
      this.#lost = true;
    });
    this.commands.on("ready", () => void this.#learn());
    this.#watch = setInterval(() => {
      for (const client of this.#clients) {
        // A server that was emptied, or was a replica in between, has another name, and all hubs must use the same.
        if (client !== this.commands) void this.#isAlive(client);
        else if (this.ready) void this.#learn();
      }
    }, PING_MS);
  }

  /** @throws Error in one line, when the server cannot be reached or cannot serve. */
  static async open(options: RedisLinkOptions): Promise<RedisLink> {
    const link = new RedisLink(options);
    let fault: Error | undefined;
    link.commands.once("error", (error: Error) => {
      fault = error;
    });
    try {
      await link.commands.connect();
      await refuseUnfit(link.commands, link.#generationKey);
      link.#generation = await link.#confirm();
      return link;
    } catch (error) {
      link.close();
      // That the connection is closed says less than why.
      const { message } = fault && /closed/.test((error as Error).message) ? fault : (error as Error);
      throw new Error(`Redis at ${publicUrl(options.url)} cannot be used: ${message}`);
    }
  }

  /** Whether commands are answered at the moment. */
  get ready(): boolean {
    return this.#generation !== undefined && this.commands.status === "ready";
  }

  /** How often the connection for commands was lost. */
  get losses(): number {
    return this.#losses;
  }

  /**
   * Names what the server has kept (generation.ts).
   *
   * @throws HubError `unavailable` while the link is down.
   */
  get generation(): string {
    if (this.#generation === undefined) throw new HubError("unavailable", "The store is not connected.");
    return this.#generation;
  }

  /** A connection of its own for subscriptions. It renews none by itself: ioredis would, without catching refusals. */
  subscriber(): Redis {
    return this.#client("subscriber", { autoResubscribe: false, maxRetriesPerRequest: null });
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watch);
    for (const client of this.#clients) client.disconnect();
  }

  #client(name: string, options: RedisOptions): Redis {
    const client = new Redis(this.#options.url, {
      connectionName: `trainwire-${name}`,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      connectTimeout: this.#options.timeoutMs,
      // A peer that has vanished does not answer a farewell either.
      disconnectTimeout: DISCONNECT_MS,
      // A master that became a replica, and may be promoted again, keeps its connections: only a new one learns of it.
      reconnectOnError: ({ message }) => message.startsWith("READONLY"),
      retryStrategy: (attempt) => Math.random() * Math.min(1_000, 50 * 2 ** Math.min(attempt, 6)) + 10,
      ...options,
    });
    // The state is told by `close` and `ready`; an unheard `error` event would end the process.
    client.on("error", () => {});
    // The peer may also vanish between `connect` and `ready`, when no ping can be sent yet.
    let timer: NodeJS.Timeout | undefined;
    client.on("connect", () => {
      clearTimeout(timer);
      timer = setTimeout(() => client.disconnect(true), this.#options.timeoutMs);
    });
    for (const event of ["ready", "close"]) client.on(event, () => clearTimeout(timer));
    this.#clients.push(client);
    return client;
  }

  get #generationKey(): string {
    return this.#options.generationKey ?? "trainwire:generation";
  }

  #confirm(): Promise<string> {
    return confirmGeneration(this.commands, this.#generationKey);
  }

  /** A peer that has vanished without a word shows only by its silence. */
  async #isAlive(client: Redis): Promise<void> {
    if (client.status !== "ready") return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer")), this.#options.timeoutMs);
    });
    try {
      await Promise.race([client.ping(), late]);
    } catch {
      if (client.status === "ready") client.disconnect(true);
    } finally {
      clearTimeout(timer);
    }
  }

  async #learn(): Promise<void> {
    const connection = this.#connection;
    try {
      const generation = await this.#confirm();
      // An answer of the connection before says nothing of the server that is there now.
      if (connection !== this.#connection) return;
      this.#generation = generation;
      if (this.#lost) this.#options.onState?.("ready", generation);
      this.#lost = false;
    } catch {
      // The link went again, and its next `ready` comes here; or the server refuses, and a new link may find another.
      if (this.commands.status === "ready") this.commands.disconnect(true);
    }
  }
}

async function refuseUnfit(redis: Redis, channel: string): Promise<void> {
  const info = await redis.info();
  const version = field(info, "redis_version") ?? "unknown";
  if (Number.parseInt(version, 10) < 7)
    throw new Error(`it is version ${version}, and 7.0 or newer is needed`);
  const policy = field(info, "maxmemory_policy");
  if (policy !== undefined && policy !== "noeviction") {
    throw new Error(`its maxmemory-policy is ${policy}, which throws away events; set it to noeviction`);
  }
  await redis.spublish(channel, "").catch((error: Error) => {
    throw new Error(`it does not publish (${error.message})`);
  });
  const ran = await redis.eval("#!lua flags=no-writes\nreturn 7", 0).catch((error: Error) => error);
  if (ran !== 7)
    throw new Error(`it does not run scripts (${ran instanceof Error ? ran.message : String(ran)})`);
}

/** Without the password. */
function publicUrl(url: string): string {
  try {
    const { protocol, hostname, port } = new URL(url);
    return `${protocol}//${hostname}:${port || "6379"}`;
  } catch {
    return "REDIS_URL";
  }
}
