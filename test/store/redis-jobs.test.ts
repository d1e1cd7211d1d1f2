/** Lists of a tenant's jobs: each living job once, whatever goes away meanwhile. */
import { expect } from "chai";
import { HubError } from "../../src/protocol/codes.ts";
import type { Store } from "../../src/store/store.ts";
import { plainRedis } from "../support/hooks.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { created, log, TENANT } from "./entries.ts";
import { openRedis, type RedisSubject } from "./subject.ts";

describe("store: Redis, lists of jobs", () => {
  let subject: RedisSubject;
  let server: RedisServer | undefined;

  afterEach(async () => {
    await subject.close();
    await server?.stop();
    server = undefined;
  });

  const name = (i: number) => `job-${String(i).padStart(3, "0")}`;

  /** Oldest first. */
  async function create(count: number): Promise<string[]> {
    const ids = Array.from({ length: count }, (_, i) => name(i));
    const { index } = subject.keys.tenant(TENANT);
    for (const [i, jobId] of ids.entries()) {
      await subject.store.append({ tenantId: TENANT, jobId }, [log()], created(jobId));
      await subject.raw.zadd(index, 1_000 + i, jobId);
    }
    return ids;
  }

  /** As its life ends: the feed goes, the index is not told. */
  async function expire(jobId: string): Promise<void> {
    await subject.raw.del(...Object.values(subject.keys.job(TENANT, jobId)));
  }

  async function paged(store: Store, limit: number): Promise<string[]> {
    const found: string[] = [];
    for (;;) {
      const before = found.at(-1);
      const page = await store.jobs(TENANT, { limit, ...(before !== undefined && { before }) });
      expect(page.length).to.be.at.most(limit);
      found.push(...page);
      if (page.length < limit) return found;
    }
  }

  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => expect.fail("it succeeded"),
      (error: unknown) => error,
    );

  it("two listings at once, with expired jobs among the living ones, both find each living job once", async () => {
    subject = await openRedis(await plainRedis());
    const { store: second } = await subject.second();
    const { index } = subject.keys.tenant(TENANT);
    let ids = await create(60);
    for (const limit of [1_000, 20, 7, 1]) {
      const gone = ids.filter((_, i) => i % 4 !== limit % 4 && i % 3 === 0);
      for (const jobId of gone) await expire(jobId);
      ids = ids.filter((jobId) => !gone.includes(jobId));
      const living = [...ids].reverse();
      const both = await Promise.all([paged(subject.store, limit), paged(second, limit)]);
      for (const found of both) expect(found, `limit ${limit}`).to.deep.equal(living);
      expect(await subject.raw.zrevrange(index, 0, -1)).to.deep.equal(living);
    }
  });

  it("pages over jobs that were created in the same millisecond find each once", async () => {
    subject = await openRedis(await plainRedis());
    const ids = await create(30);
    const { index } = subject.keys.tenant(TENANT);
    // Two newer ones, then 24 of one moment, then four older ones.
    for (const jobId of ids.slice(4, 28)) await subject.raw.zadd(index, 1_010, jobId);
    for (const limit of [1, 2, 3, 5, 7, 24, 29, 30, 31]) {
      expect(await paged(subject.store, limit), `limit ${limit}`).to.deep.equal([...ids].reverse());
    }
    await expire(name(10));
    await expire(name(27));
    const living = ids.filter((jobId) => jobId !== name(10) && jobId !== name(27)).reverse();
    for (const limit of [2, 5]) expect(await paged(subject.store, limit)).to.deep.equal(living);
  });

  it("`before` of a job that is gone is an invalid cursor", async () => {
    subject = await openRedis(await plainRedis());
    await create(5);
    await expire(name(2));
    expect(await paged(subject.store, 10)).to.have.length(4);
    for (const before of [name(2), "never-was"]) {
      const error = await failure(subject.store.jobs(TENANT, { limit: 10, before }));
      expect(error).to.be.instanceOf(HubError).and.to.include({ code: "invalid_cursor" });
    }
  });

  it("a full server lists jobs although one of them is gone", async () => {
    server = await startRedis();
    subject = await openRedis(server);
    await create(5);
    await expire(name(2));
    await subject.raw.config("SET", "maxmemory", "1");
    const refused = await failure(
      subject.store.append({ tenantId: TENANT, jobId: name(0) }, [log()], created(name(0))),
    );
    expect(refused).to.include({ code: "storage_full" });
    const living = [4, 3, 1, 0].map(name);
    expect(await subject.store.jobs(TENANT, { limit: 10 })).to.deep.equal(living);
    expect(await paged(subject.store, 2)).to.deep.equal(living);
  });
});
