/**
 * Just enough of Engine.IO 4 and Socket.IO 5 for a watcher, on a WebSocket: a process runs thousands of them. It
 * behaves as a real client does when nobody pings it, and comes back with the same jittered back-off.
 */
import WebSocket from "ws";
import {
  type OpenSocket,
  REFUSED_RETRY_MS,
  type Refused,
  type SocketEvents,
  type SocketTarget,
  type WatcherSocket,
} from "./socket.ts";

/** As Socket.IO's clients: how long a handshake may take. */
const OPEN_LIMIT_MS = 20_000;
const QUERY = "/socket.io/?EIO=4&transport=websocket";

/** @param localAddress what it connects from, for example 127.0.0.7: one address has 28 000 ports. */
export function rawSocket(localAddress?: string): OpenSocket {
  return (target, events) => new RawSocket(target, events, localAddress);
}

export class RawSocket implements WatcherSocket {
  readonly #target: SocketTarget;
  readonly #events: SocketEvents;
  readonly #localAddress: string | undefined;
  /** Of every packet of a namespace other than `/`. */
  readonly #prefix: string;
  readonly #answers = new Map<number, (answer: unknown) => void>();
  #ws!: WebSocket;
  /** The connection whose end is known already. */
  #ended: WebSocket | undefined;
  #next = 0;
  #connected = false;
  #closed = false;
  #attempts = 0;
  /** Ends a connection that does not open, and then one that is not pinged any more. */
  #watchdog: NodeJS.Timeout | undefined;
  #patienceMs = OPEN_LIMIT_MS;
  #retry: NodeJS.Timeout | undefined;

  constructor(target: SocketTarget, events: SocketEvents, localAddress: string | undefined) {
    this.#target = target;
    this.#events = events;
    this.#localAddress = localAddress;
    this.#prefix = target.namespace === undefined ? "" : `${target.namespace},`;
    this.#open();
  }

  get connected(): boolean {
    return this.#connected;
  }

  emit(verb: string, request: object, answered: (answer: unknown) => void): void {
    const id = this.#next++;
    this.#answers.set(id, answered);
    this.#ws.send(`42${this.#prefix}${id}${JSON.stringify([verb, request])}`);
  }

  /** Reads nothing more, as a client that hangs: it also does not notice that nobody pings it. */
  pause(): void {
    clearTimeout(this.#watchdog);
    this.#ws.pause();
  }

  resume(): void {
    if (this.#ended === this.#ws) return;
    this.#ws.resume();
    this.#watch(this.#patienceMs);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    if (this.#ws.readyState === WebSocket.OPEN) {
      this.#ws.send("41");
      this.#ws.close();
    } else this.#ws.terminate();
    this.#lost();
  }

  #open(): void {
    const { url, query } = this.#target;
    const more = query === undefined ? "" : `&${query}`;
    const ws = new WebSocket(url.replace("http", "ws") + QUERY + more, {
      perMessageDeflate: false,
      skipUTF8Validation: true,
      ...(this.#localAddress !== undefined && { localAddress: this.#localAddress }),
    });
    this.#ws = ws;
    this.#watch(OPEN_LIMIT_MS);
    ws.on("message", (data) => {
      if (ws === this.#ws && !this.#closed) this.#received(String(data));
    });
    ws.on("error", () => {}); // its `close` follows
    ws.on("close", () => {
      if (ws === this.#ws) this.#lost();
    });
  }

  #watch(ms: number): void {
    this.#patienceMs = ms;
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#ws.terminate();
      this.#lost();
    }, ms);
  }

  #received(received: string): void {
    const packet = this.#prefix === "" ? received : received.replace(this.#prefix, "");
    const kind = packet.slice(0, 2);
    if (kind === "42") this.#event(packet);
    else if (kind === "43") this.#answer(packet);
    else if (kind === "2") {
      this.#watchdog?.refresh();
      this.#ws.send("3");
    } else if (packet.startsWith("0")) {
      const { pingInterval, pingTimeout } = JSON.parse(packet.slice(1)) as Record<string, number>;
      this.#watch((pingInterval as number) + (pingTimeout as number));
      this.#join();
    } else if (kind === "40") {
      this.#attempts = 0;
      this.#connected = true;
      this.#events.connected();
    } else if (kind === "44")
      this.#refused(JSON.parse(packet.slice(2)) as { message: string; data?: Refused });
    else if (kind === "41" || kind === "1") this.#ws.close();
    else if (kind !== "6") this.#events.fault(`an unknown packet: ${packet.slice(0, 80)}`);
  }

  #join(): void {
    this.#ws.send(`40${this.#prefix}${JSON.stringify({ token: this.#target.token })}`);
  }

  /** `42["name",argument]`; the hub's events have one argument. */
  #event(packet: string): void {
    const end = packet.indexOf('"', 4);
    const name = packet.slice(4, end);
    if (!packet.startsWith('42["') || packet[end + 1] !== ",") {
      this.#events.fault(`a malformed event: ${packet.slice(0, 80)}`);
      return;
    }
    this.#events.event(name, packet.slice(end + 2, -1), undefined);
  }

  #answer(packet: string): void {
    const at = packet.indexOf("[");
    const id = Number(packet.slice(2, at));
    const answered = this.#answers.get(id);
    this.#answers.delete(id);
    answered?.((JSON.parse(packet.slice(at)) as unknown[])[0]);
  }

  #refused({ message, data }: { message: string; data?: Refused }): void {
    if (!data?.temporary) this.#events.fault(`not connected: ${message}`);
    else {
      this.#retry = setTimeout(() => {
        if (this.#ws.readyState === WebSocket.OPEN) this.#join();
      }, REFUSED_RETRY_MS);
    }
  }

  #lost(): void {
    if (this.#ended === this.#ws) return;
    this.#ended = this.#ws;
    clearTimeout(this.#watchdog);
    this.#answers.clear();
    const was = this.#connected;
    this.#connected = false;
    if (was) this.#events.disconnected();
    if (this.#closed) return;
    clearTimeout(this.#retry);
    const { delayMs, delayMaxMs } = this.#target.reconnect;
    const delay = Math.min(delayMs * 2 ** this.#attempts++, delayMaxMs);
    this.#retry = setTimeout(() => this.#open(), delay * (0.5 + Math.random()));
  }
}
