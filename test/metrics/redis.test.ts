/** Metrics of what only Redis brings: channels, links that break, feeds that heal, folds, presence of several hubs. */
import { expect } from "chai";
import { Redis } from "ioredis";
import { freshPrefix } from "../support/hooks.ts";
import { line, lines, progress, startTestHub, type TestHub, until } from "../support/hub.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { scrape } from "./scrape.ts";

describe("metrics: redis", () => {
  let redis: RedisServer;
  let control: Redis;
  let hubs: TestHub[] = [];

  before(async () => {
    redis = await startRedis();
    control = new Redis(redis.url);
  });
  after(async () => {
    control.disconnect();
    await redis.stop();
  });
  afterEach(async () => {
    for (const hub of hubs) await hub.close();
    hubs = [];
  });

  async function start(count: number, env: Record<string, string> = {}): Promise<TestHub> {
    const prefix = freshPrefix();
    hubs = await Promise.all(Array.from({ length: count }, () => startTestHub({ redis, prefix, env })));
    return hubs[0] as TestHub;
  }
  const value = async (hub: TestHub, name: string) => (await scrape(hub.url)).value(`trainwire_${name}`);

  it("what one hub takes, another one delivers and times; channels are those of its feeds", async () => {
    const one = await start(2);
    const two = hubs[1] as TestHub;
    await one.publish(line("run"));
    const watcher = await two.watcher();
    await watcher.subscribe({ job_id: "run" });
    for (let i = 0; i < 3; i++) await one.publish(lines("run", 10));
    await watcher.until("all", () => watcher.events().length === 30);
    expect(await value(one, 'events_published_total{result="accepted"}')).to.equal(31);
    expect(await value(one, 'deliveries_total{class="durable"}')).to.equal(0);
    expect(await value(two, 'deliveries_total{class="durable"}')).to.equal(30);
    // Once for a message, not for an event.
    expect(await value(two, "stored_to_written_seconds_count")).to.equal(3);
    expect(await value(one, "stored_to_written_seconds_count")).to.equal(0);
    expect([await value(one, "channels"), await value(two, "channels")]).to.deep.equal([0, 1]);
    expect(await value(two, "append_seconds_count")).to.equal(0);
  });

  it("subscriptions that are cut are healed, and counted by reason; nobody misses anything", async () => {
    const hub = await start(1);
    await hub.publish(line("run"));
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run" });
    await control.call("CLIENT", "KILL", "TYPE", "pubsub");
    await hub.publish(lines("run", 5));
    await watcher.until("all", () => watcher.events().length === 5);
    await until("healed", async () => (await value(hub, 'heals_total{reason="renewed"}')) === 1);
    expect(await value(hub, 'gaps_total{reason="reset"}')).to.equal(0);
    expect(await value(hub, 'deliveries_total{class="durable"}')).to.equal(5);
    expect(await value(hub, "redis_lost_total")).to.equal(0);
  });

  it("a store that is lost: state, gaps by reason, publishes refused; and back again", async () => {
    const hub = await start(1, { TRAINWIRE_REDIS_TIMEOUT_MS: "1000", TRAINWIRE_PROBE_INTERVAL_MS: "100" });
    await hub.publish(lines("run", 10));
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run" });
    await redis.kill();
    await until("away", async () => (await value(hub, "store_up")) === 0);
    expect(await value(hub, 'instance_state{state="degraded"}')).to.equal(1);
    await hub.publish(line("run"));
    expect(await value(hub, 'events_refused_total{code="unavailable"}')).to.equal(1);
    await redis.start();
    await until("back", async () => (await value(hub, 'instance_state{state="ready"}')) === 1);
    expect(await value(hub, "redis_lost_total")).to.equal(1);
    // It kept nothing: whoever watched is told.
    await hub.publish(line("run"));
    await watcher.next("gap");
    expect(await value(hub, 'gaps_total{reason="reset"}')).to.be.at.least(1);
    expect(await value(hub, 'gaps_told_total{reason="reset"}')).to.be.at.least(1);
  });

  it("curves that are folded, and watchers that are told of each other", async () => {
    const hub = await start(1, { TRAINWIRE_PRESENCE_INTERVAL_MS: "20" });
    const points = (from: number) =>
      Array.from({ length: 64 }, (_, i) => progress("run", { step: from + i, metrics: { loss: i } }));
    for (let i = 0; i < 5; i++) await hub.publish(points(64 * i));
    await until("folded", async () => (await value(hub, 'folds_total{result="done"}')) >= 1);
    expect(await value(hub, 'folds_total{result="failed"}')).to.equal(0);
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run", types: ["presence"] });
    await watcher.next("presence");
    expect(await value(hub, "presence_changes_total")).to.equal(1);
  });
});
