/**
 * Events on their way to watchers, as bytes: each is encoded once, and those that leave together are one buffer, which
 * all connections with the same events share.
 */
import type { FeedEvent } from "../bus/bus.ts";

/** A watcher that has left keeps nothing here: an event is forgotten with its last batch. */
const frames = new WeakMap<FeedEvent, Buffer>();

/** What has been gathered for a connection since its last write. Never changes: one more event is another batch. */
export class Batch {
  /** Of all its frames. */
  readonly bytes: number;
  readonly events: number;
  readonly #before: Batch | undefined;
  readonly #frame: Buffer | undefined;
  #buffer: Buffer | undefined;
  /** What it becomes with one more event, for the next connection that gets the same one. */
  #event: FeedEvent | undefined;
  #after: Batch | undefined;

  /** Without arguments, where all batches of a time begin. */
  constructor(before?: Batch, frame?: Buffer) {
    this.#before = before;
    this.#frame = frame;
    this.bytes = (before?.bytes ?? 0) + (frame?.length ?? 0);
    this.events = before ? before.events + 1 : 0;
  }

  with(event: FeedEvent): Batch {
    if (this.#event === event) return this.#after as Batch;
    this.#event = event;
    this.#after = new Batch(this, frameOf(event));
    return this.#after;
  }

  /** Its frames, in order. */
  get buffer(): Buffer {
    this.#buffer ??= Buffer.concat(this.#frames(), this.bytes);
    return this.#buffer;
  }

  #frames(): Buffer[] {
    const all: Buffer[] = [];
    for (let batch: Batch | undefined = this; batch; batch = batch.#before) {
      if (batch.#frame) all.push(batch.#frame);
    }
    return all.reverse();
  }
}

/**
 * A Socket.IO event packet of namespace `/` (type 2, no ack), as the parser would write it, around the stored bytes: the
 * JSON is not parsed and written again.
 */
export function packetOf({ type, wire }: FeedEvent): string {
  return `2["${type}",${wire}]`;
}

function frameOf(event: FeedEvent): Buffer {
  let frame = frames.get(event);
  if (!frame) {
    // An Engine.IO message (type 4).
    frame = textFrame(`4${packetOf(event)}`);
    frames.set(event, frame);
  }
  return frame;
}

/** A whole, unmasked text message (RFC 6455, section 5.2). */
export function textFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + length);
  frame[0] = 0x81;
  if (head === 2) frame[1] = length;
  else if (head === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, head, "utf8");
  return frame;
}
