/**
 * How much of what was written to a WebSocket its other side has read. The systems on the way take megabytes for a client
 * that does not read, and say nothing of it. So it is asked, by Engine.IO's pings behind the bytes in question: every
 * client answers each with a pong, in order. Whoever answers in time is not held up, however much is on its way.
 */
import { textFrame } from "./batch.ts";

/** Engine.IO's ping. */
const PING = textFrame("2");
/** Ticks that an answer may take: the longest ways, over satellites, take half of it. */
const PATIENCE = 15;
/** Of the window, to be asked about by one ping: somebody who is late is asked more often, for his progress to be seen. */
const STEP = 1 / 2;
const LATE_STEP = 1 / 4;
/** Of what is unread: of megabytes on their way not each step is asked about. */
const UNREAD_STEP = 1 / 32;

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
    const { late } = this;
    const step = this.#pace.windowBytes * (late ? LATE_STEP : STEP);
    const since = this.#written - this.#asked;
    // Somebody who was late and has read all since is to be known as such before there is much for him again.
    const alone = late && this.#questions.length === 0 && since > 0;
    return alone || since >= Math.max(step, this.#unread * UNREAD_STEP) ? this.#ask() : undefined;
  }

  /**
   * A pong has come; `holding`: something waits to be written. Answers whether that says anything. Engine.IO pings by
   * itself, too, after a time without pongs: the answer to that may be taken for one to a question, a step too early.
   */
  answered(holding: boolean): boolean {
    const question = this.#questions[0];
    if (!question) return false;
    const waited = this.#pace.ticks - question.at;
    if (waited > PATIENCE) this.#size = this.#pace.windowBytes;
    // As a TCP connection begins: all at once would be late again.
    else if (holding) this.#size += question.read - this.#read;
    else this.#size = Number.POSITIVE_INFINITY;
    this.#read = question.read;
    this.#questions = this.#questions.length > 1 ? this.#questions.slice(1) : NONE;
    return true;
  }

  /** Nobody is late any more, nor asked. */
  close(): void {
    this.#asked = Number.POSITIVE_INFINITY;
    this.#size = Number.POSITIVE_INFINITY;
    this.#questions = NONE;
  }

  #ask(): Buffer {
    this.#asked = this.#written;
    this.#questions = [...this.#questions, { read: this.#written, at: this.#pace.ticks }];
    return PING;
  }

  get #unread(): number {
    return this.#written - this.#read;
  }

  get #bound(): number {
    const oldest = this.#questions[0];
    const late = oldest && this.#pace.ticks - oldest.at > PATIENCE;
    return late ? this.#pace.windowBytes : this.#size;
  }
}
