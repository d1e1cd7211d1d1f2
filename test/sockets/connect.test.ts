/** Getting in: `welcome`, refusals, who may enter where, the end of a token, the end of the hub. */
import { createHmac } from "node:crypto";
import { expect } from "chai";
import { signToken } from "../../src/auth.ts";
import { CLOSES } from "../../src/protocol/codes.ts";
import { LIMITS, wireName } from "../../src/protocol/limits.ts";
import type { Closing, Welcome } from "../../src/protocol/types.ts";
import { expectError, request } from "../http/request.ts";
import {
  client,
  line,
  type Refusal,
  SECRET,
  startTestHub,
  TENANT,
  type TestHub,
  token,
  until,
} from "../support/hub.ts";
import { refusedUpgrade } from "../support/upgrade.ts";
import { expectNoRoom, POLLING, WEBSOCKET } from "./new-session.ts";

describe("sockets: connect", () => {
  let hub: TestHub;
  before(async () => {
    hub = await startTestHub({ env: { TRAINWIRE_INSTANCE_ID: "hub-7", TRAINWIRE_TOKEN_GRACE_MS: "100" } });
  });
  after(() => hub.close());

  async function refusal(given: string | undefined, namespace = "/"): Promise<Refusal> {
    const refused = client(hub.url, given, namespace);
    const error = await refused.next<Error & { data: Refusal }>("connect_error");
    expect(error.message).to.equal(error.data.message);
    expect(refused.all("welcome")).to.deep.equal([]);
    refused.close();
    return error.data;
  }

  for (const [namespace, role] of [
    ["/", "operator"],
    ["/trainer", "trainer"],
  ] as const) {
    it(`${namespace} welcomes with who one is, until when, and every limit`, async () => {
      const given = token(role, { ttl: 120 });
      const watcher = client(hub.url, given, namespace);
      const { server_time, expires_at, limits, ...rest } = await watcher.connected();
      expect(rest).to.deep.equal({
        client_id: watcher.socket.id,
        instance_id: "hub-7",
        tenant_id: TENANT,
        role,
      });
      expect(Date.parse(server_time)).to.be.closeTo(Date.now(), 2_000);
      expect(Date.parse(expires_at)).to.be.closeTo(Date.now() + 120_000, 2_000);
      for (const [name, value] of Object.entries(LIMITS))
        expect(limits).to.have.property(wireName(name), value);
      expect(limits).to.have.property("ping_interval_ms");
      expect(watcher.received.map(({ name }) => name)).to.deep.equal(["welcome"]);
      watcher.close();
    });
  }

  it("refuses no token, and none in whatever form, as unauthorized", async () => {
    for (const namespace of ["/", "/trainer"]) {
      expect(await refusal(undefined, namespace)).to.deep.equal({
        ...{ code: "unauthorized", message: "The token is missing.", temporary: false },
      });
    }
    for (const auth of [
      {},
      { token: "" },
      { token: null },
      { token: ["a"] },
      { token: { a: 1 } },
      { token: 7 },
    ]) {
      const refused = client(hub.url, undefined, "/", { auth });
      const { data } = await refused.next<Error & { data: Refusal }>("connect_error");
      expect(data.code).to.equal("unauthorized");
      refused.close();
    }
  });

  it("refuses a wrong token, and one of another secret, without a word of it", async () => {
    const foreign = { subject: "x", tenantId: TENANT, role: "watcher", ttlSeconds: 60 } as const;
    for (const given of ["not-a-token", "a.b.c", signToken("another-secret-0123456789-abcdef", foreign)]) {
      const error = await refusal(given);
      expect(error).to.include({ code: "unauthorized", temporary: false });
      expect(JSON.stringify(error)).to.not.include(given);
    }
  });

  it("trap 25: refuses what jsonwebtoken alone would take: no end, an unknown extension, a text for claims", async () => {
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = (header: object, claims: unknown) => {
      const text = `${part({ alg: "HS256", typ: "JWT", ...header })}.${part(claims)}`;
      return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
    };
    const claims = { sub: "x", tenant_id: TENANT, role: "admin" };
    const exp = Math.floor(Date.now() / 1_000) + 60;
    for (const namespace of ["/", "/trainer"]) {
      for (const given of [
        signed({}, claims),
        signed({ crit: ["x"], x: 1 }, { ...claims, exp }),
        signed({}, "a text"),
        signed({ alg: "none" }, { ...claims, exp }),
        `${part({ alg: "none" })}.${part({ ...claims, exp })}.`,
      ])
        expect((await refusal(given, namespace)).code, given).to.equal("unauthorized");
    }
    const good = client(hub.url, signed({}, { ...claims, exp }));
    await good.connected();
    good.close();
  });

  it("refuses a token that has ended", async () => {
    expect(await refusal(token("watcher", { ttl: -1 }))).to.deep.include({
      code: "token_expired",
      temporary: false,
    });
  });

  it("lets watchers, operators and admins into /, trainers and admins into /trainer", async () => {
    const roles = ["watcher", "operator", "admin", "trainer"] as const;
    const enters = async (role: (typeof roles)[number], namespace: string) => {
      const tried = client(hub.url, token(role), namespace);
      const entered = await tried.connected().then(
        () => "welcome",
        (error: Error & { data: Refusal }) => error.data.code,
      );
      tried.close();
      return entered;
    };
    expect(await Promise.all(roles.map((role) => enters(role, "/")))).to.deep.equal([
      ...["welcome", "welcome", "welcome", "forbidden"],
    ]);
    expect(await Promise.all(roles.map((role) => enters(role, "/trainer")))).to.deep.equal([
      ...["forbidden", "forbidden", "welcome", "welcome"],
    ]);
  });

  it("takes both namespaces on one connection, each with its own token", async () => {
    const watcher = client(hub.url, token("watcher"), "/", { forceNew: true });
    await watcher.connected();
    const trainer = watcher.socket.io.socket("/trainer", { auth: { token: token("trainer") } });
    const welcomed = new Promise<Welcome>((resolve) => trainer.once("welcome", resolve));
    trainer.connect();
    const welcome = await welcomed;
    expect(welcome.role).to.equal("trainer");
    expect(welcome.client_id).to.not.equal(watcher.socket.id);
    watcher.socket.io.engine.close();
  });

  it("serves a client that polls", async () => {
    const watcher = client(hub.url, token("watcher"), "/", { transports: ["polling"] });
    await watcher.connected();
    await hub.publish(line("polled"));
    await watcher.subscribe({ job_id: "polled" });
    await hub.publish(line("polled", "by poll"));
    expect((await watcher.next<{ data: object }>("log")).data).to.deep.equal({ message: "by poll" });
    watcher.close();
  });

  for (const transport of ["websocket", "polling"]) {
    it(`when the token ends, tells and closes the transport (${transport})`, async () => {
      const expiring = client(hub.url, token("watcher", { ttl: 2 }), "/", { transports: [transport] });
      const welcome = await expiring.connected();
      const { code, meaning } = CLOSES.token_expired;
      const closing = await expiring.next<Closing>("closing");
      expect(closing).to.deep.equal({ reason: "token_expired", code, reconnect: true, message: meaning });
      // The transport is closed, not the socket: a server-side disconnect would say "io server disconnect".
      expect(await expiring.next("disconnect")).to.equal("transport close");
      expect(Date.now() - Date.parse(welcome.expires_at)).to.be.within(0, 3_000);
      await until("the connection is gone", () => !hub.io.of("/").sockets.has(welcome.client_id));
    });
  }

  it("closes the other namespace's connection with the token that ends first", async () => {
    const trainer = client(hub.url, token("trainer", { ttl: 2 }), "/trainer");
    await trainer.connected();
    expect(await trainer.next<Closing>("closing")).to.include({ reason: "token_expired" });
    expect(await trainer.next("disconnect")).to.equal("transport close");
  });

  it("counts connections, watchers and trainers in the status", async () => {
    const [watcher, trainer] = await Promise.all([hub.watcher(), hub.trainer()]);
    const status = async () => {
      const reply = await fetch(`${hub.url}/api/v1/status`, {
        headers: { authorization: `Bearer ${token("watcher")}` },
      });
      return ((await reply.json()) as { connections: { watchers: number; trainers: number } }).connections;
    };
    expect(await status()).to.include({ watchers: 1, trainers: 1, connections: 2 });
    watcher.close();
    trainer.close();
    await until("both are gone", async () => (await status()).watchers + (await status()).trainers === 0);
  });

  it("ends session ids with the hub's name, which a load balancer finds them by; sockets have ids of their own", async () => {
    for (const transport of ["websocket", "polling"]) {
      const watcher = client(hub.url, token("watcher"), "/", { transports: [transport] });
      const { client_id } = await watcher.connected();
      expect(watcher.socket.io.engine.id).to.match(/^[\w-]{20}\.hub-7$/);
      expect(client_id).to.match(/^[\w-]{20}$/);
      watcher.close();
    }
  });

  it("refuses connections beyond TRAINWIRE_MAX_CONNECTIONS with 503, and takes them again", async () => {
    const small = await startTestHub({ env: { TRAINWIRE_MAX_CONNECTIONS: "1" } });
    const first = await small.watcher();
    await expectNoRoom(small, "too_many_connections");
    const second = client(small.url, token("watcher"));
    await second.next("connect_error");
    second.close();
    // Those that are there are not concerned.
    await first.good("ping", {});
    first.close();
    await until("there is room", () => small.io.engine.clientsCount === 0);
    await small.watcher();
    await small.close();
  });

  it("refuses another origin with 403 on both transports, and does not ask to try again", async () => {
    const origin = "https://evil.example";
    const polled = await request(hub, POLLING, { role: null, headers: { origin } });
    expectError(polled, "origin_not_allowed");
    const { status, body, headers } = await refusedUpgrade(`${hub.url}${WEBSOCKET}`, { origin });
    expect({ status, body }).to.deep.equal({ status: 403, body: polled.json });
    expect([polled.headers.get("retry-after"), headers["retry-after"]]).to.deep.equal([null, undefined]);
  });

  it("answers 400 to a session that it does not know", async () => {
    const sid = `${"a".repeat(20)}.hub-8`;
    const { status, json } = await request(hub, `${POLLING}&sid=${sid}`, { role: null });
    expect({ status, json }).to.deep.equal({ status: 400, json: { code: 1, message: "Session ID unknown" } });
  });

  for (const transports of [["polling"], ["polling", "websocket"]]) {
    it(`a client whose session is unknown begins anew by itself (${transports.join(", ")})`, async () => {
      const { engine } = hub.io;
      const sessions: Array<{ id: string; close(discard: true): void }> = [];
      const forget = (session: (typeof sessions)[number]) => {
        sessions.push(session);
        // As on another hub, or after a restart: every later request of the session meets that.
        const { clients } = engine as unknown as { clients: object };
        if (sessions.length === 1) Reflect.deleteProperty(clients, session.id);
      };
      engine.on("connection", forget);
      const reconnecting = { reconnection: true, reconnectionDelay: 5, reconnectionDelayMax: 10 };
      const watcher = client(hub.url, token("watcher"), "/", { transports, ...reconnecting });
      await watcher.next("welcome");
      expect(sessions.length).to.be.above(1);
      expect(watcher.socket.io.engine.id).to.equal(sessions.at(-1)?.id);
      engine.off("connection", forget);
      watcher.close();
      sessions[0]?.close(true);
    });
  }

  it("close() tells both namespaces of one connection", async () => {
    const ending = await startTestHub();
    const watcher = client(ending.url, token("watcher"), "/", { forceNew: true });
    await watcher.connected();
    const trainer = watcher.socket.io.socket("/trainer", { auth: { token: token("trainer") } });
    await new Promise((resolve) => trainer.once("welcome", resolve));
    const told = Promise.all([
      watcher.next<Closing>("closing"),
      new Promise<Closing>((resolve) => trainer.once("closing", resolve)),
    ]);
    await ending.close();
    expect((await told).map(({ reason }) => reason)).to.deep.equal(["shutdown", "shutdown"]);
  });

  it("close() does not wait for a client that polled and has vanished", async () => {
    const ending = await startTestHub();
    const opened = await request(ending, POLLING, { role: null });
    const { sid } = JSON.parse(opened.text.slice(1)) as { sid: string };
    const body = `40${JSON.stringify({ token: token("watcher") })}`;
    const headers = { "content-type": "text/plain" };
    await request(ending, `${POLLING}&sid=${sid}`, { role: null, body, headers });
    await until("it has joined", () => ending.io.of("/").sockets.size === 1);
    await ending.close();
    // Engine.IO itself would keep it, and the process, for half a minute.
    await until("it is gone", () => ending.io.engine.clientsCount === 0);
  });

  it("close() tells every client why before it ends its connection", async () => {
    const ending = await startTestHub();
    const open = [client(ending.url, token("watcher")), client(ending.url, token("trainer"), "/trainer")];
    const polling = client(ending.url, token("watcher"), "/", { transports: ["polling"] });
    const clients = [...open, polling];
    await Promise.all(clients.map((one) => one.connected()));
    const told = clients.map((one) => one.next<Closing>("closing"));
    await ending.close();
    for (const closing of await Promise.all(told))
      expect(closing).to.include({ reason: "shutdown", code: CLOSES.shutdown.code, reconnect: true });
  });
});
