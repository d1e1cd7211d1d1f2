/** What a running hub writes to its log: who comes and goes, what is asked; never a token, never a payload. */
import { expect } from "chai";
import { WebSocket } from "ws";
import { type Visit, Visits } from "../src/core/visits.ts";
import { createLog } from "../src/log.ts";
import type { LogLevels } from "../src/settings.ts";
import { request } from "./http/request.ts";
import { freshPrefix } from "./support/hooks.ts";
import { client, line, lines, startTestHub, type TestHub, until } from "./support/hub.ts";
import { startRedis } from "./support/redis.ts";

type Line = Record<string, unknown> & { level: string; module?: string; msg: string };

const DEBUG: LogLevels = { level: "debug", modules: {} };
// biome-ignore lint/suspicious/noControlCharactersInRegex: these must not appear
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e]/;

describe("log lines", () => {
  let hub: TestHub;
  const start = async (levels: LogLevels, env: Record<string, string> = {}) => {
    hub = await startTestHub({ levels, env: { TRAINWIRE_INSTANCE_ID: "hub-1", ...env } });
  };
  afterEach(() => hub.close());

  const all = () => hub.log.map((text) => JSON.parse(text) as Line);
  const of = (msg: string) => all().filter((each) => each.msg === msg);
  const first = async (msg: string, fits: (line: Line) => boolean = () => true) => {
    await until(msg, () => of(msg).some(fits));
    return of(msg).find(fits) as Line;
  };

  it("info: who comes, with the id of `welcome`, and why and when he goes", async () => {
    await start({ level: "info", modules: {} });
    const watcher = await hub.watcher({ subject: "wanda" });
    const [welcome] = watcher.all<{ client_id: string }>("welcome");
    const trainer = await hub.trainer({ subject: "tim" });
    const who = { door: "watcher", tenant_id: "acme", subject: "wanda", role: "watcher" };
    const came = await first("connected");
    expect(came).to.include({ ...who, level: "info", module: "sockets", transport: "websocket" });
    expect(came).to.include({ client_id: welcome?.client_id, address: "127.0.0.1" });
    watcher.close();
    const went = await first("disconnected");
    expect(went).to.include({ ...who, level: "info", reason: "client_namespace_disconnect" });
    expect(went.client_id).to.equal(came.client_id);
    expect(went.seconds).to.be.within(0, 10);
    await trainer.subscribe({ job_id: "x" }).catch(() => {});
    expect(all().filter(({ level }) => level === "debug")).to.deep.equal([]);
  });

  it("warn: who is not let in, with the code; nothing of his token", async () => {
    await start({ level: "info", modules: {} }, { TRAINWIRE_TRUSTED_PROXIES: "127.0.0.1" });
    const foreign = hub.token("watcher").replace(/.$/, "!");
    const extraHeaders = { "x-forwarded-for": "203.0.113.9" };
    const refused = client(hub.url, foreign, "/", { extraHeaders });
    await refused.next("connect_error");
    refused.close();
    expect(await first("handshake refused")).to.include({
      ...{ level: "warn", module: "sockets", code: "unauthorized", door: "watcher", address: "203.0.113.9" },
    });
    const socket = new WebSocket(`${hub.url.replace("http", "ws")}/ws/heartbeat?token=${foreign}`);
    await new Promise((resolve) => socket.once("error", resolve));
    await until("both", () => of("handshake refused").length === 2);
    expect(hub.log.join("")).not.to.contain(foreign.slice(0, 20));
  });

  for (const transport of ["websocket", "polling"] as const) {
    it(`the address is that of the first request until the end, although that is forgotten (${transport})`, async () => {
      await start({ level: "info", modules: {} }, { TRAINWIRE_TRUSTED_PROXIES: "127.0.0.1" });
      const extraHeaders = { "x-forwarded-for": "203.0.113.9" };
      const options = { transports: [transport], extraHeaders };
      const watcher = client(hub.url, hub.token("watcher"), "/", options);
      await watcher.connected();
      watcher.close();
      for (const msg of ["connected", "disconnected"]) {
        expect(await first(msg)).to.include({ address: "203.0.113.9" });
      }
      expect(of("connected")[0]).to.include({ transport });
    });
  }

  it("debug: what is asked, by verb, job and outcome, without what is in it", async () => {
    await start({ level: "warn", modules: { sockets: "debug" } });
    const trainer = await hub.trainer();
    await trainer.publish({ type: "log", job_id: "run", data: { message: "payload-zq1" } });
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run" });
    await watcher.refused("subscribe", { job_id: "none" });
    await watcher.good("refresh", { token: hub.token("watcher") });
    await until("all", () => of("asked").length === 4);
    expect(of("asked").map(({ verb, job_id, result }) => [verb, job_id, result])).to.deep.equal([
      ["publish", "run", "ok"],
      ["subscribe", "run", "ok"],
      ["subscribe", "none", "job_not_found"],
      ["refresh", undefined, "ok"],
    ]);
    expect(hub.log.join("")).not.to.contain("payload-zq1").and.not.contain("eyJ");
    expect(new Set(all().map(({ module }) => module))).to.deep.equal(new Set(["sockets"]));
  });

  it("debug: requests by method, path, status and time; the query is not there", async () => {
    await start({ level: "warn", modules: { http: "debug" } });
    await request(hub, "/healthz?token=zq1");
    await request(hub, "/api/v1/status?token=zq1", { role: null });
    const [health, status] = of("request");
    expect(health).to.include({
      level: "debug",
      module: "http",
      method: "GET",
      path: "/healthz",
      status: 200,
    });
    expect(status).to.include({ path: "/api/v1/status", status: 401 });
    expect(health?.ms).to.be.within(0, 5_000);
    expect(hub.log.join("")).not.to.contain("zq1");
  });

  it("debug: feeds that are held and released", async () => {
    await start({ level: "warn", modules: { feeds: "debug" } }, { TRAINWIRE_RELEASE_MS: "0" });
    await hub.publish(line("run"));
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run" });
    const fields = { level: "debug", module: "feeds", tenant_id: "acme", job_id: "run" };
    expect(await first("feed held")).to.include(fields);
    watcher.close();
    expect(await first("feed released")).to.include(fields);
  });

  it("Redis that goes and comes back: warn, info; feeds that are healed; gaps", async () => {
    const redis = await startRedis();
    hub = await startTestHub({
      ...{ redis, prefix: freshPrefix(), levels: DEBUG },
      env: { TRAINWIRE_REDIS_TIMEOUT_MS: "1000" },
    });
    try {
      await hub.publish(lines("run", 3));
      const watcher = await hub.watcher();
      await watcher.subscribe({ job_id: "run" });
      await redis.kill();
      expect(await first("Redis is away")).to.include({ level: "warn", module: "redis" });
      await redis.start();
      expect(await first("Redis is back")).to.include({ level: "info", module: "redis" });
      await hub.publish(line("run"));
      await watcher.next("gap");
      expect(await first("gap")).to.include({
        level: "info",
        module: "feeds",
        job_id: "run",
        reason: "reset",
      });
      expect(await first("feed healed")).to.include({ level: "debug", module: "feeds", job_id: "run" });
    } finally {
      await hub.close();
      await redis.stop();
    }
  });

  it("a hostile subject, job and address stay within their lines, in both forms", async () => {
    const hostile = "eve\n[12:00:00.000] INFO: forged\r\u001b[2J\u202e\u0007";
    await start(DEBUG, { TRAINWIRE_TRUSTED_PROXIES: "127.0.0.1" });
    const extraHeaders = { "x-forwarded-for": "not-an-address" };
    const watcher = client(hub.url, hub.token("watcher"), "/", { extraHeaders });
    await watcher.connected();
    await watcher.refused("subscribe", { job_id: `${hostile} ${"x".repeat(10_000)}` });
    watcher.close();
    await first("disconnected");
    expect(of("connected")[0]).to.include({ address: "127.0.0.1" });
    for (const text of hub.log) {
      expect(text).not.to.match(CONTROL);
      expect(text.trimEnd()).not.to.contain("\n");
      expect(text.length).to.be.below(1_000);
    }
    // No token has such a subject; should one ever come, it stays within its line as well, as a terminal shows it too.
    for (const pretty of [false, true]) {
      const written: string[] = [];
      const destination = { write: (text: string) => void written.push(text) };
      const log = createLog({ levels: DEBUG, pretty, destination });
      const identity = { subject: hostile, tenantId: "acme", role: "watcher", expiresAt: 0 } as const;
      const visits = new Visits(log.module("sockets"));
      const visit: Visit = {
        ...{ door: "watcher", identity, transport: "polling" },
        ...{ address: hostile, since: performance.now() },
      };
      visits.begin(visit);
      visits.end(visit, "transport error");
      visits.refuse("unauthorized", { address: hostile });
      expect(written).to.have.length(3);
      for (const text of written) {
        expect(text).not.to.match(CONTROL);
        expect(text).to.match(pretty ? /^\[[\d:.]+\] (INFO|WARN): [^\n]+\n$/ : /^\{"level":[^\n]+\}\n$/);
      }
      expect(written[1]).to.contain("transport_error").and.match(/warn/i);
    }
  });

  it("what is off costs next to nothing", async () => {
    await start({ level: "info", modules: {} });
    const log = createLog({
      levels: { level: "info", modules: {} },
      pretty: false,
      destination: { write() {} },
    });
    const feeds = log.module("feeds");
    const rounds = 1_000_000;
    const startedAt = performance.now();
    for (let i = 0; i < rounds; i++) if (feeds.isLevelEnabled("debug")) feeds.debug({ i }, "never");
    expect(((performance.now() - startedAt) * 1e6) / rounds, "ns").to.be.below(1_000);
  });
});
