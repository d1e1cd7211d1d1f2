/** Socket.IO's sharded adapter between hubs: it reaches sockets anywhere, and nothing on its channels ends a hub. */
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
  /** A stranger's server with the library alone: a third member of the cluster. */
  let third: Server;
  let subscriber: Redis;

  before(async () => {
    const { url } = await plainRedis();
    one = await startTestHub({ redis: "plain", prefix, expected: /adapter/ });
    two = await startTestHub({ redis: "plain", prefix, expected: /adapter/ });
    raw = new Redis(url);
    subscriber = new Redis(url);
    third = new Server();
    third.adapter(
      createShardedAdapter(raw, subscriber, { channelPrefix: keys.adapter, subscriptionMode: "static" }),
    );
    const count = async () =>
      (await raw.call("PUBSUB", "SHARDNUMSUB", `${keys.adapter}#/#`)) as [string, number];
    await until("all three listen", async () => (await count())[1] === 3);
  });
  after(async () => {
    await one.close();
    await two.close();
    await third.close();
    raw.disconnect();
    subscriber.disconnect();
  });

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

  it("trap 26: no token, header or query of a handshake ever goes through Redis", async () => {
    const given = { token: token("watcher", { subject: "secretive" }), more: "also-secret" };
    const options = {
      auth: given,
      query: { token: "query-secret" },
      extraHeaders: { "x-secret": "header-secret" },
    };
    const watcher = client(one.url, undefined, "/", options);
    await watcher.connected();
    const listener = new Redis((await plainRedis()).url);
    const heard: string[] = [];
    listener.on("smessageBuffer", (_channel: Buffer, message: Buffer) =>
      heard.push(message.toString("latin1")),
    );
    const channels = (await raw.call("PUBSUB", "SHARDCHANNELS", `${prefix}*`)) as string[];
    for (const channel of channels) await listener.ssubscribe(channel);
    const [socket] = (await third.fetchSockets()) as unknown as Remote[];
    expect(socket?.id).to.equal(watcher.socket.id);
    await until("the answer was heard", () =>
      heard.some((message) => message.includes(watcher.socket.id as string)),
    );
    const all = `${heard.join()} ${JSON.stringify(socket?.handshake)}`;
    for (const secret of [given.token, "also-secret", "query-secret", "header-secret", "eyJ"])
      expect(all).to.not.include(secret);
    listener.disconnect();
    watcher.close();
  });

  it("trap 1: an auth payload 6 000 deep gets nobody in, and fetchSockets() goes on", async () => {
    const watcher = await one.watcher();
    let deep: object = {};
    for (let i = 0; i < 3_000; i++) deep = { deep };
    const refused = client(two.url, undefined, "/", { auth: { token: token("watcher"), deep } });
    const error = await refused.next<Error & { data: { code: string } }>("connect_error");
    expect(error.data.code).to.equal("unauthorized");
    refused.close();
    const sockets = (await third.fetchSockets()) as unknown as Remote[];
    expect(sockets.map(({ id }) => id)).to.deep.equal([watcher.socket.id]);
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
    expect((await third.fetchSockets()).map(({ id }) => id)).to.deep.equal([ours.socket.id]);
    await one.publish(line("apart"));
    expect(await watcher.refused("subscribe", { job_id: "apart" })).to.include({ code: "job_not_found" });
    ours.close();
    await apart.close();
  });
});
