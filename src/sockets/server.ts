/** The Socket.IO door: the two namespaces over one HTTP server. The only folder that imports socket.io. */
import { type Server as HttpServer, type IncomingMessage, ServerResponse } from "node:http";
import { Server, type Socket } from "socket.io";
import type { Auth, Identity } from "../auth.ts";
import { atLeast } from "../auth.ts";
import type { Hub } from "../core/hub.ts";
import type { PartLog } from "../core/log.ts";
import { count, type Tally } from "../core/meter.ts";
import { originAllowed } from "../origin.ts";
import { type ErrorCode, HubError } from "../protocol/codes.ts";
import { LIMITS, wireName } from "../protocol/limits.ts";
import { refuse, refuseUpgrade } from "../refusal.ts";
import type { AdapterOptions } from "./adapter.ts";
import { type OpenAdapter, openAdapter } from "./adapter.ts";
import { forgetHandshake, settle } from "./compact.ts";
import { Connection, type ConnectionOptions } from "./connection.ts";
import { guardedParser, REFUSED } from "./decoder.ts";
import { closeAll, Drain } from "./drain.ts";
import { wsEngine } from "./engine.ts";
import { measure, type SocketsMeasures } from "./measures.ts";
import { Outboxes } from "./outbox.ts";
import { Trainer } from "./trainer.ts";
import { Watcher } from "./watcher.ts";
import { heard, Writers } from "./writer.ts";

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
  /** Bytes that wait for one client. */
  holdBytes: number;
  slowBytes: number;
  /** How long events may wait at most, while the event loop is busy, to leave together. */
  flushMs: number;
  /** Where a request comes from. */
  addressOf: (request: IncomingMessage) => string;
  log: PartLog;
  /** Whether what comes on a connection of before this moment is too late. */
  isStale: (since: number) => boolean;
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
const DOORS = { "/": "watcher", "/trainer": "trainer" } as const;
const WINDOW_MIN_BYTES = 16_384;
/** How long clients have to fetch why they are closed. */
const GRACE_MS = 500;

export interface SocketsCounters {
  watchers: number;
  trainers: number;
}

export class Sockets {
  readonly #options: SocketsOptions;
  readonly #io: Server;
  readonly #open = new Set<Connection>();
  readonly #writers: Writers;
  readonly #outboxes: Outboxes;
  /** Verbs. */
  readonly #refused: Tally<ErrorCode> = {};
  readonly #sweep: NodeJS.Timeout;
  #drain: Drain | undefined;
  #closing = false;
  #adapter: OpenAdapter | undefined;

