/**
 * `/ws/heartbeat`: a plain WebSocket that tells the time once a second, to test whether WebSockets come through at all.
 * The only folder that imports ws.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Auth, Identity } from "../auth.ts";
import { originAllowed } from "../origin.ts";
import { CLOSES, type CloseReason, HubError } from "../protocol/codes.ts";
import { refuseUpgrade } from "../refusal.ts";

export interface HeartbeatOptions {
  auth: Auth;
  /** As browsers send them; `*` for all. */
  corsOrigins: readonly string[];
  pingIntervalMs: number;
  pingTimeoutMs: number;
  /** Whether the instance has as many connections as it may. */
  full: () => boolean;
  /** Somebody has come. Answers what is told when he goes: a `CloseReason`, `ping_timeout` or `transport_close`. */
  onOpened: (identity: Identity, request: IncomingMessage) => (reason: string) => void;
}

export const HEARTBEAT_PATH = "/ws/heartbeat";

const SECOND_MS = 1_000;
/** How exactly a second is kept. */
const TICK_MS = 50;
/** A `ping` is 4 bytes; nothing else has an answer. */
const MESSAGE_BYTES = 1_024;
/** Messages and ping frames of one client in a second; one more closes its connection. */
const MESSAGES = 20;
/** Who does not read what it is sent, and yet is alive. */
const UNREAD_BYTES = 65_536;
/** How long clients have to answer a close. */
const GRACE_MS = 500;

interface Client {
  readonly socket: WebSocket;
  readonly expiresAt: number;
  /** The next heartbeat, by `performance.now()`. */
  nextAt: number;
  /** Since the last heartbeat. */
  messages: number;
  /** The last ping frame, by `performance.now()`. */
  pingedAt: number;
  answered: boolean;
  /** When it is closed although nothing is wrong with it, by `performance.now()`. */
  leavesAt: number;
  /** Why it is cut off, where no close is sent. */
  reason?: "slow" | "ping_timeout" | "too_many_violations";
}

