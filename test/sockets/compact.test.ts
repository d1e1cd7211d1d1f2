/** A connection that was made small does all that it did before. */
import { EventEmitter, once } from "node:events";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setFlagsFromString } from "node:v8";
import { expect } from "chai";
import { Server, type Socket } from "socket.io";
import { type Socket as Client, io } from "socket.io-client";
import { compact, forgetHandshake, settle } from "../../src/sockets/compact.ts";
import { until } from "../support/until.ts";

setFlagsFromString("--allow-natives-syntax");
/** As V8 has it: whether an object's properties are in places that its shape tells, and not in a hash table. */
const hasFastProperties = new Function("object", "return %HasFastProperties(object)") as (
  object: object,
) => boolean;

interface Listening {
  _events: object;
}

/** Every emitter of a connection on a WebSocket, by name. */
function emittersOf(socket: Socket): Record<string, EventEmitter> {
  const { transport } = socket.conn;
  const { socket: webSocket } = transport as unknown as { socket: EventEmitter };
  return { socket: socket as unknown as EventEmitter, conn: socket.conn, transport, webSocket };
}

/** Who listens to what, in order. */
const listened = (socket: Socket) =>
  Object.entries(emittersOf(socket)).map(([name, emitter]) => [
    name,
    emitter.eventNames().map((event) => [event, emitter.rawListeners(event)]),
  ]);

describe("sockets: a compact connection", () => {
  let http: HttpServer;
  let server: Server;
  let client: Client;
  let socket: Socket;

  beforeEach(async () => {
    http = createServer();
    server = new Server(http, { serveClient: false, pingInterval: 50 });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    const { port } = http.address() as AddressInfo;
    client = io(`http://127.0.0.1:${port}`, { transports: ["websocket"], reconnection: false });
    [socket] = (await once(server, "connection")) as [Socket];
    socket.use((_, next) => next());
  });

  afterEach(async () => {
    client.close();
    await server.close();
  });

  it("has the listeners that it had, and takes others", async () => {
    const before = listened(socket);
    compact(socket);
    expect(listened(socket)).to.deep.equal(before);
    for (const emitter of Object.values(emittersOf(socket))) {
      let heard = 0;
      const listener = () => heard++;
      emitter.on("toString", listener);
      // Socket.IO's own would send it.
      const emit = () => EventEmitter.prototype.emit.call(emitter, "toString");
      emit();
      emitter.off("toString", listener);
      emit();
      expect(heard).to.equal(1);
    }
    expect(listened(socket)).to.deep.equal(before);
  });

  it("exchanges events, acknowledgements and pings, and ends once, with its reason", async () => {
    compact(socket);
    socket.on("question", (text: string, answer: (text: string) => void) => answer(`${text}?`));
    expect(await client.emitWithAck("question", "well")).to.equal("well?");
    const news = new Promise((resolve) => client.on("news", resolve));
    socket.emit("news", 1);
    expect(await news).to.equal(1);
    // The second comes only to one who has answered the first.
    await new Promise((resolve) => client.io.once("ping", () => client.io.once("ping", () => resolve(0))));
    expect(socket.connected).to.equal(true);
    const reasons: string[] = [];
    const ended = new Promise((resolve) => socket.conn.once("close", resolve));
    socket.on("disconnect", (reason) => reasons.push(reason));
    client.io.engine.close();
    await ended;
    expect(reasons).to.deep.equal(["transport close"]);
    expect(server.sockets.sockets.size).to.equal(0);
  });

  it("keeps its listeners in no hash table", () => {
    const { client: inside } = socket as unknown as { client: { decoder: { _callbacks: object } } };
    const callbacks = { ...inside.decoder._callbacks };
    const lists = () =>
      Object.values(emittersOf(socket)).map((emitter) => (emitter as unknown as Listening)._events);
    expect(lists().some(hasFastProperties)).to.equal(false);
    compact(socket);
    expect(lists().every(hasFastProperties)).to.equal(true);
    expect(lists().every((events) => Object.getPrototypeOf(events) === null)).to.equal(true);
    expect(inside.decoder._callbacks).to.deep.equal(callbacks);
  });

  it("that begins by polling and becomes a WebSocket is one, too", async () => {
    const uri = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    const upgraded = new Promise<Socket>((resolve) => {
      server.once("connection", (late: Socket) => {
        compact(late);
        late.conn.once("upgrade", settle);
        late.conn.once("upgrade", () => resolve(late));
      });
    });
    const polling = io(uri, { transports: ["polling", "websocket"], forceNew: true, reconnection: false });
    try {
      const late = await upgraded;
      const { transport, webSocket } = emittersOf(late) as unknown as Record<string, Listening>;
      expect(
        [transport, webSocket].map((emitter) => hasFastProperties(emitter?._events as object)),
      ).to.deep.equal([true, true]);
      const news = new Promise((resolve) => polling.on("news", resolve));
      late.emit("news", 1);
      expect(await news).to.equal(1);
      polling.close();
      await until(() => !late.connected);
    } finally {
      polling.close();
    }
  });

  it("has nothing of its handshake", () => {
    forgetHandshake(socket);
    settle(socket.conn.transport);
    expect(socket.handshake).to.include({ url: "", address: "" });
    expect(socket.handshake.headers).to.deep.equal({});
    expect(socket.conn.transport.listenerCount("headers")).to.equal(0);
    expect(
      emittersOf(socket)
        .webSocket?.listeners("error")
        .map(({ name }) => name),
    ).not.to.include("onUpgradeError");
  });
});
