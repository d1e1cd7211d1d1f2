/** The verb `series`: the curve of a whole run, to which live progress is joined without a gap or a double. */
import { expect } from "chai";
import type { DeliveredEvent, PublishedEvent, SeriesAnswer } from "../../src/protocol/types.ts";
import { line, startTestHub, type TestClient, type TestHub, until } from "../support/hub.ts";

const steps = (job_id: string, from: number, count: number): PublishedEvent<"training_progress">[] =>
  Array.from({ length: count }, (_, i) => ({
    type: "training_progress",
    job_id,
    data: { step: from + i, loss: 1 / (from + i + 1), metrics: { "val/acc": from + i } },
  }));

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: series (${redis === "memory" ? "memory" : "Redis"})`, () => {
    let hub: TestHub;
    let watcher: TestClient;
    let jobs = 0;
    let job: string;
    before(async () => {
      hub = await startTestHub({ redis });
    });
    after(() => hub.close());
    beforeEach(async () => {
      job = `job-${++jobs}`;
      watcher = await hub.watcher();
    });
    afterEach(() => watcher.close());
    const ask = (request: object = {}) => watcher.good<SeriesAnswer>("series", { job_id: job, ...request });

    it("answers every series of the job in buckets, up to its seq", async () => {
      for (let i = 0; i < 4; i++) await hub.publish(steps(job, i * 500, 500));
      const answer = await ask();
      expect(answer).to.include({ job_id: job, seq: 2_001, dropped: 0 });
      expect(answer.series.map(({ metric }) => metric)).to.have.members(["loss", "val/acc"]);
      for (const { buckets } of answer.series) {
        expect(buckets.length).to.be.within(512, 1_024);
        expect(buckets.reduce((sum, { count }) => sum + count, 0)).to.equal(2_000);
        expect(buckets.at(-1)).to.include({ attempt: 1, last_step: 1_999 });
      }
      const [loss] = (await ask({ metric: "loss", from: 100, to: 199, points: 10 })).series;
      expect(loss?.buckets.length).to.be.within(5, 10);
      expect(loss?.buckets[0]).to.include({ first_step: 100, max: 1 / 101 });
      expect(loss?.buckets.at(-1)).to.include({ last_step: 199, min: 1 / 200, last: 1 / 200 });
    });

    it("live progress above its seq goes on where it ends: each step once, while it is published", async () => {
      await hub.publish(steps(job, 0, 300));
      await watcher.subscribe({ job_id: job });
      const publishing = (async () => {
        for (let step = 300; step < 900; step += 3) await hub.publish(steps(job, step, 3));
      })();
      const answers: SeriesAnswer[] = [];
      for (let i = 0; i < 20; i++) answers.push(await ask({ metric: "loss" }));
      await publishing;
      await until("the last step", () => watcher.events().some((event) => event.seq === 901));
      const live = watcher.events() as Array<DeliveredEvent<"training_progress">>;
      for (const { seq, series } of answers) {
        const held = series[0]?.buckets.at(-1)?.last_step as number;
        // One seq before the first step.
        expect(held).to.equal(seq - 2);
        const next = live.filter((event) => event.seq > seq).map(({ data }) => data.step);
        expect(next).to.deep.equal(Array.from({ length: 899 - held }, (_, i) => held + 1 + i));
      }
    });

    it("of a job without progress is empty; of one that is not there, or not to be seen, it is refused", async () => {
      await hub.publish(line(job));
      expect((await ask()).series).to.deep.equal([]);
      expect(await watcher.refused("series", { job_id: "none" })).to.include({ code: "job_not_found" });
      const other = await hub.watcher({ jobs: ["other-*"] });
      expect(await other.refused("series", { job_id: job })).to.include({ code: "job_not_found" });
      const foreign = await hub.watcher({ tenant: "others" });
      expect(await foreign.refused("series", { job_id: job })).to.include({ code: "job_not_found" });
    });

    it("a request of another form is refused", async () => {
      await hub.publish(line(job));
      for (const wrong of [
        { job_id: undefined },
        { job_id: "*" },
        { metric: "" },
        { metric: 7 },
        { rank: -1 },
        { from: 1.5 },
        { to: -1 },
        { points: 0 },
        { points: 1_025 },
        { more: true },
      ]) {
        const refusal = await watcher.refused("series", { job_id: job, ...wrong });
        expect(refusal, JSON.stringify(wrong)).to.include({ code: "invalid_request" });
      }
    });
  });
}
