import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";
import { expect } from "chai";
import { Redis } from "ioredis";
import { plainRedis } from "./support/hooks.ts";
import { hasSubscribed, TcpProxy } from "./support/proxy.ts";
import { until } from "./support/until.ts";

/** Both ends of one connection through the proxy, and what has come to each. */
interface Ends {
  client: Socket;
  server: Socket;
  atClient(): string;
  atServer(): string;
  closed(): { client: boolean; server: boolean };
  fault(): string | undefined;
}

describe("the chaos proxy", () => {
  let listener: Server;
  let proxy: TcpProxy;
  let waiting: Array<(socket: Socket) => void> = [];
  const sockets = new Set<Socket>();

  beforeEach(async () => {
    waiting = [];
    listener = createServer((socket) => {
      sockets.add(socket);
      waiting.shift()?.(socket);
    }).listen(0, "127.0.0.1");
    await once(listener, "listening");
    proxy = await TcpProxy.open(listener.address() as AddressInfo);
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await proxy.close();
    await new Promise((resolve) => listener.close(resolve));
  });

  async function open(): Promise<Ends> {
    const accepted = new Promise<Socket>((resolve) => waiting.push(resolve));
    const client = connect(proxy.port, "127.0.0.1");
    sockets.add(client);
    const server = await accepted;
    const texts = { client: "", server: "" };
    const closed = { client: false, server: false };
    let fault: string | undefined;
    for (const [name, socket] of [
      ["client", client],
      ["server", server],
    ] as const) {
      socket.on("data", (piece) => {
        texts[name] += piece.toString("latin1");
      });
      socket.on("close", () => {
        closed[name] = true;
      });
      socket.on("error", ({ code }: NodeJS.ErrnoException) => {
        fault = code;
      });
    }
    return {
      ...{ client, server },
      atClient: () => texts.client,
      atServer: () => texts.server,
      closed: () => closed,
      fault: () => fault,
    };
  }

  /** The connection works in both directions. */
  async function works({ client, server, atClient, atServer }: Ends, mark: string): Promise<void> {
    client.write(`ask ${mark}`);
    await until(() => atServer().endsWith(`ask ${mark}`));
    server.write(`answer ${mark}`);
    await until(() => atClient().endsWith(`answer ${mark}`));
  }

  it("passes everything on, both ways", async () => {
    const ends = await open();
    await works(ends, "1");
    expect(proxy.connections).to.equal(1);
    const big = "x".repeat(3_000_000);
    ends.client.write(big);
    await until(() => ends.atServer().length === big.length + "ask 1".length);
    ends.client.end();
    await until(() => ends.closed().server && proxy.connections === 0);
  });

  it("swallows what the chosen connections carry while they stay open; others and new ones work", async () => {
    const dead = await open();
    const alive = await open();
    await works(dead, "SSUBSCRIBE a-channel");
    await works(alive, "GET");
    expect(proxy.swallow({ only: hasSubscribed })).to.equal(1);
    dead.client.write("lost");
    dead.server.write("lost");
    await works(alive, "2");
    await works(await open(), "3");
    expect(dead.atServer()).to.equal("ask SSUBSCRIBE a-channel");
    expect(dead.atClient()).to.equal("answer SSUBSCRIBE a-channel");
    expect(dead.closed()).to.deep.equal({ client: false, server: false });
  });

  it("swallows one direction alone", async () => {
    const ends = await open();
    await works(ends, "1");
    proxy.swallow({ direction: "reply" });
    ends.server.write("lost");
    ends.client.write(" and more");
    await until(() => ends.atServer() === "ask 1 and more");
    expect(ends.atClient()).to.equal("answer 1");
  });

  it("delays everything and keeps its order, also when the delay ends", async () => {
    const ends = await open();
    await works(ends, "0");
    proxy.delay(150, "reply");
    const started = performance.now();
    for (const text of ["a", "b", "c"]) {
      ends.server.write(text);
      await new Promise(setImmediate);
    }
    await until(() => ends.atClient() === "answer 0abc");
    expect(performance.now() - started).to.be.at.least(145);
    ends.server.write("late");
    proxy.delay(0);
    ends.server.write("later");
    await until(() => ends.atClient() === "answer 0abclatelater");
  });

  it("holds what is sent at its sender until it is released", async () => {
    const ends = await open();
    await works(ends, "1");
    proxy.hold({ direction: "request" });
    const size = 30_000_000;
    ends.client.write("y".repeat(size));
    ends.server.write(" and more");
    await until(() => ends.atClient() === "answer 1 and more");
    expect(ends.client.writableLength, "what waits at the sender").to.be.above(0);
    proxy.release();
    await until(() => ends.atServer().length === size + "ask 1".length);
  });

  it("cuts a connection after so many more bytes", async () => {
    const ends = await open();
    await works(ends, "1");
    proxy.cutAfter(4, { direction: "reply" });
    ends.server.write("abcdefgh");
    await until(() => ends.closed().client && ends.closed().server);
    expect(ends.atClient()).to.equal("answer 1abcd");
  });

  it("resets connections", async () => {
    const ends = await open();
    await works(ends, "1");
    proxy.reset();
    await until(() => ends.closed().client && ends.closed().server);
    expect(ends.fault()).to.equal("ECONNRESET");
    expect(proxy.connections).to.equal(0);
    await works(await open(), "2");
  });

  it("loses one reply of the chosen connections, and cuts that one", async () => {
    const first = await open();
    const second = await open();
    await works(first, "one");
    await works(second, "two");
    proxy.lose("reply", 0, ({ opening }) => opening.includes("two"));
    await works(first, "again");
    second.client.write("?");
    await until(() => second.atServer().endsWith("?"));
    second.server.write("lost");
    await until(() => second.closed().client);
    expect(second.atClient()).to.equal("answer two");
    expect(proxy.armed).to.equal(false);
    await works(first, "at last");
  });

  it("cuts chosen connections, and takes none until it is told to", async () => {
    const first = await open();
    const second = await open();
    await works(first, "one");
    await works(second, "two");
    proxy.cut({ only: ({ opening }) => opening.includes("one") });
    await until(() => first.closed().client);
    await works(second, "still there");
    proxy.cut({ refuse: true });
    await until(() => second.closed().client);
    const refused = connect(proxy.port, "127.0.0.1").on("error", () => {});
    sockets.add(refused);
    await once(refused, "close");
    proxy.accept();
    await works(await open(), "3");
  });

  it("knows connections to Redis that listen to something", async () => {
    const redis = await plainRedis();
    const through = await TcpProxy.open(redis);
    const url = `redis://127.0.0.1:${through.port}`;
    const subscriber = new Redis(url, { connectionName: "a-subscriber" });
    const client = new Redis(url, { connectionName: "a-client" });
    await client.ping();
    await subscriber.ssubscribe("a-channel");
    const chosen: string[] = [];
    through.cut({
      only: (link) => {
        if (hasSubscribed(link)) chosen.push(link.opening);
        return false;
      },
    });
    expect(chosen).to.have.length(1);
    expect(chosen[0]).to.include("a-subscriber");
    subscriber.disconnect();
    client.disconnect();
    await through.close();
  });
});
