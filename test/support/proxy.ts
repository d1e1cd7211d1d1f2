/** A TCP proxy on loopback that does to its connections what a bad network does: lose, delay, hold, cut. */
import type { AddressInfo } from "node:net";
import { createServer, connect as dial, type Server, type Socket } from "node:net";

/** What the client sends, or what the server answers. */
export type Direction = "request" | "reply";

export type Loss =
  /** What the client sends does not arrive. */
  | "request"
  /** It arrives, but its answer is lost. */
  | "reply";

/** One connection, for choosing. */
export interface Link {
  /** The first 16 KB that the client has sent, so far: who it is and what it wants. */
  readonly opening: string;
}

export interface Choice {
  /** Absent: both. */
  direction?: Direction;
  /** Absent: all. */
  only?: (link: Link) => boolean;
}

/** A connection to Redis that listens to something. */
export function hasSubscribed({ opening }: Link): boolean {
  return /\bs?subscribe\b/i.test(opening);
}

const OPENING_BYTES = 16 * 1_024;
const DIRECTIONS: readonly Direction[] = ["request", "reply"];

export class TcpProxy {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #armed: { loss: Loss; after: number; only: (link: Link) => boolean } | undefined;
  #accepting = true;
  #delays: Readonly<Record<Direction, number>> = { request: 0, reply: 0 };

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
   * Lets pass so many pieces in the direction of the loss, from now on and over all chosen connections, then loses the
   * next one and cuts the connection. A piece is what arrives at once: with a client that awaits each answer, one
   * request or one reply.
   */
  lose(loss: Loss, after = 0, only: (link: Link) => boolean = () => true): void {
    this.#armed = { loss, after, only };
  }

  /** Whether what `lose` asked for is still to come. */
  get armed(): boolean {
    return this.#armed !== undefined;
  }

  disarm(): void {
    this.#armed = undefined;
  }

  /**
   * From now on nothing gets through on the chosen connections that there are, for as long as they live; they stay
   * open. Answers how many they are. New ones work.
   */
  swallow(choice: Choice = {}): number {
    return this.#choose(choice, (pair, direction) => pair.pipes[direction].swallow());
  }

  /** Stops reading on the chosen connections that there are, until `release`: what is sent waits at its sender. */
  hold(choice: Choice = {}): number {
    return this.#choose(choice, (pair, direction) => pair.pipes[direction].hold());
  }

  release(): void {
    this.#choose({}, (pair, direction) => pair.pipes[direction].release());
  }

  /** On all connections, also new ones, everything takes so much longer from now on; its order stays. */
  delay(ms: number, direction?: Direction): void {
    this.#delays = direction ? { ...this.#delays, [direction]: ms } : { request: ms, reply: ms };
  }

  /** Cuts each chosen connection that there is in the middle of what it carries, when so many more bytes are through. */
  cutAfter(bytes: number, choice: Choice = {}): number {
    return this.#choose(choice, (pair, direction) => pair.pipes[direction].cutAfter(bytes));
  }

