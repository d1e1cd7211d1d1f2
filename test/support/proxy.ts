/** A TCP proxy that loses what the test tells it to lose. */

import type { AddressInfo } from "node:net";
import { createServer, connect as dial, type Server, type Socket } from "node:net";

export type Loss =
  /** What the client sends does not arrive. */
  | "request"
  /** It arrives, but its answer is lost. */
  | "reply";

export class TcpProxy {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #armed: { loss: Loss; after: number } | undefined;
  #accepting = true;

  private constructor(target: number) {
    this.#server = createServer((client) => this.#join(client, dial(target, "127.0.0.1")));
  }

  static async open(target: { port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target.port);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections at the moment. */
  get connections(): number {
    return this.#pairs.size;
  }

  /**
   * Lets pass so many pieces in the direction of the loss, from now on and over all connections, then loses the next
   * one and cuts the connection. A piece is what arrives at once: with a client that awaits each answer, one request
   * or one reply.
   */
  lose(loss: Loss, after = 0): void {
    this.#armed = { loss, after };
  }

  /** Whether what `lose` asked for is still to come. */
  get armed(): boolean {
    return this.#armed !== undefined;
  }

  disarm(): void {
    this.#armed = undefined;
  }

  /** Cuts every connection; new ones are accepted, or not until `accept`. */
  cut({ refuse = false } = {}): void {
    this.#accepting = !refuse;
    for (const pair of this.#pairs) this.#end(pair);
  }

  accept(): void {
    this.#accepting = true;
  }

  async close(): Promise<void> {
    this.cut({ refuse: true });
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: Socket, server: Socket): void {
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    for (const socket of pair) {
      socket.setNoDelay();
      socket.on("error", () => {}); // its `close` follows
      socket.on("close", () => this.#end(pair));
    }
    const pass = (from: Socket, to: Socket, loss: Loss) =>
      from.on("data", (piece) => {
        if (this.#loses(loss)) this.#end(pair);
        else to.write(piece);
      });
    pass(client, server, "request");
    pass(server, client, "reply");
    if (!this.#accepting) this.#end(pair);
  }

  #loses(direction: Loss): boolean {
    if (this.#armed?.loss !== direction || this.#armed.after-- > 0) return false;
    this.#armed = undefined;
    return true;
  }

  #end(pair: readonly [Socket, Socket]): void {
    this.#pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  }
}
