/** The status: of all instances, and of each. */
import { readFileSync } from "node:fs";
import { expect } from "chai";
import type { InstanceStatus, StatusAnswer } from "../../src/protocol/types.ts";
import { freshPrefix, plainRedis } from "../support/hooks.ts";
import { line, startTestHub, type TestHub, until } from "../support/hub.ts";
import { TcpProxy } from "../support/proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { request } from "./request.ts";

const PACKAGE = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
/** Beats every 100 ms, so that a report is never older than a second. */
const TIMEOUT_MS = 300;

async function statusOf(hub: TestHub, path = "/api/v1/status"): Promise<StatusAnswer> {
  const { status, json } = await request(hub, path, { role: "watcher" });
  expect(status).to.equal(200);
  return json;
}
const ids = ({ instances }: StatusAnswer) => instances.map(({ instance_id }) => instance_id);
const byId = ({ instances }: StatusAnswer, id: string) =>
  instances.find(({ instance_id }) => instance_id === id) as InstanceStatus;

describe("http: status", () => {
  it("of one instance, at once, under both paths", async () => {
    const hub = await startTestHub({ env: { TRAINWIRE_INSTANCE_ID: "hub-1" } });
    try {
      await hub.publish([line("run"), { type: "nonsense" }]);
      const watcher = await hub.watcher();
      await watcher.subscribe({ job_id: "run" });
      await hub.publish(line("run"));
      await watcher.reach(3);
      const answer = await statusOf(hub);
      const { memory_bytes, instances, ...sums } = answer;
      expect(memory_bytes).to.be.above(1_000_000);
      expect(sums).to.deep.equal({
        instance_id: "hub-1",
        feeds: 1,
        subscriptions: 1,
        connections: { connections: 1, watchers: 1, trainers: 0, heartbeats: 0 },
        events: { published: 2, duplicates: 0, refused: 1, delivered: 1, heals: 0, gaps: 0 },
        rates: { published: 0, delivered: 0 },
      });
      const [{ uptime_seconds, reported_at, version, state, ...own }] = instances as [InstanceStatus];
      expect({ version, state, own }).to.deep.equal({
        ...{ version: PACKAGE.version, state: "ready" },
        own: { ...sums, memory_bytes },
      });
      expect(uptime_seconds).to.be.within(0, 60);
      expect(Date.now() - Date.parse(reported_at)).to.be.within(0, 10_000);
      expect(Object.keys(await statusOf(hub, "/api/ws/status"))).to.deep.equal(Object.keys(answer));
    } finally {
      await hub.close();
    }
  });

  describe("of several instances", () => {
    let proxy: TcpProxy;
    let redis: { url: string };
    let hubs: TestHub[];
    let a: TestHub;
    let b: TestHub;

    const start = async (name: string, prefix: string) => {
      const env = {
        TRAINWIRE_INSTANCE_ID: name,
        TRAINWIRE_INSTANCE_TIMEOUT_MS: String(TIMEOUT_MS),
        TRAINWIRE_PROBE_INTERVAL_MS: "100",
      };
      const hub = await startTestHub({ redis: name === "hub-b" ? redis : "plain", prefix, env });
      hubs.push(hub);
      return hub;
    };
    beforeEach(async () => {
      proxy = await TcpProxy.open(await plainRedis());
      redis = { url: `redis://127.0.0.1:${proxy.port}` };
      hubs = [];
      const prefix = freshPrefix();
      [a, b] = await Promise.all([start("hub-a", prefix), start("hub-b", prefix)]);
    });
    afterEach(async () => {
      await Promise.all(hubs.map((hub) => hub.close()));
      await proxy.close();
    });

    it("sums are over all, whoever is asked; each tells of itself what is at the moment", async () => {
      await a.publish([line("run"), line("run")]);
      await b.publish([line("run"), { type: "nonsense" }]);
      const watchers = [await a.watcher(), await b.watcher(), await b.watcher()];
      for (const watcher of watchers) await watcher.subscribe({ job_id: "run" });
      await b.trainer();
      for (const [own, hub] of [
        ["hub-a", a],
        ["hub-b", b],
      ] as const) {
        await until("both are counted", async () => {
          const { connections, events } = await statusOf(hub);
          return connections.connections === 4 && events.published === 3;
        });
        const answer = await statusOf(hub);
        expect(ids(answer)).to.deep.equal(["hub-a", "hub-b"]);
        expect(answer).to.deep.include({
          ...{ instance_id: own, feeds: 2, subscriptions: 3 },
          connections: { connections: 4, watchers: 3, trainers: 1, heartbeats: 0 },
        });
        expect(answer.events).to.include({ published: 3, refused: 1 });
        expect(byId(answer, "hub-a").connections.watchers).to.equal(1);
        expect(byId(answer, "hub-b").connections.watchers).to.equal(2);
        expect(answer.memory_bytes).to.equal(
          byId(answer, "hub-a").memory_bytes + byId(answer, "hub-b").memory_bytes,
        );
      }
      await a.watcher();
      expect(byId(await statusOf(a), "hub-a").connections.watchers).to.equal(2);
    });

    it("rates are of the last beat", async () => {
      const rate = async () => (await statusOf(b)).rates.published;
      await until("published", async () => {
        await a.publish(line("run"));
        return (await rate()) > 0;
      });
      await until("nothing more", async () => (await rate()) === 0);
    });

    it("the others see at once who drains", async () => {
      await until("both are there", async () => ids(await statusOf(b)).length === 2);
      a.hub.startDraining();
      await until("hub-a drains", async () => byId(await statusOf(b), "hub-a").state === "draining");
      expect(byId(await statusOf(a), "hub-a").state).to.equal("draining");
    });

    it("who has left is not in it, nor who has not been heard of for the time-out", async () => {
      await until("both are there", async () => ids(await statusOf(a)).length === 2);
      proxy.cut({ refuse: true });
      await until("hub-b is missed", async () => ids(await statusOf(a)).join() === "hub-a");
      const own = await statusOf(b);
      expect([ids(own), byId(own, "hub-b").state]).to.deep.equal([["hub-b"], "degraded"]);
      proxy.accept();
      await until("both are back", async () => ids(await statusOf(a)).join() === "hub-a,hub-b");
      await until("hub-b knows as well", async () => ids(await statusOf(b)).join() === "hub-a,hub-b");
      await b.close();
      hubs.pop();
      expect(ids(await statusOf(a))).to.deep.equal(["hub-a"]);
    });
  });

  it("is of the one that is asked, soon, while Redis hangs", async () => {
    let server: RedisServer | undefined;
    let hub: TestHub | undefined;
    try {
      server = await startRedis();
      hub = await startTestHub({ redis: server });
      server.pause();
      const before = performance.now();
      const answer = await statusOf(hub);
      expect(ids(answer)).to.deep.equal([answer.instance_id]);
      expect(performance.now() - before).to.be.below(3_000);
    } finally {
      server?.resume();
      await hub?.close();
      await server?.stop();
    }
  });
});
