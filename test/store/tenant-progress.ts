import { expect } from "chai";
import { TENANT_NEWEST, TENANT_PROGRESS_MS } from "../../src/store/store.ts";
import { joinFields } from "../../src/store/wire.ts";
import { created, FEED, JOB, log, progress, readAll, status, TENANT, TENANT_FEED } from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

/** The jobs' merged progress on the tenant's feed. */
export function tenantProgress(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());
  const append = (...entries: Parameters<Subject["store"]["append"]>[1]) =>
    subject.store.append(FEED, entries, created());
  const shown = async () => {
    const { newest, seq } = await readAll(subject.store, TENANT_FEED);
    return {
      seq,
      newest: newest.map((value) => [
        value.seq,
        value.job?.jobId,
        value.job?.position.seq,
        joinFields(value.fields),
      ]),
    };
  };

  it("is put there by flushTenant, merged, with the job's position", async () => {
    const { position } = await append(progress({ loss: 2, step: 1 }), progress({ loss: 1 }), log());
    expect((await shown()).newest).to.deep.equal([]);
    await subject.store.flushTenant(TENANT);
    expect(await shown()).to.deep.equal({ seq: 2, newest: [[2, JOB, 3, '{"loss":1,"step":1}']] });
    const [value] = (await readAll(subject.store, TENANT_FEED)).newest;
    expect(value).to.deep.include({
      key: JOB,
      attempt: 1,
      type: "training_progress",
      head: progress({}).head,
    });
    expect(value?.job?.position.epoch).to.equal(position?.epoch);
  });

  it("comes at most once a second per job, and the trailing value arrives", async function () {
    this.retries(3); // the clock runs on meanwhile
    const { store } = subject;
    await append(progress({ step: 1 }));
    await store.flushTenant(TENANT);
    await append(progress({ step: 2 }));
    await store.flushTenant(TENANT);
    await append(progress({ step: 3 }));
    await subject.pass(TENANT_PROGRESS_MS - 500);
    await store.flushTenant(TENANT);
    expect((await shown()).newest).to.deep.equal([[2, JOB, 2, '{"step":1}']]);
    await subject.pass(500);
    await store.flushTenant(TENANT);
    expect((await shown()).newest).to.deep.equal([[3, JOB, 4, '{"step":3}']]);
    await subject.pass(TENANT_PROGRESS_MS);
    await store.flushTenant(TENANT);
    expect((await shown()).seq).to.equal(3);
  });

  it("comes once, however many instances flush", async () => {
    const { store } = await subject.second();
    await append(progress({ step: 1 }));
    await Promise.all([subject.store, store, subject.store, store].map((one) => one.flushTenant(TENANT)));
    expect((await shown()).seq).to.equal(2);
  });

  it("is flushed before a terminal status, and counts for the once a second", async function () {
    this.retries(3);
    await append(progress({ step: 1 }));
    await subject.store.flushTenant(TENANT);
    await append(progress({ step: 2 }), status("completed"), log());
    const { newest, logged } = await readAll(subject.store, TENANT_FEED);
    expect(newest.map(({ seq, job }) => [seq, job?.position.seq])).to.deep.equal([[3, 3]]);
    expect(logged.at(-1)).to.deep.include({ seq: 4, type: "training_status" });
    await append(progress({ step: 3 }));
    await subject.store.flushTenant(TENANT);
    expect((await shown()).seq).to.equal(4);
    await subject.pass(TENANT_PROGRESS_MS);
    await subject.store.flushTenant(TENANT);
    expect((await shown()).newest).to.deep.equal([[5, JOB, 6, '{"step":3}']]);
  });

  it("is not flushed by a status that ends nothing, nor when it has been shown", async () => {
    await append(progress({ step: 1 }), status("running"));
    expect(await shown()).to.deep.equal({ seq: 2, newest: [] });
    await subject.store.flushTenant(TENANT);
    await append(status("failed"));
    expect((await shown()).seq).to.equal(4);
  });

  it("is that of the whole job, not of its products and ranks", async () => {
    await append(progress({ step: 1 }, { product: "a" }), progress({ step: 2 }, { rank: 1 }));
    await subject.store.flushTenant(TENANT);
    expect((await shown()).newest).to.deep.equal([]);
    await append(
      progress({ step: 3 }),
      progress({ step: 4 }, { rank: 0 }),
      progress({ step: 5 }, { rank: 2 }),
    );
    await subject.store.flushTenant(TENANT);
    expect((await shown()).newest).to.deep.equal([[2, JOB, 5, '{"step":4}']]);
  });

  it("of many jobs comes, the newest of each, up to its cap", async function () {
    this.timeout(60_000);
    const { store } = subject;
    const names = Array.from({ length: TENANT_NEWEST + 20 }, (_, i) => `j${i}`);
    for (const jobId of names)
      await store.append({ ...FEED, jobId }, [progress({ step: 1 })], created(jobId));
    for (let i = 0; i < 12; i++) await store.flushTenant(TENANT);
    const { newest, seq } = await readAll(store, TENANT_FEED);
    expect(seq).to.equal(names.length * 2);
    expect(new Set(newest.map(({ key }) => key)).size).to.equal(TENANT_NEWEST);
    expect(newest.map((value) => value.seq)).to.deep.equal(
      Array.from({ length: TENANT_NEWEST }, (_, i) => seq - TENANT_NEWEST + 1 + i),
    );
  });

  it("of a job that is over does not hold up the others", async () => {
    await append(progress({ step: 1 }), status("completed"), progress({ step: 2 }));
    await subject.store.append({ ...FEED, jobId: "job-2" }, [progress({ step: 3 })], created("job-2"));
    await subject.pass(86_400_000);
    await subject.store.flushTenant(TENANT);
    expect((await shown()).newest.map(([, jobId]) => jobId)).to.include("job-2");
    expect(await subject.store.jobs(TENANT, { limit: 10 })).to.deep.equal(["job-2"]);
  });
}
