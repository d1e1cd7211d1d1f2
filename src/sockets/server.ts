/** The Socket.IO door: the two namespaces over one HTTP server. The only folder that imports socket.io. */
import type { Server as HttpServer, IncomingMessage } from "node:http";
import { Server, type Socket } from "socket.io";
import type { Auth, Identity } from "../auth.ts";
import { atLeast } from "../auth.ts";
import type { Hub } from "../core/hub.ts";
import { originAllowed } from "../origin.ts";
import { type ErrorCode, HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { AdapterOptions } from "./adapter.ts";
import { openAdapter } from "./adapter.ts";
import { Connection } from "./connection.ts";
import { guardedParser, REFUSED } from "./decoder.ts";
import { Trainer } from "./trainer.ts";
import { Watcher } from "./watcher.ts";

export interface SocketsOptions {
  server: HttpServer;
  hub: Hub;
  auth: Auth;
  /** As browsers send them; `*` for all. */
  corsOrigins: readonly string[];
  pingIntervalMs: number;
  pingTimeoutMs: number;
  connectTimeoutMs: number;
  tokenWarningMs: number;
  tokenGraceMs: number;
  maxConnections: number;
  /** Connections of other doors, which count as well. */
  otherConnections: () => number;
  /** Joins the instances; without it, this process is alone. */
  adapter?: AdapterOptions;
}

/** The guards refuse with an answer up to here; above, Engine.IO closes the connection. */
const BUFFER_BYTES = LIMITS.messageBytes * 2;
const SWEEP_MS = 250;
/** What Socket.IO answers; other upgrades are not its business. */
const PATH = "/socket.io/";
/** How long clients have to fetch why they are closed. */
const GRACE_MS = 500;

export interface SocketsCounters {
  connections: number;
  watchers: number;
  trainers: number;
  refused: Partial<Record<ErrorCode, number>>;
}

export class Sockets {
  readonly #options: SocketsOptions;
  readonly #io: Server;
  readonly #open = new Set<Connection>();
  readonly #refused: Partial<Record<ErrorCode, number>> = {};
  readonly #sweep: NodeJS.Timeout;
  #closing = false;
  #closeAdapter: () => void = () => {};

  private constructor(options: SocketsOptions) {
    this.#options = options;
    this.#io = new Server({
      parser: guardedParser,
      serveClient: false,
      pingInterval: options.pingIntervalMs,
      pingTimeout: options.pingTimeoutMs,
      connectTimeout: options.connectTimeoutMs,
      maxHttpBufferSize: BUFFER_BYTES,
      perMessageDeflate: false,
      // It would leave them hanging for a second and then cut them: whoever routes upgrades answers.
      destroyUpgrade: false,
      cors: { origin: options.corsOrigins.includes("*") ? "*" : [...options.corsOrigins] },
      allowRequest: (request, done) => this.#allow(request, done),
    });
    this.#sweep = setInterval(() => this.#watchTokens(), SWEEP_MS);
  }

  static async open(options: SocketsOptions): Promise<Sockets> {
    const opened = options.adapter && (await openAdapter(options.adapter));
    const sockets = new Sockets(options);
    if (opened) {
      sockets.#io.adapter(opened.adapter as never);
      sockets.#closeAdapter = opened.close;
    }
    sockets.#serve("/", (role) => atLeast(role, "watcher"));
    sockets.#serve("/trainer", (role) => role === "trainer" || role === "admin");
    sockets.#io.attach(options.server);
    sockets.#checkOrigins();
    return sockets;
  }

  /** Whether Socket.IO takes the upgrade of this path. */
  static takes(path: string): boolean {
    return path.startsWith(PATH);
  }

  /** Engine.IO's, whatever namespaces they have joined. */
  get connections(): number {
    return this.#io.engine?.clientsCount ?? 0;
  }

  get counters(): SocketsCounters {
    return {
      connections: this.connections,
      watchers: this.#io.of("/").sockets.size,
      trainers: this.#io.of("/trainer").sockets.size,
      refused: { ...this.#refused },
    };
  }

  /** Closes every connection, telling why. The HTTP server is the caller's. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#closing = true;
    const connections = [...this.#open];
    const ended = connections.map(
      ({ socket }) => new Promise((resolve) => socket.conn.once("close", resolve)),
    );
    for (const connection of connections) connection.close("shutdown");
    // A client that polls fetches the reason with its next request.
    let late: NodeJS.Timeout | undefined;
    const grace = new Promise((resolve) => {
      late = setTimeout(resolve, GRACE_MS);
    });
    await Promise.race([Promise.all(ended), grace]);
    clearTimeout(late);
    this.#io.engine?.close();
    await Promise.allSettled([...this.#io._nsps.values()].map((namespace) => namespace.adapter.close()));
    this.#closeAdapter();
  }

  #serve(path: "/" | "/trainer", mayEnter: (role: Identity["role"]) => boolean): void {
    const namespace = this.#io.of(path);
    const identities = new WeakMap<Socket, Identity>();
    const entered = new WeakSet<object>();
    namespace.use((socket, next) => {
      // First and without waiting: a thousand CONNECT packets must not become a thousand sockets.
      if (entered.has(socket.conn)) return next(refusal(new HubError("already_connected")));
      entered.add(socket.conn);
      socket.once("disconnect", () => entered.delete(socket.conn));
      try {
        const { token, [REFUSED]: unread } = { ...socket.handshake.auth } as Handshake;
        if (unread) throw new HubError(unread);
        const identity = this.#options.auth.verify(token);
        if (!mayEnter(identity.role))
          throw new HubError("forbidden", `${path} is not for the role ${identity.role}`);
        identities.set(socket, identity);
        next();
      } catch (error) {
        entered.delete(socket.conn);
        next(
          refusal(error instanceof HubError ? error : this.#options.hub.internal(error, "handshake failed")),
        );
      } finally {
        forgetToken(socket);
      }
    });
    const admit = (token: unknown) => {
      const identity = this.#options.auth.verify(token);
      if (!mayEnter(identity.role)) throw new HubError("token_mismatch");
      return identity;
    };
    namespace.on("connection", (socket) => {
      const identity = identities.get(socket as Socket) as Identity;
      this.#connected(path, socket as Socket, identity, admit);
    });
  }

  #connected(
    path: "/" | "/trainer",
    socket: Socket,
    identity: Identity,
    admit: (token: unknown) => Identity,
  ): void {
    const { hub, tokenWarningMs, tokenGraceMs } = this.#options;
    const connection = new Connection({
      socket,
      identity,
      namespace: path,
      admit,
      tokenWarningMs,
      tokenGraceMs,
      internal: (error, what) => hub.internal(error, what),
      onRefused: (code) => {
        this.#refused[code] = (this.#refused[code] ?? 0) + 1;
      },
    });
    const client = path === "/" ? new Watcher(connection, hub) : new Trainer(connection, hub);
    connection.serve(client.verbs, (newer) => client.narrow(newer));
    this.#open.add(connection);
    socket.on("disconnect", () => {
      this.#open.delete(connection);
      client.close();
    });
    connection.welcome(hub.instanceId, { pingIntervalMs: this.#options.pingIntervalMs });
  }

  #allow(request: IncomingMessage, done: (error: string | null | undefined, success: boolean) => void): void {
    const { corsOrigins, maxConnections, otherConnections } = this.#options;
    const full = this.connections + otherConnections() >= maxConnections;
    if (!originAllowed(request.headers, corsOrigins)) done("origin_not_allowed", false);
    else if (full) done("too_many_connections" satisfies ErrorCode, false);
    else if (this.#closing) done("unavailable", false);
    else done(null, true);
  }

  /** `allowRequest` is asked on the first request of a session only; polls and the upgrade come from a page as well. */
  #checkOrigins(): void {
    type EngineRequest = IncomingMessage & { _query: { sid?: string } };
    this.#io.engine.use((request: EngineRequest, _response: unknown, next: (error?: Error) => void) => {
      const first = request._query.sid === undefined;
      const allowed = first || originAllowed(request.headers, this.#options.corsOrigins);
      next(allowed ? undefined : new Error("origin_not_allowed"));
    });
  }

  /** One timer for all. */
  #watchTokens(): void {
    const now = Date.now();
    for (const connection of this.#open) connection.watchToken(now);
  }
}

/** What a client sends to get in, or why it could not be read. */
interface Handshake {
  token?: unknown;
  [REFUSED]?: ErrorCode;
}

/** A `connect_error` with the code where Socket.IO clients look for it. */
function refusal(error: HubError): Error {
  return Object.assign(new Error(error.message), { data: error.toJSON() });
}

/** `fetchSockets` would carry the handshake, token included, through Redis in clear. */
function forgetToken(socket: Socket): void {
  Object.assign(socket.handshake, { auth: {}, headers: {}, query: {}, url: "" });
}
