/** Presence and status when hubs die or hang: real processes, default settings. */
import { expect } from "chai";
import type { DeliveredEvent, PresenceAnswer, StatusAnswer } from "../../src/protocol/types.ts";
import { client, line, SECRET, type TestClient, token } from "../support/hub.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";
import { buildHub, type HubBuild, HubProcess } from "./hub-process.ts";

const JOB = "run";
const HUBS = 3;
/** Only against hanging; the time is printed. */
const CEILING_MS = 15_000;

describe("presence and status on three hubs", function () {
  this.timeout(60_000);
  let build: HubBuild;
  let redis: RedisServer;
  let hubs: HubProcess[];
  let clients: TestClient[];

  before(async () => {
    build = await buildHub();
  });
  after(() => build?.remove());
  beforeEach(async () => {
    redis = await startRedis();
    clients = [];
    const env = { REDIS_URL: redis.url, JWT_SECRET: SECRET, LOG_LEVEL: "warn" };
    hubs = await Promise.all(
      Array.from({ length: HUBS }, (_, i) => HubProcess.create({ build, name: `hub-${i}`, env })),
    );
    await Promise.all(hubs.map((hub) => hub.start()));
    const trainer = await connect(0, "trainer");
    await trainer.publish(line(JOB));
  });
  afterEach(async () => {
    for (const each of clients) each.close();
    await Promise.all(hubs.map((hub) => hub.stop()));
    await redis.stop();
    expect(hubs.flatMap(({ deaths }) => deaths)).to.deep.equal([]);
    expect(
      hubs.flatMap(({ output }) => output.filter((text) => /"level":"?(error|fatal)/.test(text))),
    ).to.deep.equal([]);
  });

  async function connect(hub: number, subject: string): Promise<TestClient> {
    const role = subject === "trainer" ? "trainer" : "watcher";
    const { url } = hubs[hub] as HubProcess;
    const opened = client(url, token(role, { subject }), role === "trainer" ? "/trainer" : "/");
    clients.push(opened);
    await opened.connected();
    return opened;
  }

  /** So many on a hub, all of one subject. */
  async function watching(hub: number, count: number): Promise<TestClient[]> {
    const opened = await Promise.all(Array.from({ length: count }, () => connect(hub, `user-${hub}`)));
    await Promise.all(opened.map((each) => each.subscribe({ job_id: JOB })));
    return opened;
  }

  const read = async (by: TestClient) => {
    const { watchers, users } = await by.good<PresenceAnswer>("presence", { job_id: JOB });
    return `${watchers} ${users?.join(" ")}`;
  };
  const told = (by: TestClient) => {
    const { data } = by.all<DeliveredEvent<"presence">>("presence").at(-1) ?? {};
    return `${data?.watchers} ${data?.users?.join(" ")}`;
  };

  /** ms until the verb says so, and until all of them have been told so. */
  async function becomes(what: string, by: readonly TestClient[]): Promise<{ read: number; told: number }> {
    const start = performance.now();
    const inTime = (state: string) => {
      if (performance.now() - start > CEILING_MS) throw new Error(`waited for ${what}, and it is ${state}`);
      return true;
    };
    const since = () => Math.round(performance.now() - start);
    const [first] = by as [TestClient];
    const [verb, events] = await Promise.all([
      until(async () => (await read(first)) === what || !inTime(await read(first))).then(since),
      until(() => by.every((each) => told(each) === what) || !inTime(by.map(told).join("; "))).then(since),
    ]);
    return { read: verb, told: events };
  }

  it("of a hub that is killed nobody is left", async () => {
    const others = [...(await watching(0, 2)), ...(await watching(1, 3))];
    await watching(2, 4);
    await becomes("9 user-0 user-1 user-2", others);
    await hubs[2]?.kill();
    const gone = await becomes("5 user-0 user-1", others);
    console.log(`      exact ${gone.read} ms after the kill, told after ${gone.told} ms`);
    await hubs[2]?.start();
    others.push(...(await watching(2, 1)));
    await becomes("6 user-0 user-1 user-2", others);
  });

  it("a hub that is killed vanishes from the status of the others, and is there once when it has started again", async () => {
    const status = async () => {
      const headers = { authorization: `Bearer ${token("watcher")}` };
      const reply = await fetch(`${hubs[0]?.url}/api/v1/status`, { headers });
      return (await reply.json()) as StatusAnswer;
    };
    const becomes = async (names: string, watchers: number) => {
      const start = performance.now();
      for (let now = ""; now !== `${names} ${watchers}`; ) {
        const { instances, connections } = await status();
        now = `${instances.map(({ instance_id }) => instance_id).join(" ")} ${connections.watchers}`;
        if (performance.now() - start > CEILING_MS) throw new Error(`the status stays ${now}`);
      }
      return Math.round(performance.now() - start);
    };
    await watching(0, 1);
    await watching(2, 4);
    await becomes("hub-0 hub-1 hub-2", 5);
    await hubs[2]?.kill();
    console.log(`      gone ${await becomes("hub-0 hub-1", 1)} ms after the kill`);
    await hubs[2]?.start();
    await watching(2, 1);
    await becomes("hub-0 hub-1 hub-2", 2);
    await hubs[1]?.stop();
    await becomes("hub-0 hub-2", 2);
  });

  it("a hub that hangs is missed, and is back when it goes on", async () => {
    const others = [...(await watching(0, 1)), ...(await watching(1, 1))];
    const hung = await watching(2, 2);
    await becomes("4 user-0 user-1 user-2", others);
    hubs[2]?.pause();
    const gone = await becomes("2 user-0 user-1", others);
    hubs[2]?.resume();
    const back = await becomes("4 user-0 user-1 user-2", [...others, ...hung]);
    console.log(`      missed after ${gone.told} ms, back after ${back.told} ms`);
  });

  it("a hub that ends in good order is gone at once, and all that end leave no watcher behind", async () => {
    const others = await watching(0, 2);
    await watching(1, 1);
    await watching(2, 1);
    await becomes("4 user-0 user-1 user-2", others);
    await Promise.all([hubs[1]?.stop(), hubs[2]?.stop()]);
    const gone = await becomes("2 user-0", others);
    console.log(`      exact after ${gone.read} ms, told after ${gone.told} ms`);
    await hubs[0]?.kill();
    await hubs[1]?.start();
    const [late] = await watching(1, 1);
    await becomes("1 user-1", [late as TestClient]);
  });
});
