/**
 * One write per WebSocket and turn: a system call costs more than all that the hub does for a delivery, and bursts come
 * in one turn. What the hub has to say is gathered, and written when the turn is over. While the event loop has little
 * room left, events wait a little longer, so that more of them go together; answers never do.
 *
 * The system takes megabytes for a client that does not read, and says nothing of it. So a client is asked, by a
 * WebSocket ping after the bytes in question, whether it has read them: while one is long in answering, no more than a
 * window is on its way to it, and the rest waits here, where it is counted, and is one buffer for many.
 */

import type { Socket as NetSocket } from "node:net";
import { performance } from "node:perf_hooks";
import type { WebSocket } from "ws";
import type { FeedEvent } from "../bus/bus.ts";
import { Batch } from "./batch.ts";

/** What is gathered in a turn leaves before its end above this, so that nothing large is held twice. */
const GATHER_BYTES = 65_536;
/**
 * What may wait for somebody who has joined no namespace, and whom so no outbox watches: the answers to WebSocket pings
 * of one who does not read, for example. ws' own bound on these counts frames that are not done, and here all are.
 */
const STRANGER_BYTES = 262_144;
/** Small pieces are copied into one: cheaper than a write of several. */
const COPY_BYTES = 16_384;
/** How long the event loop is watched before its utilisation counts. */
const WATCH_MS = 100;
/** Below this utilisation nobody waits; from here to 1 the wait grows to its bound. */
const BUSY = 0.6;
/** Waiting is worth it where so many events leave with one write. */
const WORTH = 1.25;
/** Where it was not, how long nobody waits before it is tried again. */
const RETRY_MS = 1_000;
const CLOSE = 0x8;
/** A WebSocket ping of four bytes, unmasked. */
const PING_HEAD = [0x89, 4] as const;
/** How long a client may take to answer before all that it has not answered for counts as unread. */
const LATE_MS = 500;

/** A frame's head, or its text as ws has it. */
type Piece = Buffer | string;

/** Told of what a connection does not take. */
export interface Backlogged {
  /** Called after a write that the system has not taken whole. */
  backlog(): void;
}

/** What is written to one WebSocket; ws's own frames (answers, pings, close) and the hub's events, in one order. */
export class Writer {
  /** Of each namespace. */
  #observers: readonly Backlogged[] = [];
  readonly #socket: NetSocket;
  readonly #writers: Writers;
  /** Events since the last write, or since the last of `#own`. */
  #batch: Batch | undefined;
  /** What stands before them, once there was something else. */
  #own: Buffer[] | undefined;
  #ownBytes = 0;
  /** A close frame has been written: nothing may follow it. */
  #ended = false;
  /** Bytes: given to the system so far, and how many of them the other side has been seen to read. */
  #written = 0;
  #read = 0;
  /** When it was asked, by `performance.now()`; 0 once it has answered. */
  #askedAt = 0;
  /** What it will have read when it answers. */
  #askedAbout = 0;
  /** It has answered the first ping, as all should: who does not can only be judged by what the system takes. */
  #answers = false;
  /** Waits until the other side has read more. */
  #held: Buffer[] | undefined;
  #heldBytes = 0;
  /** By `Writers`: in which of its lists it stands. */
  due: "no" | "later" | "now" = "no";

  constructor(socket: NetSocket, writers: Writers) {
    this.#socket = socket;
    this.#writers = writers;
  }

  /** Gathered since the last write, or since the last frame of ws's own. */
  get events(): number {
    return this.#batch?.events ?? 0;
  }

  /**
   * What waits for the other side to read it: here, in the TCP socket and, while it is late in answering, in the system.
   * What is being gathered is bounded, and not among it.
   */
  get bytes(): number {
    return this.#heldBytes + (this.#late ? this.#written - this.#read : this.#socket.writableLength);
  }

