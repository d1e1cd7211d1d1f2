/** The Socket.IO encoder: an answer that is JSON text already is written as it is, not looked through and written again. */
import { Encoder, type Packet, PacketType } from "socket.io-parser";

/** JSON as text, in the place of a value. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export class AnswerEncoder extends Encoder {
  override encode(packet: Packet): Array<string | Buffer> {
    const { type, nsp, id, data } = packet;
    if (type !== PacketType.ACK || !(data[0] instanceof JsonText)) return super.encode(packet);
    return [`${type}${nsp === "/" ? "" : `${nsp},`}${id}[${data[0].text}]`];
  }
}
