/** Whatever command of an append gets lost on the way, or its answer: sent again, every event is stored once. */
import { expect } from "chai";
import { HubError } from "../../src/protocol/codes.ts";
import type { Entry } from "../../src/store/store.ts";
import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { type Loss, TcpProxy } from "../support/proxy.ts";
import type { RedisServer } from "../support/redis.ts";
import { until } from "../support/until.ts";
import { created, FEED, log, progress, readAll, status, TENANT, withId, withN } from "./entries.ts";
import { openRedis, type RedisSubject, type RedisSubjectOptions } from "./subject.ts";

const BATCH = [
  withId("a"),
  withN(1),
  withN(2, {}, progress({ step: 1, loss: 1 })),
  withId("b", status("running")),
  withN(3, {}, log("n 3")),
];
const LINES = ['{"message":"a"}', '{"message":"n 1"}', '{"message":"n 3"}'];

for (const [name, shared] of [
  ["Redis", plainRedis],
  ["Redis with cluster-enabled", clusterRedis],
] as const) {
  describe(`store: ${name}, when the connection is cut`, () => {
    let server: RedisServer;
    let proxy: TcpProxy;
    let subject: RedisSubject;

    async function open(options: RedisSubjectOptions = {}): Promise<void> {
      server = await shared();
      proxy = await TcpProxy.open(server);
      subject = await openRedis({ url: `redis://127.0.0.1:${proxy.port}` }, { ...options, direct: server });
    }
    async function close(): Promise<void> {
      await subject.close();
      await proxy.close();
    }
    afterEach(close);

    const lines = async () => {
      const { logged } = await readAll(subject.store);
      return logged.filter(({ type }) => type === "log").map(({ data }) => data);
    };

    /** Appends while something is lost; then again, with the link back. Answers whether something was lost. */
    async function appendTwice(loss: Loss, after: number, batch: readonly Entry[]): Promise<boolean> {
      proxy.lose(loss, after);
      const first = await subject.store.append(FEED, batch, created()).catch((error: unknown) => error);
      const lost = !proxy.armed;
      proxy.disarm();
      if (first instanceof Error) {
        expect(first, String(first)).to.be.instanceOf(HubError);
        expect(first).to.deep.include({ code: "unavailable", temporary: true });
        expect(lost).to.equal(true);
      }
      await until(() => subject.store.ready);
      // Refused are jobs beyond their number, until somebody has found one that is over.
      await until(async () => {
        const { stored } = await subject.store.append(FEED, batch, created());
        return stored.every((one) => !("refused" in one));
      });
      return lost;
    }

    for (const loss of ["request", "reply"] as const) {
      it(`a ${loss} lost at any command: events with an id or n are stored once, for a new job and an old one`, async () => {
        await open();
        for (const before of [[], [withId("early")]]) {
          for (let after = 0, lost = true; lost; after++) {
            if (before.length > 0) await subject.store.append(FEED, before, created());
            lost = await appendTwice(loss, after, BATCH);
            const page = await readAll(subject.store);
            expect(await lines()).to.deep.equal([...before.map(({ data }) => data), ...LINES]);
            expect(page.seq).to.equal(1 + before.length + BATCH.length);
            const state = await subject.store.job(TENANT, FEED.jobId);
            expect(state?.counts.get("type:training_progress")).to.equal(1);
            const answer = await subject.store.series(TENANT, FEED.jobId, {});
            expect(answer?.series.map(({ buckets }) => buckets.map(({ count }) => count))).to.deep.equal([
              [1],
            ]);
            await subject.raw.unlink(...(await subject.allKeys()));
          }
        }
      });

      it(`a ${loss} lost: events without id and n are there once or twice, never less`, async () => {
        await open();
        await appendTwice(loss, 0, [log("bare")]);
        expect(await lines()).to.have.length(loss === "request" ? 1 : 2);
      });

      it(`a ${loss} lost when the server has forgotten the scripts`, async () => {
        await open();
        for (let after = 0, lost = true; lost; after++) {
          await subject.raw.script("FLUSH");
          lost = await appendTwice(loss, after, BATCH);
          expect(await lines()).to.deep.equal(LINES);
          await subject.raw.unlink(...(await subject.allKeys()));
        }
      });

      it(`a ${loss} lost while the list of jobs is cleaned up`, async () => {
        for (let after = 0, lost = true; lost; after++) {
          if (after > 0) await close();
          await open({ maxJobs: 2, ttlFinished: 100 });
          for (const jobId of ["x", "y"]) {
            await subject.store.append({ ...FEED, jobId }, [status("completed")], created(jobId));
          }
          await subject.pass(101_000);
          lost = await appendTwice(loss, after, BATCH);
          expect(await lines()).to.deep.equal(LINES);
        }
      });
    }

    it("many appends in flight: each is answered or refused, and sent again it is stored once, in its order", async () => {
      await open();
      for (let round = 0; round < 10; round++) {
        const batches = Array.from({ length: 40 }, (_, i) => [
          withId(`${round}-${i}`),
          withId(`${round}-${i}b`),
        ]);
        proxy.lose(round % 2 ? "reply" : "request", round);
        const cut = setImmediate(() => proxy.cut());
        const answers = await Promise.allSettled(
          batches.map((batch) => subject.store.append(FEED, batch, created())),
        );
        clearImmediate(cut);
        proxy.disarm();
        await until(() => subject.store.ready);
        for (const [i, answer] of answers.entries()) {
          if (answer.status === "fulfilled") continue;
          expect(answer.reason).to.be.instanceOf(HubError).and.to.include({ code: "unavailable" });
          await subject.store.append(FEED, batches[i] as Entry[], created());
        }
        const stored = (await lines()).filter((line) => line.startsWith(`{"message":"${round}-`));
        expect([...stored].sort()).to.deep.equal(
          batches.flatMap((batch) => batch.map(({ data }) => data)).sort(),
        );
      }
    });

    it("while nothing answers everything is refused at once, and works again afterwards", async () => {
      await open();
      await subject.store.append(FEED, [log("before")], created());
      proxy.cut({ refuse: true });
      await until(() => !subject.store.ready);
      const { store } = subject;
      const started = Date.now();
      const calls = [
        store.append(FEED, [log()], created()),
        readAll(store),
        store.tail(FEED, 5, undefined),
        store.heads(TENANT, [FEED]),
        store.job(TENANT, FEED.jobId),
        store.jobs(TENANT, { limit: 5 }),
        store.series(TENANT, FEED.jobId, {}),
        store.flushTenant(TENANT),
      ];
      for (const call of await Promise.allSettled(calls)) {
        expect(call).to.include({ status: "rejected" });
        expect((call as PromiseRejectedResult).reason)
          .to.be.instanceOf(HubError)
          .and.to.include({ code: "unavailable" });
      }
      expect(Date.now() - started).to.be.below(2_500);
      proxy.accept();
      await until(() => store.ready);
      await store.append(FEED, [log("after")], created());
      expect(await lines()).to.deep.equal([log("before").data, log("after").data]);
    });
  });
}
