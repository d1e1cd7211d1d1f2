/** Probes, the instance's status, compressed answers. */

import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { gunzipSync } from "node:zlib";
import { expect } from "chai";
import { line, lines, startTestHub, type TestHub, token, until } from "../support/hub.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { expectError, JOBS, request } from "./request.ts";

describe("http: health", () => {
  describe("without Redis", () => {
    let hub: TestHub;
    before(async () => {
      hub = await startTestHub({ env: { TRAINWIRE_INSTANCE_ID: "hub-1" } });
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

    it("status tells of this instance", async () => {
      await hub.publish([line("run"), { type: "nonsense" }]);
      const watcher = await hub.watcher();
      await watcher.subscribe({ job_id: "run" });
      await watcher.refused("nonsense", {});
      const { status, json } = await request(hub, "/api/v1/status", { role: "watcher" });
      expect(status).to.equal(200);
      expect(json).to.deep.include({ instance_id: "hub-1", store: "ready", feeds: 1, subscriptions: 1 });
      expect(json.uptime_seconds).to.be.within(0, 60);
      expect(json.memory_bytes).to.be.above(1_000_000);
      expect(json.events).to.include({ published: 1, refused: 1 });
      expect(json.connections).to.deep.include({ watchers: 1, trainers: 0, refused: { unknown_verb: 1 } });
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
      const ready = async () => (await request(running, "/readyz", { role: null })).json.status as string;
      await hub.publish(line("run"));
      expect(await ready()).to.equal("ok");
      await redis.kill();
      await until("degraded", async () => (await ready()) === "degraded");
      expect((await request(hub, "/readyz", { role: null })).status).to.equal(200);
      expect((await request(hub, "/healthz", { role: null })).json).to.deep.equal({ status: "ok" });
      expect((await request(hub, "/api/v1/status")).json.store).to.equal("unavailable");
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
});

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
