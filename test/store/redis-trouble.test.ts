/** A server that is full, busy, away, or holds other people's keys: an error that says so, and nothing half done. */
import { expect } from "chai";
import { HubError } from "../../src/protocol/codes.ts";
import type { Entry } from "../../src/store/store.ts";
import { tempFolder } from "../support/cleanup.ts";
import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";
import {
  created,
  dataset,
  FEED,
  JOB,
  log,
  product,
  progress,
  readAll,
  sample,
  status,
  TENANT,
  TENANT_FEED,
  told,
  withId,
  withN,
} from "./entries.ts";
import { openRedis, type RedisSubject } from "./subject.ts";

let subject: RedisSubject;
const append = (...entries: Entry[]) => subject.store.append(FEED, entries, created());
const failure = async (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => expect.fail("it succeeded"),
    (error: Error) => error,
  );

/** Everything that is stored, as it is. */
async function contents(except = ""): Promise<Map<string, string>> {
  const all = new Map<string, string>();
  for (const key of await subject.allKeys()) {
    if (key === except) continue;
    // The fields of a hash have no order of their own.
    const isHash = (await subject.raw.type(key)) === "hash";
    const content = isHash
      ? JSON.stringify(Object.entries(await subject.raw.hgetall(key)).sort())
      : String((await subject.raw.dumpBuffer(key))?.toString("hex"));
    all.set(key, content);
  }
  return all;
}

for (const [name, shared] of [
  ["Redis", plainRedis],
  ["Redis with cluster-enabled", clusterRedis],
] as const) {
  describe(`store: ${name}, a stranger's key under a name of ours`, () => {
    const BATCH = [
      ...[
        withId("a"),
        withN(1, {}, sample()),
        product("a"),
        progress({ step: 1, loss: 1 }),
        status("running"),
      ],
      ...[progress({ step: 2 }), status("completed")],
    ];
    afterEach(() => subject.close());

    it("is an error, whichever it is, and nothing is stored", async () => {
      subject = await openRedis(await shared());
      await append(log());
      await append(...BATCH, progress({ step: 3, loss: 2 }));
      await subject.store.append(TENANT_FEED, [withId("d", dataset()), withN(1, {}, dataset())]);
      // Others write to these.
      const { series: _, buckets: __, watchers: ___, trainers: ____, ...job } = subject.keys.job(TENANT, JOB);
      const { ids, producers, ...tenant } = subject.keys.tenant(TENANT);
      const again = BATCH.map((entry, i) => ({
        ...entry,
        ...(entry.patch.transition && { attempt: 2 }),
        ...(entry.id && { id: `again ${i}` }),
        ...(entry.producer && { producer: { ...entry.producer, n: 9 } }),
      }));
      const all = await subject.allKeys();
      for (const key of [...Object.values(job), ...Object.values(tenant)]) {
        if (key === job.channel || key === tenant.channel) continue;
        expect(all, "a key that the test does not know").to.include(key);
        const [before, dump] = [await contents(key), (await subject.raw.dumpBuffer(key)) as Buffer];
        await subject.raw.set(key, "a stranger's");
        // The job's life has changed and all of its keys are written, so nothing is overlooked.
        expect((await failure(append(...again, status("running", { attempt: 3 })))).message, key).to.match(
          /^WRONGTYPE/,
        );
        expect(await contents(key), key).to.deep.equal(before);
        expect(await subject.raw.get(key)).to.equal("a stranger's");
        await subject.raw.restore(key, 600_000, dump, "REPLACE");
      }
      for (const key of [ids, producers]) {
        const [before, dump] = [await contents(key), (await subject.raw.dumpBuffer(key)) as Buffer];
        await subject.raw.set(key, "a stranger's");
        const own = subject.store.append(TENANT_FEED, [withId("e", dataset()), withN(2, {}, dataset())]);
        expect((await failure(own)).message, key).to.match(/^WRONGTYPE/);
        expect(await contents(key), key).to.deep.equal(before);
        await subject.raw.restore(key, 600_000, dump, "REPLACE");
      }
      expect(told((await append(...again)).stored)[0]).to.be.a("number");
    });

    it("is an error of the reads that need it, and of no other", async () => {
      subject = await openRedis(await shared());
      await append(...BATCH);
      await subject.raw.set(subject.keys.job(FEED.tenantId, FEED.jobId).newest, "a stranger's");
      expect((await failure(readAll(subject.store))).message).to.match(/^WRONGTYPE/);
      expect((await failure(subject.store.job(TENANT, FEED.jobId))).message).to.match(/^WRONGTYPE/);
      expect((await subject.store.heads(TENANT, [FEED]))[0]?.seq).to.equal(BATCH.length + 1);
      expect((await subject.store.series(TENANT, FEED.jobId, {}))?.series).to.have.length(1);
    });
  });
}

