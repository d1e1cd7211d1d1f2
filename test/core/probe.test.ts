/** What becomes of probes, and what this instance is because of it. */
import { expect } from "chai";
import { Probe } from "../../src/core/probe.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { openRedis } from "../store/subject.ts";
import { plainRedis } from "../support/hooks.ts";
import { hasSubscribed, TcpProxy } from "../support/proxy.ts";
import { until } from "../support/until.ts";
import { pass, settle, startClock, stopClock } from "./scripted.ts";

/** What becomes of a probe. */
type Fate =
  | "back"
  /** Redis takes it, and it does not arrive. */
  | "lost"
  /** Redis does not answer, until `release`. */
  | "unanswered"
  | "refused"
  /** Refused, as nobody foresaw. */
  | "faulty";

const INTERVAL = 1_000;
const QUARTER = INTERVAL / 4;

class Redis {
  fate: Fate = "back";
  ready = true;
  /** Of other messages. */
  heardAt = 0;
  sent = 0;
  reconnects = 0;
  /** What becomes better with a new connection. */
  onReconnect: () => void = () => {};
  readonly #hanging: Array<() => void> = [];

  probe(onSent?: () => void): Promise<void> {
    this.sent++;
    return new Promise((resolve, reject) => {
      if (this.fate === "refused") reject(new HubError("unavailable"));
      else if (this.fate === "faulty") reject(new Error("NOPERM"));
      else if (this.fate === "unanswered") this.#hanging.push(() => [onSent?.(), resolve()]);
      else onSent?.();
      if (this.fate === "back") resolve();
    });
  }

