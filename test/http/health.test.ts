/** Probes, and compressed answers. */
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { gunzipSync } from "node:zlib";
import { expect } from "chai";
import { Redis } from "ioredis";
import { freshPrefix, plainRedis } from "../support/hooks.ts";
import { line, lines, startTestHub, type TestHub, token, until } from "../support/hub.ts";
import { hasSubscribed, TcpProxy } from "../support/proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { expectError, JOBS, request } from "./request.ts";

describe("http: health", () => {
  describe("without Redis", () => {
    let hub: TestHub;
    before(async () => {
      hub = await startTestHub();
    });
    after(() => hub.close());

    it("healthz and readyz need no token, and do not read one", async () => {
      for (const authorization of ["", "Bearer nonsense"]) {
        const headers = { authorization };
        const health = await request(hub, "/healthz", { role: null, headers });
        expect([health.status, health.json]).to.deep.equal([200, { status: "ok" }]);
        const ready = await request(hub, "/readyz", { role: null, headers });
        expect([ready.status, ready.json]).to.deep.equal([200, { status: "ok" }]);
      }
    });

    it("long answers come compressed to those who can read it, short ones as they are", async () => {
      await hub.publish(lines("long", 200));
      const path = `${JOBS}/long/events?history=200`;
      const plain = await raw(hub, path, "identity");
      expect(plain.reply.headers["content-encoding"]).to.equal(undefined);
      const packed = await raw(hub, path, "gzip");
      expect(packed.reply.headers["content-encoding"]).to.equal("gzip");
      expect(packed.reply.headers.vary).to.match(/accept-encoding/i);
      expect(packed.body.length).to.be.below(plain.body.length / 4);
      expect(gunzipSync(packed.body).toString()).to.equal(plain.body.toString());
      const short = await raw(hub, "/healthz", "gzip");
      expect(short.reply.headers["content-encoding"]).to.equal(undefined);
    });
  });

  it("with Redis away: readyz degraded, still 200; requests 503 with Retry-After; and back again", async () => {
    let redis: RedisServer | undefined;
    let hub: TestHub | undefined;
    try {
      redis = await startRedis();
      hub = await startTestHub({ redis, env: { TRAINWIRE_REDIS_TIMEOUT_MS: "1000" } });
      const running = hub;
      const ready = async () => (await readiness(running)).split(" ")[1];
      await hub.publish(line("run"));
      await until("ready", async () => (await ready()) === "ok");
      await redis.kill();
      await until("degraded", async () => (await ready()) === "degraded");
      expect(await readiness(hub)).to.equal("200 degraded");
      expect((await request(hub, "/healthz", { role: null })).json).to.deep.equal({ status: "ok" });
      expect((await request(hub, "/api/v1/status")).json.instances[0].state).to.equal("degraded");
      for (const path of [JOBS, `${JOBS}/run`, `${JOBS}/run/events`, `${JOBS}/run/series`]) {
        const reply = await request(hub, path);
        expectError(reply, "unavailable");
        expect(reply.headers.get("retry-after")).to.equal("1");
      }
      expectError(await request(hub, JOBS, { body: { job_id: "new" } }), "unavailable");
      const published = await request(hub, `${JOBS}/run/events`, { body: line("run") });
      expect(published.status).to.equal(503);
      expect(published.json.refused[0]).to.include({ index: 0, code: "unavailable", temporary: true });
      await redis.start();
      await until("ready", async () => (await ready()) === "ok");
      expect((await request(hub, `${JOBS}/run/events`, { body: line("run") })).json.accepted).to.equal(1);
    } finally {
      await hub?.close();
      await redis?.stop();
    }
  });

  it("readyz: 200 degraded and back while Redis hangs, healthz as ever", async () => {
    const redis = await startRedis();
    const hub = await startTestHub({ redis, env: { TRAINWIRE_PROBE_INTERVAL_MS: "100" } });
    try {
      await until("ready", async () => (await readiness(hub)) === "200 ok");
      redis.pause();
      await until("degraded", async () => (await readiness(hub)) === "200 degraded");
      expect((await request(hub, "/healthz", { role: null })).status).to.equal(200);
      redis.resume();
      await until("ready", async () => (await readiness(hub)) === "200 ok");
      expect(hub.hub.probe.reconnects).to.equal(0);
    } finally {
      redis.resume();
      await hub.close();
      await redis.stop();
    }
  });

  it("readyz: 503 starting until the hub has heard itself", async () => {
    const redis = await startRedis();
    const admin = new Redis(redis.url);
    const prefix = freshPrefix();
    const setUser = (...rules: string[]) => admin.call("ACL", "SETUSER", "hub", ...rules);
    let hub: TestHub | undefined;
    try {
      // Its probes, and they alone, are refused.
      const channels = [`&${prefix}:generation`, `&${prefix}:sockets*`];
      await setUser("on", ">secret", "~*", "+@all", "resetchannels", ...channels);
      const url = redis.url.replace("redis://", "redis://hub:secret@");
      hub = await startTestHub({ redis: { url }, prefix, expected: /probe failed/ });
      for (let i = 0; i < 20; i++) expect(await readiness(hub)).to.equal("503 starting");
      expect((await request(hub, "/healthz", { role: null })).status).to.equal(200);
      await setUser("allchannels");
      await until("ready", async () => (await readiness(hub as TestHub)) === "200 ok");
    } finally {
      await hub?.close();
      admin.disconnect();
      await redis.stop();
    }
  });

  it("readyz: 503 deaf while what is published does not come back; watchers miss nothing", async () => {
    const proxy = await TcpProxy.open(await plainRedis());
    const redis = { url: `redis://127.0.0.1:${proxy.port}` };
    const hub = await startTestHub({ redis, env: { TRAINWIRE_PROBE_INTERVAL_MS: "200" } });
    try {
      await until("ready", async () => (await readiness(hub)) === "200 ok");
      await hub.publish(line("run"));
      const watcher = await hub.watcher();
      await watcher.subscribe({ job_id: "run" });
      proxy.swallow({ only: hasSubscribed });
      await hub.publish(line("run"));
      await until("deaf", async () => {
        // Also the new connections.
        proxy.swallow({ only: hasSubscribed });
        return (await readiness(hub)) === "503 deaf";
      });
      expect((await request(hub, "/healthz", { role: null })).status).to.equal(200);
      await until("ready", async () => (await readiness(hub)) === "200 ok");
      await watcher.reach(3);
      await hub.publish(line("run"));
      await watcher.reach(4);
      expect(watcher.events().map(({ seq }) => seq)).to.deep.equal([3, 4]);
      expect(hub.hub.probe.reconnects).to.be.above(0);
      expect(hub.log.join()).to.include("connecting the subscriptions anew");
    } finally {
      await hub.close();
      await proxy.close();
    }
  });

  it("readyz: 503 draining, whatever else is", async () => {
    const hub = await startTestHub();
    hub.hub.startDraining();
    hub.hub.startDraining();
    expect(await readiness(hub)).to.equal("503 draining");
    expect((await request(hub, "/healthz", { role: null })).status).to.equal(200);
    await hub.close();
  });
});

/** The whole answer: it tells nothing else. */
async function readiness(hub: TestHub): Promise<string> {
  const { status, json } = await request(hub, "/readyz", { role: null });
  expect(json).to.have.all.keys("status");
  return `${status} ${json.status}`;
}

async function raw(
  hub: TestHub,
  path: string,
  encoding: string,
): Promise<{ reply: IncomingMessage; body: Buffer }> {
  const headers = { authorization: `Bearer ${token("admin")}`, "accept-encoding": encoding };
  const asked = httpRequest(`${hub.url}${path}`, { headers }).end();
  const [reply] = (await once(asked, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of reply) chunks.push(chunk as Buffer);
  return { reply, body: Buffer.concat(chunks) };
}
