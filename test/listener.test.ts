/** The HTTP server itself: how it drains and ends. */
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { expect } from "chai";
import { Listener } from "../src/listener.ts";
import { until } from "./support/until.ts";
import { HANDSHAKE } from "./support/upgrade.ts";

/** Whoever waits for this has waited for the limit. */
const LONG_MS = 60_000;

describe("new Listener(answer)", () => {
  /** Answers that are still to be given. */
  let open: ServerResponse[];
  let listener: Listener;
  let url: string;
  beforeEach(async () => {
    open = [];
    listener = new Listener((request, response) => {
      if (request.url === "/later") open.push(response);
      else response.end("at once");
    });
    url = await listener.listen({ port: 0, host: "127.0.0.1" });
  });

  /** Asks on a connection that the client would keep. */
  function ask(path: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = { connection: "keep-alive" };
      httpRequest(url + path, { headers }, (reply) => resolve(reply.resume()))
        .on("error", reject)
        .end();
    });
  }

  async function tcp(text: string): Promise<Socket> {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(text);
    return socket;
  }

  it(".startDraining(): answers end their connections, also those that were asked for before", async () => {
    expect((await ask("/")).headers.connection).to.equal("keep-alive");
    const waiting = ask("/later");
    await until(() => open.length === 1);
    listener.startDraining();
    expect((await ask("/")).headers.connection).to.equal("close");
    open[0]?.end();
    expect((await waiting).headers.connection).to.equal("close");
    await listener.close();
  });

  it(".close(ms) takes no more connections, and lets answers come to their end", async () => {
    const waiting = ask("/later");
    await until(() => open.length === 1);
    const closed = listener.close(LONG_MS);
    const refused = await ask("/").catch((error: NodeJS.ErrnoException) => error.code);
    expect(refused).to.equal("ECONNREFUSED");
    open[0]?.end("late");
    expect((await waiting).statusCode).to.equal(200);
    await closed;
  });

  it(".close(ms) waits neither longer, nor for connections on which nothing is asked", async () => {
    const from = performance.now();
    const lost = ask("/later").catch((error: NodeJS.ErrnoException) => error.code);
    const idle = [await tcp(""), await tcp("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), await tcp("GET / HT")];
    await until(() => open.length === 1);
    await listener.close(50);
    expect(await lost).to.equal("ECONNRESET");
    for (const socket of idle) socket.destroy();
    expect(performance.now() - from).to.be.below(5_000);
  });

  it(".close() ends connections that were upgraded, although the other end sleeps", async () => {
    listener.server.on("upgrade", (_, socket: Socket) =>
      socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    );
    const headers = Object.entries({ host: "x", ...HANDSHAKE }).map(([name, value]) => `${name}: ${value}`);
    const socket = await tcp(`GET / HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
    await once(socket, "data");
    socket.pause();
    await listener.close();
    socket.destroy();
  });
});
