/** `/ws/heartbeat`: who gets in, what comes, when it ends; and every other upgrade. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect } from "chai";
import WebSocket, { type ClientOptions } from "ws";
import { CLOSES } from "../../src/protocol/codes.ts";
import { startTestHub, type TestHub, token, until } from "../support/hub.ts";
import { HANDSHAKE, refusedUpgrade } from "../support/upgrade.ts";

const PATH = "/ws/heartbeat";

interface Message {
  type: string;
  timestamp: string;
}

/** A client that writes down what it gets, and when. */
class Heart {
  readonly socket: WebSocket;
  readonly messages: Array<Message & { at: number }> = [];
  closed: { code: number; reason: string } | undefined;

  constructor(url: string, options: ClientOptions = {}) {
    this.socket = new WebSocket(url.replace("http", "ws"), options);
    this.socket.on("message", (data) => {
      this.messages.push({ ...(JSON.parse(String(data)) as Message), at: performance.now() });
    });
    this.socket.on("error", () => {});
    this.socket.on("close", (code, reason) => {
      this.closed = { code, reason: String(reason) };
    });
  }

  static async open(hub: TestHub, given = token("watcher"), options: ClientOptions = {}): Promise<Heart> {
    const heart = new Heart(`${hub.url}${PATH}?token=${given}`, options);
    await once(heart.socket, "open");
    return heart;
  }

  of(type: string) {
    return this.messages.filter((message) => message.type === type);
  }

  async ended(): Promise<{ code: number; reason: string }> {
    await until("the close", () => this.closed !== undefined);
    return this.closed as { code: number; reason: string };
  }
}

