import { expect } from "chai";
import {
  created,
  dataset,
  FEED,
  JOB,
  log,
  progress,
  readAll,
  status,
  TENANT,
  TENANT_FEED,
  told,
  withId,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

const SECOND = 1_000;

/** How long feeds are kept. Finished 100 s, silent 1 000 s. */
export function lives(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open({ ttlFinished: 100, ttlSilent: 1_000 });
  });
  afterEach(() => subject.close());
  const append = (...entries: Parameters<Subject["store"]["append"]>[1]) =>
    subject.store.append(FEED, entries, created());
  const alive = async () => (await subject.store.heads(TENANT, [FEED]))[0] !== undefined;

  it("a silent job is over after its life, and every event renews it", async () => {
    await append(log());
    for (let i = 0; i < 4; i++) {
      await subject.pass(700 * SECOND);
      expect(await alive(), `round ${i}`).to.equal(true);
      await append(i % 2 ? progress({ step: i }) : log());
    }
    await subject.pass(1_001 * SECOND);
    expect(await alive()).to.equal(false);
    expect(await subject.store.job(TENANT, JOB)).to.equal(undefined);
    expect(await subject.store.series(TENANT, JOB, {})).to.equal(undefined);
    expect(await subject.store.jobs(TENANT, { limit: 10 })).to.deep.equal([]);
    expect((await readAll(subject.store)).epoch).to.equal(null);
  });

  it("a terminal status shortens its life, and another status gives it back", async () => {
    await append(log(), status("completed"), log());
    await subject.pass(90 * SECOND);
    expect(await alive()).to.equal(true);
    await append(status("running", { attempt: 2 }));
    await subject.pass(900 * SECOND);
    expect(await alive()).to.equal(true);
    await append(status("cancelled"));
    await subject.pass(101 * SECOND);
    expect(await alive()).to.equal(false);
  });

  it("what is sent after the end does not give it back, but renews what is left", async () => {
    await append(status("failed"));
    await subject.pass(70 * SECOND);
    await append(log());
    await subject.pass(70 * SECOND);
    expect(await alive()).to.equal(true);
    await subject.pass(31 * SECOND);
    expect(await alive()).to.equal(false);
  });

  it("a job that comes again is a new one: other epoch, nothing of the old one left", async () => {
    const first = await append(withId("a"), progress({ loss: 1 }), status("completed"));
    await subject.pass(101 * SECOND);
    const again = await append(withId("a"), log("b"));
    expect(told(again.stored)).to.deep.equal([2, 3]);
    expect(again.position?.epoch).to.not.equal(first.position?.epoch);
    const page = await readAll(subject.store);
    expect(page.logged.map(({ seq }) => seq)).to.deep.equal([1, 2, 3]);
    expect(page).to.deep.include({ newest: [], trimmed: [] });
    const state = await subject.store.job(TENANT, JOB);
    expect(Object.fromEntries(state?.counts ?? [])).to.deep.equal({ "type:job_created": 1, "type:log": 2 });
    expect(Object.keys(Object.fromEntries(state?.fields ?? []))).to.not.include("loss");
    expect((await subject.store.series(TENANT, JOB, {}))?.series).to.deep.equal([]);
    const read = await subject.store.read(FEED, {
      ...{ epoch: first.position?.epoch as string, after: 1, limit: 10, bytes: 1_000, streams: ["events"] },
    });
    expect(read.reset).to.equal(true);
  });

  it("the tenant's feed outlives its jobs", async () => {
    await subject.store.append(TENANT_FEED, [withId("d", dataset())]);
    await append(status("completed"));
    await subject.pass(500 * SECOND);
    const { seq, epoch } = await readAll(subject.store, TENANT_FEED);
    expect(seq).to.equal(3);
    await append(log());
    await subject.pass(700 * SECOND);
    // Its ids are kept as long as it is.
    const again = await subject.store.append(TENANT_FEED, [withId("d", dataset())]);
    expect(told(again.stored)).to.deep.equal(["=1"]);
    expect(again.position?.epoch).to.equal(epoch);
  });

  it("progress that is flushed keeps the tenant's feed, and with it the list of jobs", async () => {
    await append(progress({ step: 1 }));
    for (let i = 0; i < 5; i++) {
      await subject.pass(300 * SECOND);
      await append(progress({ step: i }));
      await subject.store.flushTenant(TENANT);
      expect(await subject.store.jobs(TENANT, { limit: 10 }), `round ${i}`).to.deep.equal([JOB]);
    }
    await subject.pass(600 * SECOND);
    expect(await subject.store.jobs(TENANT, { limit: 10 })).to.deep.equal([JOB]);
    expect((await readAll(subject.store, TENANT_FEED)).logged).to.have.length(1);
  });

  it("is longer for a finished job where the settings say so", async () => {
    await subject.close();
    subject = await open({ ttlFinished: 5_000, ttlSilent: 1_000 });
    await append(log(), status("completed"));
    await subject.pass(4_000 * SECOND);
    expect(await alive()).to.equal(true);
    expect(await subject.store.jobs(TENANT, { limit: 10 })).to.deep.equal([JOB]);
    await subject.pass(1_001 * SECOND);
    expect(await alive()).to.equal(false);
  });
}
