/** Several instances in one registry: who falls silent is forgotten, completely, and nobody else. */
import { expect } from "chai";
import type { JobName } from "../../src/bus/bus.ts";
import type { RedisRegistry } from "../../src/store/redis-registry.ts";
import type { Share } from "../../src/store/registry.ts";
import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { given, JOB } from "./registry.ts";
import { openRegistries, type RedisRegistries } from "./registry-subject.ts";

const MINUTE = 60_000;
const one = (user: string): Share => ({ watchers: 1, users: [user] });
const usersOf = (shares: readonly Share[]) => shares.flatMap(({ users }) => users).sort();

for (const [kind, server] of [
  ["Redis", plainRedis],
  ["Redis with cluster-enabled", clusterRedis],
] as const) {
  describe(`registry: instances on ${kind}`, () => {
    let subject: RedisRegistries;
    let a: RedisRegistry;
    let b: RedisRegistry;
    beforeEach(async () => {
      subject = await openRegistries(await server(), { instanceTimeoutMs: MINUTE });
      a = subject.registry as RedisRegistry;
      b = await subject.another();
      await a.beat();
      await b.beat();
    });
    afterEach(() => subject.close());

    const users = async (job: JobName = JOB) => usersOf(await a.shares(job));
    /** What `finder` finds silent. */
    const silentFor = async (finder: RedisRegistry) => (await finder.beat()).silent;

    it("shares of all are together, and each changes its own", async () => {
      await a.share(JOB, one("ann"));
      await b.share(JOB, one("bob"));
      expect(await users()).to.deep.equal(["ann", "bob"]);
      await a.share(JOB, undefined);
      expect(await users()).to.deep.equal(["bob"]);
    });

    it("one gets the turn, and when it has told nobody else needs to", async () => {
      await a.share(JOB, one("ann"));
      await b.share(JOB, one("bob"));
      const { shares, version } = given(await a.turn(JOB, MINUTE));
      expect(usersOf(shares)).to.deep.equal(["ann", "bob"]);
      expect(await b.turn(JOB, MINUTE)).to.have.property("waitMs");
      await a.told(JOB, version);
      expect(await b.turn(JOB, MINUTE)).to.equal("told");
    });

    it("what changes between turn and told has yet to be told", async () => {
      await a.share(JOB, one("ann"));
      const { version } = given(await a.turn(JOB, MINUTE));
      await b.share(JOB, one("bob"));
      await a.told(JOB, version);
      const next = given(await b.turn(JOB, 0));
      expect(usersOf(next.shares)).to.deep.equal(["ann", "bob"]);
      expect(next.version.n).to.be.above(version.n);
    });

    it("a silent instance is forgotten: shares, trainers, itself; its jobs go over to who did it", async () => {
      const far: JobName = { tenantId: "other", jobId: "far" };
      await a.share(JOB, one("ann"));
      await b.share(JOB, one("bob"));
      await b.share(far, one("bob"));
      await b.share({ ...far, jobId: "left" }, one("bob"));
      await b.share({ ...far, jobId: "left" }, undefined);
      await a.announce(JOB, { id: "stays", rank: 0 });
      await b.announce(JOB, { id: "goes", rank: 0 });
      expect(await silentFor(a)).to.deep.equal([]);
      await subject.silence("hub-b", MINUTE + 1);
      const [name = "", ...more] = await silentFor(a);
      expect(more).to.deep.equal([]);
      const jobs = await a.forget(name);
      expect(jobs.map(({ tenantId, jobId }) => `${tenantId}/${jobId}`)).to.have.members([
        "acme/job-1",
        "other/far",
        "other/left",
      ]);
      expect(await users()).to.deep.equal(["ann"]);
      expect(await users(far)).to.deep.equal([]);
      expect((await a.trainers(JOB)).map(({ id }) => id)).to.deep.equal(["stays"]);
      expect(given(await a.turn(far, 0)).shares).to.deep.equal([]);
      expect(await silentFor(a)).to.deep.equal([]);
      // And from a, should it die as well, to the next.
      const c = await subject.another();
      await c.beat();
      await subject.silence("hub-a", MINUTE + 1);
      const [second = ""] = await silentFor(c);
      expect((await c.forget(second)).map(({ jobId }) => jobId)).to.have.members(["job-1", "far", "left"]);
    });

    it("two may forget it at once", async () => {
      const jobs = Array.from({ length: 250 }, (_, i) => ({ ...JOB, jobId: `job-${i}` }));
      for (const job of jobs) await b.share(job, one("bob"));
      const c = await subject.another();
      await c.beat();
      await subject.silence("hub-b", MINUTE + 1);
      const [name = ""] = await silentFor(a);
      const found = await Promise.all([a.forget(name), c.forget(name)]);
      for (const job of jobs) expect(await users(job)).to.deep.equal([]);
      expect(Math.max(...found.map(({ length }) => length))).to.equal(jobs.length);
      expect(await a.forget(name)).to.deep.equal([]);
    });

    it("who was heard of meanwhile is not forgotten", async () => {
      await b.share(JOB, one("bob"));
      await subject.silence("hub-b", MINUTE + 1);
      const [name = ""] = await silentFor(a);
      expect(await b.beat()).to.include({ anew: false });
      expect(await a.forget(name)).to.deep.equal([]);
      expect(await users()).to.deep.equal(["bob"]);
    });

    it("who was forgotten and comes back is told so, and what it says then stays", async () => {
      await b.share(JOB, one("bob"));
      await subject.silence("hub-b", MINUTE + 1);
      const [name = ""] = await silentFor(a);
      await a.forget(name);
      // Not yet told: this comes too late, under a name that is gone.
      await b.share(JOB, one("late"));
      expect((await b.beat()).anew).to.equal(true);
      await b.share(JOB, one("back"));
      for (const silent of await silentFor(a)) await a.forget(silent);
      expect(await users()).to.deep.equal(["back"]);
      expect(await b.beat()).to.deep.equal({ anew: false, silent: [] });
    });

    it("a hub that starts again under the same name is not the one that died", async () => {
      await b.share(JOB, one("bob"));
      await b.announce(JOB, { id: "t", rank: 0 });
      const again = await subject.another("hub-b");
      expect((await again.beat()).anew).to.equal(true);
      await again.withdraw(JOB, "t");
      expect(await a.trainers(JOB)).to.have.length(1);
      await subject.silence("hub-b", MINUTE + 1);
      await again.beat();
      for (const silent of await silentFor(a)) await a.forget(silent);
      expect(await users()).to.deep.equal([]);
      expect(await a.trainers(JOB)).to.deep.equal([]);
      expect((await again.beat()).anew).to.equal(false);
    });

    it("a trainer that has come to another instance stays when the first takes it away", async () => {
      await a.announce(JOB, { id: "t", rank: 3 });
      await b.announce(JOB, { id: "t", rank: 3 });
      await a.withdraw(JOB, "t");
      expect(await a.trainers(JOB)).to.deep.equal([{ id: "t", rank: 3, instanceId: "hub-b", order: 2 }]);
    });

    it("who leaves takes its shares along, and the others tell its jobs at once", async () => {
      await a.share(JOB, one("ann"));
      await b.share(JOB, one("bob"));
      await b.leave();
      expect(await users()).to.deep.equal(["ann"]);
      const [name = ""] = await silentFor(a);
      expect((await a.forget(name)).map(({ jobId }) => jobId)).to.deep.equal([JOB.jobId]);
      expect(given(await a.turn(JOB, 0)).shares).to.deep.equal([one("ann")]);
    });

    it("the last one that leaves leaves nothing but what was told, and that expires", async () => {
      await a.share(JOB, one("ann"));
      await a.announce(JOB, { id: "t", rank: 0 });
      await a.lease("work", MINUTE);
      await a.report("a");
      await b.report("b");
      for (const key of await subject.allKeys()) expect(await subject.raw.pttl(key), key).to.be.above(0);
      await b.leave();
      for (const silent of await silentFor(a)) await a.forget(silent);
      await a.leave();
      const { keys } = subject;
      expect(await subject.allKeys()).to.have.members([
        keys.job(JOB.tenantId, JOB.jobId).watchers,
        keys.lease("work"),
      ]);
    });

    it("what stays without a change is renewed by beats", async () => {
      const renewing = await openRegistries(await server(), { renewMs: 0 });
      const { registry, raw } = renewing;
      await registry.beat();
      await registry.share(JOB, one("ann"));
      await registry.announce(JOB, { id: "t", rank: 0 });
      const keys = await renewing.allKeys();
      expect(keys).to.have.length(4);
      for (const key of keys) await raw.pexpire(key, MINUTE);
      await registry.beat();
      for (const key of keys) expect(await raw.pttl(key), key).to.be.above(2 * MINUTE);
      await renewing.close();
    });

    it("reports are of those that have beaten within the time-out, wherever one asks", async () => {
      await a.report("a");
      await b.report("b");
      expect((await a.reports()).sort()).to.deep.equal(["a", "b"]);
      await subject.silence("hub-b", MINUTE + 1);
      for (const each of [a, b]) expect(await each.reports()).to.deep.equal(["a"]);
      await b.beat();
      expect((await a.reports()).sort()).to.deep.equal(["a", "b"]);
    });

    it("a forgotten instance's report goes with it, and what it still says of itself then", async () => {
      const { raw, keys } = subject;
      await a.report("a");
      await b.report("b");
      await subject.silence("hub-b", MINUTE + 1);
      for (const silent of await silentFor(a)) await a.forget(silent);
      expect(await raw.hvals(keys.reports)).to.deep.equal(["a"]);
      await b.report("late");
      expect(await a.reports()).to.deep.equal(["a"]);
      expect(await raw.hvals(keys.reports)).to.deep.equal(["a"]);
      await b.beat();
      await b.report("back");
      expect((await a.reports()).sort()).to.deep.equal(["a", "back"]);
    });

    it("an instance that leaves takes its report along", async () => {
      await a.report("a");
      await b.report("b");
      await b.leave();
      expect(await subject.raw.hvals(subject.keys.reports)).to.deep.equal(["a"]);
    });

    it("of a hub that has started again only the report of now counts", async () => {
      await b.report("killed");
      const again = await subject.another("hub-b");
      await again.beat();
      await again.report("started");
      expect(await a.reports()).to.deep.equal(["started"]);
    });

    it("reports expire with the rest, and each renews them", async () => {
      const { raw, keys } = subject;
      await a.report("a");
      await raw.pexpire(keys.reports, MINUTE);
      await b.report("b");
      expect(await raw.pttl(keys.reports)).to.be.above(2 * MINUTE);
    });

    it("a lease is one instance's until it is over", async () => {
      expect(await a.lease("work", MINUTE)).to.equal(true);
      expect(await b.lease("work", MINUTE)).to.equal(false);
      expect(await b.lease("other work", MINUTE)).to.equal(true);
      await subject.raw.del(subject.keys.lease("work"));
      expect(await b.lease("work", MINUTE)).to.equal(true);
    });
  });
}

describe("registry: a Redis that is emptied", () => {
  let redis: RedisServer;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.stop());

  it("everybody is new, and says again what it has; versions are higher than before", async () => {
    const subject = await openRegistries(redis);
    const a = subject.registry;
    const b = await subject.another();
    await a.beat();
    await b.beat();
    await a.share(JOB, one("ann"));
    await b.share(JOB, one("bob"));
    const before = given(await a.turn(JOB, 0)).version;
    await subject.raw.flushall();
    expect((await a.beat()).anew).to.equal(true);
    expect((await b.beat()).anew).to.equal(true);
    expect(await a.shares(JOB)).to.deep.equal([]);
    await a.share(JOB, one("ann"));
    await b.share(JOB, one("bob"));
    const { shares, version } = given(await b.turn(JOB, 0));
    expect(usersOf(shares)).to.deep.equal(["ann", "bob"]);
    expect(version.incarnation).to.be.above(before.incarnation);
    await subject.close();
  });
});
