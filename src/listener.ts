/** The HTTP server that the doors share: where it listens, and how it ends. */
import { createServer, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** How exactly it is known since when the process has stood still. */
const LOOK_MS = 500;
/** A busy machine alone makes a process wait for so long. */
const LEAST_STOP_MS = 2_000;
/** How long what is on its way may take when everything else is over. */
const GRACE_MS = 500;
/**
 * Connections that wait to be taken. All watchers of another hub may come within a second; with Node's 511 the kernel
 * drops what is too much, and those clients try again after 1, 3, 7 s. The system's net.core.somaxconn bounds it too.
 */
const BACKLOG = 4_096;

export class Listener {
  readonly server: Server;
  readonly #connections = new Set<Socket>();
  /** One for all connections, of which there are thousands: a closure each would be kept as long as they are. */
  readonly #closed: (this: Socket) => void;
  /** Answers that are not complete. */
  readonly #answers = new Set<ServerResponse>();
  /** Between two looks: more is a stop. */
  readonly #stopMs: number;
  readonly #onStall: (fields: { ms: number; connections: number }) => void;
  readonly #looking: NodeJS.Timeout;
  #seenAt = performance.now();
  #wokeAt = Number.NEGATIVE_INFINITY;
  #ending = false;

  /**
   * `patienceMs`: after so much silence clients have given the connection up. `onStall`: the process has stood still for
   * longer (2 s at least), and all connections were closed.
   */
  constructor(
    answer: RequestListener,
    {
      patienceMs = Number.POSITIVE_INFINITY,
      onStall = () => {},
    }: { patienceMs?: number; onStall?: (fields: { ms: number; connections: number }) => void } = {},
  ) {
    this.#stopMs = Math.max(patienceMs, LEAST_STOP_MS) + LOOK_MS;
    this.#onStall = onStall;
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
    this.server = createServer(answer);
    const connections = this.#connections;
    this.#closed = function closed(this: Socket) {
      connections.delete(this);
    };
    this.server.on("connection", (socket: Socket) => {
      connections.add(socket);
      socket.on("close", this.#closed);
    });
  }

  /**
   * Resolves to `http://host:port`. Doors that attach themselves to the server have done so before.
   *
   * @throws Error in one line, when the port is taken.
   */
  listen({
    port,
    host,
    setting = "PORT",
  }: {
    port: number;
    host: string;
    setting?: string;
  }): Promise<string> {
    // First of all listeners: those of a door hand on only what is not theirs.
    this.server.prependListener("request", (_, response) => this.#asked(response));
    return new Promise((resolve, reject) => {
      this.server.once("error", (error: NodeJS.ErrnoException) => {
        reject(
          error.code === "EADDRINUSE"
            ? new Error(`Port ${port} on ${host} is taken; set ${setting} to another one.`)
            : error,
        );
      });
      this.server.listen({ port, host, backlog: BACKLOG }, () => {
        const { port: own } = this.server.address() as AddressInfo;
        resolve(`http://${host.includes(":") ? `[${host}]` : host}:${own}`);
      });
    });
  }

  /**
   * Whether what came on a connection that was there at `since` (`performance.now()`) is of before a stop of this process
   * that its client has not waited for. It has gone on elsewhere: what it had sent here would be carried out late, and an
   * old value would take the place of newer ones.
   */
  isStale(since: number): boolean {
    // What was received may be read before the timer comes.
    this.#look();
    return since < this.#wokeAt;
  }

  #look(): void {
    const now = performance.now();
    const ms = Math.round(now - this.#seenAt);
    this.#seenAt = now;
    if (ms <= this.#stopMs) return;
    this.#wokeAt = now;
    this.#onStall({ ms, connections: this.#connections.size });
    for (const socket of this.#connections) socket.destroy();
  }

  /** It goes on listening, but each answer ends its connection: the next request may find another instance. */
  startDraining(): void {
    this.#ending = true;
    for (const answer of this.#answers) endAfter(answer);
  }

  /** Takes no more connections, completes answers within so many ms, and cuts what is left. */
  async close(answersMs = GRACE_MS): Promise<void> {
    clearInterval(this.#looking);
    this.startDraining();
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeIdleConnections();
    await atMost(answersMs, Promise.all([...this.#answers].map(completed)));
    this.server.closeAllConnections();
    // What was upgraded is not among those: it has been told to end, but its other end may be asleep.
    await atMost(GRACE_MS, closed);
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }

  #asked(response: ServerResponse): void {
    this.#answers.add(response);
    response.once("close", () => this.#answers.delete(response));
    if (this.#ending) endAfter(response);
  }
}

function endAfter(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader("Connection", "close");
}

function completed(response: ServerResponse): Promise<unknown> {
  return new Promise((resolve) => response.once("close", resolve));
}

async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}
