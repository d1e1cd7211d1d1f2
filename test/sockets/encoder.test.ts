import { expect } from "chai";
import { Encoder, type Packet, PacketType } from "socket.io-parser";
import { AnswerEncoder, JsonText } from "../../src/sockets/encoder.ts";

describe("sockets/encoder", () => {
  const ours = new AnswerEncoder();
  const library = new Encoder();

  it("writes an answer that is text as the library would write what the text says", () => {
    const answer = { ok: true, data: { events: [{ n: 1 }], text: 'ä "\\n' } };
    for (const [nsp, id] of [
      ["/", 0],
      ["/trainer", 12_345],
    ] as const) {
      const packet = { type: PacketType.ACK, nsp, id } as Packet;
      expect(ours.encode({ ...packet, data: [new JsonText(JSON.stringify(answer))] })).to.deep.equal(
        library.encode({ ...packet, data: [answer] }),
      );
    }
  });

  it("writes everything else as the library does", () => {
    const packets: Packet[] = [
      { type: PacketType.EVENT, nsp: "/", data: ["gap", { seq: 1 }] },
      { type: PacketType.ACK, nsp: "/", id: 3, data: [{ ok: false }] },
      { type: PacketType.ACK, nsp: "/", id: 3, data: [] },
      { type: PacketType.CONNECT, nsp: "/trainer", data: { sid: "s" } },
      { type: PacketType.CONNECT_ERROR, nsp: "/", data: { message: "no" } },
      { type: PacketType.DISCONNECT, nsp: "/" },
    ];
    for (const packet of packets) expect(ours.encode(packet)).to.deep.equal(library.encode({ ...packet }));
  });
});
