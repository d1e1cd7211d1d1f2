/** A watcher that begins again, at the start: page by page, with plain clients. */
import { expect } from "chai";
import type { Cursor } from "../../src/protocol/types.ts";
import { line, lines, startTestHub, status, type TestClient, type TestHub } from "../support/hub.ts";

const START: Cursor = { epoch: "", seq: 0 };
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: subscribe again (${redis === "memory" ? "memory" : "Redis"})`, () => {
    let hub: TestHub;
    let watcher: TestClient;
    let other: TestClient;
    let jobs = 0;
    let job: string;

    before(async () => {
      hub = await startTestHub({ redis });
    });
    after(() => hub.close());
    beforeEach(async () => {
      job = `job-${++jobs}`;
      watcher = await hub.watcher();
      other = await hub.watcher();
    });
    afterEach(() => {
      watcher.close();
      other.close();
    });

    it("a second subscribe from the start pages without live events between, and each event comes once", async () => {
      await hub.publish(line(job));
      await watcher.subscribe({ job_id: job });
      await other.subscribe({ job_id: job });
      for (const from of [0, 1]) await hub.publish(lines(job, 300, from * 300));
      await watcher.reach(602);
      const live = watcher.events().length;
      const got: number[] = [];
      let since: Cursor | undefined = START;
      let pages = 0;
      while (since) {
        const answer = await watcher.subscribe({ job_id: job, since });
        expect(answer.recovered).to.equal(true);
        got.push(...answer.events.map(({ seq }) => seq as number));
        since = answer.next;
        pages++;
        if (!since) break;
        // While it pages, others hear what comes; it does not.
        await hub.publish([line(job, "meanwhile"), status(job, "running")]);
        await other.reach(602 + 2 * pages);
        await watcher.good("ping", {});
        expect(watcher.events(), `after page ${pages}`).to.have.length(live);
      }
      expect(pages).to.be.above(2);
      const head = 602 + 2 * (pages - 1);
      await hub.publish([line(job), line(job)]);
      await watcher.reach(head + 2);
      const after = watcher.events().slice(live);
      expect([...got, ...after.map(({ seq }) => seq)]).to.deep.equal(range(1, head + 2));
    });

    it("from the start with `wait`, a job that began meanwhile brings all its events", async () => {
      const first = await watcher.subscribe({ job_id: job, wait: 10, since: START });
      expect(first).to.deep.include({ epoch: null, seq: 0, snapshot: null, events: [] });
      watcher.close();
      await hub.publish([line(job), status(job, "running"), line(job)]);
      watcher = await hub.watcher();
      const answer = await watcher.subscribe({ job_id: job, wait: 10, since: START });
      expect(answer).to.include({ recovered: true, seq: 4 });
      expect(answer.events.map(({ seq }) => seq)).to.deep.equal([1, 2, 3, 4]);
      await hub.publish(line(job));
      await watcher.reach(5);
      expect(watcher.events().map(({ seq }) => seq)).to.deep.equal([5]);
    });

    it("from the start with `wait`, a job that begins later brings all its events", async () => {
      await watcher.subscribe({ job_id: job, wait: 10, since: START });
      await hub.publish([line(job), line(job)]);
      await watcher.reach(3);
      expect(watcher.events().map(({ seq }) => seq)).to.deep.equal([1, 2, 3]);
    });

    it("a cursor without an epoch is the start or nothing", async () => {
      await hub.publish(line(job));
      for (const since of [{ epoch: "", seq: 1 }, { epoch: "", seq: -1 }, { epoch: "" }]) {
        const refusal = await watcher.refused("subscribe", { job_id: job, since });
        expect(refusal, JSON.stringify(since)).to.include({ code: "invalid_request" });
      }
    });
  });
}
