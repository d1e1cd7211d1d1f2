/**
 * How much of what was written to a WebSocket its other side has read. The systems on the way take megabytes for a client
 * that does not read, and say nothing of it. So it is asked, by a ping behind the bytes in question, which every WebSocket
 * answers by itself (RFC 6455, section 5.5.3). Whoever answers in time is not held up, however much is on its way.
 */

/** Ping, unmasked, with four bytes. */
const PING_HEAD = [0x89, 4] as const;
const MARKS = 2 ** 32;
/** How long an answer may take beyond the round trip that the first one took, and how much of that counts. */
const LATE_TICKS = 5;
const TRIP_TICKS = 10;
/** An answer that has not come by then may be lost: some clients drop them while they are busy. */
const AGAIN_TICKS = 20;

/** What all windows of a door have in common. */
export interface Pace {
  /** What may be on its way to somebody who is late. */
  readonly windowBytes: number;
  /** Tenths of a second, but only those in which this process has read what came: while it stands still nobody is late. */
  readonly ticks: number;
}

export class Window {
  readonly #pace: Pace;
  #written = 0;
  /** How much of it has been read for sure. */
  #read = 0;
  /** What will be read for sure once it answers; -1 when nothing is asked. */
  #asked = -1;
  #askedAt = 0;
  /** Ticks in which an answer comes in time; 0 before the first one: who never answers cannot be judged. */
  #patience = 0;
  /** The last answer was late. */
  #wasLate = false;

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  /** Its answers take long: it reads slowly, or not at all. */
  get late(): boolean {
    return this.#patience > 0 && (this.#wasLate || this.#waited > this.#patience);
  }

  /** What is known to wait on the way, at most the window: what was sent in time is nobody's fault. */
  get waiting(): number {
    return this.late ? Math.min(this.#written - this.#read, this.#pace.windowBytes) : 0;
  }

  /** What may be written; without a bound to somebody who is not late. */
  get room(): number {
    return this.late
      ? Math.max(0, this.#pace.windowBytes - (this.#written - this.#read))
      : Number.POSITIVE_INFINITY;
  }

  /** The first ping. */
  greet(): Buffer {
    return this.#ask();
  }

  /** So many bytes are written. Answers a ping to be written behind them, where half of the window may be unread. */
  wrote(bytes: number): Buffer | undefined {
    this.#written += bytes;
    const due = this.#written - this.#read >= this.#pace.windowBytes / 2;
    return due && this.#patience > 0 && this.#asked < 0 ? this.#ask() : undefined;
  }

  /** One more ping, when the last one has long had no answer, once. */
  again(): Buffer | undefined {
    if (this.#waited <= AGAIN_TICKS || this.#asked === this.#written) return undefined;
    this.#wasLate = true;
    return this.#ask();
  }

  /** A pong has come. Answers whether more is known now: pongs that nobody has asked for are allowed. */
  answered(data: Buffer): boolean {
    if (this.#asked < 0 || data.length !== 4) return false;
    const mark = data.readUInt32BE();
    const read = this.#written - ((((this.#written - mark) % MARKS) + MARKS) % MARKS);
    if (read < this.#read || read > this.#asked) return false;
    this.#read = read;
    // Not the last question: how long that one takes is still to be seen.
    if (read < this.#asked) return true;
    if (this.#patience === 0) this.#patience = Math.min(this.#waited, TRIP_TICKS) + LATE_TICKS;
    else this.#wasLate = this.#waited > this.#patience;
    this.#asked = -1;
    return true;
  }

  /** Nobody is asked any more, nor late. */
  close(): void {
    this.#patience = 0;
    this.#asked = -1;
  }

  get #waited(): number {
    return this.#asked < 0 ? 0 : this.#pace.ticks - this.#askedAt;
  }

  #ask(): Buffer {
    this.#asked = this.#written;
    this.#askedAt = this.#pace.ticks;
    const ping = Buffer.from([...PING_HEAD, 0, 0, 0, 0]);
    ping.writeUInt32BE(this.#written % MARKS, PING_HEAD.length);
    return ping;
  }
}