  get #late(): boolean {
    return this.#answers && this.#askedAt > 0 && performance.now() - this.#askedAt > LATE_MS;
  }

  observe(observer: Backlogged): void {
    // Not by spreading, which would leave room for sixteen more, per connection.
    this.#observers = this.#observers.concat(observer);
  }

  unobserve(observer: Backlogged): void {
    this.#observers = this.#observers.filter((each) => each !== observer);
  }

  event(event: FeedEvent): void {
    if (this.#ended) return;
    this.#batch = (this.#batch ?? this.#writers.start).with(event);
    if (this.#batch.bytes > GATHER_BYTES) this.flush();
    else if (this.due === "no") this.#writers.later(this);
  }

  /** As ws's `Sender.sendFrame`: a frame in one or two pieces. `done` is called at once, so that Engine.IO goes on. */
  frame(pieces: readonly Piece[], done?: (error?: Error) => void): void {
    if (!this.#ended) this.#frame(pieces);
    done?.();
  }

  #frame(pieces: readonly Piece[]): void {
    if (this.#batch) {
      this.#add(this.#batch.buffer);
      this.#batch = undefined;
    }
    for (const piece of pieces) this.#add(typeof piece === "string" ? Buffer.from(piece) : piece);
    if (((pieces[0]?.[0] as number) & 0x0f) === CLOSE) {
      // Nobody is asked any more.
      this.#answers = false;
      this.#release(Number.POSITIVE_INFINITY);
      this.flush();
      this.#ended = true;
    } else if (this.#ownBytes > GATHER_BYTES) this.flush();
    else if (this.due !== "now") this.#writers.now(this);
  }

  /** Writes what there is. */
  flush(): void {
    const own = this.#own;
    const batch = this.#batch;
    if (!own && !batch) return;
    this.#own = undefined;
    this.#ownBytes = 0;
    this.#batch = undefined;
    const socket = this.#socket;
    // Ended or gone: whoever is there again reads it from the log.
    if (!socket.writable) {
      this.#forget();
      return;
    }
    if (!own) this.#send([(batch as Batch).buffer]);
    else this.#send(batch ? [...own, batch.buffer] : own);
    if (this.bytes === 0) return;
    if (this.#observers.length > 0) for (const observer of this.#observers) observer.backlog();
    else if (this.bytes > STRANGER_BYTES) socket.destroy();
  }

  /** Asks for the first time. */
  greet(): void {
    this.#frame([this.#ask(this.#written)]);
  }

  /** A pong frame has come: an answer, or something that nobody has asked for, which is allowed. */
  pong(data: Buffer): void {
    if (this.#askedAt === 0 || !data.equals(markOf(this.#askedAbout))) return;
    this.#answers = true;
    this.#askedAt = 0;
    this.#read = this.#askedAbout;
    if (this.#held) this.#release(this.#writers.windowBytes - (this.#written - this.#read));
  }

  /** Forgets what waits, and whatever comes. */
  drop(): void {
    this.#ended = true;
    this.#own = undefined;
    this.#ownBytes = 0;
    this.#batch = undefined;
    this.#forget();
  }

  #forget(): void {
    this.#held = undefined;
    this.#heldBytes = 0;
    this.#askedAt = 0;
  }

  #send(pieces: Buffer[]): void {
    const full = this.#written - this.#read > this.#writers.windowBytes && this.#late;
    if (!this.#held && !full) {
      this.#write(pieces);
      return;
    }
    this.#held ??= [];
    for (const piece of pieces) {
      this.#held.push(piece);
      this.#heldBytes += piece.length;
    }
  }

  /** Writes as much of what is held as there is room for, and at least one piece: with that it is asked again. */
  #release(room: number): void {
    const held = this.#held;
    if (!held || !this.#socket.writable) return;
    let count = 0;
    let bytes = 0;
    while (count < held.length && (count === 0 || bytes < room)) bytes += (held[count++] as Buffer).length;
    this.#heldBytes -= bytes;
    if (count === held.length) this.#held = undefined;
    this.#write(held.splice(0, count));
  }

  #add(piece: Buffer): void {
    this.#own ??= [];
    this.#own.push(piece);
    this.#ownBytes += piece.length;
  }

  #write(pieces: Buffer[]): void {
    const socket = this.#socket;
    this.#writers.writes++;
    for (const { length } of pieces) this.#written += length;
    const asks =
      this.#answers && this.#askedAt === 0 && this.#written - this.#read >= this.#writers.windowBytes / 2;
    if (asks) pieces.push(this.#ask(this.#written));
    if (pieces.length === 1) {
      socket.write(pieces[0] as Buffer);
      return;
    }
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    if (bytes <= COPY_BYTES) {
      socket.write(Buffer.concat(pieces, bytes));
      return;
    }
    socket.cork();
    for (const piece of pieces) socket.write(piece);
    socket.uncork();
  }

  #ask(about: number): Buffer {
    this.#askedAt = Math.ceil(performance.now());
    this.#askedAbout = about;
    return Buffer.from([...PING_HEAD, ...markOf(about)]);
  }
}

/** What a ping carries, and its answer brings back. */
function markOf(bytes: number): Buffer {
  const mark = Buffer.allocUnsafe(4);
  mark.writeUInt32BE(bytes % 2 ** 32);
  return mark;
}

/** The part of ws's sender that every frame goes through; Engine.IO calls it too. */
interface Sender {
  sendFrame(pieces: readonly Piece[], done?: (error?: Error) => void): void;
  writer?: Writer;
}

/** A WebSocket of ws. */
interface Sending {
  _sender: Sender;
}

/** All WebSockets of the door, and when they are written to. */
export class Writers {
  /** Where every batch of the time between two writes begins. */
  start = new Batch();
  /** System calls that were asked for. */
  writes = 0;
  /** What may be on its way to a client that is long in saying that it has read. */
  readonly windowBytes: number;
  readonly #boundMs: number;
  #now: Writer[] = [];
  #later: Writer[] = [];
  #turn: NodeJS.Immediate | undefined;
  #wait: NodeJS.Timeout | undefined;
  /** How long events wait at the moment, ms. */
  #waitMs = 0;
  #watchedAt = performance.now();
  #watched = performance.eventLoopUtilization();
  /** Until then nobody waits, by `performance.now()`. */
  #pointlessUntil = 0;

  /** `boundMs`: how long events may wait at most to leave together; with 0 they leave with their turn, whatever is. */
  constructor(boundMs: number, windowBytes: number) {
    this.#boundMs = boundMs;
    this.windowBytes = windowBytes;
  }

  /** How long events wait at the moment to leave together, ms. */
  get waitMs(): number {
    return this.#waitMs;
  }

  /** Takes over what is written to a WebSocket, which must be without compression. */
  take(webSocket: WebSocket, socket: NetSocket): void {
    const sender = (webSocket as unknown as Sending)._sender;
    sender.writer = new Writer(socket, this);
    sender.sendFrame = sendFrame;
    webSocket.on("pong", pong);
    sender.writer.greet();
  }

  /** Of an Engine.IO transport; `undefined` for one that polls. */
  of(transport: object): Writer | undefined {
    const { socket } = transport as { socket?: Sending };
    return socket?._sender.writer;
  }

  /** Has it written to when the turn is over. */
  now(writer: Writer): void {
    writer.due = "now";
    this.#now.push(writer);
    this.#turn ??= setImmediate(() => this.#flushNow());
  }

  /** Has it written to when the turn is over, or, while there is much to do, a little later. */
  later(writer: Writer): void {
    if (this.#now.length + this.#later.length === 0) this.#watch();
    if (this.#waitMs === 0) this.now(writer);
    else {
      writer.due = "later";
      this.#later.push(writer);
      this.#wait ??= setTimeout(() => this.#flushLater(), this.#waitMs);
    }
  }

  close(): void {
    clearImmediate(this.#turn);
    clearTimeout(this.#wait);
    this.#flushNow();
    this.#flushLater();
  }

  #flushNow(): void {
    this.#turn = undefined;
    const due = this.#now;
    this.#now = [];
    this.#flush(due);
  }

  #flushLater(): void {
    this.#wait = undefined;
    const due = this.#later;
    this.#later = [];
    this.#judge(due);
    this.#flush(due);
  }

  #flush(due: readonly Writer[]): void {
    // Whoever still has something of before goes on with it; nobody begins with it any more.
    this.start = new Batch();
    for (const writer of due) {
      writer.due = "no";
      writer.flush();
    }
  }

  /** One event for each of many connections costs as many writes later as at once. */
  #judge(due: readonly Writer[]): void {
    const waited = due.filter((writer) => writer.events > 0);
    const events = waited.reduce((sum, writer) => sum + writer.events, 0);
    if (events >= waited.length * WORTH) return;
    this.#waitMs = 0;
    this.#pointlessUntil = performance.now() + RETRY_MS;
  }

  /** Without a timer of its own: it counts only while there is something to write. */
  #watch(): void {
    if (this.#boundMs === 0) return;
    const now = performance.now();
    if (now - this.#watchedAt < WATCH_MS || now < this.#pointlessUntil) return;
    const seen = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(seen, this.#watched);
    this.#watched = seen;
    this.#watchedAt = now;
    const share = Math.max(0, utilization - BUSY) / (1 - BUSY);
    this.#waitMs = Math.round(share * this.#boundMs);
  }
}

/** One function for all senders. */
function sendFrame(this: Sender, pieces: readonly Piece[], done?: (error?: Error) => void): void {
  this.writer?.frame(pieces, done);
}

/** One function for all WebSockets. */
function pong(this: WebSocket, data: Buffer): void {
  (this as unknown as Sending)._sender.writer?.pong(data);
}
