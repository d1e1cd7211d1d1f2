/**
 * What waits for a client to read it. `ws.bufferedAmount` says nothing of it on Socket.IO: Engine.IO keeps packets in
 * `writeBuffer`, without a bound, while the transport writes the batch before. So each connection counts what it has
 * been given since, and one sweep for all of them looks at those that are behind.
 */
import type { Socket } from "socket.io";

export interface OutboxLimits {
  /** Above it conflatable values are held back. Characters, which are bytes for ASCII. */
  holdBytes: number;
  /** Above it for a whole sweep, or above its double at once, the connection is closed. */
  slowBytes: number;
}

/** A burst of one turn has the time to reach the system's buffers before it is judged. */
const SWEEP_MS = 100;

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
      for (const each of this.#behind) each.sweep();
    }, SWEEP_MS);
  }

  delete(outbox: Outbox): void {
    if (!this.#behind.delete(outbox) || this.#behind.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** What this uses of an Engine.IO connection. */
type Conn = Pick<Socket["conn"], "write" | "transport"> & { writeBuffer: Array<{ data?: unknown }> };

export class Outbox {
  readonly #conn: Conn;
  readonly #all: Outboxes;
  readonly #onSlow: () => void;
  /** The batch that the transport has not said to be done with. */
  #handed = 0;
  /** What stands in `writeBuffer`. */
  #waiting = 0;
  /** Engine.IO puts another array in its place when it hands a batch over. */
  #buffer: unknown;
  /** The last packet of somebody else that was counted. */
  #counted: unknown;
  #behind = false;
  #closed = false;

  /** `onSlow` ends the connection; called once, not in the turn of a `write`. */
  constructor(conn: unknown, all: Outboxes, onSlow: () => void) {
    this.#conn = conn as Conn;
    this.#all = all;
    this.#onSlow = onSlow;
    this.#buffer = this.#conn.writeBuffer;
  }

  /** Whether conflatable values are to be held back. */
  get behind(): boolean {
    return this.#behind;
  }

  /** What the client has not been seen to take. */
  get bytes(): number {
    this.#look();
    if (this.#conn.transport.writable) this.#handed = 0;
    return this.#handed + this.#waiting;
  }

  /** A packet, as it goes on the wire. */
  write(packet: string): void {
    if (this.#closed) return;
    this.#look();
    this.#conn.write(packet);
    this.#add(packet.length);
  }

  /** Counts the packet that Socket.IO has just written. */
  count(): void {
    const last = this.#conn.writeBuffer.at(-1);
    if (last === undefined || last === this.#counted) return;
    this.#counted = last;
    this.#look();
    if (typeof last.data === "string") this.#add(last.data.length);
  }

  sweep(): void {
    const { bytes } = this;
    const { holdBytes, slowBytes } = this.#all.limits;
    if (bytes > slowBytes) this.#slow();
    else if (bytes <= holdBytes / 2) {
      this.#behind = false;
      this.#all.delete(this);
    }
  }

  /** The connection has ended. */
  close(): void {
    this.#closed = true;
    this.#behind = false;
    this.#all.delete(this);
  }

  #add(length: number): void {
    if (this.#conn.writeBuffer === this.#buffer) this.#waiting += length;
    else {
      // It went out at once, with all that waited.
      this.#handed = this.#waiting + length;
      this.#waiting = 0;
      this.#buffer = this.#conn.writeBuffer;
    }
    const bytes = this.#handed + this.#waiting;
    const { holdBytes, slowBytes } = this.#all.limits;
    if (bytes <= holdBytes || this.#closed) return;
    if (!this.#behind) {
      this.#behind = true;
      this.#all.add(this);
    }
    // Between two sweeps it must not grow without a bound either.
    if (bytes > 2 * slowBytes) this.#slow();
  }

  /** What waited has been handed over meanwhile. */
  #look(): void {
    if (this.#conn.writeBuffer === this.#buffer) return;
    this.#handed = this.#waiting;
    this.#waiting = 0;
    this.#buffer = this.#conn.writeBuffer;
  }

  #slow(): void {
    this.close();
    // What waits is in the log; here it would be kept for as long as the client takes.
    this.#conn.writeBuffer = [];
    // A feed is in the middle of its subscriptions.
    setImmediate(this.#onSlow);
  }
}
