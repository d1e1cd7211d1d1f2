/** A watching connection on Socket.IO, whatever the client: it may come back, and tells why it has ended. */
import type { OpenSocket, SocketTarget, WatcherSocket } from "../../test/cluster/socket.ts";
import type { WatchingClient, WatchOptions } from "../driver.ts";

/** Socket.IO's own defaults. */
const RECONNECT = { delayMs: 1_000, delayMaxMs: 5_000 };

/** What a protocol adds. */
export interface Protocol {
  target: Pick<SocketTarget, "token" | "namespace" | "query">;
  /** On each connection: asks for the events, and calls `ready` when they come from now on. */
  connected(socket: WatcherSocket, ready: () => void, failed: (why: string) => void): void;
  /** @returns why the connection is about to end, where this event tells it */
  event(name: string, text: string): string | undefined;
}

class Watching implements WatchingClient {
  readonly #socket: WatcherSocket;
  readonly ready: Promise<this>;
  #why: string | undefined;
  #ended: string | undefined;
  #closed = false;

  constructor(open: OpenSocket, options: WatchOptions, protocol: Protocol) {
    let settle = { ready: () => {}, failed: (_why: string) => {} };
    this.ready = new Promise((resolve, reject) => {
      settle = { ready: () => resolve(this), failed: (why) => reject(new Error(why)) };
    });
    const failed = (why: string) => {
      this.#ended ??= why;
      settle.failed(why);
      this.close();
    };
    this.#socket = open(targetOf(options, protocol.target), {
      connected: () => {
        this.#ended = this.#why = undefined;
        protocol.connected(this.#socket, settle.ready, failed);
      },
      disconnected: () => {
        if (this.#closed) return;
        this.#ended = this.#why ?? "lost";
        options.lost?.();
        if (!options.reconnect) failed(this.#ended);
      },
      event: (name, text) => {
        this.#why = protocol.event(name, text) ?? this.#why;
      },
      fault: failed,
    });
  }

  get ended(): string | undefined {
    return this.#ended;
  }

  stopReading(): void {
    if (!this.#socket.pause) throw new Error("this client cannot stop reading");
    this.#socket.pause();
  }

  readAgain(): void {
    this.#socket.resume?.();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
  }
}

export function watch(open: OpenSocket, options: WatchOptions, protocol: Protocol): Promise<WatchingClient> {
  return new Watching(open, options, protocol).ready;
}

/** Its url is asked for at each attempt to connect: the next one each time. */
function targetOf({ url, others = [] }: WatchOptions, target: Protocol["target"]): SocketTarget {
  const urls = [url, ...others];
  let attempts = 0;
  return {
    ...target,
    polling: false,
    reconnect: RECONNECT,
    get url() {
      return urls[attempts++ % urls.length] as string;
    },
  };
}
