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
type Conn = Pick<Socket["conn"], "write" | "transport" | "readyState" | "once" | "off"> & {
  writeBuffer: Array<{ data?: unknown }>;
};

export class Outbox implements Backlogged {
  readonly #conn: Conn;
  readonly #all: Outboxes;
  readonly #owner: Owner;
  /** Of a WebSocket. */
  #writer: Writer | undefined;
  /** Of a client that polls. It may go over to a WebSocket. */
  #polled: Polled | undefined;
  #behind = false;
  /** For how many sweeps it has been above the second limit without getting less or reading more, and how much it was. */
  #stuck: { sweeps: number; bytes: number; read: number } | undefined;
  #closed = false;
  /** Told when it is no longer behind. */
  #waiters: Array<() => void> | undefined;

  constructor(conn: unknown, all: Outboxes, owner: Owner) {
    this.#conn = conn as Conn;
    this.#all = all;
    this.#owner = owner;
    this.#writer = all.writers.of(this.#conn.transport);
    if (this.#writer) this.#writer.observe(this);
    else this.#polled = new Polled(this.#conn, () => this.#upgraded());
  }

  /** Whether conflatable values are to be held back. */
  get behind(): boolean {
    return this.#behind;
  }

  /** What the client has not been seen to take. */
  get bytes(): number {
    return this.#writer?.bytes ?? this.#polled?.bytes ?? 0;
  }

  /** An event, after all that was written before. Answers whether it goes on its way. */
  write(event: FeedEvent): boolean {
    const conn = this.#conn;
    if (this.#closed || conn.readyState !== "open") return false;
    if (this.#writer) this.#writer.event(event);
    else {
      this.#polled?.write(packetOf(event));
      this.backlog();
    }
    return true;
  }

  /** Resolves when there is room for a large answer: it is not behind, or it has ended. */
  room(): Promise<void> {
    this.backlog();
    if (!this.#behind) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters ??= [];
      this.#waiters.push(resolve);
    });
  }

  /** Socket.IO has just written something; a writer counts that by itself. */
  count(): void {
    if (!this.#writer) this.backlog();
  }

  sweep(): void {
    const { bytes } = this;
    const { holdBytes, slowBytes } = this.#all.limits;
    const stuck = this.#stuck;
    const read = this.#writer?.read ?? 0;
    if (bytes <= slowBytes) this.#stuck = undefined;
    else if (!stuck || bytes < stuck.bytes || read > stuck.read) this.#stuck = { sweeps: 0, bytes, read };
    else if (++stuck.sweeps >= SLOW_SWEEPS) this.#slow();
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
    this.#polled?.close();
    this.#caughtUp();
  }

  #upgraded(): void {
    this.#polled = undefined;
    this.#writer = this.#all.writers.of(this.#conn.transport);
    this.#writer?.observe(this);
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
  readonly #conn: Conn;
  readonly #upgraded: () => void;
  #handed = 0;
  #waiting = 0;
  /** Packets of `writeBuffer` that are counted. */
  #counted = 0;
  /** Engine.IO begins another one when it hands over what waits. */
  #buffer: unknown;

  /** `upgraded` is called when its client has become a WebSocket, before what waits is written to that. */
  constructor(conn: Conn, upgraded: () => void) {
    this.#conn = conn;
    this.#upgraded = upgraded;
    conn.once("upgrade", upgraded);
  }

  get bytes(): number {
    this.#count();
    if (this.#conn.transport.writable) this.#handed = 0;
    return this.#handed + this.#waiting;
  }

  write(packet: string): void {
    this.#count();
    this.#waiting += packet.length;
    this.#counted++;
    this.#conn.write(packet);
  }

  close(): void {
    this.#conn.off("upgrade", this.#upgraded);
  }

  #count(): void {
    const { writeBuffer } = this.#conn;
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
