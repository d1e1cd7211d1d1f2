import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect } from "chai";
import { CountingRelay, TextCounter } from "../../bench/counting-relay.ts";
import { until } from "../support/until.ts";

const counted = (text: string, ...pieces: string[]) => {
  const counter = new TextCounter(text);
  for (const piece of pieces) counter.add(Buffer.from(piece));
  return counter.count;
};

describe("TextCounter", () => {
  it("counts a text wherever the stream is cut", () => {
    const stream = "..job-7...job-7job-7";
    for (let i = 0; i <= stream.length; i++) {
      for (let j = i; j <= stream.length; j++) {
        expect(counted("job-7", stream.slice(0, i), stream.slice(i, j), stream.slice(j))).to.equal(3);
      }
    }
    expect(counted("job-7", ...stream)).to.equal(3);
  });

  it("does not count what only looks like it", () => {
    expect(counted("job-7", "job-", "8", "job-", "-7")).to.equal(0);
    expect(counted("aa", "a", "a", "a")).to.equal(1);
    expect(() => new TextCounter("")).to.throw("an empty text is everywhere");
  });
});

describe("CountingRelay", () => {
  it("passes everything on, and counts what the server says", async () => {
    const peers: Socket[] = [];
    const server = createServer((peer) => {
      peers.push(peer);
      peer.on("data", (piece) => peer.write(piece.toString().toUpperCase()));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const relay = await CountingRelay.open((server.address() as { port: number }).port, "WORD");
    let answer = "";
    const client = connect(relay.port, "127.0.0.1");
    client.on("data", (piece) => {
      answer += piece.toString();
    });
    client.write("a word and a WORD");
    await until(() => answer === "A WORD AND A WORD");
    expect(relay.mentions).to.equal(2);
    const ended = once(client, "close");
    peers[0]?.destroy();
    await ended;
    await relay.close();
    server.close();
    await once(server, "close");
  });
});
