/** How a generator's clients speak with a server: one contract, a driver for each protocol. */

/**
 * `trainwire`: raw WebSocket, just enough Socket.IO, our verbs. `socket.io`: the same for the peers' small servers.
 * `ws`: their JSON over a plain WebSocket. `trainwire-client`: socket.io-client as anybody uses it.
 * `trainwire-sdk`: our SDK. Anything else is the path of a module whose default export is a Driver.
 */
export type DriverName =
  | "trainwire"
  | "socket.io"
  | "ws"
  | "trainwire-client"
  | "trainwire-sdk"
  | (string & {});

export interface Endpoint {
  /** `http://127.0.0.1:<port>` of one server process. */
  url: string;
  /** The address to connect from, 127.0.0.x: one has 28 000 ports. */
  localAddress?: string;
}

export interface WatchOptions extends Endpoint {
  /** What it watches. A driver may join all of them on one connection. */
  jobs: readonly string[];
  /**
   * Called for each event as it arrives, with the text of the event (a driver does not parse what it need not) and its
   * time: µs, as `nowUs` (clock.ts).
   */
  received(text: string, atUs: number): void;
  /** The connection has ended without `close`; a driver that reconnects calls it each time. */
  lost?(): void;
  /**
   * Whether it comes back as the protocol's own clients do, and goes on where it stood where the server can (default:
   * no). What a protocol without that misses is lost.
   */
  reconnect?: boolean;
  /** Where it goes in turn when `url` is gone; default: there again. */
  others?: readonly string[];
}

/** One watching connection. */
export interface WatchingClient {
  /** Stops reading from the socket, as a client does that hangs. */
  stopReading(): void;
  /** Reads on, and so also sees that it was closed. */
  readAgain(): void;
  /** Whether the server has closed it, and why where the protocol tells (`slow`). */
  readonly ended: string | undefined;
  close(): void;
}

/** One event as a trainer makes it. */
export interface Outgoing {
  /** Number within its job, from 1. */
  n: number;
  /** When the generator's schedule wanted it sent, µs of the monotonic clock. */
  sentUs: number;
  /** Default `log`. `progress` has five metrics. */
  kind?: "log" | "progress";
  /** Of the event's JSON; default `EVENT_BYTES`. `progress` holds no more than about 1 100. */
  bytes?: number;
  /** An idempotency id, for those that know one. */
  id?: string;
}

export interface Publisher {
  /** One publish of all of them, in order. Resolves when the server has acknowledged it. */
  publish(job: string, events: readonly Outgoing[]): Promise<void>;
  close(): void;
}

export interface Driver {
  /** Resolves when whatever is published from now on reaches `received`. */
  watch(options: WatchOptions): Promise<WatchingClient>;
  publisher(target: Endpoint): Promise<Publisher>;
}

/**
 * Every event is a text of so many bytes as its trainer sends it, whatever the system. Number and send time stand in
 * its `message`, which no system changes, and are found by their fixed form (`#n=000000001 t=0001234567890123`) without
 * parsing: event.ts.
 */
export const EVENT_BYTES = 260;
