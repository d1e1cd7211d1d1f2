/**
 * How much of what was written to a WebSocket its other side has read. The systems on the way take megabytes for a client
 * that does not read, and say nothing of it. So it is asked, by pings behind the bytes in question, which every WebSocket
 * answers by itself (RFC 6455, section 5.5.3). Whoever answers in time is not held up, however much is on its way.
 */

/** How long an answer may take beyond the round trip that the first one took, and how much of that trip counts. */
const LATE_TICKS = 5;
const TRIP_TICKS = 10;
/** Of the window, to be asked about by one ping: somebody who is late is asked more often, for his progress to be seen. */
const STEP = 1 / 2;
const LATE_STEP = 1 / 4;
/** Of what is unread: of megabytes on their way not each step is asked about. */
const UNREAD_STEP = 1 / 8;

/** What all windows of a door have in common. */
export interface Pace {
  /** What may be on its way to somebody who is late. */
  readonly windowBytes: number;
  /** Tenths of a second, but only those in which this process has read what came: while it stands still nobody is late. */
  readonly ticks: number;
}

interface Question {
  /** What will have been written and read when it is answered. */
  readonly read: number;
  /** Tick in which it was asked. */
  readonly at: number;
}

/** Most have none, and are thousands. */
const NONE: readonly Question[] = [];

export class Window {
  readonly #pace: Pace;
  #written = 0;
  /** How much of it has been read for sure. */
  #read = 0;
  /** Without an answer so far, the oldest first. */
  #questions = NONE;
  /** What the last question was about. */
  #asked = 0;
  /** Ticks in which an answer comes in time; 0 before the first one: who never answers cannot be judged. */
  #patience = 0;
  /** What may be on its way: no bound, until an answer is late. */
  #size = Number.POSITIVE_INFINITY;

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  /** Bytes. */
  get read(): number {
    return this.#read;
  }

  /** It reads slowly, or not at all: an answer is late, or one was, and not all has gone since that had to wait then. */
  get late(): boolean {
    return this.#bound < Number.POSITIVE_INFINITY;
  }

  /** What counts as unread: not much more than a window, because what was sent in time is nobody's fault. */
  get charged(): number {
    return this.late ? Math.min(this.#unread, 2 * this.#pace.windowBytes) : 0;
  }

  /** What may be written. */
  get room(): number {
    return Math.max(0, this.#bound - this.#unread);
  }

  /** So many bytes are written. Answers a ping to be written behind them, if it is time for one. */
  wrote(bytes: number): Buffer | undefined {
    this.#written += bytes;
    if (this.#patience === 0) return undefined;
    const { late } = this;
    const step = this.#pace.windowBytes * (late ? LATE_STEP : STEP);
    const since = this.#written - this.#asked;
    // Somebody who was late and has read all since is to be known as such before there is much for him again.
    const alone = late && this.#questions.length === 0 && since > 0;
    return alone || since >= Math.max(step, this.#unread * UNREAD_STEP) ? this.ask() : undefined;
  }

  /** A ping about all that was written; `wrote` asks by itself, once the first is answered. */
  ask(): Buffer {
    this.#asked = this.#written;
    this.#questions = [...this.#questions, { read: this.#written, at: this.#pace.ticks }];
    const ping = Buffer.from([0x89, 4, 0, 0, 0, 0]);
    ping.writeUInt32BE(this.#written >>> 0, 2);
    return ping;
  }

  /**
   * A pong has come; `holding`: something waits to be written. Answers whether more is known now: pongs that nobody has
   * asked for are allowed, and only the last of several pings must be answered.
   */
  answered(data: Buffer, holding: boolean): boolean {
    const index = data.length === 4 ? this.#indexOf(data.readUInt32BE()) : -1;
    const question = this.#questions[index];
    if (!question) return false;
    const waited = this.#pace.ticks - question.at;
    const bound = this.#bound;
    if (this.#patience === 0) this.#patience = Math.min(waited, TRIP_TICKS) + LATE_TICKS;
    else if (waited > this.#patience) this.#size = this.#pace.windowBytes;
    // As a TCP connection begins: all at once would be late again.
    else this.#size = holding ? bound + question.read - this.#read : Number.POSITIVE_INFINITY;
    this.#read = question.read;
    this.#questions = index + 1 < this.#questions.length ? this.#questions.slice(index + 1) : NONE;
    return true;
  }

  /** Nobody is asked any more, nor late. */
  close(): void {
    this.#patience = 0;
    this.#size = Number.POSITIVE_INFINITY;
    this.#questions = NONE;
  }

  get #unread(): number {
    return this.#written - this.#read;
  }

  get #bound(): number {
    const oldest = this.#questions[0];
    const late = this.#patience > 0 && oldest && this.#pace.ticks - oldest.at > this.#patience;
    return late ? this.#pace.windowBytes : this.#size;
  }

  #indexOf(mark: number): number {
    return this.#questions.findIndex(({ read }) => read >>> 0 === mark);
  }
}
