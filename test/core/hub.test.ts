import { expect } from "chai";
import type { Identity } from "../../src/auth.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { EXAMPLES, exampleOf } from "../protocol/examples.ts";
import { line, progress, type Scripted, scripted, status, TRAINER, WATCHER } from "./scripted.ts";

describe("core/hub", () => {
  let hub: Scripted;
  beforeEach(() => {
    hub = scripted();
  });
  afterEach(() => hub.close());

  const make = async (...ids: string[]) => {
    for (const job_id of ids) await hub.publish({ ...line(), job_id });
  };
  const list = async (options: { limit: number; before?: string }, identity: Identity = WATCHER) => {
    const { jobs, next } = await hub.hub.jobs.list(identity, options);
    return [jobs.map(({ job_id }) => job_id).join(" "), next];
  };

  it("jobs() lists newest first, page by page", async () => {
    await make("a", "b", "c", "d", "e");
    expect(await list({ limit: 10 })).to.deep.equal(["e d c b a", undefined]);
    expect(await list({ limit: 2 })).to.deep.equal(["e d", "d"]);
    expect(await list({ limit: 2, before: "d" })).to.deep.equal(["c b", "b"]);
    expect(await list({ limit: 2, before: "b" })).to.deep.equal(["a", undefined]);
    expect(await list({ limit: 5 })).to.deep.equal(["e d c b a", "a"]);
    expect(await list({ limit: 5, before: "a" })).to.deep.equal(["", undefined]);
  });

  it("jobs() shows a token with an allow-list its jobs, in full pages, however many others lie between", async () => {
    await make("x-1", ...Array.from({ length: 12 }, (_, i) => `other-${i}`), "x-2", "mine", "other-z");
    const limited = { ...WATCHER, jobs: ["x-*", "mine"] };
    expect(await list({ limit: 2 }, limited)).to.deep.equal(["mine x-2", "x-2"]);
    expect(await list({ limit: 2, before: "x-2" }, limited)).to.deep.equal(["x-1", undefined]);
    expect(await list({ limit: 5 }, limited)).to.deep.equal(["mine x-2 x-1", undefined]);
    expect(await list({ limit: 5 }, { ...WATCHER, jobs: [] })).to.deep.equal(["", undefined]);
    expect(await list({ limit: 5 }, { ...WATCHER, tenantId: "other" })).to.deep.equal(["", undefined]);
  });

  it("jobs() sums each job up", async () => {
    const created = { type: "job_created", job_id: "a", data: { name: "n", kind: "lora", tags: ["x"] } };
    await hub.publish(created, { ...status("running"), job_id: "a" });
    await hub.publish({ ...progress({ loss: 1, step: 3 }), job_id: "a" });
    await hub.publish({ ...progress({ loss: 9 }), job_id: "a", rank: 1 });
    await hub.publish({ ...progress({ stage: "s" }), job_id: "a", rank: 0 });
    const { jobs } = await hub.hub.jobs.list(WATCHER, { limit: 1 });
    const { epoch, created_at, updated_at, ...rest } = jobs[0]!;
    expect(rest).to.deep.equal({
      ...{ job_id: "a", seq: 5, status: "running", created_by: "t", name: "n", kind: "lora" },
      ...{ attempt: 1, liveness: "live" },
      progress: { stage: "s" },
    });
    expect(Date.parse(updated_at)).to.be.at.least(Date.parse(created_at));
    expect(epoch).to.be.a("string");
  });

  it("allJobs() are all that may be seen, newest first, with their status", async () => {
    await make("a", "b", "c", "d");
    for (const [job_id, value] of Object.entries({
      a: "completed",
      b: "paused",
      c: "failed",
      d: "cancelled",
    }))
      await hub.publish({ ...status(value), job_id });
    const all = await hub.hub.jobs.all(WATCHER);
    expect(all.map(({ job_id, status: now }) => `${job_id} ${now}`)).to.deep.equal([
      "d cancelled",
      "c failed",
      "b paused",
      "a completed",
    ]);
  });

  it("snapshot() is the job's state: fields, newest events, newest values, counts", async () => {
    await hub.publish(
      { ...exampleOf("job_created"), job_id: "job", id: undefined, producer: undefined, n: undefined },
      status("running"),
      progress({ loss: 1, metrics: { a: 1 } }),
      progress({ stage: "s", metrics: { b: "NaN" } }),
      { ...progress({ loss: 5 }), product: "p" },
      { type: "product_completed", product: "p", data: { total: 3 } },
      { type: "product_completed", product: "p", data: {} },
      { type: "product_completed", product: "q", data: { failed: true } },
      line("a"),
      line("b"),
      { type: "job_updated", data: { name: "renamed", progress: 50 } },
      status("failed"),
    );
    const snapshot = await hub.hub.jobs.snapshot(WATCHER, "job");
    expect(snapshot).to.include({
      ...{ job_id: "job", tenant_id: "acme", seq: 13, name: "renamed", status: "failed", created_by: "t" },
      ...{ kind: EXAMPLES.job_created.kind, dataset_id: "faces", agent_id: "agent-7" },
    });
    expect(snapshot.products).to.deep.equal({ completed: 1, failed: 1, total: 3, progress: 60 });
    expect(snapshot.counts).to.include({
      log: 2,
      training_status: 2,
      training_progress: 5,
      product_completed: 2,
    });
    expect(Object.keys(snapshot.latest)).to.have.members([
      ...["job_created", "training_status", "product_completed", "job_updated"],
    ]);
    expect(snapshot.latest.training_status).to.include({ seq: 13, type: "training_status", feed: "job" });
    expect(snapshot.newest.map(({ product, data }) => [product, data])).to.have.deep.members([
      [undefined, { loss: 1, stage: "s", metrics: { a: 1, b: "NaN" }, current: 2, progress: 60, total: 3 }],
      ["p", { loss: 5 }],
    ]);
  });

  it("snapshot() and series() of a missing, foreign or forbidden job are one and the same refusal", async () => {
    await make("job");
    const refusals = await Promise.all(
      [
        hub.hub.jobs.snapshot(WATCHER, "none"),
        hub.hub.jobs.snapshot({ ...WATCHER, tenantId: "other" }, "job"),
        hub.hub.jobs.snapshot({ ...WATCHER, jobs: ["mine"] }, "job"),
        hub.hub.jobs.series(WATCHER, { job_id: "none" }),
        hub.hub.jobs.series({ ...WATCHER, jobs: ["mine"] }, { job_id: "job" }),
        hub.hub.replays.page({ ...WATCHER, jobs: ["mine"] }, { job_id: "job" }),
      ].map((promise) => promise.catch((error: HubError) => JSON.stringify(error))),
    );
    expect(new Set(refusals)).to.deep.equal(new Set([JSON.stringify(new HubError("job_not_found"))]));
  });

  it("series() are the metrics of progress, up to the head", async () => {
    await hub.publish(
      progress({ step: 1, loss: 1 }),
      progress({ stage: "no numbers" }),
      progress({ step: 2, loss: "NaN" }),
    );
    const { epoch } = await hub.hub.jobs.snapshot(WATCHER, "job");
    const bucket = { attempt: 1, first_step: 1, last_step: 1, min: 1, max: 1, last: 1, count: 1, nan: 0 };
    const none = { ...bucket, first_step: 2, last_step: 2, min: null, max: null, last: null, nan: 1 };
    const series = [{ metric: "loss", buckets: [bucket, none] }];
    expect(await hub.hub.jobs.series(WATCHER, { job_id: "job" })).to.deep.equal({
      ...{ job_id: "job", epoch, seq: 4, dropped: 0, series },
    });
    expect(await hub.hub.jobs.series(WATCHER, { job_id: "job", metric: "other" })).to.deep.equal({
      ...{ job_id: "job", epoch, seq: 4, dropped: 0, series: [] },
    });
  });

  it("tells tenants apart that use the same job ids", async () => {
    await make("job");
    await hub.hub.publish({ ...TRAINER, tenantId: "other" }, { ...line("theirs"), job_id: "job" });
    const [ours, theirs] = await Promise.all([
      hub.hub.replays.page(WATCHER, { job_id: "job", history: 10 }),
      hub.hub.replays.page({ ...WATCHER, tenantId: "other" }, { job_id: "job", history: 10 }),
    ]);
    expect(ours.epoch).to.not.equal(theirs.epoch);
    expect(JSON.stringify(ours)).to.not.include("theirs");
    expect(JSON.stringify(theirs)).to.include("theirs").and.not.include("acme");
  });
});