  release(): void {
    for (const answer of this.#hanging.splice(0)) answer();
  }

  reconnect(): void {
    this.reconnects++;
    this.onReconnect();
  }
}

describe("core/probe", () => {
  let redis: Redis;
  let probe: Probe;
  let told: string[];
  beforeEach(() => {
    stopClock();
    redis = new Redis();
    told = [];
  });
  afterEach(() => {
    probe.close();
    startClock();
  });

  function start(fate: Fate = "back"): void {
    redis.fate = fate;
    probe = new Probe({
      bus: redis,
      isStoreReady: () => redis.ready,
      intervalMs: INTERVAL,
      onDeaf: ({ reconnects }) => told.push(`deaf ${reconnects}`),
      onReady: ({ after }) => told.push(`ready after ${after}`),
      onError: (error, what) => told.push(`${what}: ${(error as Error).message}`),
    });
  }

  async function startReady(): Promise<void> {
    start();
    await settle();
    expect(probe.state).to.equal("ready");
    expect(told.splice(0)).to.deep.equal(["ready after starting"]);
  }

  it("is starting until the first one comes back, and then sends one each interval", async () => {
    start();
    expect([probe.state, probe.ageMs, probe.roundTripMs]).to.deep.equal(["starting", undefined, undefined]);
    await settle();
    expect(probe.state).to.equal("ready");
    expect(probe.ageMs).to.be.at.least(0);
    expect(probe.roundTripMs).to.be.at.least(0);
    expect(redis.sent).to.equal(1);
    await pass(10 * INTERVAL);
    expect(redis.sent).to.equal(11);
    expect([probe.state, probe.reconnects, told]).to.deep.equal(["ready", 0, ["ready after starting"]]);
  });

  for (const fate of ["lost", "unanswered", "refused"] as const) {
    it(`stays starting while the first ones are ${fate}`, async () => {
      start(fate);
      await pass(5 * INTERVAL);
      expect(probe.state).to.equal("starting");
      redis.ready = false;
      expect(probe.state).to.equal("starting");
      redis.ready = true;
      redis.fate = "back";
      redis.release();
      await pass(QUARTER);
      expect(probe.state).to.equal("ready");
    });
  }

  it("is deaf when two are lost, before two intervals are over, and connects anew", async () => {
    await startReady();
    redis.fate = "lost";
    await pass(INTERVAL + 2 * QUARTER);
    expect([probe.state, redis.sent, redis.reconnects]).to.deep.equal(["ready", 3, 0]);
    redis.onReconnect = () => {
      redis.fate = "back";
    };
    await pass(QUARTER);
    expect([redis.reconnects, probe.reconnects]).to.deep.equal([1, 1]);
    await pass(QUARTER);
    expect(probe.state).to.equal("ready");
    await pass(10 * INTERVAL);
    expect(told).to.deep.equal(["deaf 1", "ready after deaf"]);
  });

  it("connects anew every two intervals while it stays deaf", async () => {
    await startReady();
    redis.fate = "lost";
    await pass(2 * INTERVAL - QUARTER);
    for (let round = 1; round <= 4; round++) {
      expect([probe.state, redis.reconnects]).to.deep.equal(["deaf", round]);
      await pass(2 * INTERVAL);
    }
    redis.fate = "back";
    await pass(QUARTER);
    expect(probe.state).to.equal("ready");
  });

  it("one that is lost is followed by another, and nothing comes of it", async () => {
    await startReady();
    for (let round = 0; round < 5; round++) {
      redis.fate = "lost";
      await pass(INTERVAL);
      redis.fate = "back";
      await pass(2 * QUARTER);
      expect(probe.state).to.equal("ready");
    }
    expect(redis.reconnects).to.equal(0);
  });

  it("is not deaf while other messages come: the probes are behind them", async () => {
    await startReady();
    redis.fate = "lost";
    for (let i = 0; i < 20; i++) {
      await pass(QUARTER);
      redis.heardAt = performance.now();
    }
    expect([probe.state, redis.reconnects, told]).to.deep.equal(["ready", 0, []]);
    await pass(4 * INTERVAL);
    expect(redis.reconnects, "when they come no more").to.be.above(0);
  });

  it("is degraded while the store is away, at once, and ready with the first that comes back", async () => {
    await startReady();
    redis.ready = false;
    expect(probe.state).to.equal("degraded");
    await pass(5 * INTERVAL);
    expect([probe.state, redis.sent]).to.deep.equal(["degraded", 1]);
    redis.ready = true;
    redis.fate = "unanswered";
    await pass(QUARTER);
    expect(probe.state).to.equal("degraded");
    redis.release();
    await settle();
    expect(probe.state).to.equal("ready");
  });

  it("is degraded while probes are refused", async () => {
    await startReady();
    redis.fate = "refused";
    await pass(20 * INTERVAL);
    expect([probe.state, redis.reconnects, told]).to.deep.equal(["degraded", 0, []]);
    redis.fate = "back";
    await pass(QUARTER);
    expect(probe.state).to.equal("ready");
  });

  it("tells once what nobody foresaw, until it is over", async () => {
    await startReady();
    for (let round = 1; round <= 2; round++) {
      redis.fate = "faulty";
      await pass(5 * INTERVAL);
      redis.fate = "back";
      await pass(INTERVAL);
      expect(told.splice(0), `round ${round}`).to.deep.equal([
        "probe failed: NOPERM",
        "ready after degraded",
      ]);
    }
  });

  it("is degraded, and never deaf, while commands are not answered", async () => {
    await startReady();
    redis.fate = "unanswered";
    await pass(2 * INTERVAL);
    expect([probe.state, redis.sent]).to.deep.equal(["degraded", 2]);
    await pass(20 * INTERVAL);
    expect([probe.state, redis.sent, redis.reconnects]).to.deep.equal(["degraded", 2, 0]);
    redis.fate = "back";
    redis.release();
    await settle();
    expect(probe.state).to.equal("ready");
  });

  it("is not deaf because the subscriber comes back later than the commands", async () => {
    await startReady();
    redis.ready = false;
    await pass(INTERVAL);
    redis.ready = true;
    redis.fate = "lost";
    await pass(2 * INTERVAL - QUARTER);
    expect([probe.state, redis.reconnects]).to.deep.equal(["degraded", 0]);
    await pass(2 * QUARTER);
    expect([probe.state, redis.reconnects]).to.deep.equal(["deaf", 1]);
  });

  it("is degraded, and no more deaf, when Redis goes as well", async () => {
    await startReady();
    redis.fate = "lost";
    await pass(2 * INTERVAL);
    expect(probe.state).to.equal("deaf");
    redis.fate = "refused";
    await pass(INTERVAL);
    expect(probe.state).to.equal("degraded");
  });

  it("does nothing more after close", async () => {
    await startReady();
    probe.close();
    redis.fate = "faulty";
    await pass(5 * INTERVAL);
    expect([redis.sent, told]).to.deep.equal([1, []]);
  });
});

describe("core/probe, with Redis", () => {
  const SHORT = 100;

  async function withProbe(work: (probe: Probe, proxy: TcpProxy) => Promise<void>): Promise<void> {
    const server = await plainRedis();
    const proxy = await TcpProxy.open(server);
    const subject = await openRedis({ url: `redis://127.0.0.1:${proxy.port}` }, { direct: server });
    const probe = new Probe({
      bus: subject.bus,
      isStoreReady: () => subject.link.ready,
      intervalMs: SHORT,
      onDeaf() {},
      onError() {},
    });
    try {
      await until(() => probe.state === "ready");
      await work(probe, proxy);
    } finally {
      probe.close();
      await subject.close();
      await proxy.close();
    }
  }

  it("a process that stands still does not take that for lost probes", () =>
    withProbe(async (probe) => {
      for (let round = 0; round < 5; round++) {
        const end = performance.now() + 6 * SHORT;
        while (performance.now() < end);
        for (let turn = 0; turn < 10; turn++) {
          await new Promise((resolve) => setImmediate(resolve));
          expect(probe.state).to.equal("ready");
        }
      }
      await until(() => (probe.ageMs as number) < 2 * SHORT);
      expect(probe.reconnects).to.equal(0);
    }));

  it("a slow Redis is not taken for a deaf hub", () =>
    withProbe(async (probe, proxy) => {
      proxy.delay(3 * SHORT);
      await until(() => (probe.roundTripMs as number) > 3 * SHORT);
      const { roundTripMs } = probe;
      await until(() => probe.roundTripMs !== roundTripMs);
      expect(probe.reconnects).to.equal(0);
    }));

  it("a subscriber that is silently dead is replaced", () =>
    withProbe(async (probe, proxy) => {
      proxy.swallow({ only: hasSubscribed });
      await until(() => probe.state === "deaf");
      await until(() => probe.state === "ready");
      expect(probe.reconnects).to.equal(1);
    }));
});