describe("store: Redis, in trouble", function () {
  this.timeout(60_000);
  let server: RedisServer;
  beforeEach(async () => {
    server = await startRedis();
  });
  afterEach(async () => {
    await subject.close();
    await server.stop();
  });

  it("without room: storage_full, nothing stored, everything readable; and with room again it goes on", async () => {
    subject = await openRedis(server);
    await append(withId("before"), progress({ step: 1 }));
    const before = await contents();
    await subject.raw.config("SET", "maxmemory", "1mb");
    for (const feed of [FEED, { ...FEED, jobId: "new" }, TENANT_FEED]) {
      const error = await failure(
        subject.store.append(feed, [withId("x"), withId("y", status("failed"))], created()),
      );
      expect(error)
        .to.be.instanceOf(HubError)
        .and.to.include({ code: "storage_full", status: 507, temporary: true });
    }
    expect(await failure(subject.store.flushTenant(TENANT))).to.include({ code: "storage_full" });
    expect(await contents()).to.deep.equal(before);
    expect((await readAll(subject.store)).seq).to.equal(3);
    expect((await subject.store.job(TENANT, FEED.jobId))?.seq).to.equal(3);
    expect(await subject.store.jobs(TENANT, { limit: 5 })).to.deep.equal([FEED.jobId]);
    await subject.raw.config("SET", "maxmemory", "0");
    expect(told((await append(withId("before"), withId("x"))).stored)).to.deep.equal(["=2", 4]);
    await subject.store.flushTenant(TENANT);
    expect((await readAll(subject.store, TENANT_FEED)).newest).to.have.length(1);
  });

  it("while it fills up every append is stored whole or not at all", async () => {
    subject = await openRedis(server);
    await append(log());
    const used = Number(/used_memory:(\d+)/.exec(await subject.raw.info("memory"))?.[1]);
    await subject.raw.config("SET", "maxmemory", String(used + 2_000_000));
    let stored = 1;
    for (let round = 0, full = 0; full < 3; round++) {
      const batch = Array.from({ length: 20 }, (_, i) => withId(`${round} ${i}`, log("x".repeat(5_000))));
      const answer = await append(...batch).catch((error: HubError) => error);
      if (answer instanceof HubError) full++;
      else stored += batch.length;
      expect((await readAll(subject.store)).seq).to.equal(stored + 1);
    }
    expect((await readAll(subject.store)).logged).to.have.length(stored + 1);
  });

  it("that cannot write to its disk: storage_full, nothing stored", async () => {
    const disk = tempFolder("disk");
    const full = await startRedis({ args: ["--dir", disk.path, "--save", "3600 1000000"] });
    subject = await openRedis(full);
    await append(withId("before"));
    const before = await contents();
    disk.remove();
    await subject.raw.bgsave();
    await until(async () => (await subject.raw.info("persistence")).includes("rdb_last_bgsave_status:err"));
    const error = await failure(append(withId("x")));
    expect(error).to.be.instanceOf(HubError).and.to.include({ code: "storage_full", temporary: true });
    expect(await contents()).to.deep.equal(before);
    await full.kill("SIGKILL");
    await full.stop();
  });

  it("with fewer replicas than it must have: unavailable, nothing stored", async () => {
    subject = await openRedis(server);
    await append(log());
    await subject.raw.config("SET", "min-replicas-to-write", "1");
    const error = await failure(append(log()));
    expect(error).to.be.instanceOf(HubError).and.to.include({ code: "unavailable" });
    await subject.raw.config("SET", "min-replicas-to-write", "0");
    expect(told((await append(log())).stored)).to.deep.equal([3]);
  });

  it("gone: appends are refused at once, and work again when it is back", async () => {
    subject = await openRedis(server);
    await append(log());
    await server.kill();
    for (let i = 0; i < 5; i++) {
      const started = Date.now();
      expect(await failure(append(log())))
        .to.be.instanceOf(HubError)
        .and.to.include({ code: "unavailable" });
      expect(Date.now() - started).to.be.below(2_500);
    }
    await until(() => !subject.store.ready);
    await server.start();
    await until(() => subject.store.ready);
    expect(told((await append(log())).stored)).to.deep.equal([2]);
  });

  it("hanging: appends are refused in time, and what ran after all is not stored twice", async () => {
    subject = await openRedis(server, { timeoutMs: 300 });
    await append(withId("a"));
    server.pause();
    const started = Date.now();
    expect(await failure(append(withId("b"))))
      .to.be.instanceOf(HubError)
      .and.to.include({ code: "unavailable" });
    expect(Date.now() - started).to.be.within(250, 4_000);
    server.resume();
    await until(async () => (await readAll(subject.store).catch(() => undefined))?.seq === 3);
    expect(told((await append(withId("b"), withId("c"))).stored)).to.deep.equal(["=3", 4]);
  });

  it("busy with somebody's script: appends are refused in time", async () => {
    subject = await openRedis(server, { timeoutMs: 300 });
    await append(log());
    await subject.raw.config("SET", "busy-reply-threshold", "50");
    const admin = subject.raw.duplicate();
    await admin.ping();
    const busy = subject.raw.eval("while true do end", 0).catch(() => {});
    await until(async () => (await admin.ping().catch((error: Error) => error.message)).startsWith("BUSY"));
    expect(await failure(append(log())))
      .to.be.instanceOf(HubError)
      .and.to.include({ code: "unavailable" });
    await admin.script("KILL");
    await busy;
    await until(async () => (await append(log()).catch(() => undefined)) !== undefined);
    admin.disconnect();
  });
});
