/**
 * What waits for a client to read it: on a WebSocket its writer knows; for a client that polls it is what stands in
 * Engine.IO's `writeBuffer`, which has no bound. One sweep for all looks at those that are behind.
 */
import type { Socket } from "socket.io";
import type { FeedEvent } from "../bus/bus.ts";
import { packetOf } from "./batch.ts";
import type { Backlogged, Writer, Writers } from "./writer.ts";

export interface OutboxLimits {
  /** Above it conflatable values are held back. */
  holdBytes: number;
  /** Above it for 2 s without getting less, or above its double at once, the connection is closed. */
  slowBytes: number;
}

const SWEEP_MS = 100;
/** Two seconds: at 10 Mbit/s the double of the limit takes as long. Time in which this process stood still is none. */
const SLOW_SWEEPS = 20;

interface Owner {
  /** The client does not read: its connection is to be ended. Called once, not in the turn of a `write`. */
  slow(): void;
}

/** The outboxes that are behind. */
export class Outboxes {
  readonly limits: OutboxLimits;
  readonly writers: Pick<Writers, "of">;
  readonly #behind = new Set<Outbox>();
  #timer: NodeJS.Timeout | undefined;
  readonly #slow: Owner[] = [];

  constructor(limits: OutboxLimits, writers: Pick<Writers, "of">) {
    this.limits = limits;
    this.writers = writers;
  }

  /** Connections for which conflatable values are held back. */
  get behind(): number {
    return this.#behind.size;
  }

  add(outbox: Outbox): void {
    this.#behind.add(outbox);
    this.#timer ??= setInterval(() => {
      for (const each of this.#behind) each.sweep();
    }, SWEEP_MS);
  }

  delete(outbox: Outbox): void {
    if (!this.#behind.delete(outbox) || this.#behind.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Tells owners that they are slow, one in each of the next turns: hundreds may become so in the same one, and
   * everybody else would wait until the last of them is closed.
   */
  slow(owner: Owner): void {
    this.#slow.push(owner);
    if (this.#slow.length === 1) setImmediate(() => this.#tellSlow());
  }

  #tellSlow(): void {
    this.#slow.shift()?.slow();
    if (this.#slow.length > 0) setImmediate(() => this.#tellSlow());
  }
}

/** What this uses of an Engine.IO connection. */
type Conn = Pick<Socket["conn"], "write" | "transport" | "readyState" | "once"> & {
  writeBuffer: Array<{ data?: unknown }>;
};

export class Outbox implements Backlogged {
  readonly #conn: Conn;
  readonly #all: Outboxes;
  readonly #owner: Owner;
  /** As it was last seen: a client that polls may go over to a WebSocket. */
  #transport: object | undefined;
  /** Of a WebSocket. */
  #writer: Writer | undefined;
  /** Of a client that polls. */
  #polled: Polled | undefined;
  #behind = false;
  /** For how many sweeps it has been above the second limit without getting less, and how much it was first. */
  #stuck: { sweeps: number; bytes: number } | undefined;
  #closed = false;
  /** Told when it is no longer behind. */
  #waiters: Array<() => void> | undefined;

  constructor(conn: unknown, all: Outboxes, owner: Owner) {
    this.#conn = conn as Conn;
    this.#all = all;
    this.#owner = owner;
    this.#look();
  }

  /** Whether conflatable values are to be held back. */
  get behind(): boolean {
    return this.#behind;
  }

  /** What the client has not been seen to take. */
  get bytes(): number {
    this.#look();
    return this.#writer?.bytes ?? this.#polled?.bytes(this.#conn) ?? 0;
  }

  /** An event, after all that was written before. Answers whether it goes on its way. */
  write(event: FeedEvent): boolean {
    const conn = this.#conn;
    if (this.#closed || conn.readyState !== "open") return false;
    if (conn.transport !== this.#transport) this.#look();
    if (this.#writer) this.#writer.event(event);
    else {
      this.#polled?.write(conn, packetOf(event));
      this.backlog();
    }
    return true;
  }

  /** Resolves when there is room for a large answer: it is not behind, or it has ended. */
  room(): Promise<void> {
    if (!this.#behind) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters ??= [];
      this.#waiters.push(resolve);
    });
  }

  /** Socket.IO has just written something; a writer counts that by itself. */
  count(): void {
    this.#look();
    if (!this.#writer) this.backlog();
  }

  sweep(): void {
    const { bytes } = this;
    const { holdBytes, slowBytes } = this.#all.limits;
    if (bytes <= slowBytes) this.#stuck = undefined;
    else if (!this.#stuck || bytes < this.#stuck.bytes) this.#stuck = { sweeps: 0, bytes };
    else if (++this.#stuck.sweeps >= SLOW_SWEEPS) this.#slow();
    if (bytes <= holdBytes / 2) this.#caughtUp();
  }

  backlog(bytes = this.bytes): void {
    const { holdBytes, slowBytes } = this.#all.limits;
    if (bytes <= holdBytes || this.#closed) return;
    if (!this.#behind) {
      this.#behind = true;
      this.#all.add(this);
    }
    // However fast it comes: it must not grow without a bound.
    if (bytes > 2 * slowBytes) this.#slow();
  }

  /** The connection has ended. */
  close(): void {
    this.#closed = true;
    this.#writer?.unobserve(this);
    this.#caughtUp();
  }

  #look(): void {
    const { transport } = this.#conn;
    if (transport === this.#transport) return;
    this.#transport = transport;
    this.#writer?.unobserve(this);
    this.#writer = this.#all.writers.of(transport);
    if (!this.#closed) this.#writer?.observe(this);
    this.#polled = this.#writer ? undefined : new Polled();
    // What waits goes to the new transport with that, and it is to be known whose that is.
    if (this.#polled) this.#conn.once("upgrade", () => this.#look());
  }

  #caughtUp(): void {
    this.#behind = false;
    this.#stuck = undefined;
    this.#all.delete(this);
    const waiters = this.#waiters;
    this.#waiters = undefined;
    for (const resume of waiters ?? []) resume();
  }

  #slow(): void {
    this.close();
    // What waits is in the log; here it would be kept for as long as the client takes.
    this.#conn.writeBuffer = [];
    this.#writer?.drop();
    // Not now: a feed is in the middle of its subscriptions.
    this.#all.slow(this.#owner);
  }
}

/** What Engine.IO has for a client that polls: the batch that was handed to the transport, and what waits behind it. */
class Polled {
  #handed = 0;
  #waiting = 0;
  /** Packets of `writeBuffer` that are counted. */
  #counted = 0;
  /** Engine.IO begins another one when it hands over what waits. */
  #buffer: unknown;

  bytes(conn: Conn): number {
    this.#count(conn);
    if (conn.transport.writable) this.#handed = 0;
    return this.#handed + this.#waiting;
  }

  write(conn: Conn, packet: string): void {
    this.#count(conn);
    this.#waiting += packet.length;
    this.#counted++;
    conn.write(packet);
  }

  #count({ writeBuffer }: Conn): void {
    if (writeBuffer !== this.#buffer) {
      this.#handed = this.#waiting;
      this.#waiting = 0;
      this.#counted = 0;
      this.#buffer = writeBuffer;
    }
    for (let i = this.#counted; i < writeBuffer.length; i++) {
      const data = writeBuffer[i]?.data;
      if (typeof data === "string") this.#waiting += data.length;
    }
    this.#counted = writeBuffer.length;
  }
}