async function tcp(hub: TestHub, ...texts: string[]): Promise<Socket> {
  const socket = connect({ port: Number(new URL(hub.url).port), host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  await once(socket, "connect");
  for (const text of texts) socket.write(text);
  return socket;
}

describe("/ws/heartbeat", () => {
  let hub: TestHub;
  before(async () => {
    hub = await startTestHub({ env: { CORS_ORIGINS: "https://friend.example" } });
  });
  after(() => hub.close());

  const count = async () => {
    const headers = { authorization: `Bearer ${token("watcher")}` };
    const reply = await fetch(`${hub.url}/api/v1/status`, { headers });
    return ((await reply.json()) as { connections: { heartbeats: number } }).connections.heartbeats;
  };
  afterEach(async () => {
    await until("nobody is left", async () => (await count()) === 0);
    const logged = hub.log.filter((line) => line.includes("token=") || line.includes("eyJ"));
    expect(logged).to.deep.equal([]);
  });

  it("sends the time at once, then every second, as text", async () => {
    const opened = performance.now();
    const heart = await Heart.open(hub);
    await until("three", () => heart.messages.length === 3);
    expect(heart.messages[0]?.at).to.be.below(opened + 900);
    for (const [i, { type, timestamp, at }] of heart.messages.entries()) {
      expect(type).to.equal("heartbeat");
      expect(new Date(timestamp).toISOString()).to.equal(timestamp);
      if (i > 0) expect(at - (heart.messages[i - 1]?.at ?? 0)).to.be.within(600, 2_000);
    }
    expect(Object.keys(heart.messages[0] ?? {})).to.deep.equal(["type", "timestamp", "at"]);
    heart.socket.close();
  });

  it("answers the text `ping` with a pong, and nothing else", async () => {
    const heart = await Heart.open(hub);
    for (const message of ["hello", "{}", "PING", Buffer.from("ping"), "ping"]) heart.socket.send(message);
    await until("the pong", () => heart.of("pong").length > 0);
    await until("a second heartbeat", () => heart.of("heartbeat").length === 2);
    expect(heart.of("pong")).to.have.length(1);
    heart.socket.close();
  });

  it("lets every role in, by the address or by `Authorization`", async () => {
    for (const role of ["watcher", "operator", "admin", "trainer"] as const) {
      const heart = await Heart.open(hub, token(role));
      heart.socket.close();
    }
    const headers = { authorization: `Bearer ${token("watcher")}` };
    const heart = new Heart(`${hub.url}${PATH}`, { headers });
    await once(heart.socket, "open");
    expect(heart.socket.protocol).to.equal("");
    heart.socket.close();
  });

  it("refuses bad tokens before the upgrade, by status and code, without a word of them", async () => {
    const ended = token("watcher", { ttl: -1 });
    const cases = [
      [`${PATH}`, "unauthorized"],
      [`${PATH}?token=`, "unauthorized"],
      [`${PATH}?token=a.b.c`, "unauthorized"],
      [`${PATH}?token=%E0%A4%A`, "unauthorized"],
      [`${PATH}?token=${"x".repeat(9_000)}`, "unauthorized"],
      [`${PATH}?token=${token("watcher")}x`, "unauthorized"],
      [`${PATH}?token=${ended}`, "token_expired"],
    ] as const;
    for (const [path, code] of cases) {
      const { status, body, headers } = await refusedUpgrade(`${hub.url}${path}`);
      expect([status, body.ok, body.error.code, body.error.temporary]).to.deep.equal([
        401,
        false,
        code,
        false,
      ]);
      expect(headers["www-authenticate"]).to.equal("Bearer");
      expect(JSON.stringify(body)).to.not.include(ended);
    }
    const { status } = await refusedUpgrade(`${hub.url}${PATH}`, { authorization: `Bearer ${ended}` });
    expect(status).to.equal(401);
  });

  it("refuses the pages of other origins, and takes its own and those of CORS_ORIGINS", async () => {
    const url = `${hub.url}${PATH}?token=${token("watcher")}`;
    for (const origin of ["https://evil.example", "null", "::"]) {
      const { status, body } = await refusedUpgrade(url, { origin });
      expect([status, body.error.code]).to.deep.equal([403, "origin_not_allowed"]);
    }
    for (const origin of ["https://friend.example", hub.url]) {
      const heart = await Heart.open(hub, token("watcher"), { origin });
      heart.socket.close();
    }
  });

  it("closes with 4001 when the token ends: there is no grace", async () => {
    const ttl = ((Date.now() % 1_000) + 1_000) / 1_000;
    const end = Date.now() + 1_000;
    const heart = await Heart.open(hub, token("watcher", { ttl }));
    expect(await heart.ended()).to.deep.equal({ code: CLOSES.token_expired.code, reason: "token_expired" });
    expect(Date.now()).to.be.within(end - 50, end + 2_000);
  });

  it("closes with 4000 when the hub ends, also a client that does not answer", async () => {
    const ending = await startTestHub();
    const heart = await Heart.open(ending);
    const raw = await tcp(ending, upgrade(`${PATH}?token=${token("watcher")}`));
    await once(raw, "data");
    raw.pause();
    const before = performance.now();
    await ending.close();
    expect(performance.now() - before).to.be.below(3_000);
    expect(await heart.ended()).to.deep.equal({ code: CLOSES.shutdown.code, reason: "shutdown" });
    raw.destroy();
  });

  it("leaves one after the other when the hub drains, and lets nobody else in", async () => {
    const windowMs = 1_000;
    const draining = await startTestHub({ env: { TRAINWIRE_DRAIN_MS: String(windowMs) } });
    const hearts = await Promise.all(Array.from({ length: 12 }, () => Heart.open(draining)));
    const from = performance.now();
    const over = draining.drain();
    const left = hearts.map(async (heart) => {
      expect(await heart.ended()).to.deep.equal({ code: 4000, reason: "shutdown" });
      return performance.now() - from;
    });
    const { status, body, headers } = await refusedUpgrade(
      `${draining.url}${PATH}?token=${token("watcher")}`,
    );
    expect([status, body.error.code, headers["retry-after"]]).to.deep.equal([503, "draining", "1"]);
    const times = await Promise.all(left);
    expect(new Set(times.map((ms) => Math.round(ms / 50))).size).to.be.above(3);
    await over;
    await draining.close();
  });

  it("closes who sends too much: a large message, many messages, many ping frames", async () => {
    const large = await Heart.open(hub);
    large.socket.send("x".repeat(1_025));
    expect((await large.ended()).code).to.equal(1009);
    const many = await Heart.open(hub);
    for (let i = 0; i < 100; i++) many.socket.send("ping");
    const { code, reason } = await many.ended();
    expect([code, reason]).to.deep.equal([CLOSES.too_many_violations.code, "too_many_violations"]);
    expect(many.of("pong").length).to.be.at.most(20);
    const pinging = await Heart.open(hub);
    for (let i = 0; i < 100; i++) pinging.socket.ping();
    expect((await pinging.ended()).code).to.equal(CLOSES.too_many_violations.code);
    const flood = await Heart.open(hub);
    for (let i = 0; i < 20_000; i++) flood.socket.send("x");
    await flood.ended();
  });

  it("ends a client that no longer answers ping frames", async () => {
    const short = await startTestHub({
      env: { TRAINWIRE_PING_INTERVAL_MS: "100", TRAINWIRE_PING_TIMEOUT_MS: "300" },
    });
    const alive = await Heart.open(short);
    const dead = await Heart.open(short, token("watcher"), { autoPong: false });
    expect((await dead.ended()).code).to.equal(1006);
    await until("pinged for a while", () => alive.messages.length === 3);
    expect(alive.closed).to.equal(undefined);
    await short.close();
  });

  it("refuses beyond TRAINWIRE_MAX_CONNECTIONS, which count together with Socket.IO's", async () => {
    const small = await startTestHub({ env: { TRAINWIRE_MAX_CONNECTIONS: "2" } });
    const heart = await Heart.open(small);
    const watcher = await small.watcher();
    const { status, body, headers } = await refusedUpgrade(`${small.url}${PATH}?token=${token("watcher")}`);
    expect([status, body.error.code, body.error.temporary]).to.deep.equal([
      503,
      "too_many_connections",
      true,
    ]);
    expect(headers["retry-after"]).to.equal("1");
    watcher.close();
    await until("there is room", () => small.io.engine.clientsCount === 0);
    const second = await Heart.open(small);
    await small.watcher().then(
      () => expect.fail("a third was taken"),
      () => {},
    );
    heart.socket.close();
    await heart.ended();
    await small.watcher();
    second.socket.close();
    await small.close();
  });

  it("answers a handshake that is none with 400", async () => {
    const url = `${hub.url}${PATH}?token=${token("watcher")}`;
    for (const [name, value] of [
      ["sec-websocket-key", "short"],
      ["sec-websocket-version", "1"],
      ["upgrade", "h2c"],
      ["sec-websocket-protocol", ","],
    ] as const) {
      const { status, body } = await refusedUpgrade(url, { [name]: value });
      expect([status, body.error.code], name).to.deep.equal([400, "malformed"]);
    }
  });

  it("refuses upgrades of all other paths at once, and leaves Socket.IO its own", async () => {
    for (const path of [
      "/",
      "/ws",
      "/ws/heartbeat/",
      "/ws/heartbeatx",
      "/socket.iox",
      "/api/v1/status",
      "//",
      "/%",
    ]) {
      const before = performance.now();
      const { status, body } = await refusedUpgrade(`${hub.url}${path}`);
      expect([status, body.error.code], path).to.deep.equal([404, "unknown_verb"]);
      expect(performance.now() - before, path).to.be.below(900);
    }
    const watcher = await hub.watcher();
    await watcher.good("ping", {});
    watcher.close();
  });

  it("outlives whatever is sent: half requests, resets, broken frames, sockets that stay half open", async () => {
    const good = `${PATH}?token=${token("watcher")}`;
    const open = [
      await tcp(hub, upgrade(good), "\x81\xfe\xff\xff"),
      await tcp(hub, upgrade(good), "\xff\xff\xff\xff\xff"),
      await tcp(hub, `${upgrade(good)}\x89\xff`),
      await tcp(hub, upgrade("/nowhere")),
      await tcp(hub, upgrade(PATH)),
      await tcp(hub, upgrade(`http://[::/${PATH}`)),
      await tcp(hub, upgrade(good).slice(0, 60)),
      await tcp(hub, `GET ${PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: \r\nConnection: Upgrade\r\n\r\n`),
    ];
    for (const path of [good, PATH, "/nowhere"]) {
      const reset = await tcp(hub, upgrade(path));
      reset.resetAndDestroy();
    }
    const refusedOnes = [open[3], open[4], open[5]] as Socket[];
    // The hub closes its side although the client keeps its own open.
    await Promise.all(refusedOnes.map((socket) => once(socket.resume(), "end")));
    const heart = await Heart.open(hub);
    heart.socket.send("ping");
    await until("the pong", () => heart.of("pong").length === 1);
    heart.socket.close();
    for (const socket of open) socket.destroy();
  });

  it("without an upgrade it is no route", async () => {
    const headers = { authorization: `Bearer ${token("watcher")}` };
    const reply = await fetch(`${hub.url}${PATH}`, { headers });
    expect(reply.status).to.equal(404);
  });
});

/** A handshake as bytes. */
function upgrade(path: string): string {
  const headers = Object.entries({ host: "x", ...HANDSHAKE }).map(([name, value]) => `${name}: ${value}`);
  return `GET ${path} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`;
}