export class Heartbeats {
  readonly #options: HeartbeatOptions;
  readonly #server: WebSocketServer;
  readonly #clients = new Set<Client>();
  /** One for all, and none while nobody is here. */
  #timer: NodeJS.Timeout | undefined;
  #ending = false;
  #emptied: () => void = () => {};

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: MESSAGE_BYTES,
      perMessageDeflate: false,
      handleProtocols: () => false,
    });
    this.#server.on("wsClientError", (error, socket) =>
      refuseUpgrade(socket, new HubError("malformed", error.message)),
    );
  }

  get connections(): number {
    return this.#clients.size;
  }

  /** @throws HubError `origin_not_allowed`, `unauthorized`, `token_expired`, `too_many_connections`, `draining`. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { auth, corsOrigins, full } = this.#options;
    if (!originAllowed(request.headers, corsOrigins)) throw new HubError("origin_not_allowed");
    if (this.#ending) throw new HubError("draining");
    const identity = auth.verify(tokenOf(request));
    if (full()) throw new HubError("too_many_connections");
    this.#server.handleUpgrade(request, socket, head, (opened) => this.#opened(opened, identity, request));
  }

  /**
   * Takes no new connections, and closes each at a moment of its own within so many ms. Resolves when nobody is left, or
   * all have been told to go; then `close`.
   */
  async drain(windowMs: number): Promise<void> {
    this.#ending = true;
    if (this.#clients.size === 0) return;
    const now = performance.now();
    for (const client of this.#clients) client.leavesAt = now + Math.random() * windowMs;
    await new Promise<void>((resolve) => {
      const over = setTimeout(resolve, windowMs);
      this.#emptied = () => {
        clearTimeout(over);
        resolve();
      };
    });
  }

  /** Closes every connection, telling why. */
  async close(): Promise<void> {
    this.#ending = true;
    if (this.#clients.size === 0) return;
    const sockets = [...this.#clients].map(({ socket }) => socket);
    const ended = sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
    const late = setTimeout(() => {
      for (const socket of sockets) socket.terminate();
    }, GRACE_MS);
    for (const socket of sockets) close(socket, "shutdown");
    await Promise.all(ended);
    clearTimeout(late);
  }

  #opened(socket: WebSocket, identity: Identity, request: IncomingMessage): void {
    const { expiresAt } = identity;
    const end = this.#options.onOpened(identity, request);
    const now = performance.now();
    const client: Client = {
      socket,
      expiresAt,
      nextAt: now + SECOND_MS,
      messages: 0,
      pingedAt: now,
      answered: true,
      leavesAt: Number.POSITIVE_INFINITY,
    };
    this.#clients.add(client);
    socket.on("close", (code) => {
      end(client.reason ?? reasonOf(code));
      this.#closed(client);
    });
    // Too large, not UTF-8, a reset: ws closes the connection itself.
    socket.on("error", () => {});
    socket.on("ping", () => this.#count(client));
    socket.on("pong", () => {
      if (client.answered) this.#count(client);
      client.answered = true;
    });
    socket.on("message", (data, isBinary) => {
      if (this.#count(client) && !isBinary && String(data) === "ping") socket.send(message("pong"));
    });
    socket.send(message("heartbeat"));
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  #closed(client: Client): void {
    this.#clients.delete(client);
    if (this.#clients.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#emptied();
  }

  /** Whether the client may still be answered. */
  #count(client: Client): boolean {
    if (++client.messages > MESSAGES) close(client.socket, "too_many_violations");
    // It goes on instead of answering the close.
    if (client.messages > MESSAGES * 10) cut(client, "too_many_violations");
    return client.socket.readyState === client.socket.OPEN;
  }

  #tick(): void {
    const now = performance.now();
    const clock = Date.now();
    const heartbeat = message("heartbeat");
    for (const client of this.#clients) {
      const { socket } = client;
      if (socket.readyState !== socket.OPEN) continue;
      if (client.expiresAt <= clock) close(socket, "token_expired");
      else if (client.leavesAt <= now) close(socket, "shutdown");
      else if (socket.bufferedAmount > UNREAD_BYTES) cut(client, "slow");
      else if (!this.#alive(client, now)) cut(client, "ping_timeout");
      else if (client.nextAt <= now) {
        // A process that stood still does not make up for it.
        client.nextAt = Math.max(client.nextAt, now - SECOND_MS) + SECOND_MS;
        client.messages = 0;
        socket.send(heartbeat);
      }
    }
  }

  #alive(client: Client, now: number): boolean {
    const { pingIntervalMs, pingTimeoutMs } = this.#options;
    const since = now - client.pingedAt;
    if (!client.answered) return since < pingTimeoutMs;
    if (since >= pingIntervalMs) {
      client.answered = false;
      client.pingedAt = now;
      client.socket.ping();
    }
    return true;
  }
}

function message(type: "heartbeat" | "pong"): string {
  return JSON.stringify({ type, timestamp: new Date().toISOString() });
}

function close(socket: WebSocket, reason: CloseReason): void {
  socket.close(CLOSES[reason].code, reason);
}

function cut(client: Client, reason: NonNullable<Client["reason"]>): void {
  client.reason = reason;
  client.socket.terminate();
}

/** The code that came back is the one that was sent. */
function reasonOf(code: number): string {
  const [reason] = Object.entries(CLOSES).find(([, each]) => each.code === code) ?? [];
  return reason ?? "transport_close";
}

/** Browsers can give a WebSocket no header: there it stands in the address. Neither is logged. */
function tokenOf({ headers, url = "" }: IncomingMessage): string | undefined {
  const [, bearer] = /^Bearer +([^\s]+)$/i.exec(headers.authorization ?? "") ?? [];
  return bearer ?? new URLSearchParams(url.slice(url.indexOf("?") + 1)).get("token") ?? undefined;
}
