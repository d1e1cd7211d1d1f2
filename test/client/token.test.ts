/** The SDK and the end of a token: refreshed while the connection goes on, or a reconnect with a fresh one. */
import { expect } from "chai";
import { TrainwireClient, type TrainwireError, TrainwireTrainer } from "../../client/index.ts";
import type { RefreshRequest } from "../../src/protocol/types.ts";
import { startTestHub, TENANT, type TestHub, token, until } from "../support/hub.ts";
import { type Call, line, ScriptedHub, ScriptedStore } from "./scripted-hub.ts";
import { FAST, heard, record, watch } from "./support.ts";

type Refresh = Call<RefreshRequest>;

const EXPIRED = { reason: "token_expired", code: 4001, reconnect: true };
const inMs = (ms: number) => new Date(Date.now() + ms).toISOString();

describe("client: the end of a token", () => {
  let hub: ScriptedHub;
  let client: TrainwireClient | undefined;
  let trainer: TrainwireTrainer | undefined;
  let made = 0;
  const getToken = async () => `t${++made}`;
  beforeEach(async () => {
    made = 0;
    hub = await ScriptedHub.start();
  });
  afterEach(async () => {
    client?.close();
    await trainer?.close();
    client = undefined;
    trainer = undefined;
    await hub.stop();
  });

  /** A client that has subscribed to job `a`, whose token is about to end; and what it reports. */
  async function expiring(options: Parameters<typeof watch>[1] = { getToken }) {
    const opened = watch(hub, options);
    client = opened;
    const errors: TrainwireError[] = [];
    opened.on("error", (error) => errors.push(error));
    const subscription = opened.subscribe({ job_id: "a", history: 1 });
    const told = record(subscription);
    const { socket, answer } = await hub.next("subscribe");
    answer({ job_id: "a", feed: "job", epoch: "e1", seq: 0, recovered: true, snapshot: null, events: [] });
    await subscription.ready;
    socket.emit("token_expiring", { expires_at: inMs(1_000) });
    return { socket, told, errors, opened };
  }
  const verbs = () => hub.calls.map(({ verb }) => verb);

  it("brings a new token, and the subscription goes on without being asked for again", async () => {
    const { socket, told, errors } = await expiring();
    const { request, answer } = await hub.next<RefreshRequest>("refresh");
    expect(request).to.deep.equal({ token: "t2" });
    socket.emit("log", line(1));
    answer({ role: "watcher", expires_at: inMs(60_000) });
    socket.emit("log", line(2));
    await told.until("log a:2");
    expect([...told]).to.deep.equal(["live", "log a:1", "log a:2"]);
    expect(verbs()).to.deep.equal(["connection", "subscribe", "refresh"]);
    expect(errors).to.deep.equal([]);
    // The next one, too, and a reconnect takes a fresh one.
    socket.emit("token_expiring", { expires_at: inMs(1) });
    (await hub.next<RefreshRequest>("refresh")).answer({ role: "watcher", expires_at: inMs(60_000) });
    hub.cut();
    await hub.next("subscribe");
    expect(hub.auths).to.deep.equal([{ token: "t1" }, { token: "t4" }]);
  });

  it("a trainer does the same while it publishes", async () => {
    const store = new ScriptedStore();
    hub.on.publish = ({ request, answer }) => answer(store.publish(request));
    const errors: TrainwireError[] = [];
    trainer = new TrainwireTrainer({
      ...{ url: hub.url, getToken, ...FAST, flushIntervalMs: 0 },
      onError: (error) => errors.push(error),
    });
    const run = trainer.run("a");
    run.log("before");
    const { socket } = await hub.next("connection");
    socket.emit("token_expiring", { expires_at: inMs(1_000) });
    const { request, answer } = await hub.next<RefreshRequest>("refresh");
    expect(request).to.deep.equal({ token: "t2" });
    run.log("meanwhile");
    answer({ role: "trainer", expires_at: inMs(60_000) });
    run.log("after");
    expect(await trainer.flush()).to.equal(true);
    expect(store.of("log").map(({ data }) => data.message)).to.deep.equal(["before", "meanwhile", "after"]);
    expect([hub.auths.length, errors, trainer.stats.resent]).to.deep.equal([1, [], 0]);
  });

  it("asks again for a token that it could not get, and reports each time", async () => {
    let asked = 0;
    const unsteady = () => {
      asked += 1;
      if (asked === 2) throw new Error("no network");
      if (asked === 3) return "";
      return asked === 4 ? new Promise<string>(() => {}) : `t${asked}`;
    };
    const { errors, opened } = await expiring({ getToken: unsteady, connectTimeoutMs: 300 });
    const { request, answer } = await hub.next<RefreshRequest>("refresh");
    expect(request).to.deep.equal({ token: "t5" });
    answer({ role: "watcher", expires_at: inMs(60_000) });
    const told = errors.map(({ code, temporary }) => [code, temporary]);
    expect(told).to.deep.equal(Array(3).fill(["token_unavailable", true]));
    expect([opened.state, hub.auths.length]).to.deep.equal(["connected", 1]);
  });

  it("asks the hub again when it could not take it for now, or did not answer", async () => {
    const { errors } = await expiring({ getToken, ackTimeoutMs: 100 });
    (await hub.next<RefreshRequest>("refresh")).refuse("unavailable", true);
    await hub.next<RefreshRequest>("refresh"); // not answered
    const last = await hub.next<RefreshRequest>("refresh");
    expect(last.request).to.deep.equal({ token: "t4" });
    last.answer({ role: "watcher", expires_at: inMs(60_000) });
    expect(errors).to.deep.equal([]);
  });

  for (const code of ["token_mismatch", "unauthorized", "token_expired", "invalid_request"]) {
    it(`reports ${code} as temporary, goes on, and reconnects with a fresh token after the close`, async () => {
      const { socket, told, errors, opened } = await expiring();
      const reported = heard<TrainwireError>(opened, "error");
      (await hub.next<RefreshRequest>("refresh")).refuse(code);
      expect(await reported).to.include({ code, temporary: true });
      socket.emit("log", line(1));
      await told.until("log a:1");
      expect([opened.state, verbs().filter((verb) => verb === "refresh").length]).to.deep.equal([
        "connected",
        1,
      ]);
      socket.emit("closing", EXPIRED);
      socket.conn.close();
      const again = await hub.next("subscribe");
      expect(again.request.since).to.deep.equal({ epoch: "e1", seq: 1 });
      expect(hub.auths).to.deep.equal([{ token: "t1" }, { token: "t3" }]);
      expect(errors.map((error) => [error.code, error.temporary])).to.deep.equal([
        [code, true],
        ["token_expired", true],
      ]);
    });
  }

  it("reports a `getToken` that gives the same token again, and does not send that", async () => {
    const tokens = ["t1", "t1", "t2"];
    const { socket, opened } = await expiring({ getToken: () => tokens.shift() as string });
    expect(await heard(opened, "error")).to.include({ code: "token_unavailable", temporary: true });
    expect(opened.state).to.equal("connected");
    socket.emit("closing", EXPIRED);
    socket.conn.close();
    await hub.next("subscribe");
    expect(hub.auths).to.deep.equal([{ token: "t1" }, { token: "t2" }]);
    expect(verbs()).to.not.include("refresh");
  });

  it("an old hub that does not know `refresh` is no error", async () => {
    const { socket, told, errors } = await expiring();
    (await hub.next<RefreshRequest>("refresh")).refuse("unknown_verb");
    socket.emit("log", line(1));
    await told.until("log a:1");
    expect(errors).to.deep.equal([]);
    socket.emit("closing", { ...EXPIRED, code: 4500, reconnect: false });
    socket.conn.close();
    const again = await hub.next("subscribe");
    expect(again.request.since).to.deep.equal({ epoch: "e1", seq: 1 });
  });

  it("with a static token nothing is done, and the close is the end: the hub is not asked again", async () => {
    const { socket, told, opened } = await expiring({});
    socket.emit("log", line(1));
    await told.until("log a:1");
    expect(verbs()).to.not.include("refresh");
    const ended = heard<TrainwireError>(opened, "error");
    socket.emit("closing", EXPIRED);
    socket.conn.close();
    expect(await ended).to.include({ code: "token_expired", temporary: false });
    expect([opened.state, hub.auths.length]).to.deep.equal(["closed", 1]);
  });

  it("a token that comes after the connection has ended is not sent on the next one", async () => {
    let release: (token: string) => void = () => {};
    let asked = 0;
    const slow = () => {
      asked += 1;
      if (asked !== 2) return `t${asked}`;
      return new Promise<string>((resolve) => {
        release = resolve;
      });
    };
    await expiring({ getToken: slow });
    await until("asked", () => asked === 2);
    hub.cut();
    const again = await hub.next("subscribe");
    release("late");
    again.answer({
      job_id: "a",
      feed: "job",
      epoch: "e1",
      seq: 0,
      recovered: true,
      snapshot: null,
      events: [],
    });
    again.socket.emit("token_expiring", { expires_at: inMs(1) });
    expect((await hub.next<RefreshRequest>("refresh")).request).to.deep.equal({ token: "t4" });
    expect(hub.auths.map((auth) => auth.token)).to.deep.equal(["t1", "t3"]);
  });

  it("tokens that live shorter than the warning are not refreshed before half of their life is over", async () => {
    const at: number[] = [];
    hub.on.refresh = ({ socket, answer }: Refresh) => {
      at.push(performance.now());
      answer({ role: "watcher", expires_at: inMs(100) });
      socket.emit("token_expiring", { expires_at: inMs(100) });
    };
    client = watch(hub, { getToken });
    const { socket } = await hub.next("connection");
    // The hub's clock is ten minutes ahead.
    const ahead = 600_000;
    const start = performance.now();
    socket.emit("welcome", { server_time: inMs(ahead) });
    socket.emit("token_expiring", { expires_at: inMs(ahead + 1_600) });
    await until("three", () => at.length === 3);
    expect((at[0] ?? 0) - start).to.be.within(700, 1_500);
    for (const i of [1, 2]) expect((at[i] ?? 0) - (at[i - 1] ?? 0)).to.be.within(450, 1_200);
  });

  it("a subscription that the new token does not allow ends, and is not asked for again", async () => {
    const { socket, told } = await expiring();
    await hub.next<RefreshRequest>("refresh");
    socket.emit("closing", { reason: "forbidden", job_id: "a", reconnect: false });
    await told.until("error forbidden");
    expect([...told]).to.deep.equal(["live", "closing forbidden", "error forbidden"]);
    hub.cut();
    await hub.next("connection");
    await hub.next("connection");
    expect(hub.waiting("subscribe")).to.equal(0);
  });

  describe("with a hub", () => {
    let real: TestHub;
    before(async () => {
      real = await startTestHub({
        env: { TRAINWIRE_TOKEN_WARNING_MS: "700", TRAINWIRE_TOKEN_GRACE_MS: "1000" },
      });
    });
    after(() => real.close());

    it("watcher and trainer outlive several tokens: one connection, every event once, in order", async () => {
      const lives = { watcher: 0, trainer: 0 };
      const short = (role: "watcher" | "trainer") => () => {
        lives[role] += 1;
        return token(role, { ttl: ((Date.now() % 1_000) + 1_400) / 1_000 });
      };
      const errors: string[] = [];
      const states: string[] = [];
      client = new TrainwireClient({ url: real.url, getToken: short("watcher"), ...FAST })
        .on("state", (state) => states.push(state))
        .on("error", ({ code }) => errors.push(code));
      trainer = new TrainwireTrainer({
        ...{ url: real.url, getToken: short("trainer"), ...FAST },
        onError: ({ code }) => errors.push(code),
      });
      const seen: string[] = [];
      let live = 0;
      const subscription = client
        .connect()
        .subscribe({ job_id: "long", wait: true })
        .on("log", ({ data }) => seen.push(data.message))
        .on("live", () => {
          live += 1;
        });
      await subscription.ready;
      const run = trainer.run("long");
      let sent = 0;
      await until(
        "four tokens each",
        () => {
          run.log(`line ${++sent}`);
          return lives.watcher >= 4 && lives.trainer >= 4;
        },
        15_000,
      );
      expect(await trainer.flush()).to.equal(true);
      await until("everything has come", () => seen.length === sent);
      expect(seen).to.deep.equal(Array.from({ length: sent }, (_, i) => `line ${i + 1}`));
      expect([states, live, errors]).to.deep.equal([["connecting", "connected"], 1, []]);
      expect(trainer.stats).to.include({ resent: 0, stored: sent });
      expect(real.io.of("/").sockets.size).to.equal(1);
    });

    it("a narrower token ends a subscription with `forbidden`, the others go on", async () => {
      await real.publish([
        { type: "log", job_id: "kept", data: { message: "1" } },
        { type: "log", job_id: "lost", data: { message: "1" } },
      ]);
      let first = true;
      const narrowing = () => {
        const ttl = first ? ((Date.now() % 1_000) + 1_400) / 1_000 : 60;
        const given = token("watcher", { tenant: TENANT, ttl, ...(!first && { jobs: ["kept"] }) });
        first = false;
        return given;
      };
      client = new TrainwireClient({ url: real.url, getToken: narrowing, ...FAST }).connect();
      const kept = record(client.subscribe({ job_id: "kept" }));
      const lost = record(client.subscribe({ job_id: "lost" }));
      await lost.until("error forbidden");
      await real.publish({ type: "log", job_id: "lost", data: { message: "2" } });
      await real.publish({ type: "log", job_id: "kept", data: { message: "2" } });
      await kept.until("log kept:3");
      expect(lost.slice(-2)).to.deep.equal(["closing forbidden", "error forbidden"]);
    });
  });
});
