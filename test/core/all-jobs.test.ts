/** `subscribe {job_id: "*"}`: every active job, new ones from their first event, and no more than there is room for. */
import { expect } from "chai";
import type { Identity } from "../../src/auth.ts";
import { AllJobs } from "../../src/core/all-jobs.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Snapshot, SubscribeAllAnswer, SubscribeRequest } from "../../src/protocol/types.ts";
import {
  allPages,
  asTold,
  line,
  pass,
  progress,
  type Scripted,
  type ScriptedOptions,
  sample,
  scripted,
  settle,
  startClock,
  status,
  stopClock,
  TENANT,
  WATCHER,
  Watching,
} from "./scripted.ts";

describe("core/all-jobs", () => {
  const limits = LIMITS as Record<string, number>;
  const { allJobs } = LIMITS;
  let hub: Scripted;
  let watching: Watching;
  let all: AllJobs;

  beforeEach(() => {
    stopClock();
    watching = new Watching();
  });
  afterEach(async () => {
    Object.assign(limits, { allJobs });
    all.close();
    await hub.close();
    startClock();
  });

  const open = (options: ScriptedOptions = {}) => {
    hub = scripted(options);
  };
  const again = () => ({ ...status("running"), attempt: 2 });
  const on = (job_id: string, ...events: object[]) =>
    hub.publish(...events.map((event) => ({ ...event, job_id })));

  async function begin(
    request: Omit<SubscribeRequest, "job_id"> = {},
    identity: Identity = WATCHER,
  ): Promise<SubscribeAllAnswer[]> {
    all = new AllJobs(hub.hub, identity, { job_id: "*", ...request }, watching);
    return await allPages(all, watching, request);
  }

  const told = () => watching.events.map(({ jobId, seq }) => `${jobId} ${seq}`);
  const jobsOf = (pages: SubscribeAllAnswer[]) =>
    pages.flatMap(({ jobs }) => jobs.map(({ job_id }) => job_id));

  it("answers each active job with its snapshot, and follows it", async () => {
    open();
    await on("a", line(), status("running"));
    await on("b", line());
    await on("c", line(), status("completed"));
    const [answer] = await begin();
    expect(answer).to.not.have.property("more");
    expect(jobsOf([answer as SubscribeAllAnswer])).to.deep.equal(["b", "a"]);
    expect(answer?.jobs[1]).to.include({ job_id: "a", feed: "job", seq: 3, recovered: true });
    expect((answer!.jobs[1]!.snapshot as Snapshot).status).to.equal("running");
    await on("a", line());
    await on("b", sample());
    await on("c", line());
    expect(told()).to.deep.equal(["a 4", "b 3"]);
    expect(all.positions()).to.have.deep.members([
      { feed: "job", job_id: "a", epoch: answer?.jobs[1]?.epoch, seq: 4 },
      { feed: "job", job_id: "b", epoch: answer?.jobs[0]?.epoch, seq: 3 },
    ]);
  });

  it("follows new jobs from their first event, whatever happens while it reads them", async () => {
    open();
    await begin();
    let during = 0;
    hub.store.around = async (call) => {
      if (call === "read" && ++during < 4) await on("new", line(`during ${during}`));
    };
    await on("new", line());
    await settle(10);
    hub.store.around = () => {};
    await on("new", line());
    expect(told()).to.deep.equal([1, 2, 3, 4, 5, 6].map((seq) => `new ${seq}`));
    expect(watching.gaps).to.deep.equal([]);
  });

  it("follows a job that lives again from the status that says so", async () => {
    open();
    await on("a", line(), status("completed"));
    await begin();
    await on("a", line());
    await on("a", again(), line());
    await settle();
    expect(told()).to.deep.equal(["a 5", "a 6"]);
  });

  it("follows a job that lives again by an update of its own", async () => {
    open();
    await on("a", line(), { type: "job_updated", data: { status: "completed" } });
    await begin();
    await on("a", { type: "job_updated", data: { name: "renamed" } });
    await settle();
    expect(told()).to.deep.equal([]);
    await on("a", { type: "job_updated", data: { status: "running" }, attempt: 2 }, line());
    await settle();
    expect(told()).to.deep.equal(["a 5", "a 6"]);
  });

  it("keeps a job that ends, and hears it when it goes on", async () => {
    open();
    await on("a", line());
    await begin();
    await on("a", status("failed"), line("a late one"), again(), line());
    expect(told()).to.deep.equal(["a 3", "a 4", "a 5", "a 6"]);
  });

  it("goes on after each cursor of `since`, names what is gone, and adds the other active jobs", async () => {
    open();
    await on("a", line(), line());
    await on("b", line());
    await on("ended", line(), status("completed"), line());
    const [first] = await begin();
    const at = (job: string) => first?.jobs.find(({ job_id }) => job_id === job)?.epoch as string;
    all.close();
    const ended = (await hub.hub.jobs.snapshot(WATCHER, "ended")).epoch;
    const since = {
      a: { epoch: at("a"), seq: 1 },
      ended: { epoch: ended, seq: 3 },
      gone: { epoch: "e", seq: 5 },
      lost: { epoch: "e", seq: 5 },
    };
    await on("lost", line());
    const [answer] = await begin({ since });
    const jobs = Object.fromEntries((answer as SubscribeAllAnswer).jobs.map((one) => [one.job_id, one]));
    expect(Object.keys(jobs)).to.have.members(["a", "ended", "gone", "lost", "b"]);
    expect(jobs.a?.events.map(({ seq }) => seq)).to.deep.equal([2, 3]);
    expect(jobs.ended?.events.map(({ seq }) => seq)).to.deep.equal([4]);
    expect(jobs.gone).to.include({ epoch: null, recovered: false, snapshot: null });
    expect(jobs.lost).to.include({ recovered: false, seq: 2 });
    expect(jobs.b).to.include({ recovered: true, seq: 2 });
  });

  it("begins jobs without a cursor with their history", async () => {
    open();
    await on("a", line(), line(), line());
    const [answer] = await begin({ history: 2 });
    expect(answer?.jobs[0]?.events.map(({ seq }) => seq)).to.deep.equal([3, 4]);
  });

  it("pages: as many jobs as fit into 128 KB, and each job's own pages", async () => {
    open();
    const big = { type: "custom", data: { name: "n", data: { text: "x".repeat(40_000) } } };
    for (const job of ["a", "b", "c", "d", "e"]) await on(job, big);
    await on("long", ...Array.from({ length: 300 }, () => line()));
    const { epoch } = await hub.hub.jobs.snapshot(WATCHER, "long");
    const pages = await begin({ since: { long: { epoch, seq: 1 } } });
    expect(pages.length).to.be.above(2);
    for (const page of pages) expect(JSON.stringify(page).length).to.be.below(LIMITS.pageBytes + 2_000);
    const long = pages.flatMap(({ jobs }) => jobs).filter(({ job_id }) => job_id === "long");
    expect(long.map(({ events, more = false }) => [events.length, more])).to.deep.equal([
      [256, true],
      [44, false],
    ]);
    expect(new Set(jobsOf(pages))).to.deep.equal(new Set(["a", "b", "c", "d", "e", "long"]));
    for (const job of ["a", "long"]) await on(job, line());
    expect(told()).to.deep.equal(["a 3", "long 302"]);
  });

  it("holds what it hears of before the first answer until that is given", async () => {
    open();
    await on("a", line());
    all = new AllJobs(hub.hub, WATCHER, { job_id: "*" }, watching);
    await all.begin(undefined);
    await on("new", line());
    const page = await all.page();
    await on("newer", line());
    await settle();
    expect(watching.received).to.deep.equal([]);
    const answer = asTold(page.finish());
    page.start();
    await settle();
    expect(answer.jobs.map(({ job_id }) => job_id)).to.deep.equal(["a"]);
    expect(told()).to.have.members(["new 1", "new 2", "newer 1", "newer 2"]);
  });

  it("never doubles a job that is in `since` and lives again meanwhile", async () => {
    open();
    await on("a", line(), status("completed"));
    const { epoch } = await hub.hub.jobs.snapshot(WATCHER, "a");
    let once = true;
    hub.store.around = async (call) => {
      if (call !== "heads" || !once) return;
      once = false;
      await on("a", again(), line());
    };
    const [answer] = await begin({ since: { a: { epoch, seq: 3 } } });
    await settle();
    const answered = answer?.jobs.flatMap(({ events }) => events.map(({ seq }) => `a ${seq}`)) ?? [];
    expect([...answered, ...told()]).to.deep.equal(["a 4", "a 5"]);
  });

  it("shows a token with a job allow-list its jobs only, those of `since` too", async () => {
    open();
    for (const job of ["mine", "exp-1", "theirs"]) await on(job, line());
    const limited = { ...WATCHER, jobs: ["mine", "exp-*"] };
    const cursor = { epoch: "e", seq: 1 };
    const [answer] = await begin({ since: { theirs: cursor, none: cursor } }, limited);
    const of = (job: string) => answer?.jobs.find(({ job_id }) => job_id === job);
    expect({ ...of("theirs"), job_id: "" }).to.deep.equal({ ...of("none"), job_id: "" });
    expect(answer?.jobs.map(({ job_id }) => job_id)).to.have.members(["mine", "exp-1", "theirs", "none"]);
    for (const job of ["theirs", "theirs-2", "exp-2"]) await on(job, line());
    await settle();
    expect(told()).to.deep.equal(["exp-2 1", "exp-2 2"]);
  });

  it("filters by type", async () => {
    open();
    await on("a", line());
    await begin({ types: ["sample_generated"] });
    await on("a", line(), sample());
    await on("new", line(), sample());
    await settle();
    expect(told()).to.deep.equal(["a 4", "new 3"]);
  });

  it("at the limit an ended job gives way; without one the new job is told by a gap", async () => {
    open();
    Object.assign(limits, { allJobs: 2 });
    for (const job of ["a", "b"]) await on(job, line());
    await begin();
    await on("c", line());
    await settle();
    expect(watching.gaps.map(({ job_id, reason, seq }) => [job_id, reason, seq])).to.deep.equal([
      ["c", "overflow", 0],
    ]);
    expect(told()).to.deep.equal([]);
    await on("a", status("completed"));
    await on("d", line());
    await settle();
    await on("a", line());
    expect(told()).to.deep.equal(["a 3", "d 1", "d 2"]);
    expect(watching.gaps).to.have.length(1);
  });

  it("takes the newest active jobs up to the limit", async () => {
    open();
    Object.assign(limits, { allJobs: 3 });
    for (const job of ["a", "b", "c", "d", "e"]) await on(job, line());
    await on("d", status("completed"));
    expect(jobsOf(await begin())).to.deep.equal(["e", "c", "b"]);
  });

  it("looks for jobs again when news of them was lost", async () => {
    open({ store: { maxEvents: 3 } });
    await begin();
    hub.bus.fate = () => "lose";
    for (const job of ["a", "b", "c", "d"]) await on(job, line());
    hub.bus.fate = () => "now";
    hub.bus.renew(TENANT);
    await settle(20);
    // Of `a` the tenant's feed has forgotten; it is found as a gap.
    expect(new Set(told())).to.deep.equal(
      new Set(["a", "b", "c", "d"].flatMap((job) => [`${job} 1`, `${job} 2`])),
    );
    expect(told()).to.have.length(8);
  });

  it("tries again when the store is away while it takes up a new job", async () => {
    open();
    await begin();
    let failures = 0;
    hub.store.around = (call, moment) => {
      if (call === "read" && moment === "before" && failures++ < 2) throw new HubError("unavailable");
    };
    await on("new", line());
    await pass(3_000, 100);
    expect(failures).to.be.above(2);
    expect(told()).to.deep.equal(["new 1", "new 2"]);
    expect(hub.logged).to.deep.equal([]);
  });

  it("tells what a new job had before it could be read, when that is gone", async () => {
    open({ store: { maxEvents: 2 } });
    await begin();
    hub.store.around = async (call, moment) => {
      if (call !== "read" || moment !== "before") return;
      hub.store.around = () => {};
      await on("new", sample(), sample(), sample(), sample());
    };
    await on("new", progress({ loss: 1 }));
    await settle(10);
    expect(watching.gaps.map(({ job_id, reason, seq }) => [job_id, reason, seq])).to.deep.equal([
      ["new", "reset", 6],
    ]);
    expect((watching.gaps[0]!.snapshot as Snapshot).seq).to.equal(6);
    await on("new", line());
    expect(told().at(-1)).to.equal("new 7");
  });

  it("close() leaves every feed, also when it comes while something is read", async () => {
    open();
    await on("a", line());
    await begin();
    hub.store.around = async (call) => {
      if (call === "read") all.close();
    };
    await on("new", line());
    await settle(10);
    await pass(12_000, 500);
    expect(hub.hub.feeds.subscriptions).to.equal(0);
    expect(hub.hub.feeds.size).to.equal(0);
  });

  it("begin() that fails leaves nothing behind once it is closed", async () => {
    open();
    hub.store.around = (call) => {
      if (call === "jobs") throw new HubError("unavailable");
    };
    all = new AllJobs(hub.hub, WATCHER, { job_id: "*" }, watching);
    const error = await all.begin(undefined).catch((reason: HubError) => reason);
    expect(error).to.have.property("code", "unavailable");
    all.close();
    expect(hub.hub.feeds.subscriptions).to.equal(0);
  });
});
