/** The tenant's own feed and `job_id: "*"`, with plain clients, on memory and on Redis. */
import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Cursor, DeliveredEvent, PingAnswer, TenantSnapshot } from "../../src/protocol/types.ts";
import { jobRoom, tenantRoom } from "../../src/sockets/rooms.ts";
import {
  line,
  lines,
  progress,
  startTestHub,
  status,
  type TestClient,
  type TestHub,
  until,
} from "../support/hub.ts";

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: tenant feed and all jobs (${redis === "memory" ? "memory" : "Redis"})`, () => {
    let hub: TestHub;
    let tenants = 0;
    /** A tenant of its own for each test. */
    let tenant: string;

    before(async () => {
      hub = await startTestHub({ redis });
    });
    after(() => hub.close());
    beforeEach(() => {
      tenant = `tenant-${++tenants}`;
    });

    const watcher = (jobs?: string[]) => hub.watcher({ tenant, ...(jobs && { jobs }) });
    const publish = (events: unknown) => hub.publish(events, { tenant });
    const told = (one: TestClient, feed: "job" | "tenant" = "job") =>
      one.events(feed).map(({ job_id = "", type, seq }) => `${job_id} ${type} ${seq}`);

    describe("subscribe {}", () => {
      it("brings what concerns the whole tenant, of all jobs, with the job's own position", async () => {
        await publish(line("old"));
        const one = await watcher();
        const answer = await one.subscribe({});
        expect(answer).to.include({ feed: "tenant", seq: 1, recovered: true });
        expect((answer.snapshot as TenantSnapshot).jobs.map(({ job_id }) => job_id)).to.deep.equal(["old"]);
        const [created] = (await publish([status("new", "running"), line("new")])).positions.new
          ? [await one.next<DeliveredEvent>("job_created")]
          : [];
        await publish([
          { type: "dataset_update", data: { dataset_id: "d", action: "created" } },
          { type: "alert", data: { level: "info", title: "t" } },
          { type: "alert", job_id: "old", data: { level: "info", title: "j" } },
          { type: "job_updated", job_id: "old", data: { name: "n" } },
          { type: "sample_generated", job_id: "old", data: {} },
        ]);
        await one.next("job_updated");
        expect(told(one, "tenant")).to.deep.equal([
          ...["new job_created 2", "new training_status 3", " dataset_update 4", " alert 5", "old alert 6"],
          "old job_updated 7",
        ]);
        expect(created).to.include({ feed: "tenant", epoch: answer.epoch, tenant_id: tenant });
        const positions = one.events("tenant").map(({ job_position }) => job_position?.seq);
        expect(positions).to.deep.equal([1, 2, undefined, undefined, 3, 4]);
        expect(one.events("job")).to.deep.equal([]);
      });

      it("brings merged progress at most once a second, and before a status that ends the job", async () => {
        const one = await watcher();
        await publish(line("a"));
        await one.subscribe({});
        const start = Date.now();
        let step = 0;
        const shown = () => one.all<DeliveredEvent<"training_progress">>("training_progress");
        // Published all the time, until it was shown three times.
        await until("it was shown three times", async () => {
          await publish([progress("a", { step: ++step }), progress("a", { loss: step })]);
          return shown().length >= 3;
        });
        expect(Date.now() - start).to.be.above(1_800);
        for (const { data } of shown()) expect(data).to.have.all.keys("step", "loss");
        await publish([
          progress("a", { step: 999 }),
          progress("a", { stage: "end" }),
          status("a", "completed"),
        ]);
        await one.next("training_status");
        const [last, end] = one.events("tenant").slice(-2);
        expect(last).to.deep.include({
          type: "training_progress",
          data: { step: 999, loss: step, stage: "end" },
        });
        expect(end).to.include({ type: "training_status" });
      });

      it("shows a token with an allow-list only its jobs, and not the tenant's own events", async () => {
        await publish([line("mine"), line("theirs")]);
        const one = await watcher(["mine", "exp-*"]);
        const answer = await one.subscribe({});
        expect((answer.snapshot as TenantSnapshot).jobs.map(({ job_id }) => job_id)).to.deep.equal(["mine"]);
        await publish([
          status("theirs", "running"),
          { type: "alert", data: { level: "info", title: "everybody's" } },
          line("exp-7"),
          status("mine", "running"),
        ]);
        await one.next("training_status");
        expect(new Set(one.events("tenant").map(({ job_id }) => job_id))).to.deep.equal(
          new Set(["exp-7", "mine"]),
        );
        const again = await one.subscribe({ since: { epoch: answer.epoch as string, seq: 0 } });
        const jobs = again.events.flatMap((event) => (event.type === "gap" ? [] : [event.job_id]));
        expect(new Set(jobs)).to.deep.equal(new Set(["mine", "exp-7"]));
      });

      it("resumes, pages and filters like any feed", async () => {
        const one = await watcher();
        await publish(status("a", "queued"));
        const { epoch, seq } = await one.subscribe({});
        for (let i = 0; i < 300; i++) await publish(status("a", i % 2 ? "running" : "paused"));
        await one.reach(seq + 300);
        const first = await one.subscribe({
          since: { epoch: epoch as string, seq },
          types: ["training_status"],
        });
        expect(first.events).to.have.length(256);
        const rest = await one.subscribe({ since: first.next as Cursor, types: ["training_status"] });
        expect(rest.events).to.have.length(44);
        expect(rest).to.not.have.property("more");
      });

      it("stands beside a subscription to the job: two deliveries, told apart by `feed`", async () => {
        const one = await watcher();
        await publish(line("a"));
        await one.subscribe({});
        await one.subscribe({ job_id: "a" });
        await publish(status("a", "running"));
        const [first, second] = [
          await one.next<DeliveredEvent>("training_status"),
          await one.next("training_status"),
        ];
        expect([first, second].map((event) => (event as DeliveredEvent).feed).sort()).to.deep.equal([
          "job",
          "tenant",
        ]);
      });
    });

    describe('subscribe {job_id: "*"}', () => {
      it("answers every active job, follows it, and new ones from their first event", async () => {
        await publish([line("a"), line("b"), line("ended"), status("ended", "failed")]);
        const one = await watcher();
        const answer = await one.subscribeAll();
        expect(answer.jobs.map(({ job_id, seq }) => `${job_id} ${seq}`).sort()).to.deep.equal(["a 2", "b 2"]);
        await publish([line("a"), line("ended"), line("new"), line("b")]);
        await publish(line("new"));
        await one.until("the new job's third", (each) => told(each).includes("new log 3"));
        expect(told(one)).to.have.members([
          ...["a log 3", "b log 3", "new job_created 1", "new log 2", "new log 3"],
        ]);
        const { positions } = await one.good<PingAnswer>("ping", {});
        expect(positions.map(({ job_id, seq }) => `${job_id} ${seq}`).sort()).to.deep.equal([
          "a 3",
          "b 3",
          "new 3",
        ]);
      });

      it("goes on after each job's cursor, with pages by `next`", async () => {
        const names = ["a", "b", "c"];
        for (const name of names) await publish(lines(name, 300));
        const one = await watcher();
        const epochs = Object.fromEntries(
          (await one.subscribeAll()).jobs.map(({ job_id, epoch }) => [job_id, epoch as string]),
        );
        const again = await watcher();
        const since = Object.fromEntries(
          names.map((name) => [name, { epoch: epochs[name] as string, seq: 1 }]),
        );
        const got = new Map<string, number>();
        let pages = 0;
        for (let answer = await again.subscribeAll({ since }); ; ) {
          pages++;
          for (const { job_id, events } of answer.jobs)
            got.set(job_id, (got.get(job_id) ?? 0) + events.length);
          if (!answer.more) break;
          expect(await again.refused("subscribe", { job_id: "*", next: "wrong" })).to.include({
            code: "invalid_cursor",
          });
          answer = await again.subscribeAll({ next: answer.next as string });
        }
        expect(pages).to.be.above(1);
        expect(Object.fromEntries(got)).to.deep.equal({ a: 300, b: 300, c: 300 });
        for (const name of names) await publish(line(name, "live"));
        await again.until("all three", (each) => each.events().length === 3);
        expect(told(again).sort()).to.deep.equal(names.map((name) => `${name} log 302`));
        expect(await again.refused("subscribe", { job_id: "*", next: "1" })).to.include({
          code: "invalid_cursor",
        });
      });

      it("never doubles what a subscription by name brings, with whatever types, and goes on after it", async () => {
        await publish(line("a"));
        const one = await watcher();
        await one.subscribeAll();
        await one.subscribe({ job_id: "a", types: ["log"] });
        await publish([line("a"), status("a", "running"), line("a")]);
        await one.until("all three", (each) => each.events().length >= 3);
        await one.good("unsubscribe", { job_id: "a" });
        await publish([line("a"), status("a", "paused")]);
        await one.until("all five", (each) => each.events().length >= 5);
        const { positions } = await one.good<PingAnswer>("ping", {});
        expect(told(one)).to.deep.equal([
          ...["a log 3", "a training_status 4", "a log 5", "a log 6", "a training_status 7"],
        ]);
        expect(positions).to.have.length(1);
      });

      it("a second one replaces the first; unsubscribe ends it", async () => {
        await publish(line("a"));
        const one = await watcher();
        await one.subscribeAll();
        await one.subscribeAll({ types: ["training_status"] });
        await publish([line("a"), status("a", "running")]);
        await one.next("training_status");
        expect(told(one)).to.deep.equal(["a training_status 4"]);
        expect(await one.good("unsubscribe", { job_id: "*" })).to.deep.equal({ job_id: "*" });
        await publish([status("a", "paused"), line("newer")]);
        const sentinel = await watcher();
        await sentinel.subscribe({ job_id: "newer" });
        await one.good("ping", {});
        expect(told(one)).to.have.length(1);
      });

      it("shows a token with an allow-list its jobs only, now and later", async () => {
        await publish([line("mine"), line("theirs")]);
        const one = await watcher(["mine", "exp-*"]);
        expect((await one.subscribeAll()).jobs.map(({ job_id }) => job_id)).to.deep.equal(["mine"]);
        await publish([line("theirs"), line("theirs-2"), line("exp-1"), line("mine")]);
        await one.until("mine and the new one", (each) => each.events().length >= 3);
        expect(new Set(one.events().map(({ job_id }) => job_id))).to.deep.equal(new Set(["mine", "exp-1"]));
      });

      it('since is a map with "*" and a cursor elsewhere; wait and next do not go together with others', async () => {
        const one = await watcher();
        const cursor = { epoch: "e", seq: 1 };
        for (const request of [
          { job_id: "*", since: cursor },
          { job_id: "*", wait: true },
          { job_id: "a", since: { a: cursor } },
          { since: { a: cursor } },
          { job_id: "a", next: "1" },
          { next: "1" },
          { wait: true },
          { job_id: "a", since: cursor, history: 1 },
        ]) {
          const error = await one.refused("subscribe", request);
          expect(error.code, JSON.stringify(request)).to.equal("invalid_request");
        }
      });
    });

    it("every subscription is a membership of a room, and ends with it", async () => {
      await publish(line("a"));
      const one = await watcher();
      const rooms = () => [...(hub.io.of("/").adapter.socketRooms(one.socket.id as string) ?? [])].sort();
      const own = [one.socket.id as string, tenantRoom(tenant)];
      expect(rooms()).to.deep.equal([...own].sort());
      await one.subscribe({ job_id: "a" });
      await one.subscribe({});
      expect(rooms()).to.deep.equal([...own, jobRoom(tenant, "a")].sort());
      await one.subscribeAll();
      expect(rooms()).to.have.length(4);
      await one.good("unsubscribe", { job_id: "*" });
      await one.good("unsubscribe", { job_id: "a" });
      expect(rooms()).to.deep.equal([...own].sort());
    });
  });
}

describe("sockets: many subscriptions", () => {
  let hub: TestHub;
  before(async () => {
    hub = await startTestHub();
  });
  after(() => hub.close());

  it("takes 1 000 on a connection, refuses one more, and still replaces those that are there", async () => {
    const one = await hub.watcher();
    const wait = (i: number) => one.ask("subscribe", { job_id: `job-${i}`, wait: true });
    const answers = await Promise.all(Array.from({ length: LIMITS.subscriptions - 1 }, (_, i) => wait(i)));
    expect(answers.every(({ ok }) => ok)).to.equal(true);
    await one.subscribeAll();
    for (const request of [{ job_id: "one-more", wait: true }, {}])
      expect(await one.refused("subscribe", request)).to.include({ code: "too_many_subscriptions" });
    await one.subscribe({ job_id: "job-5", wait: true, types: ["log"] });
    await one.subscribeAll({ types: ["log"] });
    await one.good("unsubscribe", { job_id: "job-5" });
    await one.subscribe({});
    expect(await one.refused("subscribe", { job_id: "job-5", wait: true })).to.include({
      code: "too_many_subscriptions",
    });
  });
});
