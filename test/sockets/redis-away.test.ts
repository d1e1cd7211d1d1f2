/** Hubs on a Redis of their own: it goes and comes, its subscriptions are cut, strangers write on its channels. */
import { expect } from "chai";
import { Redis } from "ioredis";
import type { DeliveredEvent, PublishAnswer } from "../../src/protocol/types.ts";
import { line, startTestHub, TENANT, type TestClient, type TestHub, token, until } from "../support/hub.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const HUBS = 2;
const ROOM = `tenant:${TENANT}`;

describe("sockets: hubs on one Redis", () => {
  let redis: RedisServer;
  let hubs: TestHub[];
  let outsider: Redis;

  beforeEach(async () => {
    redis = await startRedis();
    const env = { TRAINWIRE_REDIS_TIMEOUT_MS: "1000", TRAINWIRE_CHECK_INTERVAL_MS: "200" };
    hubs = [];
    for (let i = 0; i < HUBS; i++) hubs.push(await startTestHub({ redis, prefix: "hubs", env }));
    outsider = new Redis(redis.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
    outsider.on("error", () => {});
    await joined();
  });
  afterEach(async () => {
    outsider.disconnect();
    for (const hub of hubs) await hub.close();
    await redis.stop();
  });

  const adapters = async () =>
    ((await outsider.call("PUBSUB", "SHARDCHANNELS", "hubs:sockets*")) as string[]).sort();

  /** Every hub listens on both namespaces. */
  async function joined(): Promise<void> {
    for (const namespace of ["/", "/trainer"]) {
      await until("the adapters listen", async () => {
        const channel = `hubs:sockets#${namespace}#`;
        const [, count] = (await outsider.call("PUBSUB", "SHARDNUMSUB", channel)) as [string, number];
        return count === HUBS;
      });
    }
  }

  /** Events of a feed and broadcasts of Socket.IO go from each hub to the watchers of all. */
  async function works(watchers: TestClient[], job: string, round: string): Promise<void> {
    for (const [from, hub] of hubs.entries()) {
      const text = `${round} ${from}`;
      await hub.publish(line(job, text));
      hub.io.of("/").to(ROOM).emit("announce", text);
      for (const watcher of watchers) {
        await watcher.next<DeliveredEvent<"log">>("log", ({ data }) => data.message === text);
        await watcher.next<string>("announce", (heard) => heard === text);
      }
      const sockets = await hub.io.of("/").fetchSockets();
      expect(sockets.map(({ id }) => id)).to.have.members(watchers.map(({ socket }) => socket.id));
    }
  }

  /** One on each hub, on the job's feed. */
  async function watchersOf(job: string): Promise<TestClient[]> {
    await (hubs[0] as TestHub).publish(line(job, "first"));
    const watchers = await Promise.all(hubs.map((hub) => hub.watcher()));
    for (const watcher of watchers) await watcher.subscribe({ job_id: job });
    return watchers;
  }

  it("have two adapter channels a namespace, under the prefix, and leave none behind", async () => {
    expect(await adapters()).to.have.length(2 + 2 * HUBS);
    await hubs.pop()?.close();
    await until("the other's are gone", async () => (await adapters()).length === 4);
  });

  it("a stranger's broadcasts that are no events reach no client (trap 3)", async () => {
    const watchers = await watchersOf("run");
    const opts = { rooms: [ROOM], except: [], flags: {} };
    const packets = [
      ...[undefined, null, 7, "x", [], {}, { type: 2 }, { type: 2, data: 7 }, { type: 2, data: [] }],
      ...[
        { type: 2, data: [7] },
        { type: 2, data: [null] },
        { type: 99, data: ["a"] },
        { type: 1, data: ["a"] },
      ],
      ...[
        { type: 4, nsp: "/", data: { message: "go" } },
        { type: 0, nsp: "/" },
        { type: 5, data: ["a"], attachments: 3 },
      ],
      ...[{ type: "2", data: ["a"] }, { data: ["a"] }],
    ];
    for (const channel of await adapters()) {
      for (const packet of packets) {
        for (const target of [opts, {}, { rooms: [], except: [] }, { rooms: 7 }, null]) {
          for (const requestId of [undefined, "r", 7, null]) {
            const message = { uid: "stranger", nsp: "/", type: 3, data: { packet, opts: target, requestId } };
            await outsider.spublish(channel, JSON.stringify(message));
          }
        }
      }
    }
    await works(watchers, "run", "after garbage");
    for (const watcher of watchers) {
      const names = new Set(watcher.received.map(({ name }) => name));
      expect([...names]).to.have.members(["welcome", "answer:subscribe", "log", "announce"]);
    }
  });

  it("send each other no token, whatever is asked (trap 26)", async () => {
    const heard: string[] = [];
    // A subscriber would be counted as one more hub.
    const spy = await outsider.monitor();
    spy.on("monitor", (_time: string, [command, ...args]: string[]) => {
      if (command?.toLowerCase() === "spublish") heard.push(args.join(" "));
    });
    const watchers = await watchersOf("run");
    const trainer = await (hubs[1] as TestHub).trainer();
    for (const hub of hubs) {
      for (const namespace of ["/", "/trainer"]) {
        const sockets = await hub.io.of(namespace).fetchSockets();
        expect(sockets).to.have.length(namespace === "/" ? watchers.length : 1);
      }
      hub.io.of("/").socketsJoin("somewhere");
      hub.io.of("/").emit("announce", "all");
    }
    await until("answers were heard", () => heard.filter((each) => each.includes('"handshake"')).length >= 3);
    spy.disconnect();
    const all = heard.join("\n");
    // The first letters of every JWT, which are those of its header.
    expect(token("watcher").slice(0, 5)).to.equal("eyJhb");
    expect(all).to.not.include("eyJhb");
    expect(all).to.not.match(/"token"|user-agent|authorization|cookie/i);
    trainer.close();
  });

  it("outlive it stopped and started again: publishing is unavailable meanwhile (trap 4)", async () => {
    const watchers = await watchersOf("run");
    const trainers = await Promise.all(hubs.map((hub) => hub.trainer()));
    await works(watchers, "run", "before");
    await redis.kill();
    await until("the hubs know", () => hubs.every(({ hub }) => !hub.ready));
    for (const [i, hub] of hubs.entries()) {
      const watcher = watchers[i] as TestClient;
      const answer = await (trainers[i] as TestClient).good<PublishAnswer>("publish", line("run", "lost"));
      expect(answer.refused).to.have.length(1);
      expect(answer.refused[0]).to.include({ index: 0, code: "unavailable", temporary: true });
      expect(await watcher.refused("subscribe", { job_id: "other" })).to.include({ code: "unavailable" });
      await watcher.good("ping", {});
      // What Socket.IO says to other hubs is lost and harms nobody; here it arrives.
      hub.io.of("/").to(ROOM).emit("announce", "alone");
      await watcher.next<string>("announce", (text) => text === "alone");
      expect(await hub.io.of("/").fetchSockets()).to.have.length(1);
      hub.io.of("/").socketsJoin("somewhere");
      hub.io.of("/").serverSideEmit("hello");
      // People come and go.
      const late = await hub.watcher();
      expect(await late.refused("subscribe", {})).to.include({ code: "unavailable", temporary: true });
      late.close();
    }
    await redis.start();
    await until("the hubs are back", () => hubs.every(({ hub }) => hub.ready));
    await joined();
    await (hubs[0] as TestHub).publish(line("run", "anew"));
    for (const watcher of watchers) {
      // The server came back empty: the history is another one.
      expect(await watcher.next("gap")).to.include({ feed: "job", job_id: "run", reason: "reset" });
      expect(watcher.all("disconnect")).to.deep.equal([]);
      await watcher.subscribe({ job_id: "run" });
    }
    await works(watchers, "run", "after");
    for (const trainer of trainers)
      expect((await trainer.publish(line("run", "again"))).accepted).to.equal(1);
  });

  it("outlive it hanging: requests are answered unavailable in time, and it all goes on", async () => {
    const watchers = await watchersOf("run");
    const trainer = await (hubs[1] as TestHub).trainer();
    redis.pause();
    const answer = await trainer.good<PublishAnswer>("publish", { ...line("run", "hung"), id: "once" });
    expect(answer.refused[0]).to.include({ code: "unavailable", temporary: true });
    redis.resume();
    await until("sent again", async () => {
      const again = await trainer.good<PublishAnswer>("publish", { ...line("run", "hung"), id: "once" });
      return again.refused.length === 0;
    });
    for (const watcher of watchers) {
      await watcher.next<DeliveredEvent<"log">>("log", ({ data }) => data.message === "hung");
      expect(watcher.all("disconnect")).to.deep.equal([]);
    }
    await joined();
    await works(watchers, "run", "after");
    for (const watcher of watchers) {
      const hung = watcher.all<DeliveredEvent<"log">>("log").filter(({ data }) => data.message === "hung");
      expect(hung).to.have.length(1);
    }
  });

  it("outlive their subscriptions cut again and again, and nobody notices", async () => {
    const watchers = await watchersOf("run");
    for (let i = 0; i < 5; i++) {
      await outsider.call("CLIENT", "KILL", "TYPE", "pubsub");
      await joined();
    }
    await works(watchers, "run", "after the cuts");
    for (const watcher of watchers) {
      expect(watcher.all("disconnect")).to.deep.equal([]);
      expect(watcher.all("gap")).to.deep.equal([]);
    }
  });
});
