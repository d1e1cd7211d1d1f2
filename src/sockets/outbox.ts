/**
 * What waits for a client to read it. `ws.bufferedAmount` says nothing of it on Socket.IO: Engine.IO keeps packets in
 * `writeBuffer`, without a bound, while the transport writes the batch before. So each connection counts what it has
 * been given since, and one sweep for all of them looks at those that are behind.
 */
import type { Socket } from "socket.io";

export interface OutboxLimits {
  /** Above it conflatable values are held back. Characters, which are bytes for ASCII. */
  holdBytes: number;
  /** Above it for 2 s without getting less, or above its double at once, the connection is closed. */
  slowBytes: number;
}

const SWEEP_MS = 100;
/** Engine.IO tells of a batch only when all of it is gone: at 10 Mbit/s that takes the double of the limit as long. */
const SLOW_MS = 2_000;

/** The outboxes that are behind. */
export class Outboxes {
  readonly limits: OutboxLimits;
  readonly #behind = new Set<Outbox>();
  #timer: NodeJS.Timeout | undefined;

  constructor(limits: OutboxLimits) {
    this.limits = limits;
  }

  /** Connections for which conflatable values are held back. */
  get behind(): number {
    return this.#behind.size;
  }

  add(outbox: Outbox): void {
    this.#behind.add(outbox);
    this.#timer ??= setInterval(() => {
      const now = performance.now();
      for (const each of this.#behind) each.sweep(now);
    }, SWEEP_MS);
  }

  delete(outbox: Outbox): void {
    if (!this.#behind.delete(outbox) || this.#behind.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** What this uses of an Engine.IO connection. */
type Conn = Pick<Socket["conn"], "write" | "on" | "transport" | "readyState"> & {
  writeBuffer: Array<{ data?: unknown }>;
};

export class Outbox {
  readonly #conn: Conn;
  readonly #all: Outboxes;
  readonly #onSlow: () => void;
  /** The batch that the transport has not said to be done with. */
  #handed = 0;
  /** What stands in `writeBuffer`, and how many packets of it are counted. */
  #waiting = 0;
  #counted = 0;
  #behind = false;
  /** Since when it has been above the second limit without getting less, and how much it was then. */
  #stuck: { since: number; bytes: number } | undefined;
  #closed = false;
  /** Told when it is no longer behind. */
  #waiters: Array<() => void> = [];

  /** `onSlow` ends the connection; called once, not in the turn of a `write`. */
  constructor(conn: unknown, all: Outboxes, onSlow: () => void) {
    this.#conn = conn as Conn;
    this.#all = all;
    this.#onSlow = onSlow;
    // Engine.IO has handed over all that waited.
    this.#conn.on("drain", () => {
      this.#handed = this.#waiting;
      this.#waiting = 0;
      this.#counted = 0;
    });
  }

  /** Whether conflatable values are to be held back. */
  get behind(): boolean {
    return this.#behind;
  }

  /** What the client has not been seen to take. */
  get bytes(): number {
    if (this.#conn.transport.writable) this.#handed = 0;
    return this.#handed + this.#waiting;
  }

  /** A packet, as it goes on the wire. Answers whether it does. */
  write(packet: string): boolean {
    if (this.#closed || this.#conn.readyState !== "open") return false;
    this.#countOthers();
    this.#waiting += packet.length;
    this.#counted++;
    this.#conn.write(packet);
    this.#judge();
    return true;
  }

  /** Resolves when there is room for a large answer: it is not behind, or it has ended. */
  room(): Promise<void> {
    if (!this.#behind) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Counts what Socket.IO has just written. */
  count(): void {
    this.#countOthers();
    this.#judge();
  }

  sweep(now: number): void {
    const { bytes } = this;
    const { holdBytes, slowBytes } = this.#all.limits;
    if (bytes <= slowBytes) this.#stuck = undefined;
    else if (!this.#stuck || bytes < this.#stuck.bytes) this.#stuck = { since: now, bytes };
    else if (now - this.#stuck.since >= SLOW_MS) this.#slow();
    if (bytes <= holdBytes / 2) this.#caughtUp();
  }

  /** The connection has ended. */
  close(): void {
    this.#closed = true;
    this.#caughtUp();
  }

  #caughtUp(): void {
    this.#behind = false;
    this.#stuck = undefined;
    this.#all.delete(this);
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resume of waiters) resume();
  }

  #countOthers(): void {
    const { writeBuffer } = this.#conn;
    for (let i = this.#counted; i < writeBuffer.length; i++) {
      const data = writeBuffer[i]?.data;
      if (typeof data === "string") this.#waiting += data.length;
    }
    this.#counted = writeBuffer.length;
  }

  #judge(): void {
    const bytes = this.#handed + this.#waiting;
    const { holdBytes, slowBytes } = this.#all.limits;
    if (bytes <= holdBytes || this.#closed) return;
    if (!this.#behind) {
      this.#behind = true;
      this.#all.add(this);
    }
    // However fast it comes: it must not grow without a bound.
    if (bytes > 2 * slowBytes) this.#slow();
  }

  #slow(): void {
    this.close();
    // What waits is in the log; here it would be kept for as long as the client takes.
    this.#conn.writeBuffer = [];
    // A feed is in the middle of its subscriptions.
    setImmediate(this.#onSlow);
  }
}