  /** Cuts the chosen connections, every one by default; new ones are accepted, or not until `accept`. */
  cut({ refuse = false, only = () => true }: { refuse?: boolean; only?: Choice["only"] } = {}): void {
    this.#accepting = !refuse;
    for (const pair of this.#pairs) if (only(pair)) this.#end(pair);
  }

  /** Both ends see their connection reset (RST), as by a peer that has forgotten it. */
  reset(only: (link: Link) => boolean = () => true): void {
    for (const pair of this.#pairs) {
      if (!only(pair)) continue;
      this.#pairs.delete(pair);
      for (const socket of pair.sockets) socket.resetAndDestroy();
    }
  }

  accept(): void {
    this.#accepting = true;
  }

  async close(): Promise<void> {
    this.cut({ refuse: true });
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #choose({ direction, only = () => true }: Choice, act: (pair: Pair, direction: Direction) => void): number {
    const chosen = [...this.#pairs].filter((pair) => only(pair));
    for (const pair of chosen) for (const each of direction ? [direction] : DIRECTIONS) act(pair, each);
    return chosen.length;
  }

  #join(client: Socket, server: Socket): void {
    const end = () => this.#end(pair);
    const pipe = (from: Socket, to: Socket, direction: Direction): Pipe =>
      new Pipe(from, to, {
        loses: () => this.#loses(pair, direction),
        delay: () => this.#delays[direction],
        passing: (piece) => direction === "request" && pair.hear(piece),
        end,
      });
    const pair: Pair = new Pair(client, server, pipe);
    this.#pairs.add(pair);
    for (const socket of pair.sockets) {
      socket.setNoDelay();
      socket.on("error", () => {}); // its `close` follows
      socket.on("close", end);
    }
    if (!this.#accepting) end();
  }

  #loses(link: Link, direction: Direction): boolean {
    const armed = this.#armed;
    if (armed?.loss !== direction || !armed.only(link) || armed.after-- > 0) return false;
    this.#armed = undefined;
    return true;
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair);
    for (const socket of pair.sockets) socket.destroy();
  }
}

/** Both halves of a connection. */
class Pair implements Link {
  readonly sockets: readonly Socket[];
  readonly pipes: Readonly<Record<Direction, Pipe>>;
  opening = "";

  constructor(
    client: Socket,
    server: Socket,
    pipe: (from: Socket, to: Socket, direction: Direction) => Pipe,
  ) {
    this.sockets = [client, server];
    this.pipes = { request: pipe(client, server, "request"), reply: pipe(server, client, "reply") };
  }

  hear(piece: Buffer): void {
    const room = OPENING_BYTES - this.opening.length;
    if (room > 0) this.opening += piece.toString("latin1", 0, room);
  }
}

interface PipeOptions {
  /** Whether the piece that has just come is to be lost, and its connection with it. */
  loses(): boolean;
  /** ms. */
  delay(): number;
  passing(piece: Buffer): void;
  end(): void;
}

/** One direction of one connection. */
class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #options: PipeOptions;
  /** What is late, in its order. */
  readonly #late: Buffer[] = [];
  /** When the last of it is due. */
  #due = 0;
  #swallows = false;
  #held = false;
  #left = Number.POSITIVE_INFINITY;

  constructor(from: Socket, to: Socket, options: PipeOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    from.on("data", (piece) => this.#take(piece));
    to.on("drain", () => this.#resume());
  }

  swallow(): void {
    this.#swallows = true;
    this.#late.length = 0;
  }

  hold(): void {
    this.#held = true;
    this.#from.pause();
  }

  release(): void {
    this.#held = false;
    this.#resume();
  }

  cutAfter(bytes: number): void {
    this.#left = bytes;
  }

  #resume(): void {
    if (!this.#held && !this.#to.writableNeedDrain) this.#from.resume();
  }

  #take(piece: Buffer): void {
    this.#options.passing(piece);
    if (this.#options.loses()) this.#options.end();
    else if (!this.#swallows) this.#pass(piece);
  }

  #pass(piece: Buffer): void {
    const now = performance.now();
    const due = Math.max(now + this.#options.delay(), this.#due);
    if (due <= now && this.#late.length === 0) {
      this.#write(piece);
      return;
    }
    this.#due = due;
    this.#late.push(piece);
    // Each timer writes the oldest piece, whichever it was set for.
    setTimeout(() => {
      const oldest = this.#late.shift();
      if (oldest) this.#write(oldest);
    }, due - now);
  }

  #write(piece: Buffer): void {
    if (this.#to.destroyed) return;
    const through = piece.subarray(0, this.#left);
    this.#left -= through.length;
    if (!this.#to.write(through)) this.#from.pause();
    // What has been written is sent before the end.
    if (this.#left === 0) this.#to.end(() => this.#options.end());
  }
}
