/** What hostile clients do to this stack's lower layers. After each the hub serves as before. */

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket as NetSocket } from "node:net";
import { expect } from "chai";
import WebSocket from "ws";
import { LIMITS } from "../../src/protocol/limits.ts";
import { line, startTestHub, type TestHub, token, until } from "../support/hub.ts";
import { RawClient } from "./raw.ts";

const auth = () => JSON.stringify({ token: token("watcher") });

async function raw(hub: TestHub): Promise<RawClient> {
  const opened = new RawClient(hub.url);
  await once(opened.socket, "open");
  return opened;
}

async function poll(hub: TestHub, query: string, body?: string): Promise<{ status: number; text: string }> {
  const reply = await fetch(`${hub.url}/socket.io/?${query}`, {
    ...(body !== undefined && { method: "POST", body, headers: { "content-type": "text/plain" } }),
  });
  return { status: reply.status, text: await reply.text() };
}

describe("sockets: traps", () => {
  let hub: TestHub;
  let served = 0;
  before(async () => {
    hub = await startTestHub();
  });
  after(() => hub.close());

  afterEach(async () => {
    const job = `served${++served}`;
    const [watcher, trainer] = await Promise.all([hub.watcher(), hub.trainer()]);
    await trainer.publish(line(job));
    await watcher.subscribe({ job_id: job });
    await trainer.publish(line(job, "still here"));
    expect((await watcher.next<{ data: object }>("log")).data).to.deep.equal({ message: "still here" });
    watcher.close();
    trainer.close();
    // Whoever misbehaved is gone, and left no socket.
    await until("no connection is left", () => hub.io.engine.clientsCount === 0);
    expect(hub.io.of("/").sockets.size + hub.io.of("/trainer").sockets.size).to.equal(0);
    expect(hub.log.filter((each) => each.includes('"level":"error"'))).to.deep.equal([]);
  });

  describe("CONNECT packets (trap 2)", () => {
    it("1000 at once are never more than one socket, and end the connection", async () => {
      const flood = await raw(hub);
      let most = 0;
      let connected = 0;
      const count = () => {
        connected++;
        most = Math.max(most, hub.io.of("/").sockets.size);
      };
      hub.io.of("/").on("connection", count);
      for (let i = 0; i < 1_000; i++) flood.send(`0${auth()}`);
      await flood.end();
      hub.io.of("/").off("connection", count);
      expect(most).to.be.at.most(1);
      expect(connected).to.be.at.most(1);
    });

    it("as many as the limit, to whatever namespaces, leave it open; one more closes it", async () => {
      const many = await raw(hub);
      many.send(`0${auth()}`);
      await many.next(/"welcome"/);
      for (let i = 1; i < LIMITS.connects; i++) many.send(`0/none-${i},{}`);
      many.send('21["ping",{}]');
      expect(await many.answer(1)).to.equal("ok");
      many.send("0/none,{}");
      await many.end();
    });

    it("a second one while the first is under way is refused already_connected, and only one gets in", async () => {
      const twice = await raw(hub);
      twice.send(`0${auth()}`);
      twice.send(`0${auth()}`);
      const answers = [await twice.next(/^[04]/), await twice.next(/^[04]/)];
      expect(answers.filter((answer) => answer.startsWith("0"))).to.have.length(1);
      expect(answers.find((answer) => answer.startsWith("4"))).to.include('"code":"already_connected"');
      expect(hub.io.of("/").sockets.size).to.equal(1);
      twice.send('21["ping",{}]');
      expect(await twice.answer(1)).to.equal("ok");
      twice.close();
    });

    it("a second one after the first ends the connection", async () => {
      const twice = await raw(hub);
      twice.send(`0${auth()}`);
      await twice.next(/"welcome"/);
      twice.send(`0${auth()}`);
      await twice.end();
    });

    it("one may leave a namespace and come back", async () => {
      const back = await raw(hub);
      for (let i = 0; i < 3; i++) {
        back.send(`0${auth()}`);
        await back.next(/"welcome"/);
        back.send("1");
        await until("left", () => hub.io.of("/").sockets.size === 0);
      }
      back.close();
    });

    it("unknown namespaces in a loop make none, and end the connection", async () => {
      const namespaces = hub.io._nsps.size;
      for (let round = 0; round < 3; round++) {
        const loop = await raw(hub);
        for (let i = 0; i < 100; i++) loop.send(`0/${randomBytes(8).toString("hex")},${auth()}`);
        await loop.end();
      }
      const odd = await raw(hub);
      for (const name of [
        "/__proto__",
        "/constructor",
        "/trainer/",
        "/TRAINER",
        `/${"x".repeat(10_000)}`,
        "/?a=1",
      ])
        odd.send(`0${name},${auth()}`);
      await odd.next(/Invalid namespace/);
      odd.close();
      expect(hub.io._nsps.size).to.equal(namespaces);
    });

    it("connections that never CONNECT are closed", async () => {
      const short = await startTestHub({ env: { TRAINWIRE_CONNECT_TIMEOUT_MS: "1000" } });
      try {
        const silent = await raw(short);
        await silent.end();
      } finally {
        await short.close();
      }
    });
  });

  describe("Engine.IO (trap 7)", () => {
    it("EIO=3 is refused at the handshake, on both transports", async () => {
      for (const query of ["EIO=3&transport=polling", "transport=polling", "EIO=5&transport=polling"])
        expect((await poll(hub, query)).status, query).to.equal(400);
      const old = new RawClient(hub.url, "EIO=3&transport=websocket");
      await old.end();
    });

    it("EIO=3 on an EIO=4 session", async () => {
      const { text } = await poll(hub, "EIO=4&transport=polling");
      const { sid } = JSON.parse(text.slice(1)) as { sid: string };
      for (const body of ["1:2", "6:40{}", "b4AAAA", "\u0000\u0001\u00ff4", "999999999:4", "4:40{}1:6", "x"])
        await poll(hub, `EIO=3&transport=polling&sid=${sid}`, body);
      const opened = JSON.parse((await poll(hub, "EIO=4&transport=polling")).text.slice(1)) as {
        sid: string;
      };
      const upgraded = new RawClient(hub.url, `EIO=3&transport=websocket&sid=${opened.sid}`);
      await until("opened or refused", () => upgraded.socket.readyState !== WebSocket.CONNECTING);
      for (const frame of [
        "2probe",
        "5",
        "40{}",
        `40${auth()}`,
        "b4AAAA",
        "",
        "9",
        Buffer.from([4, 1, 2]),
        Buffer.alloc(0),
      ])
        upgraded.frame(frame);
      upgraded.close();
      for (const { sid: id } of [{ sid }, opened]) await poll(hub, `EIO=4&transport=polling&sid=${id}`, "1");
    });

    it("requests that name no session, another transport, or nothing known", async () => {
      for (const query of [
        "",
        "EIO=4",
        "EIO=4&transport=pigeon",
        "EIO=4&transport=__proto__",
        "EIO=4&transport=polling&sid=nobody",
        "EIO=4&transport=polling&sid=__proto__",
        "EIO=4&transport=polling&sid=constructor",
        "EIO=4&transport=webtransport",
        "EIO[]=4&transport[]=polling",
        "EIO=4&transport=polling&j=1;alert(1)&sid=x",
      ])
        expect((await poll(hub, query)).status, query).to.equal(400);
      for (const query of [
        "EIO=4&transport=websocket&sid=nobody",
        "EIO=4&transport=polling",
        "EIO=4&transport=constructor",
      ]) {
        const odd = new RawClient(hub.url, query);
        await odd.end();
      }
    });

    it("packets that Engine.IO does not know, and empty ones", async () => {
      for (const frame of [
        "",
        "9",
        "x",
        "4",
        "4x",
        "4{}",
        "47[]",
        "40[]",
        '40"text"',
        "40{bad",
        "41{}",
        "44",
        "45-[]",
        "451-[]",
        '45999-["x"]',
        '451-["publish",{"_placeholder":true,"num":0}]',
        "46",
        "7",
        "1",
        "0{}",
        "5",
        "6",
      ]) {
        const odd = await raw(hub);
        odd.send(`0${auth()}`);
        await odd.next(/"welcome"/);
        odd.frame(frame);
        odd.frame(Buffer.from([1, 2, 3]));
        odd.close();
        await once(odd.socket, "close");
      }
    });

    it("binary frames out of the blue end the connection", async () => {
      const odd = await RawClient.open(hub, "watcher");
      odd.frame(Buffer.alloc(1_000));
      await odd.end();
    });

    it("a message beyond twice the limit ends the connection", async () => {
      const big = await RawClient.open(hub, "watcher");
      big.send(`2["ping",{"a":"${"x".repeat(2 * LIMITS.messageBytes)}"}]`);
      await big.end();
    });

    it("a flood of pongs is borne; pings, which only the hub sends, end the connection", async () => {
      const flood = await RawClient.open(hub, "watcher");
      for (let i = 0; i < 10_000; i++) flood.frame(i % 2 ? "3" : "3probe");
      flood.send('21["ping",{}]');
      expect(await flood.answer(1)).to.equal("ok");
      flood.close();
      const pings = await RawClient.open(hub, "watcher");
      for (let i = 0; i < 1_000; i++) pings.frame("2");
      await pings.end();
    });

    it("a flood of WebSocket pings ends its own connection at most", async () => {
      const flood = await RawClient.open(hub, "watcher");
      const other = await RawClient.open(hub, "watcher");
      const ping = Buffer.from([0x89, 0x80, 0, 0, 0, 0]);
      (flood.socket as unknown as { _socket: NetSocket })._socket.write(
        Buffer.concat(Array(50_000).fill(ping)),
      );
      other.send('21["ping",{}]');
      expect(await other.answer(1)).to.equal("ok");
      other.close();
      flood.close();
    });

    for (const [what, prepare] of [
      ["who has joined nothing", () => {}],
      ["who has joined and left", (flood: RawClient) => flood.send("1")],
    ] as const) {
      it(`a flood of WebSocket pings of ${what}, and reads nothing, ends that connection`, async () => {
        const flood =
          what === "who has joined nothing" ? new RawClient(hub.url) : await RawClient.open(hub, "watcher");
        if (flood.socket.readyState !== flood.socket.OPEN) await once(flood.socket, "open");
        prepare(flood);
        const wire = (flood.socket as unknown as { _socket: NetSocket })._socket;
        wire.on("error", () => {});
        wire.pause();
        const pings = Buffer.concat(
          Array(2_000).fill(Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)])),
        );
        const before = hub.io.engine.clientsCount;
        while (hub.io.engine.clientsCount === before && !wire.destroyed) {
          wire.write(pings);
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(hub.io.engine.clientsCount).to.equal(before - 1);
        wire.destroy();
      });
    }

    it("a flood of ping verbs is answered each", async () => {
      const flood = await RawClient.open(hub, "watcher");
      for (let i = 1; i <= 2_000; i++) flood.send(`2${i}["ping",{}]`);
      expect(await flood.answer(2_000)).to.equal("ok");
      flood.close();
    });

    it("WebSocket messages in fragments of one byte", async () => {
      const opened = await RawClient.open(hub, "watcher");
      const message = '421["ping",{}]';
      for (let i = 0; i < message.length; i++)
        opened.socket.send(message[i] as string, { fin: i === message.length - 1, binary: false });
      expect(await opened.answer(1)).to.equal("ok");
      opened.close();
    });

    it("a message in a hundred thousand fragments ends, or is answered", async () => {
      const opened = await RawClient.open(hub, "watcher");
      for (let i = 0; i < 100_000; i++) opened.socket.send("4", { fin: false, binary: false });
      const other = await RawClient.open(hub, "watcher");
      other.send('21["ping",{}]');
      expect(await other.answer(1)).to.equal("ok");
      other.close();
      opened.close();
    });

    it("WebSocket frames that break the protocol end only their connection", async () => {
      for (const bytes of [
        [0xff, 0xff, 0xff],
        [0x83, 0x80, 1, 2, 3, 4],
        [0x81, 0x01, 0x41],
        [0x89, 0xfe, 0x7f, 0xff, 1, 2, 3, 4],
        [0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        [0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28],
      ]) {
        const opened = await RawClient.open(hub, "watcher");
        (opened.socket as unknown as { _socket: NetSocket })._socket.write(Buffer.from(bytes));
        await opened.end();
      }
    });

    it("half a request, garbage and a cut upgrade on the bare port", async () => {
      const { port, hostname } = new URL(hub.url);
      for (const text of [
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "GET /other HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        "GET // HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: [\r\nOrigin: ::::\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "\u0016\u0003\u0001\r\n\r\n",
      ]) {
        const socket = connect(Number(port), hostname);
        socket.on("error", () => {});
        await once(socket, "connect");
        socket.write(text);
        await Promise.race([once(socket, "data"), once(socket, "close")]);
        socket.destroy();
      }
    });
  });

  describe("origins and tokens (traps 25-28)", () => {
    it("another origin is refused on the WebSocket, first or as an upgrade", async () => {
      const query = "EIO=4&transport=websocket";
      const { text } = await poll(hub, "EIO=4&transport=polling");
      const { sid } = JSON.parse(text.slice(1)) as { sid: string };
      for (const each of [query, `${query}&sid=${sid}`, `${query}&s%69d=${sid}`]) {
        const url = `${hub.url.replace("http", "ws")}/socket.io/?${each}`;
        const socket = new WebSocket(url, { headers: { origin: "https://evil.example" } });
        socket.on("error", () => {});
        const [, reply] = await once(socket, "unexpected-response");
        expect(reply.statusCode, each).to.be.oneOf([400, 403]);
        socket.terminate();
      }
      await poll(hub, `EIO=4&transport=polling&sid=${sid}`, "1");
    });

    it("nothing of the handshake is left on the socket: no token, no header, no query", async () => {
      for (const role of ["watcher", "trainer"] as const) {
        const given = token(role);
        const opened = new RawClient(hub.url, `EIO=4&transport=websocket&token=${given}`);
        await once(opened.socket, "open");
        opened.send(
          `0${role === "trainer" ? "/trainer," : ""}${JSON.stringify({ token: given, more: given })}`,
        );
        await opened.next(/"welcome"/);
        const namespace = hub.io.of(role === "trainer" ? "/trainer" : "/");
        const [socket] = await namespace.fetchSockets();
        expect([...namespace.sockets.values()].map(({ request }) => request)).to.deep.equal([null]);
        expect(socket?.handshake).to.include({ url: "" });
        expect(socket?.handshake.auth).to.deep.equal({});
        expect(socket?.handshake.headers).to.deep.equal({});
        expect(JSON.stringify([socket?.handshake, socket?.data])).to.not.include(given);
        opened.close();
        await until("gone", () => hub.io.engine.clientsCount === 0);
      }
    });

    it("nor after a refusal, nor in the log", async () => {
      const given = token("trainer");
      const refused = await raw(hub);
      refused.send(`0${JSON.stringify({ token: given })}`);
      expect(await refused.next(/^4/))
        .to.include('"code":"forbidden"')
        .and.to.not.include(given);
      refused.close();
      expect(hub.log.join("\n")).to.not.include(given);
    });
  });
});
