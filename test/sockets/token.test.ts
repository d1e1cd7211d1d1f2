/** The life of a token on a connection: told before its end, refreshed, a grace, closed. */
import { expect } from "chai";
import type { Role } from "../../src/auth.ts";
import { CLOSES } from "../../src/protocol/codes.ts";
import type { Closing, RefreshAnswer, TokenExpiring, Welcome } from "../../src/protocol/types.ts";
import {
  client,
  line,
  type Refusal,
  startTestHub,
  type TestClient,
  type TestHub,
  type TokenOptions,
  token,
  until,
} from "../support/hub.ts";

const WARNING_MS = 1_500;
const GRACE_MS = 1_000;
/** Of the sweep, and of a busy machine. */
const LATE_MS = 2_000;
/** Longer than the sweep: what has not happened by then does not. */
const AFTER_MS = 500;
const NAMESPACES = [
  ["/", "watcher"],
  ["/trainer", "trainer"],
] as const;

/** `ttl` of a token that ends so many ms from now: `exp` may be fractional. */
const inMs = (ms: number) => ((Date.now() % 1_000) + ms) / 1_000;

describe("sockets: the life of a token", () => {
  let hub: TestHub;
  const clients: TestClient[] = [];
  before(async () => {
    hub = await startTestHub({
      env: { TRAINWIRE_TOKEN_WARNING_MS: String(WARNING_MS), TRAINWIRE_TOKEN_GRACE_MS: String(GRACE_MS) },
    });
  });
  after(() => hub.close());
  afterEach(() => {
    for (const each of clients.splice(0)) each.close();
  });

  async function open(namespace: string, role: Role, options: TokenOptions = {}) {
    const opened = client(hub.url, token(role, options), namespace);
    clients.push(opened);
    return { opened, end: Date.parse((await opened.connected()).expires_at) };
  }

  const refresh = (opened: TestClient, role: Role, options: TokenOptions = {}) =>
    opened.good<RefreshAnswer>("refresh", { token: token(role, options) });

  for (const [namespace, role] of NAMESPACES) {
    describe(namespace, () => {
      it("tells once, in time, that the token is about to end; after the grace it closes the transport", async () => {
        const { opened, end } = await open(namespace, role, { ttl: inMs(2_000) });
        const expiring = await opened.next<TokenExpiring>("token_expiring");
        expect(Date.now() - end).to.be.within(-WARNING_MS, -WARNING_MS + LATE_MS);
        expect(expiring).to.deep.equal({ expires_at: new Date(end).toISOString() });
        const closing = await opened.next<Closing>("closing");
        expect(Date.now() - end).to.be.within(GRACE_MS, GRACE_MS + LATE_MS);
        const { code, meaning } = CLOSES.token_expired;
        expect(closing).to.deep.equal({ reason: "token_expired", code, reconnect: true, message: meaning });
        expect(code).to.equal(4001);
        // The transport, not the socket: a server-side disconnect would say "io server disconnect".
        expect(await opened.next("disconnect")).to.equal("transport close");
        expect(opened.all("token_expiring")).to.have.length(1);
      });

      it("a token that ends sooner than that is told at once", async () => {
        const { opened, end } = await open(namespace, role, { ttl: inMs(1_000) });
        expect(await opened.next("token_expiring")).to.deep.equal({
          expires_at: new Date(end).toISOString(),
        });
        expect(opened.received.map(({ name }) => name)).to.deep.equal(["welcome", "token_expiring"]);
      });

      it("`refresh` answers role and end, and the connection outlives the old token", async () => {
        const { opened, end } = await open(namespace, role, { ttl: inMs(1_000) });
        const answer = await refresh(opened, role, { ttl: 600 });
        expect(answer.role).to.equal(role);
        expect(Date.parse(answer.expires_at)).to.be.closeTo(Date.now() + 600_000, 2_000);
        await until("the grace of the old token is over", () => Date.now() > end + GRACE_MS + AFTER_MS);
        await opened.good("ping", {});
        expect(opened.all("closing")).to.deep.equal([]);
      });

      it("a new token is told of as well, at once where it is short, and may end before the old one", async () => {
        const { opened } = await open(namespace, role, { ttl: 600 });
        const { expires_at } = await refresh(opened, role, { ttl: inMs(1_000) });
        expect(await opened.next("token_expiring")).to.deep.equal({ expires_at });
        const names = opened.received.map(({ name }) => name);
        expect(names).to.deep.equal(["welcome", "answer:refresh", "token_expiring"]);
        expect(await opened.next<Closing>("closing")).to.include({ reason: "token_expired" });
      });

      it("the same token again is taken, and told of only once", async () => {
        const given = token(role, { ttl: inMs(1_000) });
        const opened = client(hub.url, given, namespace);
        clients.push(opened);
        await opened.connected();
        await opened.good("refresh", { token: given });
        await opened.next("closing");
        expect(opened.all("token_expiring")).to.have.length(1);
      });

      it("refuses a token of another subject or tenant, or whose role may not be here; the old one stays", async () => {
        const { opened, end } = await open(namespace, role, { ttl: inMs(1_000) });
        const elsewhere = namespace === "/" ? "trainer" : "operator";
        for (const given of [
          token(role, { subject: "somebody else" }),
          token(role, { tenant: "umbrella" }),
          token(elsewhere),
        ]) {
          const error = await opened.refused("refresh", { token: given });
          expect(error).to.include({ code: "token_mismatch", temporary: false });
          expect(JSON.stringify(error)).to.not.include(given);
        }
        expect(await opened.next<Closing>("closing")).to.include({ reason: "token_expired" });
        expect(Date.now()).to.be.least(end + GRACE_MS);
      });

      it("refuses what is no token, another secret's, or has ended; the old one stays", async () => {
        const { opened } = await open(namespace, role);
        const codes = [];
        for (const given of ["", "a.b.c", `${token(role)}x`, token(role, { ttl: -1 })])
          codes.push((await opened.refused("refresh", { token: given })).code);
        expect(codes).to.deep.equal(["unauthorized", "unauthorized", "unauthorized", "token_expired"]);
        for (const request of [
          {},
          { token: 7 },
          { token: token(role), more: 1 },
          { token: "x".repeat(8_193) },
        ])
          expect((await opened.refused("refresh", request)).code).to.equal("invalid_request");
        await opened.good("ping", {});
      });

      it("in the grace every verb works, and `refresh` saves the connection", async () => {
        const { opened, end } = await open(namespace, role, { ttl: inMs(1_000) });
        await until("the token has ended", () => Date.now() > end);
        await opened.good("ping", {});
        if (namespace === "/") await opened.subscribe({});
        else expect(await opened.publish(line("grace"))).to.include({ accepted: 1 });
        await refresh(opened, role);
        await until("the grace is over", () => Date.now() > end + GRACE_MS + AFTER_MS);
        await opened.good("ping", {});
        expect(opened.all("closing")).to.deep.equal([]);
      });
    });
  }

  it("a client that polls is told and closed as well", async () => {
    const opened = client(hub.url, token("watcher", { ttl: inMs(1_000) }), "/", { transports: ["polling"] });
    clients.push(opened);
    await opened.connected();
    await opened.next("token_expiring");
    expect(await opened.next<Closing>("closing")).to.include({ reason: "token_expired", code: 4001 });
    await opened.next("disconnect");
    await until("the socket is gone", () => hub.io.of("/").sockets.size === 0);
  });

  it("there is no grace for new connections, nor over HTTP", async () => {
    const given = token("watcher", { ttl: inMs(1_000) });
    const inside = client(hub.url, given);
    clients.push(inside);
    const end = Date.parse((await inside.connected()).expires_at);
    await until("the token has ended", () => Date.now() > end);
    const late = client(hub.url, given);
    const { data } = await late.next<Error & { data: Refusal }>("connect_error");
    expect(data.code).to.equal("token_expired");
    const reply = await fetch(`${hub.url}/api/v1/status`, { headers: { authorization: `Bearer ${given}` } });
    expect(reply.status).to.equal(401);
    await inside.good("ping", {});
  });

  it("each namespace of one connection has a token of its own", async () => {
    const { opened: watcher } = await open("/", "watcher", { ttl: 600 });
    const trainer = watcher.socket.io.socket("/trainer", {
      auth: { token: token("trainer", { ttl: inMs(1_000) }) },
    });
    const welcomed = new Promise<Welcome>((resolve) => trainer.once("welcome", resolve));
    const told = new Promise<TokenExpiring>((resolve) => trainer.once("token_expiring", resolve));
    expect((await told).expires_at).to.equal((await welcomed).expires_at);
    const answer = await trainer.emitWithAck("refresh", { token: token("trainer") });
    expect(answer.ok).to.equal(true);
    expect(watcher.all("token_expiring")).to.deep.equal([]);
  });

  it("what the new token says counts from then on: role, and jobs that may be published to", async () => {
    const { opened } = await open("/trainer", "admin");
    expect((await refresh(opened, "trainer", { jobs: ["mine*"] })).role).to.equal("trainer");
    const answer = await opened.publish([line("mine-1"), line("other")]);
    expect(answer.accepted).to.equal(1);
    expect(answer.refused.map(({ index, code }) => [index, code])).to.deep.equal([[1, "job_not_found"]]);
    await refresh(opened, "trainer");
    expect((await opened.publish(line("other"))).accepted).to.equal(1);
  });

  it("a refused refresh is no violation, and a refresh without acknowledgement does nothing", async () => {
    const { opened } = await open("/", "watcher", { ttl: 600 });
    for (let i = 0; i < 120; i++) await opened.refused("refresh", { token: "x" });
    opened.socket.emit("refresh", { token: token("watcher", { ttl: inMs(1_000) }) });
    expect(await opened.next<{ error: Refusal }>("refused")).to.have.nested.property(
      "error.code",
      "ack_required",
    );
    await opened.good("ping", {});
    expect(opened.all("token_expiring")).to.deep.equal([]);
  });
});
