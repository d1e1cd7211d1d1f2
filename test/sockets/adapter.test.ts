/** Socket.IO's sharded adapter between hubs: it reaches sockets anywhere, and nothing on its channels ends a hub. */
import { createServer } from "node:http";
import { createShardedAdapter } from "@socket.io/redis-adapter";
import { expect } from "chai";
import { Redis } from "ioredis";
import { type RemoteSocket, Server } from "socket.io";
import { Keys } from "../../src/redis/keys.ts";
import { jobRoom, tenantRoom } from "../../src/sockets/rooms.ts";
import { freshPrefix, plainRedis } from "../support/hooks.ts";
import { client, line, startTestHub, TENANT, type TestHub, token, until } from "../support/hub.ts";

type Remote = RemoteSocket<Record<string, never>, unknown>;

describe("sockets: adapter (Redis)", () => {
  const prefix = freshPrefix();
  const keys = new Keys(prefix);
  /** Message types of socket.io-adapter's cluster protocol. */
  const types = Array.from({ length: 20 }, (_, i) => i);
  let one: TestHub;
  let two: TestHub;
  let raw: Redis;
  before(async () => {
    one = await startTestHub({ redis: "plain", prefix });
    two = await startTestHub({ redis: "plain", prefix });
    raw = new Redis((await plainRedis()).url);
  });
  after(async () => {
    await one.close();
    await two.close();
    raw.disconnect();
  });

  /** With the library alone, unguarded: a third member of the cluster, for as long as it lives in peace. */
  async function withThird(work: (third: Server) => Promise<void>): Promise<void> {
    const subscriber = new Redis((await plainRedis()).url);
    const third = new Server(createServer());
    const options = { channelPrefix: keys.adapter, subscriptionMode: "static" as const };
    third.adapter(createShardedAdapter(raw, subscriber, options));
    const channel = `${keys.adapter}#/#`;
    await until("all three listen", async () => {
      const [, count] = (await raw.call("PUBSUB", "SHARDNUMSUB", channel)) as [string, number];
      return count === 3;
    });
    try {
      await work(third);
    } finally {
      await third.close();
      subscriber.disconnect();
    }
  }

  /** Both hubs still serve: a new watcher on one hears what a new trainer publishes on the other. */
  async function bothServe(job: string): Promise<void> {
    for (const [here, there] of [
      [one, two],
      [two, one],
    ] as const) {
      await here.publish(line(job));
      const [watcher, trainer] = await Promise.all([there.watcher(), here.trainer()]);
      await watcher.subscribe({ job_id: job });
      await trainer.publish(line(job, "still"));
      await watcher.next("log");
      watcher.close();
      trainer.close();
    }
  }

  it("a room reaches its sockets on every hub", async () => {
    const watchers = await Promise.all([one.watcher({ subject: "a" }), two.watcher({ subject: "b" })]);
    await one.publish(line("room"));
    for (const watcher of watchers) await watcher.subscribe({ job_id: "room" });
    const ids = watchers.map(({ socket }) => socket.id);
    await withThird(async (third) => {
      for (const from of [third, one.io, two.io]) {
        const sockets = (await from.in(jobRoom(TENANT, "room")).fetchSockets()) as unknown as Remote[];
        expect(sockets.map(({ id }) => id)).to.have.members(ids);
        expect(await from.in(jobRoom("other", "room")).fetchSockets()).to.deep.equal([]);
      }
      third.to(tenantRoom(TENANT)).emit("hello", { everybody: true });
      for (const watcher of watchers) expect(await watcher.next("hello")).to.deep.equal({ everybody: true });
      third.in(tenantRoom(TENANT)).disconnectSockets(true);
      for (const watcher of watchers) await watcher.next("disconnect");
      expect(await third.fetchSockets()).to.deep.equal([]);
    });
  });

  it("trap 26: no token, header or query of a handshake ever goes through Redis", async () => {
    const given = { token: token("watcher", { subject: "secretive" }), more: "also-secret" };
    const options = {
      auth: given,
      query: { token: "query-secret" },
      extraHeaders: { "x-secret": "header-secret" },
    };
    const watcher = client(one.url, undefined, "/", options);
    await watcher.connected();
    const monitor = await raw.monitor();
    const heard: string[] = [];
    monitor.on("monitor", (_time: string, args: string[]) => heard.push(args.join(" ")));
    const [socket] = (await two.io.fetchSockets()) as unknown as Remote[];
    expect(socket?.id).to.equal(watcher.socket.id);
    await until("the answer was heard", () =>
      heard.some((message) => message.includes(watcher.socket.id as string)),
    );
    const all = `${heard.join()} ${JSON.stringify(socket?.handshake)}`;
    for (const secret of [given.token, "also-secret", "query-secret", "header-secret", "eyJ"])
      expect(all).to.not.include(secret);
    monitor.disconnect();
    watcher.close();
  });

  it("trap 3: malformed messages on the adapter's channels do not end the hubs", async () => {
    const watcher = await one.watcher();
    await one.publish(line("malformed"));
    await watcher.subscribe({ job_id: "malformed" });
    const bodies: unknown[] = [null, 0, "text", [], {}, { type: 3 }, { uid: "x" }, { nsp: "/" }];
    for (const nsp of ["/", "/trainer", "/none", null]) {
      for (const type of types) {
        const base = { uid: "stranger", nsp, type };
        const requestId = "r";
        bodies.push(base, { ...base, data: null }, { ...base, data: {} }, { ...base, data: { requestId } });
        bodies.push({ ...base, data: { opts: {}, packet: null, requestId } });
        bodies.push({ ...base, data: { opts: { rooms: 5, except: 5, flags: 5 }, packet: {}, rooms: 5 } });
        bodies.push({
          ...base,
          data: { opts: { rooms: ["x"], except: [] }, packet: { type: "x", data: 5 } },
        });
        bodies.push({
          ...base,
          data: { opts: { rooms: ["x"], except: [] }, rooms: null, close: "x", requestId },
        });
        bodies.push({ ...base, data: { requestId, sockets: 5, clientCount: "x", packet: {} } });
      }
    }
    const messages: Array<string | Buffer> = bodies.map((body) => JSON.stringify(body));
    messages.push(
      "",
      "{",
      "{}}",
      "NaN",
      "\u0000",
      Buffer.from([0xc1]),
      Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]),
    );
    messages.push(Buffer.alloc(100_000, 0x91), `{"uid":"s","nsp":"/","type":3,"data":${"[".repeat(9_000)}`);
    const deep = `${'{"a":'.repeat(6_000)}1${"}".repeat(6_000)}`;
    messages.push(
      `{"uid":"s","nsp":"/","type":3,"data":{"packet":{"type":2,"nsp":"/","data":[${deep}]},"opts":{"rooms":[],"except":[]}}}`,
    );
    const channels = (await raw.call("PUBSUB", "SHARDCHANNELS", `${keys.adapter}#*`)) as string[];
    expect(channels.length).to.be.at.least(6);
    for (const channel of channels) for (const message of messages) await raw.spublish(channel, message);
    await bothServe("malformed");
    // Two JOINs of strange rooms aside, this watcher is where it was.
    await one.publish(line("malformed", "here"));
    await watcher.until("the last line", (each) =>
      each.events().some(({ data }) => JSON.stringify(data).includes("here")),
    );
    watcher.close();
  });

  it("trap 3: malformed messages on the channels of feeds heal from the log", async () => {
    const watcher = await two.watcher();
    await one.publish(line("garbled"));
    const { epoch } = await watcher.subscribe({ job_id: "garbled" });
    await watcher.subscribe({});
    const good = `1 ${epoch} 3 d log garbled `;
    const messages = [
      ...["", "\n", "garbage", "1\n{}", "\n\n\n", `${good}\nnot json`, `9 ${epoch} 3 d log garbled \n{}`],
      ...[
        `1 ${epoch} x d log garbled \n{}`,
        `1 ${epoch} -3 d log garbled \n{}`,
        `1 ${epoch} 3 z log garbled \n{}`,
      ],
      ...[
        `1 another 900 d log garbled \n{}`,
        `1 ${epoch} 900 d log garbled \n{}`,
        `1 ${epoch} 2 d log garbled \n{}`,
      ],
      ...["[".repeat(100_000), Buffer.from([0xff, 0xfe, 0x00]).toString("latin1"), "1 ".repeat(50_000)],
    ];
    for (const feed of [{ tenantId: TENANT, jobId: "garbled" }, { tenantId: TENANT }])
      for (const message of messages) await raw.spublish(keys.channel(feed), message);
    await one.publish([line("garbled", "a"), line("garbled", "b")]);
    await watcher.reach(4, "log");
    expect(watcher.events().map(({ seq, data }) => [seq, data])).to.deep.equal([
      [3, { message: "a" }],
      [4, { message: "b" }],
    ]);
    expect(watcher.all("gap")).to.deep.equal([]);
    await bothServe("garbled");
    watcher.close();
  });

  it("its channels are its own: hubs with another prefix hear nothing of each other", async () => {
    const apart = await startTestHub({ redis: "plain" });
    const watcher = await apart.watcher();
    const ours = await one.watcher();
    expect((await two.io.fetchSockets()).map(({ id }) => id)).to.deep.equal([ours.socket.id]);
    await one.publish(line("apart"));
    expect(await watcher.refused("subscribe", { job_id: "apart" })).to.include({ code: "job_not_found" });
    ours.close();
    await apart.close();
  });
});
