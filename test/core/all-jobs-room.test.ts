/** `subscribe {job_id: "*"}`: who gets a place, what is told of those who get none, and jobs that were missed whole. */
import { expect } from "chai";
import { AllJobs } from "../../src/core/all-jobs.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Cursor, SubscribeAllAnswer, SubscribeRequest } from "../../src/protocol/types.ts";
import {
  allPages,
  line,
  pass,
  type Scripted,
  type ScriptedOptions,
  scripted,
  settle,
  startClock,
  status,
  stopClock,
  TENANT,
  WATCHER,
  Watching,
} from "./scripted.ts";

describe("core/all-jobs, room", () => {
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
  const on = (job_id: string, ...events: object[]) =>
    hub.publish(...events.map((event) => ({ ...event, job_id })));

  async function begin(request: Omit<SubscribeRequest, "job_id"> = {}): Promise<SubscribeAllAnswer[]> {
    all = new AllJobs(hub.hub, WATCHER, { job_id: "*", ...request }, watching);
    return await allPages(all, watching, request);
  }

  const told = () => watching.events.map(({ jobId, seq }) => `${jobId} ${seq}`);
  const gaps = () => watching.gaps.map(({ job_id, reason, seq, epoch }) => [job_id, reason, seq, epoch]);

  it("tells each active job beyond the room by a gap after the first answer", async () => {
    open();
    Object.assign(limits, { allJobs: 2 });
    for (const job of ["a", "b", "c", "d"]) await on(job, line());
    const pages = await begin();
    expect(pages.flatMap(({ jobs }) => jobs.map(({ job_id }) => job_id))).to.deep.equal(["d", "c"]);
    expect(gaps()).to.deep.equal([
      ["b", "overflow", 0, null],
      ["a", "overflow", 0, null],
    ]);
    for (const job of ["a", "b", "c", "d"]) await on(job, line());
    await settle();
    expect(told()).to.deep.equal(["c 3", "d 3"]);
    expect(watching.gaps).to.have.length(2);
  });

  it("jobs of `since` that have ended give way to jobs that begin later", async () => {
    open();
    Object.assign(limits, { allJobs: 2 });
    const since: Record<string, Cursor> = {};
    for (const job of ["a", "b"]) {
      await on(job, line(), status("completed"));
      since[job] = { epoch: (await hub.hub.jobs.snapshot(WATCHER, job)).epoch, seq: 3 };
    }
    const [answer] = await begin({ since });
    expect(answer?.jobs.map(({ job_id }) => job_id)).to.have.members(["a", "b"]);
    for (const job of ["c", "d"]) {
      await on(job, line());
      await settle();
    }
    await on("a", line());
    await on("c", line());
    await settle();
    expect(told()).to.deep.equal(["c 1", "c 2", "d 1", "d 2", "c 3"]);
    expect(watching.gaps).to.deep.equal([]);
    // Both of these are active.
    await on("e", line());
    await settle();
    expect(gaps().map(([job, reason]) => [job, reason])).to.deep.equal([["e", "overflow"]]);
  });

  /** Jobs begin while nothing arrives, more than the tenant's feed keeps. */
  async function missJobs(...between: string[]): Promise<void> {
    await pass(10); // jobs of one millisecond have no order
    hub.bus.fate = () => "lose";
    for (const job of between) await on(job, line(), status("completed"));
    for (const job of ["x", "y", "z"]) await on(job, line());
    hub.bus.fate = () => "now";
  }
  const fromStart = (job: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${job} ${i + 1}`);
  const of = (job: string) => told().filter((one) => one.startsWith(`${job} `));

  it("a job that began and ended while the tenant's feed had a gap comes from its first event", async () => {
    open({ store: { maxEvents: 3 } });
    await on("old", line(), status("completed"));
    await begin();
    await missJobs("missed", "missed-too");
    hub.bus.renew(TENANT);
    await settle(20);
    for (const job of ["missed", "missed-too"]) expect(of(job)).to.deep.equal(fromStart(job, 3));
    for (const job of ["x", "y", "z"]) expect(of(job)).to.deep.equal(fromStart(job, 2));
    expect(of("old"), "it was over before").to.deep.equal([]);
    expect(watching.gaps).to.deep.equal([]);
  });

  it("also when another job begins while it looks for what it has missed", async () => {
    open({ store: { maxEvents: 3 } });
    await on("old", line(), status("completed"));
    await begin();
    await missJobs("missed");
    let looks = 0;
    hub.store.around = async (call, moment) => {
      if (call === "jobs" && moment === "before" && looks++ === 0) {
        await pass(10);
        await on("newer", line());
        await settle(20);
      }
    };
    hub.bus.renew(TENANT);
    await settle(60);
    expect(looks).to.be.above(0);
    expect(of("missed")).to.deep.equal(fromStart("missed", 3));
    expect(of("newer")).to.deep.equal(fromStart("newer", 2));
    expect(of("old")).to.deep.equal([]);
  });

  it("opens jobs side by side: a slow store is waited for far less often than there are jobs", async () => {
    const jobs = Array.from({ length: 40 }, (_, i) => `job-${i}`);
    open();
    for (const job of jobs) await on(job, line());
    let running = 0;
    let most = 0;
    hub.store.around = async (call, moment) => {
      if (moment === "after") return void running--;
      if (call === "heads") most = Math.max(most, running + 1);
      running++;
      await new Promise((resolve) => setTimeout(resolve, 50));
    };
    let pages: SubscribeAllAnswer[] | undefined;
    const began = Date.now();
    const beginning = begin().then((answered) => {
      pages = answered;
    });
    while (!pages) await pass(50);
    await beginning;
    expect(pages.flatMap((page) => page.jobs)).to.have.length(40);
    expect(most, "calls at a time").to.be.within(10, 40);
    // The clock stands still but for `pass`: what has gone by is the calls in a row.
    expect((Date.now() - began) / 50, "calls in a row").to.be.below(25);
  });
});
