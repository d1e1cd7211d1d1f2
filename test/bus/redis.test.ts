/** What only a bus over a network can meet: messages of strangers, lost connections, refused subscriptions. */
import { expect } from "chai";
import fc from "fast-check";
import { Redis } from "ioredis";
import type { Bus } from "../../src/bus/bus.ts";
import { parse, RedisBus } from "../../src/bus/redis.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { Keys } from "../../src/redis/keys.ts";
import { RedisLink } from "../../src/redis/link.ts";
import { created, FEED, log, readAll, TENANT_FEED } from "../store/entries.ts";
import { openRedis, type RedisSubject } from "../store/subject.ts";
import { clusterRedis, freshPrefix, plainRedis } from "../support/hooks.ts";
import { hasSubscribed, TcpProxy } from "../support/proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";
import { listen } from "./recorder.ts";

const GOOD = '1 epoch 7 d log job \n{"seq":7}';

describe("bus: messages", () => {
  it("are pairs of lines: a header and the event's JSON", () => {
    expect(
      parse(`${GOOD}\n1 epoch 8 c training_progress job training_progress\u001fa b\u001f\n{}`),
    ).to.deep.equal([
      { epoch: "epoch", seq: 7, type: "log", durable: true, jobId: "job", key: "", wire: '{"seq":7}' },
      {
        ...{ epoch: "epoch", seq: 8, type: "training_progress", durable: false, jobId: "job" },
        ...{ key: "training_progress\u001fa b\u001f", wire: "{}" },
      },
    ]);
    expect(parse("1 epoch 7 d dataset_update  \n{}")?.[0]).to.include({ jobId: "", key: "" });
  });

  it("of another version cannot be read, not even in part", () => {
    for (const version of ["2", "0", "", "1.1", "01", "v1", "10"]) {
      expect(parse(`${version}${GOOD.slice(1)}`), version).to.equal(undefined);
      expect(parse(`${GOOD}\n${version}${GOOD.slice(1)}`), version).to.equal(undefined);
    }
  });

  it("that are garbage cannot be read, and nothing throws", () => {
    const garbage = [
      ...[
        "",
        "\n",
        "{}",
        "1",
        '{"v":1}',
        "1 epoch 7 d log job",
        `${GOOD}\n`,
        `${GOOD}\n1 epoch 8 d log job `,
      ],
      ...["1  7 d log job \n{}", "1 e 0 d log job \n{}", "1 e -1 d log job \n{}", "1 e 1.5 d log job \n{}"],
      ...["1 e 9007199254740992 d log job \n{}", "1 e NaN d log job \n{}", "1 e  d log job \n{}"],
      ...[
        "1 e 7 x log job \n{}",
        "1 e 7 d  job \n{}",
        "1 e 7 d log\n{}",
        "1 e 7 d log job \n[]",
        "1 e 7 d log job \n",
      ],
    ];
    for (const message of garbage) expect(parse(message), JSON.stringify(message)).to.equal(undefined);
    const line = fc.string({ unit: fc.constantFrom("1", "7", " ", "d", "e", "{", "\n", "-", "ä") });
    fc.assert(
      fc.property(line, (message) => {
        for (const event of parse(message) ?? []) {
          expect(Number.isSafeInteger(event.seq) && event.seq > 0 && event.wire.startsWith("{")).to.equal(
            true,
          );
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

for (const [name, server] of [
  ["Redis", plainRedis],
  ["Redis with cluster-enabled", clusterRedis],
] as const) {
  describe(`bus: ${name}, when something goes wrong`, () => {
    let subject: RedisSubject;
    beforeEach(async () => {
      subject = await openRedis(await server());
    });
    afterEach(() => subject.close());

    it("a message that it cannot read is told as such, and what follows arrives", async () => {
      const heard = await listen(subject.bus, FEED);
      const channel = subject.keys.channel(FEED);
      for (const message of ["", "garbage", `2${GOOD.slice(1)}`, "\u0000\uffff", "{".repeat(100_000)]) {
        await subject.raw.spublish(channel, message);
      }
      await subject.raw.call("SPUBLISH", channel, Buffer.from([0xff, 0xfe, 0x00, 0x0a, 0x80]));
      await subject.store.append(FEED, [log()], created());
      await heard.reach(2);
      expect({ unreadables: heard.unreadables, seqs: heard.seqs, errors: subject.errors }).to.deep.equal({
        ...{ unreadables: 6, seqs: [1, 2], errors: [] },
      });
    });

    it("a subscription whose connection was cut is told, and when it is in force again, for each feed", async () => {
      const heard = await Promise.all([listen(subject.bus, FEED), listen(subject.bus, TENANT_FEED)]);
      for (let round = 1; round <= 3; round++) {
        await subject.raw.call("CLIENT", "KILL", "TYPE", "pubsub");
        for (const one of heard) {
          await one.until(({ subscriptions }) => subscriptions > round);
          expect(one.cuts).to.equal(round);
        }
        const { position } = await subject.store.append(FEED, [log()], created());
        await heard[0].reach(position?.seq as number);
      }
      expect(subject.bus.held).to.equal(2);
      expect(heard[0].seqs).to.deep.equal([1, 2, 3, 4]);
      expect(subject.errors).to.deep.equal([]);
    });

    it("what was published while it was cut can be missing, but nothing comes twice or out of order", async () => {
      const heard = await listen(subject.bus, FEED);
      let stop = false;
      const cutting = (async () => {
        for (let i = 0; i < 5; i++) {
          const before = heard.subscriptions;
          await subject.raw.call("CLIENT", "KILL", "TYPE", "pubsub");
          await heard.until(({ subscriptions }) => subscriptions > before);
        }
        stop = true;
      })();
      let seq = 0;
      while (!stop)
        seq = (await subject.store.append(FEED, [log(), log()], created())).position?.seq as number;
      await cutting;
      seq = (await subject.store.append(FEED, [log()], created())).position?.seq ?? seq;
      await heard.reach(seq);
      expect(heard.seqs).to.deep.equal([...new Set(heard.seqs)].sort((a, b) => a - b));
      expect((await readAll(subject.store)).seq).to.equal(seq);
    });

    it("a feed that is released while the connection is away is not subscribed again", async () => {
      const heard = await listen(subject.bus, FEED);
      const other = await listen(subject.bus, TENANT_FEED);
      await subject.raw.call("CLIENT", "KILL", "TYPE", "pubsub");
      subject.bus.release(FEED);
      await other.until(({ subscriptions }) => subscriptions > 1);
      await subject.store.append(FEED, [log()], created());
      await other.reach(1);
      expect({ seqs: heard.seqs, held: subject.bus.held }).to.deep.equal({ seqs: [], held: 1 });
      expect(await channels(subject.raw, subject.prefix)).to.deep.equal([subject.keys.channel(TENANT_FEED)]);
    });

    it("leaves no subscription at the server when everything is released", async () => {
      for (let i = 0; i < 20; i++) await listen(subject.bus, { ...FEED, jobId: `j${i}` });
      expect(await channels(subject.raw, subject.prefix)).to.have.length(20);
      for (let i = 0; i < 20; i++) subject.bus.release({ ...FEED, jobId: `j${i}` });
      // On the same connection, so that its answer comes after theirs.
      await listen(subject.bus, TENANT_FEED);
      expect(await channels(subject.raw, subject.prefix)).to.deep.equal([subject.keys.channel(TENANT_FEED)]);
    });
  });
}

describe("bus: Redis, probes", () => {
  let subject: RedisSubject;
  let proxy: TcpProxy;
  beforeEach(async () => {
    const server = await plainRedis();
    proxy = await TcpProxy.open(server);
    subject = await openRedis({ url: `redis://127.0.0.1:${proxy.port}` }, { direct: server });
  });
  afterEach(async () => {
    await subject.close();
    await proxy.close();
  });

  it("of two instances with one name are each its own", async () => {
    const { bus } = await subject.second();
    await Promise.all([subject.bus.probe(), bus.probe()]);
    const channels = (await subject.raw.call("PUBSUB", "SHARDCHANNELS", `${subject.prefix}*`)) as string[];
    expect(channels).to.have.length(2);
    expect(channels.every((channel) => channel.startsWith(subject.keys.probe("hub-a.")))).to.equal(true);
  });

  it("get lost where subscriptions are silently dead, and come back on the new connection", async () => {
    const heard = await listen(subject.bus, FEED);
    expect(proxy.swallow({ only: hasSubscribed })).to.equal(1);
    let back = 0;
    for (let i = 0; i < 100; i++) {
      await new Promise<void>((sent) => void subject.bus.probe(sent).then(() => back++));
    }
    await subject.store.append(FEED, [log()], created());
    subject.bus.reconnect();
    await heard.until(({ subscriptions }) => subscriptions > 1);
    await subject.bus.probe();
    await subject.store.append(FEED, [log()], created());
    await heard.reach(3);
    expect({ back, seqs: heard.seqs }).to.deep.equal({ back: 0, seqs: [3] });
  });

  it("that cannot be sent are refused", async () => {
    proxy.cut({ refuse: true });
    await until(() => !subject.link.ready);
    const refused = await subject.bus.probe().catch((error: unknown) => error);
    expect(refused).to.be.instanceOf(HubError).and.to.include({ code: "unavailable" });
    proxy.accept();
    await until(() => subject.link.ready);
    await comesBack(subject.bus);
  });

  it("whose channel is refused come back when it is allowed", async () => {
    const server = await startRedis();
    const admin = new Redis(server.url);
    await admin.call("ACL", "SETUSER", "hub", "on", ">secret", "~*", "resetchannels", "&g", "+@all");
    const url = server.url.replace("redis://", "redis://hub:secret@");
    const link = await RedisLink.open({ url, timeoutMs: 1_000, generationKey: "g" });
    const errors: Error[] = [];
    const keys = new Keys(freshPrefix());
    const bus = await RedisBus.open({
      ...{ redis: link, keys, instanceId: "hub-a" },
      onError: (error) => errors.push(error),
    });
    expect(errors[0]?.message).to.match(/^NOPERM/);
    expect(String(await bus.probe().catch((error: unknown) => error))).to.match(/NOPERM/);
    await admin.call("ACL", "SETUSER", "hub", "allchannels");
    await comesBack(bus);
    await bus.close();
    link.close();
    admin.disconnect();
    await server.stop();
  });
});

describe("bus: Redis, when it refuses or is away", () => {
  let server: RedisServer;
  let link: RedisLink;
  let bus: Bus;
  const errors: Error[] = [];

  async function open(url: string): Promise<void> {
    errors.length = 0;
    link = await RedisLink.open({ url, timeoutMs: 1_000 });
    bus = await RedisBus.open({
      redis: link,
      keys: new Keys(freshPrefix()),
      instanceId: "hub-a",
      onError: (error) => errors.push(error),
    });
  }
  beforeEach(async () => {
    server = await startRedis();
  });
  afterEach(async () => {
    await bus.close();
    link.close();
    await server.stop();
  });

  it("a refused subscription is told, and tried again until it is in force", async () => {
    const admin = new Redis(server.url);
    await admin.call(
      "ACL",
      "SETUSER",
      "hub",
      "on",
      ">secret",
      "~*",
      "resetchannels",
      "&trainwire:*",
      "+@all",
    );
    await open(server.url.replace("redis://", "redis://hub:secret@"));
    const heard = listen(bus, FEED);
    while (errors.length < 2) await new Promise((resolve) => setImmediate(resolve));
    expect(errors[0]?.message).to.match(/^NOPERM/);
    await admin.call("ACL", "SETUSER", "hub", "allchannels");
    expect((await heard).subscriptions).to.equal(1);
    admin.disconnect();
  });

  it("holds feeds while the server is away, and subscribes when it is back", async () => {
    await open(server.url);
    const before = await listen(bus, FEED);
    await server.kill();
    const after = listen(bus, TENANT_FEED);
    bus.release({ ...FEED, jobId: "never held" });
    await server.start();
    await after;
    await before.until(({ subscriptions }) => subscriptions > 1);
    expect(bus.held).to.equal(2);
    expect(errors).to.deep.equal([]);
  });

  it("after close nothing happens any more", async () => {
    await open(server.url);
    const heard = await listen(bus, FEED);
    await bus.close();
    bus.hold(FEED, heard);
    bus.release(FEED);
    await bus.close();
    expect({ held: bus.held, errors, subscriptions: heard.subscriptions }).to.deep.equal({
      ...{ held: 0, errors: [], subscriptions: 1 },
    });
  });
});

/** Resolves with the first probe that comes back; those before may be refused or lost. */
async function comesBack(bus: Bus): Promise<void> {
  let back = false;
  const came = () => {
    back = true;
  };
  await until(() => {
    bus.probe().then(came, () => {});
    return back;
  });
}

/** Of feeds. */
async function channels(raw: Redis, prefix: string): Promise<string[]> {
  const all = (await raw.call("PUBSUB", "SHARDCHANNELS", `${prefix}*`)) as string[];
  return all.filter((channel) => !channel.startsWith(`${prefix}:probe:`)).sort();
}
