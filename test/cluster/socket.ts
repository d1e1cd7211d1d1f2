/** What a watcher of the tests needs of a Socket.IO client, and the plain one as such. */
import { io } from "socket.io-client";

export interface SocketTarget {
  url: string;
  token: string;
  /** Default: `/`. */
  namespace?: string;
  /** Added to the query of the connection: `name=value`. Raw sockets only, as is `namespace`. */
  query?: string;
  /** Begins with long polling, as browsers behind strict proxies do; or stays with it. */
  polling: boolean | "only";
  /** Between two attempts to connect: the first, and the longest, each ± 50 %. ms. */
  reconnect: { delayMs: number; delayMaxMs: number };
}

export interface SocketEvents {
  connected(): void;
  disconnected(): void;
  /** One event. `text` is its argument byte by byte as it was received. */
  event(name: string, text: string, argument: unknown): void;
  /** The hub refuses the connection for good, or sends what no hub may. */
  fault(text: string): void;
}

/** Connects again by itself until `close`. */
export interface WatcherSocket {
  readonly connected: boolean;
  /**
   * Only while connected. The answer's callback runs before the events that follow the answer, and never when the
   * connection goes first.
   */
  emit(verb: string, request: object, answered: (answer: unknown) => void): void;
  /** As a closed browser tab. */
  close(): void;
  /** Stops reading, and reads on. Raw sockets only. */
  pause?(): void;
  resume?(): void;
}

export type OpenSocket = (target: SocketTarget, events: SocketEvents) => WatcherSocket;

/** A refused CONNECT, as `error.data` of the hub. */
export interface Refused {
  code?: string;
  temporary?: boolean;
}

/** After a temporary refusal, which Socket.IO's clients do not retry by themselves. */
export const REFUSED_RETRY_MS = 500;

/** With socket.io-client. It keeps the text of each packet beside what the client makes of it. */
export const plainSocket: OpenSocket = ({ url, token, polling, reconnect }, events) => {
  const socket = io(url, {
    auth: { token },
    transports: polling === "only" ? ["polling"] : polling ? ["polling", "websocket"] : ["websocket"],
    forceNew: true,
    reconnectionDelay: reconnect.delayMs,
    reconnectionDelayMax: reconnect.delayMaxMs,
  });
  /** Texts of event packets that the client has not handed out yet. */
  let packets: string[] = [];
  let closed = false;
  socket.io.on("open", () => {
    packets = [];
    socket.io.engine.on("data", (packet) => {
      if (typeof packet === "string" && packet.startsWith("2[")) packets.push(packet);
    });
  });
  socket.onAny((name: string, argument: unknown) => {
    const packet = packets.shift() ?? "";
    const start = `2["${name}",`;
    if (!packet.startsWith(start)) events.fault(`${name} came without its packet: ${packet.slice(0, 80)}`);
    events.event(name, packet.slice(start.length, -1), argument);
  });
  socket.on("connect", () => events.connected());
  socket.on("disconnect", () => events.disconnected());
  socket.on("connect_error", (error: Error & { data?: Refused }) => {
    if (!error.data || closed) return; // a transport that does not open: it tries again
    if (!error.data.temporary) events.fault(`not connected: ${error.message}`);
    else setTimeout(() => closed || socket.connect(), REFUSED_RETRY_MS);
  });
  return {
    get connected() {
      return socket.connected;
    },
    emit: (verb, request, answered) => void socket.emit(verb, request, answered),
    close() {
      closed = true;
      socket.disconnect();
    },
  };
};
