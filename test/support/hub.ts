/** A hub in this process on a port of its own, and plain Socket.IO clients (no SDK) to hold it to the protocol. */
import { Server } from "socket.io";
import { io, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";
import { type Role, signToken } from "../../src/auth.ts";
import { loadConfig } from "../../src/config.ts";
import type { Hub } from "../../src/core/hub.ts";
import { createLog } from "../../src/log.ts";
import type {
  Answer,
  DeliveredEvent,
  PublishAnswer,
  PublishedEvent,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
  Welcome,
} from "../../src/protocol/types.ts";
import { startHub } from "../../src/server.ts";
import type { LogLevels } from "../../src/settings.ts";
import { freshPrefix, plainRedis } from "./hooks.ts";

export const SECRET = "a-secret-of-the-tests-0123456789";
export const TENANT = "acme";

export interface TokenOptions {
  tenant?: string;
  jobs?: readonly string[];
  /** Seconds. */
  ttl?: number;
  subject?: string;
}

export function token(role: Role, options: TokenOptions = {}): string {
  const { tenant = TENANT, jobs, ttl = 600, subject = "tester" } = options;
  return signToken(SECRET, { subject, tenantId: tenant, role, ttlSeconds: ttl, ...(jobs && { jobs }) });
}

export interface TestHubOptions {
  /** `plain` is the Redis that the tests of this run share. */
  redis?: "memory" | "plain" | { url: string };
  /** Hubs with the same prefix are one system; default: one of its own. */
  prefix?: string;
  env?: Record<string, string>;
  /** Default: `warn`. */
  levels?: LogLevels;
  /** Lines of level `error` that the test provokes; any other fails `close`. */
  expected?: RegExp;
}

export interface TestHub {
  readonly url: string;
  /** Of TRAINWIRE_METRICS_PORT, if that is set. */
  readonly metricsUrl: string | undefined;
  readonly hub: Hub;
  /** Socket.IO's own server, for what no client sees: rooms. */
  readonly io: Server;
  readonly prefix: string;
  /** Lines of the log. */
  readonly log: readonly string[];
  token: typeof token;
  /** A connected client; `close` closes it. */
  watcher(options?: TokenOptions & { role?: Role }): Promise<TestClient>;
  trainer(options?: TokenOptions & { role?: Role }): Promise<TestClient>;
  /** Publishes through the core, past the sockets. */
  publish(events: unknown, options?: TokenOptions): Promise<PublishAnswer>;
  /** Asks everybody to leave; `close` is still to come. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

export async function startTestHub(options: TestHubOptions = {}): Promise<TestHub> {
  const { redis = "memory", prefix = freshPrefix(), env = {}, expected = /(?!)/ } = options;
  const { levels = { level: "warn", modules: {} } } = options;
  const url = redis === "plain" ? (await plainRedis()).url : redis === "memory" ? undefined : redis.url;
  const log: string[] = [];
  const config = loadConfig({
    PORT: "0",
    JWT_SECRET: SECRET,
    TRAINWIRE_KEY_PREFIX: prefix,
    // Most tests count positions.
    TRAINWIRE_PRESENCE_INTERVAL_MS: "0",
    ...(url !== undefined && { REDIS_URL: url }),
    ...env,
  });
  const destination = { write: (line: string) => void log.push(line) };
  const { result: running, made } = await capturing(() =>
    startHub(config, createLog({ levels, pretty: false, destination })),
  );
  const clients: TestClient[] = [];
  const connect = async (namespace: string, given: string) => {
    const opened = client(running.url, given, namespace);
    clients.push(opened);
    await opened.connected();
    return opened;
  };
  return {
    url: running.url,
    metricsUrl: running.metricsUrl,
    hub: running.hub,
    io: made,
    prefix,
    log,
    token,
    watcher: ({ role = "watcher", ...rest } = {}) => connect("/", token(role, rest)),
    trainer: ({ role = "trainer", ...rest } = {}) => connect("/trainer", token(role, rest)),
    publish: async (events, { tenant = TENANT, subject = "tester", jobs } = {}) => {
      const expiresAt = Date.now() + 60_000;
      const identity = {
        subject,
        tenantId: tenant,
        role: "trainer" as const,
        expiresAt,
        ...(jobs && { jobs }),
      };
      return await running.hub.publish(identity, events);
    },
    drain: () => running.drain(),
    close: async () => {
      for (const each of clients) each.close();
      await running.close();
      const errors = log.filter((line) => line.includes('"level":"error"') && !expected.test(line));
      if (errors.length > 0) throw new Error(`the hub logged:\n${errors.join("\n")}`);
    },
  };
}

/** Socket.IO's server is the door's own business; here it is caught when it is attached. */
async function capturing<R>(work: () => Promise<R>): Promise<{ result: R; made: Server }> {
  const { attach } = Server.prototype;
  let made: Server | undefined;
  Server.prototype.attach = function (this: Server, ...args: Parameters<typeof attach>) {
    made = this;
    return attach.apply(this, args);
  };
  try {
    const result = await work();
    return { result, made: made as Server };
  } finally {
    Server.prototype.attach = attach;
  }
}

const PATIENCE_MS = 8_000;

export interface Refusal {
  code: string;
  message: string;
  temporary: boolean;
}

/** A Socket.IO client that writes down everything it receives, in order. */
export class TestClient {
  readonly socket: Socket;
  /** Every event, also `connect_error` and `disconnect`, and `answer:<verb>` of what was asked with `ask`. */
  readonly received: Array<{ name: string; value: unknown }> = [];
  readonly #taken = new Set<object>();
  readonly #waiting = new Set<() => void>();

  constructor(socket: Socket) {
    this.socket = socket;
    socket.onAny((name: string, value: unknown) => this.#add(name, value));
    socket.on("connect_error", (error) => this.#add("connect_error", error));
    socket.on("disconnect", (reason) => this.#add("disconnect", reason));
  }

  /** The first event of this name that no earlier `next` has given. */
  next<T = unknown>(name: string, predicate: (value: T) => boolean = () => true): Promise<T> {
    return this.#wait(`${name}`, () => {
      const found = this.received.find(
        (each) => each.name === name && !this.#taken.has(each) && predicate(each.value as T),
      );
      if (!found) return undefined;
      this.#taken.add(found);
      return { value: found.value as T };
    });
  }

  /** Resolves when what was received fulfils a condition. */
  until(what: string, condition: (client: this) => boolean): Promise<void> {
    return this.#wait(what, () => (condition(this) ? { value: undefined } : undefined));
  }

  /** Resolves when an event of a feed has this position or a higher one. */
  reach(seq: number, name?: string): Promise<void> {
    return this.until(`seq ${seq}`, () =>
      this.received.some(
        (each) =>
          (name === undefined || each.name === name) && ((each.value as { seq?: number })?.seq ?? 0) >= seq,
      ),
    );
  }

  async connected(): Promise<Welcome> {
    const refused = new Promise<never>((_, reject) => {
      this.socket.once("connect_error", (error) => reject(error));
    });
    return await Promise.race([this.next<Welcome>("welcome"), refused]);
  }

  /** Values of all events of this name. */
  all<T = unknown>(name: string): T[] {
    return this.received.filter((each) => each.name === name).map(({ value }) => value as T);
  }

  /** Delivered events of a feed, in order. */
  events(feed: "job" | "tenant" = "job"): DeliveredEvent[] {
    return this.received.flatMap(({ value }) => {
      const event = value as DeliveredEvent;
      return event?.feed === feed && event.data !== undefined ? [event] : [];
    });
  }

  /** A verb's answer, taken in the acknowledgement callback. */
  ask<D = unknown>(verb: string, request: unknown): Promise<Answer<D>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${verb}`)), PATIENCE_MS);
      this.socket.emit(verb, request, (answer: Answer<D>) => {
        clearTimeout(timer);
        this.#add(`answer:${verb}`, answer);
        resolve(answer);
      });
    });
  }

  /** The data of an answer that must be good. */
  async good<D>(verb: string, request: unknown): Promise<D> {
    const answer = await this.ask<D>(verb, request);
    if (!answer.ok) throw new Error(`${verb} was refused: ${JSON.stringify(answer.error)}`);
    return answer.data;
  }

  /** The error of an answer that must be a refusal. */
  async refused(verb: string, request: unknown): Promise<Refusal> {
    const answer = await this.ask(verb, request);
    if (answer.ok) throw new Error(`${verb} was accepted: ${JSON.stringify(answer.data)}`);
    return answer.error;
  }

  subscribe(request: SubscribeRequest = {}): Promise<SubscribeAnswer> {
    return this.good("subscribe", request);
  }

  subscribeAll(request: Omit<SubscribeRequest, "job_id"> = {}): Promise<SubscribeAllAnswer> {
    return this.good("subscribe", { ...request, job_id: "*" });
  }

  publish(events: PublishedEvent | PublishedEvent[]): Promise<PublishAnswer> {
    return this.good("publish", events);
  }

  close(): void {
    this.socket.disconnect();
  }

  #add(name: string, value: unknown): void {
    this.received.push({ name, value });
    for (const look of [...this.#waiting]) look();
  }

  #wait<T>(what: string, look: () => { value: T } | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(check);
      };
      const check = () => {
        const found = look();
        if (!found) return;
        done();
        resolve(found.value);
      };
      const timer = setTimeout(() => {
        done();
        const names = this.received.slice(-20).map(({ name }) => name);
        reject(new Error(`waited for ${what}; the last that came: ${names.join(", ")}`));
      }, PATIENCE_MS);
      this.#waiting.add(check);
      check();
    });
  }
}

/** A client that does not reconnect by itself. */
export function client(
  url: string,
  given: string | undefined,
  namespace = "/",
  options: Partial<ManagerOptions & SocketOptions> = {},
): TestClient {
  return new TestClient(
    io(`${url}${namespace}`, {
      transports: ["websocket"],
      forceNew: true,
      reconnection: false,
      ...(given !== undefined && { auth: { token: given } }),
      ...options,
    }),
  );
}

/** For what has no event: asks again every few milliseconds. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = PATIENCE_MS,
): Promise<void> {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A log line of a job, as a trainer publishes it. */
export function line(job_id: string, message = "a line"): PublishedEvent<"log"> {
  return { type: "log", job_id, data: { message } };
}

export function lines(job_id: string, count: number, from = 1): PublishedEvent<"log">[] {
  return Array.from({ length: count }, (_, i) => line(job_id, `line ${from + i}`));
}

export function status(
  job_id: string,
  value: PublishedEvent<"training_status">["data"]["status"],
): PublishedEvent<"training_status"> {
  return { type: "training_status", job_id, data: { status: value } };
}

export function progress(
  job_id: string,
  data: PublishedEvent<"training_progress">["data"],
): PublishedEvent<"training_progress"> {
  return { type: "training_progress", job_id, data };
}
