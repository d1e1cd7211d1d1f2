/** How a hub ends: with SIGTERM it drains where there may be other hubs; otherwise, and when asked twice, at once. */
import { expect } from "chai";
import { Redis } from "ioredis";
import type { Closing, Draining, PublishAnswer } from "../../src/protocol/types.ts";
import { request } from "../http/request.ts";
import { expectNoRoom } from "../sockets/new-session.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import { freshPrefix, plainRedis } from "../support/hooks.ts";
import { client, line, SECRET, type TestClient, token } from "../support/hub.ts";
import type { RunningProcess } from "../support/process.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startHub, useCommands } from "./support.ts";

/** Whoever waits for this has waited for the drain. */
const LONG_MS = 120_000;
/** A process ends at once: the grace of its connections, and the time in which it catches a signal's double. */
const AT_ONCE_MS = 5_000;

describe("trainwire serve: signals", () => {
  useCommands();

  let folder: TempFolder;
  let hub: RunningProcess;
  let url: string;
  let redis: RedisServer | undefined;
  const clients: TestClient[] = [];
  beforeEach(() => {
    folder = tempFolder("cli");
  });
  afterEach(async () => {
    for (const each of clients.splice(0)) each.close();
    await hub.stop("SIGKILL");
    await redis?.stop();
    redis = undefined;
    folder.remove();
  });

  async function start(drainMs: number, redisUrl?: string): Promise<void> {
    const env = {
      JWT_SECRET: SECRET,
      TRAINWIRE_DRAIN_MS: String(drainMs),
      TRAINWIRE_KEY_PREFIX: freshPrefix(),
      ...(redisUrl !== undefined && { REDIS_URL: redisUrl }),
    };
    ({ hub, url } = await startHub(folder.path, [], env));
  }

  async function connect(namespace: "/" | "/trainer", transport: "websocket" | "polling") {
    const role = namespace === "/" ? "watcher" : "trainer";
    const opened = client(url, token(role), namespace, { transports: [transport] });
    clients.push(opened);
    await opened.connected();
    return opened;
  }

  /** How long it took to end. */
  async function ended(code: number): Promise<number> {
    const from = performance.now();
    expect(await hub.exited).to.deep.equal({ code, signal: null });
    return performance.now() - from;
  }

  it("SIGTERM: everybody leaves at a moment of its own, nobody new gets in, and it exits with 0", async () => {
    const windowMs = 2_000;
    await start(windowMs, (await plainRedis()).url);
    const all = await Promise.all(
      Array.from({ length: 12 }, (_, i) => connect("/", i % 2 ? "websocket" : "polling")),
    );
    const left = all.map(async (each) => {
      await each.next<Closing>("closing");
      const at = performance.now();
      expect(await each.next("disconnect")).to.equal("transport close");
      return at;
    });
    hub.signal("SIGTERM");
    const told = await Promise.all(all.map((each) => each.next<Draining>("draining")));
    const at = { url } as Parameters<typeof request>[0];
    await expectNoRoom(at, "draining");
    const ready = await request(at, "/readyz");
    expect([ready.status, ready.json.status]).to.deep.equal([503, "draining"]);
    // Whose moment is to come is served: the last one of either transport, to begin with.
    const moments = told.map(({ closes_in_ms }) => closes_in_ms);
    for (const moment of moments) expect(moment).to.be.within(0, windowMs);
    expect(new Set(moments).size).to.be.above(all.length / 2);
    const last = all[moments.indexOf(Math.max(...moments))] as TestClient;
    const answer = await last.ask("ping", {});
    expect(answer.ok || answer.error.code === "draining").to.equal(true);
    const times = await Promise.all(left);
    expect(Math.max(...times) - Math.min(...times)).to.be.above(
      (Math.max(...moments) - Math.min(...moments)) / 2,
    );
    expect(await ended(0)).to.be.below(AT_ONCE_MS);
  });

  it("SIGTERM: a publish that is under way at its moment is answered before the connection is closed", async () => {
    redis = await startRedis();
    await start(0, redis.url);
    const trainers = await Promise.all(
      (["websocket", "polling"] as const).map((by) => connect("/trainer", by)),
    );
    const admin = new Redis(redis.url);
    await admin.call("CLIENT", "PAUSE", "1000", "WRITE");
    admin.disconnect();
    const answers = trainers.map((trainer, i) => trainer.ask<PublishAnswer>("publish", line(`job-${i}`)));
    for (const trainer of trainers) await trainer.good("ping", {});
    hub.signal("SIGTERM");
    for (const [i, trainer] of trainers.entries()) {
      expect(await answers[i]).to.deep.include({ ok: true });
      await trainer.next("disconnect");
      const names = trainer.received.map(({ name }) => name);
      expect(names.slice(names.indexOf("draining"))).to.deep.equal([
        ...["draining", "answer:publish", "closing", "disconnect"],
      ]);
    }
    await ended(0);
  });

  for (const second of ["SIGTERM", "SIGINT"] as const) {
    it(`a second signal while it drains (${second}): at once`, async () => {
      await start(LONG_MS, (await plainRedis()).url);
      const watcher = await connect("/", "websocket");
      hub.signal("SIGTERM");
      // The double of a signal that npm has passed on, too, is no second one.
      hub.signal("SIGTERM");
      await watcher.next<Draining>("draining");
      await watcher.good("ping", {});
      if (second === "SIGTERM") await new Promise((resolve) => setTimeout(resolve, 600));
      hub.signal(second);
      expect(await ended(130)).to.be.below(AT_ONCE_MS);
    });
  }

  for (const [what, signal, withRedis] of [
    ["SIGINT", "SIGINT", true],
    ["SIGTERM with everything in memory, where there is no other hub", "SIGTERM", false],
  ] as const) {
    it(`${what}: at once, telling why`, async () => {
      await start(LONG_MS, withRedis ? (await plainRedis()).url : undefined);
      const watchers = await Promise.all((["websocket", "polling"] as const).map((by) => connect("/", by)));
      hub.signal(signal);
      for (const watcher of watchers) {
        expect(await watcher.next<Closing>("closing")).to.include({ reason: "shutdown", reconnect: true });
        expect(watcher.all("draining")).to.deep.equal([]);
      }
      expect(await ended(0)).to.be.below(AT_ONCE_MS);
    });
  }

  it("SIGTERM with nobody there: no wait for the drain", async () => {
    await start(LONG_MS, (await plainRedis()).url);
    hub.signal("SIGTERM");
    expect(await ended(0)).to.be.below(AT_ONCE_MS);
  });
});
