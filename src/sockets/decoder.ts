/**
 * The Socket.IO decoder that strangers meet. What the library's own one answers with a closed connection or a crash
 * (too deep, not JSON, too large, binary) becomes an event that the door answers with a code.
 */
import { Decoder, PacketType } from "socket.io-parser";
import type { ErrorCode } from "../protocol/codes.ts";
import { isShallow } from "../protocol/json.ts";
import { LIMITS } from "../protocol/limits.ts";
import { AnswerEncoder } from "./encoder.ts";

/**
 * The event name of a packet that was not let through, its argument the code; in a CONNECT's `auth` the key of the code.
 * No client can send a symbol.
 */
export const REFUSED = Symbol("refused");

/** `<type>[<attachments>-][<namespace>,][<ack id>]<json>` */
const HEADER = /^(\d)(?:(\d{1,3})-)?(?:(\/[^,]{0,64}),)?(\d{1,15})?/;

/** One for all decoders: each would have its own. */
const OPTIONS = Object.freeze((new Decoder() as unknown as { opts: object }).opts);

class GuardedDecoder extends Decoder {
  #connects = 0;
  #attachments = 0;

  constructor() {
    super();
    Object.assign(this, { opts: OPTIONS });
  }

  override add(packet: unknown): void {
    if (typeof packet !== "string") {
      if (this.#attachments-- <= 0) throw new Error("binary data without an announcement");
      return;
    }
    const header = HEADER.exec(packet);
    const type = Number(header?.[1]);
    if (!header || !(type in PacketType)) throw new Error("not a Socket.IO packet");
    if (type === PacketType.CONNECT && ++this.#connects > LIMITS.connects)
      throw new Error("too many connects");
    const code = this.#check(packet, type, header);
    if (code) this.#refuse(code, type, header);
    else this.#decode(packet, type, header);
  }

  #check(packet: string, type: PacketType, header: RegExpExecArray): ErrorCode | undefined {
    if (packet.length > LIMITS.messageBytes) return "message_too_large";
    if (!isShallow(packet)) return "too_deep";
    // Without a list, Socket.IO would take its own acknowledgement function for the event's name.
    if (type === PacketType.EVENT && packet[header[0].length] !== "[") return "malformed";
    if (type !== PacketType.BINARY_EVENT && type !== PacketType.BINARY_ACK) return undefined;
    this.#attachments = Number(header[2] ?? 0);
    return "binary_not_supported";
  }

  #decode(packet: string, type: PacketType, header: RegExpExecArray): void {
    try {
      super.add(packet);
    } catch (error) {
      if (type !== PacketType.EVENT) throw error;
      this.#refuse("malformed", type, header);
    }
  }

  #refuse(code: ErrorCode, type: PacketType, [, , , nsp = "/", id]: RegExpExecArray): void {
    if (type === PacketType.CONNECT) {
      this.emitReserved("decoded", { type, nsp, data: { [REFUSED]: code } });
    } else if (type === PacketType.EVENT || type === PacketType.BINARY_EVENT) {
      const data = [REFUSED, code];
      this.emitReserved("decoded", { type: PacketType.EVENT, nsp, data, ...(id && { id: Number(id) }) });
    } else if (type !== PacketType.BINARY_ACK && type !== PacketType.ACK) throw new Error(code);
  }
}

export const guardedParser = { Encoder: AnswerEncoder, Decoder: GuardedDecoder };
