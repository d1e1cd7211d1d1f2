/**
 * One write per WebSocket and turn: a system call costs more than all that the hub does for a delivery, and bursts come
 * in one turn. What the hub has to say is gathered, and written when the turn is over. While the event loop has little
 * room left, events wait a little longer, so that more of them go together; answers never do.
 *
 * To a client that does not say in time that it has read, no more than a window is on its way; the rest waits here,
 * where it is counted, and is one buffer for many.
 */

import type { Socket as NetSocket } from "node:net";
import { performance } from "node:perf_hooks";
import type { WebSocket } from "ws";
import type { FeedEvent } from "../bus/bus.ts";
import { Batch } from "./batch.ts";
import { type Pace, Window } from "./window.ts";

/** What is gathered in a turn leaves before its end above this, so that nothing large is held twice. */
const GATHER_BYTES = 65_536;
/**
 * What may wait for somebody who has joined no namespace, and whom so no outbox watches: the answers to the WebSocket
 * pings of one who does not read, for example. ws' own bound on these counts frames that are not done, and here all are.
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
const TICK_MS = 100;

/** A frame's head, or its text as ws has it. */
type Piece = Buffer | string;

/** Told of what a connection does not take. */
export interface Backlogged {
  /** Called after a write, where so many bytes wait for the other side then. */
  backlog(bytes: number): void;
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
  readonly #window: Window;
  /** Waits until the other side has read more. */
  #held: Buffer[] | undefined;
  #heldBytes = 0;
  /** By `Writers`: in which of its lists it stands. */
  due: "no" | "later" | "now" = "no";

  constructor(socket: NetSocket, writers: Writers) {
    this.#socket = socket;
    this.#writers = writers;
    this.#window = new Window(writers);
  }

  /** Gathered since the last write, or since the last frame of ws's own. */
  get events(): number {
    return this.#batch?.events ?? 0;
  }

  /**
   * What waits for the other side to read it: here, in the TCP socket, and on its way to somebody who is late. What is
   * being gathered is bounded, and not among it.
   */
  get bytes(): number {
    return this.#heldBytes + Math.max(this.#socket.writableLength, this.#window.charged);
  }

  /** How much of all that was written has been read for sure. */
  get read(): number {
    return this.#window.read;
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
      this.#window.close();
      this.#release();
      this.flush();
      this.#ended = true;
    } else if (this.#ownBytes > GATHER_BYTES) this.flush();
    else if (this.due !== "now") this.#writers.now(this);
  }

  /** Writes what there is, or holds it. */
  flush(): void {
    const own = this.#own;
    const batch = this.#batch;
    if (!own && !batch) return;
    this.#own = undefined;
    this.#ownBytes = 0;
    this.#batch = undefined;
    if (!this.#socket.writable) {
      this.#forget();
      return;
    }
    if (this.#held || this.#window.room === 0) this.#hold(own, batch);
    else if (!own) this.#write([(batch as Batch).buffer]);
    else this.#write(batch ? [...own, batch.buffer] : own);
    const { bytes } = this;
    if (bytes === 0) return;
    if (this.#observers.length > 0) for (const observer of this.#observers) observer.backlog(bytes);
    else if (this.#heldBytes + this.#socket.writableLength > STRANGER_BYTES) this.#socket.destroy();
  }

  /** A pong has come. */
  pong(): void {
    if (!this.#ended && this.#window.answered(this.#held !== undefined)) this.#release();
  }

  /** Forgets what waits, and whatever comes. What it has counted stays: other namespaces judge by it, too. */
  drop(): void {
    this.#ended = true;
    this.#own = undefined;
    this.#ownBytes = 0;
    this.#batch = undefined;
    this.#held = undefined;
  }

  /** Ended or gone: whoever is there again reads it from the log. */
  #forget(): void {
    this.#held = undefined;
    this.#heldBytes = 0;
  }

  #hold(own: Buffer[] | undefined, batch: Batch | undefined): void {
    // Thousands of small pieces would take more than their bytes.
    const pieces: Buffer[] = own ? [Buffer.concat(own)] : [];
    if (batch) pieces.push(batch.buffer);
    this.#held ??= [];
    this.#held.push(...pieces);
    this.#heldBytes += sum(pieces);
  }

  /**
   * Writes as much of what is held as there is room for. What stays has a question before it: a window without room is
   * unread, and asks about that.
   */
  #release(): void {
    if (!this.#socket.writable) {
      this.#forget();
      return;
    }
    while (this.#held && this.#window.room > 0) {
      const pieces = this.#next(this.#held);
      this.#heldBytes -= sum(pieces);
      if (this.#held.length === 0) this.#held = undefined;
      this.#write(pieces);
    }
    // Also where nothing is held there may be something to ask.
    this.#write([]);
  }

  /** Not all at once: a window asks about each of its writes. */
  #next(held: Buffer[]): Buffer[] {
    const enough = Math.min(this.#window.room, GATHER_BYTES);
    let count = 0;
    for (let bytes = 0; count < held.length && bytes < enough; count++)
      bytes += (held[count] as Buffer).length;
    return held.splice(0, count);
  }

  #add(piece: Buffer): void {
    this.#own ??= [];
    this.#own.push(piece);
    this.#ownBytes += piece.length;
  }

  /** With a ping behind them, if it is time for one; of no pieces the ping alone. */
  #write(pieces: Buffer[]): void {
    const socket = this.#socket;
    const bytes = sum(pieces);
    const ping = this.#window.wrote(bytes);
    if (ping) pieces.push(ping);
    if (pieces.length === 0) return;
    this.#writers.writes++;
    if (pieces.length === 1) socket.write(pieces[0] as Buffer);
    else if (bytes <= COPY_BYTES) socket.write(Buffer.concat(pieces));
    else {
      socket.cork();
      for (const piece of pieces) socket.write(piece);
      socket.uncork();
    }
  }
}

function sum(pieces: readonly Buffer[]): number {
  let bytes = 0;
  for (const { length } of pieces) bytes += length;
  return bytes;
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
export class Writers implements Pace {
  /** Where every batch of the time between two writes begins. */
  start = new Batch();
  /** System calls that were asked for. */
  writes = 0;
  readonly windowBytes: number;
  ticks = 0;
  readonly #clock: NodeJS.Timeout;
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
    // Immediates come after what has come was read.
    this.#clock = setInterval(() => setImmediate(() => this.ticks++), TICK_MS);
    this.#clock.unref();
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
  }

  /** Of an Engine.IO transport; `undefined` for one that polls. */
  of(transport: object): Writer | undefined {
    return writerOf(transport);
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
    clearInterval(this.#clock);
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

/** Called on an Engine.IO connection, when a pong has come. One function for all. */
export function heard(this: { transport: object }): void {
  writerOf(this.transport)?.pong();
}

function writerOf(transport: object): Writer | undefined {
  return (transport as { socket?: Sending }).socket?._sender.writer;
}

/** One function for all senders. */
function sendFrame(this: Sender, pieces: readonly Piece[], done?: (error?: Error) => void): void {
  this.writer?.frame(pieces, done);
}
