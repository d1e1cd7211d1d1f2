/** The name of what a server has kept, and links that notice when the server is not there any more. */
import { type AddressInfo, createServer, connect as dial, type Socket } from "node:net";
import { expect } from "chai";
import { Redis } from "ioredis";
import { RedisLink } from "../../src/redis/link.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

const KEY = "trainwire:generation";
const EVERYSEC = ["--appendonly", "yes", "--appendfsync", "everysec"];
const ALWAYS = ["--appendonly", "yes", "--appendfsync", "always"];
/** As link.ts sets it. */
const PING_MS = 2_000;
const DAY_MS = 86_400_000;

describe("redis: generation", function () {
  this.timeout(60_000);
  let server: RedisServer;
  let raw: Redis;
  let links: Watched[];

  interface Watched {
    link: RedisLink;
    /** What `onState` told. */
    states: string[];
  }

  async function start(...args: string[]): Promise<void> {
    server = await startRedis({ args });
    raw = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
    raw.on("error", () => {}); // the server goes away
    links = [];
  }
  afterEach(async () => {
    for (const { link } of links) link.close();
    raw.disconnect();
    await server.stop();
  });

  async function open(url = server.url, timeoutMs = 5_000): Promise<Watched> {
    const states: string[] = [];
    const link = await RedisLink.open({ url, timeoutMs, onState: (state) => states.push(state) });
    const watched = { link, states };
    links.push(watched);
    return watched;
  }

  /** Does something that cuts the link, and waits until it is back. */
  async function over(watched: Watched, work: () => Promise<unknown>): Promise<string> {
    const before = watched.states.length;
    await work();
    await until(() => watched.states.slice(before).join() === "lost,ready");
    return watched.link.generation;
  }

  const killClients = () => raw.call("CLIENT", "KILL", "TYPE", "normal");

  it("is the same for two links to one server", async () => {
    await start();
    const [one, two] = await Promise.all([open(), open()]);
    expect(one.link.generation).to.equal(two.link.generation);
    expect((await open()).link.generation).to.equal(one.link.generation);
  });

  it("stays over a new connection to the same process", async () => {
    await start();
    const one = await open();
    const { generation } = one.link;
    expect(await over(one, killClients)).to.equal(generation);
  });

  for (const [what, args] of [
    ["without persistence", []],
    ["that writes to disk once a second", EVERYSEC],
  ] as const) {
    it(`is another after a restart of a server ${what}`, async () => {
      await start(...args);
      const one = await open();
      const { generation } = one.link;
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        expect(await over(one, () => server.restart(signal))).to.not.equal(generation);
      }
    });
  }

  it("stays over a restart of a server that writes each command to disk", async () => {
    await start(...ALWAYS);
    const one = await open();
    const { generation } = one.link;
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      expect(await over(one, () => server.restart(signal))).to.equal(generation);
    }
  });

  it("is another when the server writes each command to disk only since the restart", async () => {
    await start(...EVERYSEC);
    const one = await open();
    const { generation } = one.link;
    one.link.close();
    await server.restart("SIGTERM");
    expect(await raw.hget(KEY, "name"), "the data is there").to.equal(generation);
    await raw.config("SET", "appendfsync", "always");
    expect((await open()).link.generation).to.not.equal(generation);
  });

  it("is another after FLUSHALL and a new connection", async () => {
    await start();
    const one = await open();
    const { generation } = one.link;
    const next = await over(one, async () => {
      await raw.flushall();
      await killClients();
    });
    expect(next).to.not.equal(generation);
  });

  it("is confirmed by a server that is full", async () => {
    await start("--maxmemory-policy", "noeviction");
    const one = await open();
    const { generation } = one.link;
    await raw.config("SET", "maxmemory", "1");
    const refused = await raw.set("a", "b").catch((error: Error) => error);
    expect(refused).to.be.instanceOf(Error).and.to.have.property("message").that.matches(/^OOM/);
    expect(await over(one, killClients)).to.equal(generation);
    expect((await open()).link.generation).to.equal(generation);
  });

  it("has a life, which each connection renews", async () => {
    await start();
    const one = await open();
    expect(await raw.pttl(KEY)).to.be.within(364 * DAY_MS, 365 * DAY_MS);
    await raw.pexpire(KEY, DAY_MS);
    await over(one, killClients);
    await until(async () => (await raw.pttl(KEY)) > 364 * DAY_MS);
  });

  it("a server that hangs is noticed, and is ready again when it goes on", async () => {
    await start();
    const one = await open(server.url, 200);
    const { generation } = one.link;
    const since = performance.now();
    server.pause();
    await until(() => !one.link.ready);
    expect(performance.now() - since).to.be.below(200 + PING_MS + 1_500);
    expect(() => one.link.generation)
      .to.throw()
      .with.property("code", "unavailable");
    server.resume();
    await until(() => one.link.ready);
    expect(one.link.generation).to.equal(generation);
  });

  it("connections whose peer has vanished without a word are given up, those of subscribers too", async () => {
    await start();
    const proxy = await Swallowing.open(server);
    try {
      const one = await open(`redis://127.0.0.1:${proxy.port}`, 200);
      const subscriber = one.link.subscriber();
      await subscriber.connect();
      expect(one.link.ready).to.equal(true);
      // Also what connects meanwhile never hears anything, not even later.
      proxy.silent = true;
      await until(() => !one.link.ready && subscriber.status !== "ready");
      await until(() => proxy.swallowed >= 4);
      proxy.silent = false;
      await until(() => one.link.ready && subscriber.status === "ready");
      expect(await subscriber.ping()).to.equal("PONG");
    } finally {
      for (const { link } of links) link.close();
      await proxy.close();
    }
  });
});

/** A TCP proxy whose connections fall silent for good, without an end. */
class Swallowing {
  silent = false;
  readonly #silenced = new Set<Socket>();
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#join(client));
  readonly #target: number;

  private constructor(target: number) {
    this.#target = target;
  }

  static async open(target: { port: number }): Promise<Swallowing> {
    const proxy = new Swallowing(target.port);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that have sent something in vain. */
  get swallowed(): number {
    return this.#silenced.size;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: Socket): void {
    const server = dial(this.#target, "127.0.0.1");
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", () => {}); // its `close` follows
      from.on("close", () => to.destroy());
      from.on("data", (piece) => {
        if (this.silent) this.#silenced.add(client);
        if (!this.#silenced.has(client)) to.write(piece);
      });
    }
  }
}
