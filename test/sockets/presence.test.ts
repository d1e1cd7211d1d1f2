/** `presence`: who watches a job, by the verb, over HTTP, and as events, on one hub and on two. */
import { expect } from "chai";
import { Redis } from "ioredis";
import type {
  DeliveredEvent,
  Gap,
  Presence,
  PresenceAnswer,
  PublishedEvent,
} from "../../src/protocol/types.ts";
import { request } from "../http/request.ts";
import {
  line,
  startTestHub,
  type TestClient,
  type TestHub,
  type TestHubOptions,
  until,
} from "../support/hub.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const JOB = "run";
const env = { TRAINWIRE_PRESENCE_INTERVAL_MS: "100", TRAINWIRE_INSTANCE_TIMEOUT_MS: "900" };
const asked = (client: TestClient, job_id = JOB) => client.good<PresenceAnswer>("presence", { job_id });
const has = (client: TestClient, watchers: number, users?: string) =>
  client.until(`${watchers} watchers`, () => {
    const last = client.received.flatMap(presencesIn).at(-1);
    return last?.watchers === watchers && (users === undefined || last.users?.join(" ") === users);
  });

/** Told as an event, or, after a gap, in its snapshot. */
function presencesIn({ name, value }: TestClient["received"][number]): Presence[] {
  if (name === "presence") return [(value as DeliveredEvent<"presence">).data];
  if (name !== "gap") return [];
  const { snapshot } = value as Gap;
  const newest = snapshot && "newest" in snapshot ? (snapshot.newest as DeliveredEvent[]) : [];
  return newest.filter(({ type }) => type === "presence").map(({ data }) => data as Presence);
}

for (const [kind, options] of [
  ["in memory", { redis: "memory" }],
  ["on Redis", { redis: "plain" }],
] as const satisfies ReadonlyArray<[string, TestHubOptions]>) {
  describe(`sockets: presence ${kind}`, () => {
    let hub: TestHub;
    before(async () => {
      hub = await startTestHub({ ...options, env });
    });
    after(() => hub.close());
    let jobs = 0;
    let job: string;
    beforeEach(async () => {
      job = `job-${++jobs}`;
      await hub.publish(line(job));
    });

    it("watchers are told who comes and goes", async () => {
      const ann = await hub.watcher({ subject: "ann" });
      await ann.subscribe({ job_id: job });
      await has(ann, 1, "ann");
      const [bob, again] = [await hub.watcher({ subject: "bob" }), await hub.watcher({ subject: "bob" })];
      await bob.subscribe({ job_id: job });
      await again.subscribe({ job_id: job, types: ["log"] });
      await has(ann, 3, "ann bob");
      await has(bob, 3, "ann bob");
      expect(again.all("presence")).to.deep.equal([]);
      again.close();
      await has(ann, 2, "ann bob");
      await bob.good("unsubscribe", { job_id: job });
      await has(ann, 1, "ann");
      const [event] = ann.all<DeliveredEvent<"presence">>("presence");
      expect(event).to.include({ type: "presence", feed: "job", tenant_id: "acme", job_id: job });
    });

    it("counts who subscribes by name, once, and not who follows the tenant or every job", async () => {
      const [tenant, all, twice] = [await hub.watcher(), await hub.watcher(), await hub.watcher()];
      await tenant.subscribe({});
      await all.subscribeAll();
      await twice.subscribe({ job_id: job });
      await twice.subscribe({ job_id: job, max_rate: 5 });
      expect(await asked(tenant, job)).to.deep.equal({ job_id: job, watchers: 1, users: ["tester"] });
      await has(all, 1);
      twice.close();
      await has(all, 0, "");
      expect(await asked(tenant, job)).to.deep.equal({ job_id: job, watchers: 0, users: [] });
    });

    it("the newest value is in the snapshot and in pages", async () => {
      const ann = await hub.watcher({ subject: "ann" });
      await ann.subscribe({ job_id: job });
      await has(ann, 1);
      const late = await hub.watcher({ role: "admin" });
      const { snapshot } = await late.subscribe({ job_id: job });
      const newest = (snapshot as { newest: DeliveredEvent[] }).newest;
      expect(newest.find(({ type }) => type === "presence")?.data).to.deep.equal({
        watchers: 1,
        users: ["ann"],
      });
    });

    it("a job that is waited for is told once it is there", async () => {
      const waiting = await hub.watcher({ subject: "ann" });
      await waiting.subscribe({ job_id: `${job}-later`, wait: true });
      expect((await waiting.refused("presence", { job_id: `${job}-later` })).code).to.equal("job_not_found");
      await hub.publish(line(`${job}-later`));
      await has(waiting, 1, "ann");
    });

    it("over HTTP it is the same", async () => {
      const ann = await hub.watcher({ subject: "ann" });
      await ann.subscribe({ job_id: job });
      const path = `/api/v1/tenants/acme/training/jobs/${job}/presence`;
      const reply = await request(hub, path, { role: "watcher" });
      expect([reply.status, reply.json]).to.deep.equal([200, { job_id: job, watchers: 1, users: ["ann"] }]);
    });

    it("is of one's own tenant, and of jobs that the token may see", async () => {
      const ann = await hub.watcher({ subject: "ann" });
      await ann.subscribe({ job_id: job });
      await hub.publish(line(job), { tenant: "rival" });
      const rival = await hub.watcher({ tenant: "rival", subject: "eve" });
      await rival.subscribe({ job_id: job });
      expect(await asked(rival, job)).to.deep.equal({ job_id: job, watchers: 1, users: ["eve"] });
      await has(rival, 1, "eve");
      await has(ann, 1, "ann");
      expect(await asked(ann, job)).to.deep.equal({ job_id: job, watchers: 1, users: ["ann"] });

      const limited = await hub.watcher({ jobs: [`${job}-*`] });
      const refusals = [
        await limited.refused("presence", { job_id: job }),
        await limited.refused("presence", { job_id: `${job}-none` }),
        await ann.refused("presence", { job_id: `${job}-none` }),
      ];
      expect(refusals.map(({ code }) => code)).to.deep.equal(Array(3).fill("job_not_found"));
      expect((await ann.refused("presence", {})).code).to.equal("invalid_request");
      const path = `/api/v1/tenants/acme/training/jobs/${job}/presence`;
      for (const [options, status] of [
        [{ role: "watcher", jobs: ["other"] }, 404],
        [{ role: "watcher", tenant: "rival" }, 404],
        [{ role: "trainer" }, 403],
        [{ role: null }, 401],
      ] as const) {
        expect((await request(hub, path, options)).status).to.equal(status);
      }
    });

    it("only the hub makes such events", async () => {
      const forged = { type: "presence", job_id: job, data: { watchers: 9 } } as PublishedEvent;
      expect((await hub.publish(forged)).refused[0]?.code).to.equal("forbidden_type");
    });
  });
}