  private constructor(options: SocketsOptions) {
    this.#options = options;
    // Not so little that each event is asked about; and what makes one slow must be more than what is on its way.
    const windowBytes = Math.max(WINDOW_MIN_BYTES, Math.min(options.holdBytes, options.slowBytes / 4));
    this.#writers = new Writers(options.flushMs, windowBytes);
    this.#outboxes = new Outboxes(options, this.#writers);
    this.#io = new Server({
      parser: guardedParser,
      serveClient: false,
      pingInterval: options.pingIntervalMs,
      pingTimeout: options.pingTimeoutMs,
      connectTimeout: options.connectTimeoutMs,
      maxHttpBufferSize: BUFFER_BYTES,
      perMessageDeflate: false,
      wsEngine: wsEngine(this.#writers),
      // It would leave them hanging for a second and then cut them: whoever routes upgrades answers.
      destroyUpgrade: false,
      cors: { origin: options.corsOrigins.includes("*") ? "*" : [...options.corsOrigins] },
    });
    this.#sweep = setInterval(() => this.#watchTokens(), SWEEP_MS);
  }

  static async open(options: SocketsOptions): Promise<Sockets> {
    const opened = options.adapter && (await openAdapter(options.adapter));
    const sockets = new Sockets(options);
    if (opened) {
      sockets.#io.adapter(opened.adapter as never);
      sockets.#adapter = opened;
    }
    sockets.#serve("/", (role) => atLeast(role, "watcher"));
    sockets.#serve("/trainer", (role) => role === "trainer" || role === "admin");
    sockets.#io.attach(options.server);
    sockets.#nameSessions();
    sockets.#prepareSessions();
    sockets.#checkRequests();
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
      watchers: this.#io.of("/").sockets.size,
      trainers: this.#io.of("/trainer").sockets.size,
    };
  }

  get measures(): SocketsMeasures {
    return {
      ...measure(this.#io, this.#open, this.#outboxes.behind, this.#refused),
      writes: this.#writers.writes,
      flushWaitMs: this.#writers.waitMs,
      unreadable: this.#adapter?.unreadable ?? 0,
    };
  }

  /**
   * Takes no new sessions, and tells every connection a moment of its own within so many ms, at which it is closed.
   * Resolves when nobody is left, or all have been told to go; then `close`.
   */
  drain(windowMs: number): Promise<void> {
    this.#drain ??= new Drain(windowMs, () => this.connections);
    for (const connection of this.#open) this.#drain.add(connection);
    return this.#drain.over;
  }

  /** Closes every connection, telling why. The HTTP server is the caller's. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#drain?.close();
    this.#closing = true;
    const connections = [...this.#open];
    const ended = connections.map(
      ({ socket }) => new Promise((resolve) => socket.conn.once("close", resolve)),
    );
    closeAll(connections);
    // A client that polls fetches the reason with its next request.
    let late: NodeJS.Timeout | undefined;
    const grace = new Promise((resolve) => {
      late = setTimeout(resolve, GRACE_MS);
    });
    await Promise.race([Promise.all(ended), grace]);
    clearTimeout(late);
    this.#io.engine?.close();
    await Promise.allSettled([...this.#io._nsps.values()].map((namespace) => namespace.adapter.close()));
    this.#adapter?.close();
    this.#writers.close();
  }

  #serve(path: "/" | "/trainer", mayEnter: (role: Identity["role"]) => boolean): void {
    const namespace = this.#io.of(path);
    const options = this.#optionsOf(path, mayEnter);
    /** Who is let in and not connected yet. */
    const entering = new WeakMap<object, Identity>();
    namespace.use((socket, next) => {
      // First and without waiting: a thousand CONNECT packets must not become a thousand sockets.
      if (entering.has(socket.conn))
        return next(this.#refuse(path, socket, new HubError("already_connected")));
      try {
        const { token, [REFUSED]: unread } = { ...socket.handshake.auth } as Handshake;
        if (unread) throw new HubError(unread);
        const identity = this.#options.auth.verify(token);
        if (!mayEnter(identity.role))
          throw new HubError("forbidden", `${path} is not for the role ${identity.role}`);
        entering.set(socket.conn, identity);
        next();
      } catch (error) {
        const told =
          error instanceof HubError ? error : this.#options.hub.internal(error, "handshake failed");
        next(this.#refuse(path, socket, told));
      } finally {
        forgetHandshake(socket);
      }
    });
    namespace.on("connection", (socket) => {
      const identity = entering.get(socket.conn) as Identity;
      // From here on Socket.IO itself takes no second CONNECT.
      entering.delete(socket.conn);
      this.#connected(new Connection(socket as Socket, identity, options));
    });
  }

  #optionsOf(path: "/" | "/trainer", mayEnter: (role: Identity["role"]) => boolean): ConnectionOptions {
    const { hub, auth, tokenWarningMs, tokenGraceMs, pingIntervalMs, log, isStale } = this.#options;
    const limits = Object.entries({ ...LIMITS, pingIntervalMs });
    return {
      namespace: path,
      door: DOORS[path],
      verbs: path === "/" ? Watcher.verbs : Trainer.verbs,
      instanceId: hub.instanceId,
      limits: Object.fromEntries(limits.map(([name, limit]) => [wireName(name), limit])),
      outboxes: this.#outboxes,
      admit: (token) => {
        const identity = auth.verify(token);
        if (!mayEnter(identity.role)) throw new HubError("token_mismatch");
        return identity;
      },
      tokenWarningMs,
      tokenGraceMs,
      internal: (error, what) => hub.internal(error, what),
      log,
      isStale,
      onRefused: (code) => count(this.#refused, code),
      onEnded: (connection, reason) => {
        hub.visits.end(connection, reason);
        this.#open.delete(connection);
      },
    };
  }

  #refuse(path: "/" | "/trainer", socket: Socket, error: HubError): Error {
    const { remoteAddress: address } = socket.conn;
    this.#options.hub.visits.refuse(error.code, { door: DOORS[path], address });
    return refusal(error);
  }

  #connected(connection: Connection): void {
    const { hub } = this.#options;
    const isWatcher = connection.door === "watcher";
    connection.serve(isWatcher ? new Watcher(connection, hub) : new Trainer(connection, hub));
    this.#open.add(connection);
    hub.visits.begin(connection);
    connection.welcome();
    this.#drain?.add(connection);
  }

  /** The load balancer finds the hub of a session by its name, the last label of the id. */
  #nameSessions(): void {
    const { engine } = this.#io;
    const random = engine.generateId.bind(engine);
    engine.generateId = (request: IncomingMessage) => `${random(request)}.${this.#options.hub.instanceId}`;
  }

  #prepareSessions(): void {
    this.#io.engine.on("connection", (conn: Socket["conn"]) => {
      const { request, transport } = conn;
      // The request would stay as long as the session. Only its address is asked for later.
      Object.assign(conn, { remoteAddress: this.#options.addressOf(request), request: null });
      if (transport.name === "polling") {
        // Who polls is told of a close with the next poll. Engine.IO waits 30 s for it, and a process with it, also when
        // nobody is there.
        Object.assign(transport, { closeTimeout: GRACE_MS });
        // Most clients begin so, and become a WebSocket.
        conn.once("upgrade", settle);
      } else settle(transport);
      conn.on("heartbeat", heard);
    });
  }

  /**
   * Before Engine.IO looks at a request, be it a poll or an upgrade: its own refusals are all 400 or 403, and a load
   * balancer tries the next hub only after a 503.
   */
  #checkRequests(): void {
    this.#io.engine.use((request: EngineRequest, response: unknown, next: () => void) => {
      const { addressOf } = this.#options;
      try {
        this.#check(request);
      } catch (error) {
        const told = error instanceof HubError ? error : this.#options.hub.internal(error, "request failed");
        this.#options.hub.visits.refuse(told.code, { address: addressOf(request) });
        if (response instanceof ServerResponse) refuse(response, told);
        else refuseUpgrade(request.socket, told);
        return;
      }
      next();
    });
  }

  /** Polls and the upgrade come from a page as well as the first request; sessions that are there go on to their end. */
  #check({ headers, _query: { sid } }: EngineRequest): void {
    const { corsOrigins, maxConnections, otherConnections } = this.#options;
    if (!originAllowed(headers, corsOrigins)) throw new HubError("origin_not_allowed");
    if (sid) return;
    if (this.#drain || this.#closing) throw new HubError("draining");
    if (this.connections + otherConnections() >= maxConnections) throw new HubError("too_many_connections");
  }

  /** One timer for all. */
  #watchTokens(): void {
    const now = Date.now();
    for (const connection of this.#open) connection.watchToken(now);
  }
}

/** Engine.IO has read the query before its middlewares are asked. */
type EngineRequest = IncomingMessage & { _query: { sid?: string } };

/** What a client sends to get in, or why it could not be read. */
interface Handshake {
  token?: unknown;
  [REFUSED]?: ErrorCode;
}

/** A `connect_error` with the code where Socket.IO clients look for it. */
function refusal(error: HubError): Error {
  return Object.assign(new Error(error.message), { data: error.toJSON() });
}
