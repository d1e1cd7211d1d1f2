/** A TCP relay that counts how often a text passes it on the way from the server to its clients. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Counts a text in a stream of bytes, also where two pieces of the stream share it. */
export class TextCounter {
  count = 0;
  readonly #text: Buffer;
  #rest: Buffer = Buffer.alloc(0);

  constructor(text: string) {
    if (text === "") throw new Error("an empty text is everywhere");
    this.#text = Buffer.from(text);
  }

  add(piece: Buffer): void {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    let from = 0;
    for (let at = bytes.indexOf(this.#text); at >= 0; at = bytes.indexOf(this.#text, from)) {
      this.count++;
      from = at + this.#text.length;
    }
    // Copied: a view would keep the whole piece.
    this.#rest = Buffer.from(bytes.subarray(Math.max(from, bytes.length - this.#text.length + 1)));
  }
}

export class CountingRelay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #counters: TextCounter[] = [];

  private constructor(port: number, text: string) {
    this.#server = createServer((client) => this.#join(client, connect(port, "127.0.0.1"), text));
  }

  /** In front of a port of 127.0.0.1. `close` it. */
  static async open(port: number, text: string): Promise<CountingRelay> {
    const relay = new CountingRelay(port, text);
    await new Promise<void>((resolve) => relay.#server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** How often the server has said it, on all connections so far. */
  get mentions(): number {
    return this.#counters.reduce((sum, { count }) => sum + count, 0);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #join(client: Socket, server: Socket, text: string): void {
    const counter = new TextCounter(text);
    this.#counters.push(counter);
    server.on("data", (piece) => counter.add(piece as Buffer));
    client.pipe(server);
    server.pipe(client);
    const ends = [
      [client, server],
      [server, client],
    ] as const;
    for (const [end, other] of ends) {
      this.#sockets.add(end);
      end.setNoDelay(true);
      end.on("error", () => {}); // its `close` follows
      end.on("close", () => {
        this.#sockets.delete(end);
        other.destroy();
      });
    }
  }
}
