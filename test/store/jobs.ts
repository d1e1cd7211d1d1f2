import { expect } from "chai";
import { STATUS_TRANSITIONS } from "../../src/protocol/status.ts";
import type { JobStatus, ProductCounts } from "../../src/protocol/types.ts";
import type { AppendResult, Due, Entry, JobState } from "../../src/store/store.ts";
import { joinFields } from "../../src/store/wire.ts";
import {
  created,
  entryOf,
  FEED,
  JOB,
  log,
  product,
  progress,
  readAll,
  status,
  TENANT,
  told,
  withId,
  withN,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

/** States, attempts, products, signs of life, compare and set, deadlines. */
export function jobs(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());
  const appendTo = (jobId: string, ...entries: Entry[]): Promise<AppendResult> =>
    subject.store.append({ ...FEED, jobId }, entries, created(jobId));
  const append = async (...entries: Entry[]) => told((await appendTo(JOB, ...entries)).stored);
  const state = async (jobId = JOB) => (await subject.store.job(TENANT, jobId)) as JobState;
  const field = async (name: string, jobId = JOB) => (await state(jobId)).fields.get(name);
  const types = async () => (await readAll(subject.store)).logged.map(({ type }) => type);

  describe("status", () => {
    const STATUSES = Object.keys(STATUS_TRANSITIONS) as JobStatus[];

    it("goes the ways of the table and no other; what is refused is not stored", async () => {
      for (const from of STATUSES) {
        for (const to of STATUSES) {
          const jobId = `${from}-${to}`;
          await appendTo(jobId, entryOf("job_created", { status: from }, { job_id: jobId }));
          const [answer] = told((await appendTo(jobId, status(to))).stored);
          const isLegal = STATUS_TRANSITIONS[from].includes(to);
          expect(answer, jobId).to.equal(isLegal ? 2 : "invalid_transition");
          expect(await field("status", jobId), jobId).to.equal(`"${isLegal ? to : from}"`);
          expect((await readAll(subject.store, { ...FEED, jobId })).seq, jobId).to.equal(isLegal ? 2 : 1);
        }
      }
    });

    it("a batch of legal and illegal ones stores the legal ones, in order", async () => {
      const batch = [
        status("running"),
        status("completed"),
        status("running"),
        log("late"),
        status("failed"),
        status("paused", { attempt: 2 }),
        status("cancelled", { attempt: 1 }),
        status("stopping"),
        status("running"),
      ];
      const no = "invalid_transition";
      expect(await append(...batch)).to.deep.equal([2, 3, no, 4, no, 5, no, 6, no]);
      expect(await field("status")).to.equal('"stopping"');
      expect(await field("attempt")).to.equal("2");
    });

    it("of a job that has ended changes only with a higher attempt, whatever else comes", async () => {
      await append(status("failed"));
      await append(log(), progress({ step: 1 }), entryOf("job_updated", { name: "late" }));
      expect(await append(entryOf("job_updated", { name: "x", status: "running" }))).to.deep.equal([
        "invalid_transition",
      ]);
      expect(await field("status")).to.equal('"failed"');
      expect(await append(progress({ step: 1 }, { attempt: 2 }))).to.deep.equal([6]);
      expect(await field("status")).to.equal('"failed"');
      // Without an attempt: of the newest.
      expect(await append(status("running"))).to.deep.equal([7]);
      expect(await append(status("completed", { attempt: 1 }))).to.deep.equal(["invalid_transition"]);
      expect(await field("status")).to.equal('"running"');
    });

    it("refused is no duplicate, and a duplicate is not refused", async () => {
      const end = withN(1, {}, status("completed"));
      expect(await append(end, end, withN(2, {}, status("running")))).to.deep.equal([
        2,
        "=2",
        "invalid_transition",
      ]);
      expect(await append(withN(2, {}, log()))).to.deep.equal([3]);
    });

    it("of two who end a job at once, one is refused", async () => {
      await append(status("running"));
      const two = await subject.second();
      const answers = await Promise.all(
        [subject, two].map(({ store }, i) =>
          store.append(FEED, [status(i ? "failed" : "completed")], created()),
        ),
      );
      const codes = answers.flatMap(({ stored }) => told(stored));
      expect(codes).to.have.members([3, "invalid_transition"]);
    });
  });

  describe("products", () => {
    const counts = async () =>
      (await readAll(subject.store)).logged
        .filter(({ type }) => type === "product_completed")
        .map(({ head }) => (JSON.parse(`{${head}}`) as { products: ProductCounts }).products);
    const jobProgress = async () => {
      const { newest } = await state();
      const own = newest.find(({ key }) => key === "training_progress\u001f\u001f");
      return own && JSON.parse(joinFields(own.fields));
    };

    it("are counted once, whoever sends them and however often; the percentage is told with each", async () => {
      expect(await append(product("a", { total: 3 }), withId("1", product("a")))).to.deep.equal([2, "=2"]);
      expect(await append(product("b"), product("a"), product("b", { total: 3 }))).to.deep.equal([
        4,
        "=2",
        "=4",
      ]);
      expect(await append(product("c"))).to.deep.equal([6]);
      expect(await counts()).to.deep.equal([
        { completed: 1, failed: 0, total: 3, progress: 40 },
        { completed: 2, failed: 0, total: 3, progress: 60 },
        { completed: 3, failed: 0, total: 3, progress: 80 },
      ]);
      expect(await jobProgress()).to.deep.equal({ current: 3, progress: 80, total: 3 });
      expect((await readAll(subject.store)).seq).to.equal(7);
    });

    it("begin at 20 when the total is known after data analysis, and end at 100", async () => {
      await append(entryOf("job_created", { products_total: 7 }), status("running"));
      expect(await field("products_progress")).to.equal(undefined);
      await append(entryOf("job_updated", { products_total: 7 }));
      expect(await jobProgress()).to.deep.equal({ current: 0, progress: 20, total: 7 });
      await append(product("a"));
      expect(await field("products_progress")).to.equal("28");
      await append(status("completed"));
      expect(await jobProgress()).to.deep.equal({ current: 1, progress: 100, total: 7 });
      const { newest, seq } = await state();
      expect(newest[0]?.seq, "before the status").to.equal(seq - 1);
    });

    it("that failed are counted apart, and may still complete; what is completed stays so", async () => {
      const failed = (name: string) => product(name, { failed: true });
      await append(product("a", { total: 4 }), failed("b"), failed("c"));
      expect(await append(failed("a"), failed("b"), product("b"), failed("b"))).to.deep.equal([
        "=2",
        "=4",
        8,
        "=8",
      ]);
      expect(
        (await counts()).map(({ completed, failed, progress }) => [completed, failed, progress]),
      ).to.deep.equal([
        [1, 0, 35],
        [1, 1, 50],
        [1, 2, 65],
        [2, 1, 65],
      ]);
    });

    it("have no percentage without a total", async () => {
      await append(product("a"), product("b", { failed: true }));
      expect(await counts()).to.deep.equal([
        { completed: 1, failed: 0, progress: 0 },
        { completed: 1, failed: 1, progress: 0 },
      ]);
      expect(await jobProgress()).to.equal(undefined);
    });

    it("are not more than their total, and the total not less than they are", async () => {
      expect(
        await append(
          product("a", { total: 2 }),
          product("b", { total: 1 }),
          product("b"),
          product("c"),
          entryOf("job_updated", { products_total: 1 }),
          product("a", { total: 1 }),
          entryOf("job_updated", { products_total: 3 }),
          product("c"),
        ),
      ).to.deep.equal([2, "invalid_total", 4, "invalid_total", "invalid_total", "=2", 6, 8]);
    });

    it("are counted anew in another attempt; those of an earlier one no longer count", async () => {
      await append(product("a", { total: 2 }), product("b"));
      await append(product("a", { total: 2 }), status("running", { attempt: 2 }), product("a"));
      const late = await append(product("c"), { ...product("b", {}), attempt: 1 });
      expect(late).to.deep.equal([9, 11]);
      expect((await counts()).map((one) => one?.completed)).to.deep.equal([1, 2, 1, 2, undefined]);
      expect((await state()).counts.get("products:completed")).to.equal(2);
      expect(await append(product("a"))).to.deep.equal(["=7"]);
    });

    it("of a lower attempt change no total, and those of a job that has ended no percentage", async () => {
      await append(status("running", { attempt: 2 }), product("a", { total: 4 }), product("b"), product("c"));
      await append(
        entryOf("job_updated", { products_total: 1 }, { attempt: 1 }),
        entryOf("product_completed", { total: 1 }, { product: "x", attempt: 1 }),
      );
      expect([await field("products_total"), await field("products_progress")]).to.deep.equal(["4", "65"]);
      await append(status("completed"), product("d"), entryOf("job_updated", { products_total: 9 }));
      expect([await field("products_total"), await field("products_progress")]).to.deep.equal(["9", "100"]);
      expect((await counts()).at(-1)).to.deep.equal({ completed: 4, failed: 0, total: 4, progress: 100 });
      expect(await jobProgress()).to.deep.equal({ current: 3, progress: 100, total: 4 });
    });

    it("are at 100 % when a higher attempt completes at once", async () => {
      await append(product("a", { total: 2 }), status("completed", { attempt: 2 }));
      expect(await field("products_progress")).to.equal("100");
      expect((await state()).counts.get("products:completed")).to.equal(undefined);
    });

    it("are counted exactly by two who send all of them at once", async () => {
      const names = Array.from({ length: 40 }, (_, i) => `p${i}`);
      const two = await subject.second();
      await Promise.all(
        [subject, two, subject, two].flatMap(({ store }) =>
          names.map((name) => store.append(FEED, [product(name, { total: 40 })], created())),
        ),
      );
      expect((await counts()).map(({ progress }) => progress)).to.deep.equal(
        names.map((_, i) => 20 + Math.floor(((i + 1) / 40) * 60)),
      );
    });
  });

  describe("signs of life", () => {
    const due = () => subject.store.due(TENANT, 10, ["liveness", "status"]);
    const names = (list: Due[]) => list.map(({ jobId, what }) => `${jobId}/${what}`);

    it("an event begins the job's liveness, which is due at once; creating and queueing it does not", async () => {
      await append(
        entryOf("job_created", { name: "x" }),
        entryOf("job_updated", { name: "y" }),
        status("queued"),
      );
      expect(await field("liveness")).to.equal(undefined);
      expect((await state()).seenAt).to.equal(undefined);
      expect(await due()).to.deep.equal([]);
      await append(progress({ step: 1 }));
      expect(await field("liveness")).to.equal('"live"');
      const [one] = await due();
      expect(one).to.include({ jobId: JOB, what: "liveness" });
      expect(one?.silentMs).to.be.within(0, 5_000);
      expect(one?.seenAt).to.be.within(Date.now() - 10_000, Date.now() + 1_000);
      expect(Object.fromEntries(one?.fields ?? [])).to.deep.equal({
        liveness: '"live"',
        status: '"queued"',
      });
    });

    it("ends with the job's end or rest; late events do not begin it again, a new attempt does", async () => {
      for (const end of ["completed", "queued"] as const) {
        await append(status("running", { attempt: end === "queued" ? 3 : 1 }));
        expect(await field("liveness")).to.equal('"live"');
        await append(status(end));
        expect(await field("liveness"), end).to.equal(undefined);
        if (end === "completed") await append(log("late"), progress({ step: 9 }));
        expect(await field("liveness"), end).to.equal(undefined);
      }
      await append(status("running", { attempt: 4 }));
      expect(await field("liveness")).to.equal('"live"');
    });

    it("of a job that counts as stale is told, until it is live again", async () => {
      await append(log());
      const stale: Entry = {
        ...entryOf("job_liveness", { liveness: "stale" }),
        onlyIf: [["liveness", '"live"']],
        patch: { latest: true, set: [["liveness", '"stale"']] },
      };
      expect(told((await appendTo(JOB, stale)).stored)).to.deep.equal([3]);
      expect(await appendTo(JOB, stale)).to.deep.equal({ stored: [{ refused: "conflict" }] });
      expect((await appendTo(JOB, entryOf("job_updated", { name: "x" }))).wakes).to.equal(undefined);
      expect((await appendTo(JOB, log())).wakes).to.equal(true);
      expect((await appendTo(JOB, log())).wakes).to.equal(true);
      expect(await subject.store.touch(TENANT, [{ jobId: JOB }])).to.deep.equal(["stale"]);
    });

    it("touch is one, also without an event, and begins the liveness of a job whose trainer has come", async () => {
      await append(status("queued"));
      const touch = (fresh: boolean) =>
        subject.store.touch(TENANT, [
          { jobId: JOB, fresh, lastStepAt: "2026-01-02T03:04:05Z", expectMs: 600_000 },
          { jobId: "none" },
        ]);
      expect(await touch(false)).to.deep.equal([undefined, undefined]);
      expect(await field("last_step_at")).to.equal('"2026-01-02T03:04:05Z"');
      expect(await touch(true)).to.deep.equal(["live", undefined]);
      const [one] = await due();
      expect(one?.expectMs).to.be.within(590_000, 600_000);
      await append(status("completed"));
      expect(await touch(true)).to.deep.equal([undefined, undefined]);
    });

    it("a deadline is moved, and goes only with its field", async () => {
      await append(log());
      const { defer } = subject.store;
      await defer.call(subject.store, TENANT, JOB, "liveness", null);
      expect(names(await due())).to.deep.equal([`${JOB}/liveness`]);
      await defer.call(subject.store, TENANT, JOB, "liveness", 60_000);
      expect(await due()).to.deep.equal([]);
      await subject.pass(61_000);
      expect(names(await due())).to.deep.equal([`${JOB}/liveness`]);
      expect((await due())[0]?.silentMs).to.be.within(60_900, 70_000);
      await append(status("completed"));
      await defer.call(subject.store, TENANT, JOB, "liveness", null);
      expect(await due()).to.deep.equal([]);
      await defer.call(subject.store, TENANT, JOB, "liveness", 0);
      expect(await due(), "none is made").to.deep.equal([]);
    });

    it("tenants that have deadlines are known", async () => {
      await append(log());
      expect(await subject.store.tenants()).to.deep.equal([TENANT]);
    });
  });

  describe("compare and set", () => {
    const cas = (expected: string, next: string, deadlines?: Entry["patch"]["deadlines"]): Entry => ({
      ...entryOf("command_update", { command_id: "c", action: "pause", state: "requested" }),
      onlyIf: [["command:c", expected]],
      patch: { latest: true, set: [["command:c", next]], ...(deadlines && { deadlines }) },
    });

    it("only one of two gets through; '' stands for a field that is not there, and takes it away", async () => {
      await append(log());
      const two = await subject.second();
      const answers = await Promise.all(
        [subject, two].map(({ store }) => store.append(FEED, [cas("", '"a"')], created())),
      );
      expect(answers.flatMap(({ stored }) => told(stored))).to.have.members([3, "conflict"]);
      expect(await append(cas('"b"', '"c"'), cas('"a"', ""), cas("", '"d"'))).to.deep.equal([
        "conflict",
        4,
        5,
      ]);
      expect(
        Object.fromEntries((await subject.store.fields(TENANT, JOB, ["command:c", "x"])) ?? []),
      ).to.deep.equal({
        "command:c": '"d"',
        x: "",
      });
      expect(await append(cas('"d"', ""))).to.deep.equal([6]);
      expect((await state()).fields.has("command:c")).to.equal(false);
    });

    it("does not make a job", async () => {
      expect((await subject.store.append(FEED, [cas("", '"a"')])).stored).to.deep.equal([
        { refused: "conflict" },
      ]);
      const nothing: Entry = { ...log(), onlyIf: [] };
      expect((await subject.store.append(FEED, [nothing])).stored).to.deep.equal([{ refused: "conflict" }]);
      expect(await subject.store.job(TENANT, JOB)).to.equal(undefined);
      expect(await subject.store.fields(TENANT, JOB, ["status"])).to.equal(undefined);
      await append(log());
      expect(told((await subject.store.append(FEED, [nothing])).stored)).to.deep.equal([3]);
    });

    it("sets and takes away deadlines", async () => {
      await append(log(), status("queued"));
      await subject.store.defer(TENANT, JOB, "liveness", null);
      const due = () => subject.store.due(TENANT, 10, ["command:c"]);
      await append(cas("", '"a"', [["command:c", 5_000]]));
      expect(await due()).to.deep.equal([]);
      await subject.pass(5_001);
      const [one] = await due();
      expect(one).to.include({ jobId: JOB, what: "command:c" });
      expect(one?.fields?.get("command:c")).to.equal('"a"');
      await append(cas('"a"', "", [["command:c", null]]));
      expect(await due()).to.deep.equal([]);
    });
  });

  it("the curves are of the job's newest attempt, where a point names none", async () => {
    await append(
      progress({ step: 1, loss: 1 }),
      status("running", { attempt: 2 }),
      progress({ step: 1, loss: 2 }),
    );
    const [series] = (await subject.store.series(TENANT, JOB, {}))?.series ?? [];
    expect(series?.buckets.map(({ attempt, last }) => [attempt, last])).to.deep.equal([
      [1, 1],
      [2, 2],
    ]);
  });

  it("a status of the job's own update is one too, and ends its life like any other", async () => {
    await append(
      entryOf("job_updated", { status: "running", name: "x" }),
      entryOf("job_updated", { status: "failed" }),
    );
    expect(await types()).to.deep.equal(["job_created", "job_updated", "job_updated"]);
    expect(await field("status")).to.equal('"failed"');
    expect(await append(status("running"))).to.deep.equal(["invalid_transition"]);
  });
}