describe("sockets: presence on two hubs", () => {
  let redis: RedisServer;
  let hubs: TestHub[];
  beforeEach(async () => {
    redis = await startRedis();
    hubs = [];
    for (let i = 0; i < 2; i++)
      hubs.push(await startTestHub({ redis, prefix: "hubs", env: { ...env, ...SLOW } }));
    await (hubs[0] as TestHub).publish(line(JOB));
  });
  afterEach(async () => {
    for (const hub of hubs) await hub.close();
    await redis.stop();
  });
  const SLOW = { TRAINWIRE_REDIS_TIMEOUT_MS: "1000", TRAINWIRE_CHECK_INTERVAL_MS: "200" };

  async function watching(hub: number, subject: string): Promise<TestClient> {
    const client = await (hubs[hub] as TestHub).watcher({ subject });
    await client.subscribe({ job_id: JOB });
    return client;
  }

  it("everybody counts, wherever he is", async () => {
    const ann = await watching(0, "ann");
    const bob = await watching(1, "bob");
    const both = [await watching(0, "cid"), await watching(1, "cid")];
    for (const client of [ann, bob, ...both]) await has(client, 4, "ann bob cid");
    for (const client of [ann, bob]) {
      expect(await asked(client)).to.deep.equal({ job_id: JOB, watchers: 4, users: ["ann", "bob", "cid"] });
    }
    for (const client of both) client.close();
    for (const client of [ann, bob]) await has(client, 2, "ann bob");
  });

  it("two hundred who come and go are few events", async () => {
    const ann = await watching(0, "ann");
    await has(ann, 1);
    const start = performance.now();
    const crowd = await Promise.all(Array.from({ length: 200 }, (_, i) => watching(i % 2, `user-${i % 3}`)));
    await has(ann, 201, "ann user-0 user-1 user-2");
    for (const client of crowd) client.close();
    await has(ann, 1, "ann");
    const intervals = (performance.now() - start) / 100;
    expect(ann.all("presence").length).to.be.at.most(Math.ceil(intervals) + 3);
  });

  it("a hub that ends takes its watchers along", async () => {
    const ann = await watching(0, "ann");
    await watching(1, "bob");
    await has(ann, 2);
    await hubs.pop()?.close();
    expect(await asked(ann)).to.deep.equal({ job_id: JOB, watchers: 1, users: ["ann"] });
    await has(ann, 1, "ann");
  });

  it("a Redis that goes and comes changes nothing in the end", async () => {
    const ann = await watching(0, "ann");
    const bob = await watching(1, "bob");
    await has(ann, 2);
    await redis.kill();
    const answer = await ann.refused("presence", { job_id: JOB });
    expect([answer.code, answer.temporary]).to.deep.equal(["unavailable", true]);
    bob.close();
    await redis.start();
    await until("the hubs are back", async () => (await Promise.all(hubs.map(isReady))).every(Boolean));
    await (hubs[0] as TestHub).publish(line(JOB));
    await until("one is left", async () => (await asked(ann)).watchers === 1);
    const cid = await watching(1, "cid");
    await has(ann, 2, "ann cid");
    await has(cid, 2, "ann cid");
  });

  it("a Redis that hangs for longer than the time-out makes nobody silent for good", async () => {
    const ann = await watching(0, "ann");
    const bob = await watching(1, "bob");
    await has(bob, 2);
    redis.pause();
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    redis.resume();
    await until("the hubs are back", async () => (await Promise.all(hubs.map(isReady))).every(Boolean));
    const cid = await watching(0, "cid");
    for (const client of [ann, bob, cid]) await has(client, 3, "ann bob cid");
  });

  it("a Redis that is emptied hears it again", async () => {
    const ann = await watching(0, "ann");
    const bob = await watching(1, "bob");
    await has(ann, 2);
    await redisCommand(redis, "FLUSHALL");
    await (hubs[0] as TestHub).publish(line(JOB));
    await until("both are there again", async () => (await asked(ann)).watchers === 2);
    await watching(1, "cid");
    for (const client of [ann, bob]) await has(client, 3, "ann bob cid");
  });
});

const isReady = async (hub: TestHub) => hub.hub.ready;

async function redisCommand(redis: RedisServer, command: string): Promise<void> {
  const client = new Redis(redis.url);
  await client.call(command);
  client.disconnect();
}
