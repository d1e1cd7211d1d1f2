import { expect } from "chai";
import { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { EventType } from "../../src/protocol/types.ts";
import { size } from "../../src/store/page.ts";
import { until } from "../support/until.ts";
import {
  created,
  FEED,
  JOB,
  log,
  progress,
  readAll,
  sample,
  seqsOf,
  status,
  TENANT,
  TENANT_FEED,
  told,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

/** Caps of feeds, and the reads that are bounded otherwise than by a page. */
export function bounds(open: Open): void {
  let subject: Subject;
  let opened: Subject[];
  beforeEach(() => {
    opened = [];
  });
  afterEach(async () => {
    for (const one of opened) await one.close();
  });
  const using = async (options?: Parameters<Open>[0]) => {
    subject = await open(options);
    opened.push(subject);
    return subject.store;
  };
  const seqs = async (stream: "events" | "log") => {
    const { logged } = await readAll(subject.store);
    return logged.filter(({ type }) => (type === "log") === (stream === "log")).map(({ seq }) => seq);
  };

  describe("the caps", () => {
    it("keep the newest so many events, and log lines apart", async () => {
      const store = await using({ maxEvents: 3, maxLogLines: 2 });
      await store.append(
        FEED,
        [sample(1), log("a"), sample(2), log("b"), sample(3), log("c"), sample(4)],
        created(),
      );
      expect([await seqs("events"), await seqs("log")]).to.deep.equal([
        [4, 6, 8],
        [5, 7],
      ]);
      for (let i = 0; i < 250; i += 50)
        await store.append(
          FEED,
          Array.from({ length: 50 }, () => log()),
          created(),
        );
      expect([await seqs("events"), await seqs("log")]).to.deep.equal([
        [4, 6, 8],
        [257, 258],
      ]);
      expect((await readAll(store)).trimmed).to.deep.equal([
        { stream: "events", from: 1, to: 2 },
        { stream: "log", from: 1, to: 256 },
      ]);
    });

    it("keep the newest so many bytes of each stream, but always one event", async () => {
      const line = log("x".repeat(1_000));
      const store = await using({ maxFeedBytes: 3 * size(line) });
      await store.append(FEED, [line, line, line, line, sample(), sample()], created());
      expect([await seqs("events"), await seqs("log")]).to.deep.equal([
        [1, 6, 7],
        [3, 4, 5],
      ]);
      await store.append(FEED, [log("y".repeat(5_000))], created());
      expect(await seqs("log")).to.deep.equal([8]);
      await store.append(FEED, [line, line], created());
      expect(await seqs("log")).to.deep.equal([9, 10]);
    });

    it("count the bytes of what is kept, however much went through", async () => {
      const line = log("x".repeat(300));
      const store = await using({ maxFeedBytes: 10 * size(line) + 5 });
      for (let i = 0; i < 20; i++)
        await store.append(
          FEED,
          Array.from({ length: 7 }, () => line),
          created(),
        );
      expect(await seqs("log")).to.have.length(10);
    });

    it("hold for the tenant's feed", async () => {
      const store = await using({ maxEvents: 3 });
      for (const jobId of ["a", "b", "c", "d", "e"])
        await store.append({ ...FEED, jobId }, [log()], created(jobId));
      const { logged, trimmed } = await readAll(store, TENANT_FEED);
      expect(logged.map(({ seq }) => seq)).to.deep.equal([3, 4, 5]);
      expect(trimmed).to.deep.equal([{ stream: "events", from: 1, to: 2 }]);
    });
  });

  describe("tail", () => {
    it("is the cursor before the last n durable events", async () => {
      const store = await using();
      await store.append(
        FEED,
        [log(), sample(), progress({}), log(), sample(), progress({}), log()],
        created(),
      );
      const tails = await Promise.all(
        [0, 1, 2, 3, 4, 6, 7, 1_000].map((n) => store.tail(FEED, n, undefined)),
      );
      expect(tails).to.deep.equal([8, 7, 5, 4, 2, 0, 0, 0]);
    });

    it("is that of these types", async () => {
      const store = await using();
      await store.append(FEED, [log(), sample(), status("running"), log(), sample(), log()], created());
      const tail = (n: number, ...types: EventType[]) => store.tail(FEED, n, new Set(types));
      expect(await tail(2, "log")).to.equal(4);
      expect(await tail(2, "sample_generated")).to.equal(2);
      expect(await tail(3, "sample_generated", "training_status")).to.equal(2);
      expect(await tail(1, "log", "job_created")).to.equal(6);
      expect(await tail(9, "job_created")).to.equal(0);
      expect(await tail(9, "alert")).to.equal(7);
    });

    it("looks past many events of other types, and as far as the caps have left any", async () => {
      const store = await using({ maxLogLines: 600 });
      await store.append(FEED, [status("running")], created());
      for (let i = 0; i < 900; i += 300)
        await store.append(
          FEED,
          Array.from({ length: 300 }, () => log()),
          created(),
        );
      await store.append(FEED, [sample()], created());
      expect(await store.tail(FEED, 2, new Set(["training_status", "sample_generated"]))).to.equal(1);
      expect(await store.tail(FEED, 550, new Set(["log"]))).to.equal(352);
      expect(await store.tail(FEED, 1_000, new Set(["log"]))).to.equal(302);
    });

    it("of the tenant's feed is its own", async () => {
      const store = await using();
      await store.append(FEED, [status("running"), log(), status("paused"), status("running")], created());
      expect(await store.tail(TENANT_FEED, 2, undefined)).to.equal(2);
    });
  });

  describe("jobs", () => {
    it("come newest first, in pages", async () => {
      const store = await using();
      const made: string[] = [];
      for (let i = 0; i < 12; i++) {
        const jobId = `j${(i * 7) % 12}`;
        await store.append({ ...FEED, jobId }, [log()], created(jobId));
        const at = (await store.job(TENANT, jobId))?.createdAt as number;
        while (Date.now() === at); // two jobs of one millisecond have no order
        made.unshift(jobId);
      }
      expect(await store.jobs(TENANT, { limit: 100 })).to.deep.equal(made);
      expect(await store.jobs(TENANT, { limit: 5 })).to.deep.equal(made.slice(0, 5));
      expect(await store.jobs(TENANT, { limit: 5, before: made[4] as string })).to.deep.equal(
        made.slice(5, 10),
      );
      expect(await store.jobs(TENANT, { limit: 5, before: made[9] as string })).to.deep.equal(made.slice(10));
      expect(await store.jobs(TENANT, { limit: 5, before: made[11] as string })).to.deep.equal([]);
      expect(await store.jobs("nobody", { limit: 5 })).to.deep.equal([]);
    });

    it("of one moment come in pages too, each once", async () => {
      const store = await using();
      const made = Array.from({ length: 40 }, (_, i) => `j${i}`);
      await Promise.all(made.map((jobId) => store.append({ ...FEED, jobId }, [log()], created(jobId))));
      for (const limit of [1, 7, 39, 40, 41]) {
        const found: string[] = [];
        for (let before: string | undefined; ; ) {
          const page = await store.jobs(TENANT, { limit, ...(before !== undefined && { before }) });
          expect(page.length).to.be.at.most(limit);
          if (page.length === 0) break;
          found.push(...page);
          before = page.at(-1);
        }
        expect(found).to.have.length(40).and.to.have.members(made);
      }
    });

    it("after one that is gone are refused: begin again", async () => {
      const store = await using({ ttlFinished: 100 });
      await store.append({ ...FEED, jobId: "gone" }, [status("completed")], created("gone"));
      await store.append(FEED, [log()], created());
      await subject.pass(101_000);
      expect(await store.jobs(TENANT, { limit: 9 })).to.deep.equal([JOB]);
      for (const before of ["gone", "never"]) {
        const refused = await store.jobs(TENANT, { limit: 9, before }).catch((error: unknown) => error);
        expect(refused).to.be.instanceOf(HubError).and.to.include({ code: "invalid_cursor" });
      }
    });

    it("that are over are passed by, and none is passed by with them", async () => {
      const store = await using({ ttlFinished: 100, ttlSilent: 1_000 });
      const alive: string[] = [];
      for (let i = 0; i < 30; i++) {
        const jobId = `j${i}`;
        await store.append({ ...FEED, jobId }, i % 3 ? [status("completed")] : [log()], created(jobId));
        if (i % 3 === 0) alive.push(jobId);
      }
      await subject.pass(101_000);
      expect(await store.jobs(TENANT, { limit: 8 })).to.have.length(8);
      expect(await store.jobs(TENANT, { limit: 100 })).to.have.members(alive);
    });

    it("are so many at most; another one is refused until one is over", async () => {
      const store = await using({ maxJobs: 3, ttlFinished: 100, ttlSilent: 1_000 });
      for (const jobId of ["a", "b", "c"]) await store.append({ ...FEED, jobId }, [log()], created(jobId));
      const refused = await store.append(FEED, [log(), progress({})], created());
      expect(refused).to.deep.equal({ stored: [{ refused: "too_many_jobs" }, { refused: "too_many_jobs" }] });
      expect((await readAll(store)).epoch).to.equal(null);
      expect((await readAll(store, TENANT_FEED)).seq).to.equal(3);
      expect(
        told((await store.append({ ...FEED, jobId: "b" }, [status("failed")], created("b"))).stored),
      ).to.deep.equal([3]);
      expect(told((await store.append(FEED, [log()], created())).stored)).to.deep.equal(["too_many_jobs"]);
      await subject.pass(101_000);
      // At most once a second somebody looks for jobs that are over.
      await until(
        async () => !("refused" in ((await store.append(FEED, [log()], created())).stored[0] ?? {})),
      );
      expect((await readAll(store)).seq).to.equal(2);
      expect(await store.jobs(TENANT, { limit: 10 })).to.have.members(["a", "c", JOB]);
    });
  });

  describe("points", () => {
    it("are the metrics of progress, in order, with their seq", async () => {
      const store = await using();
      const entries = [
        progress({ loss: 1, step: 1 }),
        log(),
        progress({ stage: "a" }),
        progress({ metrics: { a: "NaN" } }),
      ];
      const { position } = await store.append(FEED, entries, created());
      const bucket = { attempt: 1, first_step: 1, last_step: 1, min: 1, max: 1, last: 1, count: 1, nan: 0 };
      const none = { first_step: null, last_step: null, min: null, max: null, last: null, nan: 1 };
      expect(await store.series(TENANT, JOB, {})).to.deep.equal({
        ...{ job_id: JOB, epoch: position?.epoch, seq: 5, dropped: 0 },
        series: [
          { metric: "loss", buckets: [bucket] },
          { metric: "a", buckets: [{ ...bucket, ...none }] },
        ],
      });
    });

    it("are all in the curves, in so many buckets, however many they are", async () => {
      const store = await using();
      const last: number[] = [];
      for (let i = 0; i < 15; i++) {
        const batch = Array.from({ length: 100 }, (_, k) =>
          progress({ step: i * 100 + k, loss: 1 / (k + 1) }),
        );
        expect(seqsOf((await store.append(FEED, batch, created())).stored)).to.have.length(100);
        const buckets = (await store.series(TENANT, JOB, {}))?.series[0]?.buckets ?? [];
        expect(buckets.reduce((sum, { count }) => sum + count, 0)).to.equal((i + 1) * 100);
        last.push(buckets.length);
      }
      expect(last.slice(0, 10)).to.deep.equal(Array.from({ length: 10 }, (_, i) => (i + 1) * 100));
      for (const length of last.slice(10)) expect(length).to.be.within(512, LIMITS.seriesBuckets as number);
    });
  });

  it("a batch of the largest events is stored and read whole", async () => {
    const store = await using();
    const lines = Array.from({ length: 15 }, (_, i) =>
      log(`${i}${'😀\u2028\\"'.repeat(4_000)}`.slice(0, 16_000)),
    );
    await store.append(FEED, lines, created());
    expect((await readAll(store)).logged.slice(1).map(({ data }) => data)).to.deep.equal(
      lines.map(({ data }) => data),
    );
    const large = { ...log(), data: JSON.stringify({ message: "x".repeat(LIMITS.eventBytes) }) };
    await store.append(FEED, [large], created());
    expect((await readAll(store)).logged.at(-1)?.data).to.equal(large.data);
  });
}
