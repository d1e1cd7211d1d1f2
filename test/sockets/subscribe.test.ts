/** The verbs of a watcher, with plain clients: on memory and on Redis, which must look the same. */
import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Cursor, Gap, PingAnswer, Position, Snapshot } from "../../src/protocol/types.ts";
import {
  line,
  lines,
  progress,
  type Refusal,
  startTestHub,
  status,
  type TestClient,
  type TestHub,
  until,
} from "../support/hub.ts";

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: subscribe (${redis === "memory" ? "memory" : "Redis"})`, () => {
    let hub: TestHub;
    let watcher: TestClient;
    let jobs = 0;
    /** A job of its own for each test. */
    let job: string;

    before(async () => {
      hub = await startTestHub({
        redis,
        env: {
          ...{
            TRAINWIRE_CHECK_INTERVAL_MS: "100",
            TRAINWIRE_POSITION_INTERVAL_MS: "50",
            TRAINWIRE_RELEASE_MS: "100",
          },
          ...{ TRAINWIRE_MAX_LOG_LINES: "400", TRAINWIRE_MAX_EVENTS: "100" },
        },
      });
    });
    after(() => hub.close());
    beforeEach(async () => {
      job = `job-${++jobs}`;
      watcher = await hub.watcher();
    });
    afterEach(() => watcher.close());

    const seqs = () => watcher.events().map(({ seq }) => seq);

    it("subscribe {job_id} answers a snapshot and its position; live events follow", async () => {
      await hub.publish([line(job), status(job, "running"), progress(job, { loss: 1 })]);
      const answer = await watcher.subscribe({ job_id: job });
      const { snapshot, epoch, ...rest } = answer;
      expect(rest).to.deep.equal({ job_id: job, feed: "job", seq: 4, recovered: true, events: [] });
      expect(snapshot).to.include({ job_id: job, epoch, seq: 4, status: "running" });
      expect((snapshot as Snapshot).newest[0]?.data).to.deep.equal({ loss: 1 });
      await hub.publish(line(job, "live"));
      const event = await watcher.next<{ received_at: string; timestamp: string }>("log");
      expect(event).to.deep.equal({
        ...{
          feed: "job",
          epoch,
          seq: 5,
          type: "log",
          tenant_id: "acme",
          job_id: job,
          data: { message: "live" },
        },
        ...{ timestamp: event.timestamp, received_at: event.received_at },
      });
    });

    it("applied in the callback, the answer comes before what follows it in the same turn", async () => {
      await hub.publish(line(job));
      // Published while it is being answered, again and again.
      let over = false;
      const publishing = (async () => {
        while (!over) {
          await hub.publish(lines(job, 5));
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
      for (let i = 0; i < 10; i++) {
        const own = await hub.watcher();
        let answer = await own.subscribe({ job_id: job });
        // More may have come while it was read than is kept for it.
        while (answer.next) answer = await own.subscribe({ job_id: job, since: answer.next });
        await own.reach(answer.seq + 20);
        const names = own.received.map(({ name }) => name);
        expect(names.indexOf("answer:subscribe")).to.be.below(names.indexOf("log"));
        const got = own.events().map(({ seq }) => seq);
        expect(got).to.deep.equal(range(answer.seq + 1, answer.seq + got.length));
        own.close();
      }
      over = true;
      await publishing;
    });

    it("subscribe {since} pages 256 events at a time, and only the last page joins", async () => {
      await hub.publish(lines(job, 300));
      const first = await watcher.subscribe({ job_id: job, since: { epoch: await epochOf(job), seq: 1 } });
      expect(first).to.include({ more: true, recovered: true });
      expect(first.events.map(({ seq }) => seq)).to.deep.equal(range(2, 257));
      expect(first.next).to.deep.equal({ epoch: first.epoch, seq: 257 });
      expect(first).to.not.have.property("snapshot");
      await hub.publish(line(job, "between"));
      const last = await watcher.subscribe({ job_id: job, since: first.next as Cursor });
      expect(last).to.not.have.property("more");
      expect(last.events.map(({ seq }) => seq)).to.deep.equal(range(258, 302));
      await hub.publish(line(job));
      await watcher.reach(303);
      expect(seqs()).to.deep.equal([303]);
    });

    it("subscribe {since} pages by 128 KB, and one event always fits", async () => {
      const big = { type: "custom", job_id: job, data: { name: "n", data: { text: "x".repeat(60_000) } } };
      await hub.publish([line(job), big, big, big, big, big]);
      let since: Cursor | undefined = { epoch: await epochOf(job), seq: 2 };
      const pages: number[][] = [];
      while (since) {
        const answer = await watcher.subscribe({ job_id: job, since });
        pages.push(answer.events.map(({ seq }) => seq));
        expect(JSON.stringify(answer).length).to.be.below(LIMITS.pageBytes + 1_000);
        since = answer.next;
      }
      expect(pages).to.deep.equal([[3, 4], [5, 6], [7]]);
    });

    it("resume: a new connection goes on after its cursor, with each durable event and the merged newest value", async () => {
      await hub.publish([line(job), status(job, "running")]);
      const { epoch, seq } = await watcher.subscribe({ job_id: job });
      await hub.publish(line(job));
      await watcher.reach(4);
      watcher.close();
      await hub.publish([progress(job, { loss: 3 }), line(job), progress(job, { stage: "s" })]);
      watcher = await hub.watcher();
      const answer = await watcher.subscribe({
        job_id: job,
        since: { epoch: epoch as string, seq: seq + 1 },
      });
      expect(answer).to.deep.include({ recovered: true, epoch, seq: 7 });
      expect(answer.events.map(({ seq: at, type }) => [at, type])).to.deep.equal([
        [6, "log"],
        [7, "training_progress"],
      ]);
      expect(answer.events[1]).to.have.deep.property("data", { loss: 3, stage: "s" });
      await hub.publish(line(job));
      await watcher.reach(8);
      expect(seqs()).to.deep.equal([8]);
    });

    it("resume: not recovered in another epoch or above the head, with the state from there", async () => {
      await hub.publish([line(job), status(job, "paused")]);
      for (const since of [
        { epoch: "another", seq: 1 },
        { epoch: await epochOf(job), seq: 99 },
      ]) {
        const answer = await watcher.subscribe({ job_id: job, since });
        expect(answer).to.deep.include({ recovered: false, events: [], seq: 3 });
        expect(answer.snapshot).to.include({ status: "paused" });
      }
    });

    it("resume: trimmed log lines are a gap in place; other trimmed events are not recovered", async () => {
      await hub.publish([...lines(job, 450), status(job, "running")]);
      const since = { epoch: await epochOf(job), seq: 1 };
      const answer = await watcher.subscribe({ job_id: job, since });
      expect(answer.recovered).to.equal(true);
      const [gap, next] = answer.events as [Gap, { seq: number }];
      expect(gap).to.include({ type: "gap", stream: "log", from: 2, reason: "trimmed" });
      expect(next.seq).to.equal((gap.to as number) + 1);
      await hub.publish(
        range(1, 120).map((step) => ({ type: "sample_generated", job_id: job, data: { step } })),
      );
      expect(await watcher.subscribe({ job_id: job, since })).to.deep.include({
        recovered: false,
        events: [],
      });
      expect(await watcher.subscribe({ job_id: job, since, types: ["log"] })).to.include({ recovered: true });
    });

    it("subscribe {history} begins with the last durable events, of the types that were asked for", async () => {
      await hub.publish([
        line(job, "1"),
        status(job, "running"),
        line(job, "2"),
        progress(job, { loss: 1 }),
        line(job),
      ]);
      const answer = await watcher.subscribe({ job_id: job, history: 2 });
      expect(answer.events.map(({ seq, type }) => `${seq} ${type}`)).to.deep.equal([
        ...["4 log", "5 training_progress", "6 log"],
      ]);
      expect(answer.snapshot).to.include({ seq: 6 });
      const logs = await watcher.subscribe({ job_id: job, history: 1_000, types: ["log"] });
      expect(logs.events.map(({ seq }) => seq)).to.deep.equal([2, 4, 6]);
    });

    it("subscribe {types} brings only these, and tells the position of what it leaves out", async () => {
      await hub.publish(line(job));
      const { epoch } = await watcher.subscribe({ job_id: job, types: ["training_status"] });
      await hub.publish([line(job), status(job, "running"), line(job), line(job)]);
      const position = await watcher.next<Position>("position", ({ seq }) => seq === 6);
      expect(position).to.deep.equal({ feed: "job", job_id: job, epoch, seq: 6 });
      expect(watcher.events().map(({ type }) => type)).to.deep.equal(["training_status"]);
    });

    it("a second subscribe replaces the types of the first", async () => {
      await hub.publish(line(job));
      await watcher.subscribe({ job_id: job, types: ["log"] });
      await watcher.subscribe({ job_id: job, types: ["training_status"] });
      await hub.publish([line(job), status(job, "running")]);
      await watcher.next("training_status");
      expect(watcher.events().map(({ type }) => type)).to.deep.equal(["training_status"]);
      expect(hub.hub.feeds.subscriptions).to.equal(1);
      const { positions } = await watcher.good<PingAnswer>("ping", {});
      expect(positions).to.have.length(1);
    });

    it("answers two subscribes to one feed in order, and the last one counts", async () => {
      await hub.publish(line(job));
      const answers = await Promise.all([
        watcher.ask("subscribe", { job_id: job, types: ["log"] }),
        watcher.ask("unsubscribe", { job_id: job }),
        watcher.ask("subscribe", { job_id: job, types: ["training_status"] }),
      ]);
      expect(answers.map(({ ok }) => ok)).to.deep.equal([true, true, true]);
      await hub.publish([line(job), status(job, "running")]);
      await watcher.next("training_status");
      expect(watcher.events()).to.have.length(1);
    });

    it("subscribe {max_rate} holds progress back and brings the newest before a status", async () => {
      await hub.publish(line(job));
      await watcher.subscribe({ job_id: job, max_rate: 0.1 });
      for (const step of range(1, 9)) await hub.publish(progress(job, { step }));
      await hub.publish([progress(job, { loss: 7 }), status(job, "completed")]);
      await watcher.next("training_status");
      expect(watcher.events().map(({ data }) => data)).to.deep.equal([
        { step: 1 },
        { step: 9, loss: 7 },
        { status: "completed" },
      ]);
    });

    it("subscribe {max_rate, since} brings the newest value again, which may have been held back", async () => {
      await hub.publish(line(job));
      const { epoch } = await watcher.subscribe({ job_id: job, max_rate: 0.1 });
      await hub.publish([progress(job, { step: 1 }), progress(job, { step: 2 }), line(job)]);
      await watcher.reach(5, "log");
      expect(seqs()).to.deep.equal([3, 5]);
      const resumed = await hub.watcher();
      const since = { epoch: epoch as string, seq: 5 };
      const answer = await resumed.subscribe({ job_id: job, max_rate: 0.1, since });
      expect(answer.events.map(({ seq }) => seq)).to.deep.equal([4]);
      expect(answer.events[0]).to.have.deep.property("data", { step: 2 });
      expect(answer).to.include({ seq: 5, recovered: true });
      resumed.close();
    });

    it("subscribe {wait} to a job that does not exist yet, and events from its first", async () => {
      const answer = await watcher.subscribe({ job_id: job, wait: 10 });
      expect(answer).to.deep.include({ epoch: null, seq: 0, recovered: true, snapshot: null, events: [] });
      await hub.publish([line(job), line(job)]);
      await watcher.reach(3);
      expect(seqs()).to.deep.equal([1, 2, 3]);
    });

    it("subscribe {wait} ends with `closing`, and the subscription is gone", async () => {
      await watcher.subscribe({ job_id: job, wait: 1 });
      const closing = await watcher.next("closing");
      expect(closing).to.deep.equal({ reason: "wait_expired", job_id: job, reconnect: false });
      expect(await watcher.refused("unsubscribe", { job_id: job })).to.include({ code: "not_subscribed" });
      await hub.publish(line(job));
      await watcher.good("ping", {});
      expect(watcher.events()).to.deep.equal([]);
    });

    it("unsubscribe stops the events, and answers not_subscribed where there is nothing", async () => {
      await hub.publish(line(job));
      expect(await watcher.refused("unsubscribe", { job_id: job })).to.deep.include({
        code: "not_subscribed",
      });
      for (const key of ["*", undefined])
        expect(await watcher.refused("unsubscribe", { job_id: key })).to.include({ code: "not_subscribed" });
      await watcher.subscribe({ job_id: job });
      expect(await watcher.good("unsubscribe", { job_id: job })).to.deep.equal({ job_id: job });
      await hub.publish(line(job));
      await watcher.subscribe({});
      expect(await watcher.good("unsubscribe", {})).to.deep.equal({});
      await watcher.good("ping", {});
      expect(watcher.events()).to.deep.equal([]);
    });

    it("ping answers the time and every position", async () => {
      await hub.publish(line(job));
      const { epoch } = await watcher.subscribe({ job_id: job });
      const tenant = await watcher.subscribe({});
      await hub.publish(line(job));
      await watcher.reach(3, "log");
      const { server_time, positions } = await watcher.good<PingAnswer>("ping", {});
      expect(Date.parse(server_time)).to.be.closeTo(Date.now(), 2_000);
      expect(positions).to.deep.equal([
        { feed: "job", job_id: job, epoch, seq: 3 },
        { feed: "tenant", epoch: tenant.epoch, seq: tenant.seq },
      ]);
      expect(await watcher.good<PingAnswer>("ping", undefined)).to.have.property("positions");
    });

    it("an unknown job, another tenant's and one outside the allow-list are answered alike, byte for byte", async () => {
      await hub.publish(line("foreign"), { tenant: "other" });
      await hub.publish(line(job));
      const limited = await hub.watcher({ jobs: ["mine"] });
      const answers: Refusal[] = [];
      for (const [who, job_id] of [
        [watcher, "none"],
        [watcher, "foreign"],
        [limited, job],
        [limited, "none"],
      ] as const) {
        for (const extra of [{}, { history: 5 }, { since: { epoch: "e", seq: 1 } }])
          answers.push(await who.refused("subscribe", { job_id, ...extra }));
      }
      answers.push(await limited.refused("subscribe", { job_id: job, wait: true }));
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).to.equal(1);
      expect(answers[0]).to.include({ code: "job_not_found", temporary: false });
      limited.close();
    });

    it("delivers the numbers as they were written, NaN and the infinities too", async () => {
      const metrics = { a: 1e20, b: 3.4e38, c: 2 ** 53 + 2, d: "NaN", e: "-Infinity", f: 5e-324, g: -0.1 };
      await hub.publish(line(job));
      await watcher.subscribe({ job_id: job });
      await hub.publish({ type: "validation_result", job_id: job, data: { metrics } });
      expect(await watcher.next("validation_result")).to.have.deep.property("data", { metrics });
    });

    it("after all have left, nothing is left", async () => {
      await hub.publish(line(job));
      const leaving = await Promise.all(range(1, 5).map(() => hub.watcher()));
      await Promise.all(
        leaving.flatMap((one) => [
          one.subscribe({ job_id: job }),
          one.subscribe({}),
          one.subscribeAll(),
          one.subscribe({ job_id: `${job}-waited`, wait: true }),
        ]),
      );
      expect(hub.hub.feeds.size).to.be.above(2);
      expect(hub.io.of("/").adapter.rooms.size).to.be.above(5);
      for (const one of [...leaving, watcher]) one.close();
      await until("feeds, subscriptions and rooms are gone", () => {
        const { feeds } = hub.hub;
        return feeds.size + feeds.subscriptions + hub.io.of("/").adapter.rooms.size === 0;
      });
    });

    async function epochOf(job_id: string): Promise<string> {
      const { epoch } = await watcher.subscribe({ job_id });
      await watcher.good("unsubscribe", { job_id });
      return epoch as string;
    }
  });
}
