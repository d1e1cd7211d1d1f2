/** Live, stale, lost: decided once, by whichever hub is there, and taken back by the next sign of life. */
import { expect } from "chai";
import type { JobLiveness, Snapshot } from "../../src/protocol/types.ts";
import { freshPrefix } from "../support/hooks.ts";
import { line, startTestHub, status, type TestClient, type TestHub } from "../support/hub.ts";

const JOB = "job-1";
const STALE_MS = 1_000;
const env = { TRAINWIRE_STALE_MS: String(STALE_MS), TRAINWIRE_LOST_MS: "2500" };

for (const redis of ["memory", "plain"] as const) {
  describe(`liveness: ${redis}`, () => {
    /** One hub in memory, two on Redis. */
    let hubs: TestHub[] = [];
    let watcher: TestClient;
    const onHub = (i: number) => hubs[i % hubs.length] as TestHub;

    beforeEach(async () => {
      const prefix = freshPrefix();
      const count = redis === "memory" ? 1 : 2;
      hubs = await Promise.all(Array.from({ length: count }, () => startTestHub({ redis, prefix, env })));
      await onHub(0).publish(status(JOB, "running"));
      watcher = await onHub(1).watcher();
      await watcher.subscribe({ job_id: JOB, types: ["job_liveness"] });
    });
    afterEach(async () => {
      for (const hub of hubs) await hub.close();
      hubs = [];
    });

    const told = (client = watcher, feed: "job" | "tenant" = "job") =>
      client.events(feed).flatMap(({ type, data }) => (type === "job_liveness" ? [data as JobLiveness] : []));
    const states = (client = watcher, feed: "job" | "tenant" = "job") =>
      told(client, feed).map(({ liveness }) => liveness);
    const reach = (...expected: string[]) =>
      watcher.until(expected.join(" "), () => states().join(" ") === expected.join(" "));
    const snapshot = async () => {
      const reader = await onHub(0).watcher();
      const answer = await reader.subscribe({ job_id: JOB });
      reader.close();
      return answer.snapshot as Snapshot;
    };
    /** Longer than the job may be silent, in steps of a sign of life. */
    const keepAlive = async (sign: () => Promise<unknown>) => {
      for (const end = Date.now() + 2 * STALE_MS; Date.now() < end; ) {
        await sign();
        await new Promise((resolve) => setTimeout(resolve, STALE_MS / 8));
      }
    };

    it("a silent job is stale, then lost, and live with its next event; each told once, on both feeds", async () => {
      const tenant = await onHub(0).watcher();
      await tenant.subscribe();
      expect((await snapshot()).liveness).to.equal("live");
      await reach("stale", "lost");
      const [stale, lost] = told() as [JobLiveness, JobLiveness];
      expect(stale.reason).to.match(/^no sign of life for \d+ s$/);
      expect(lost.last_seen).to.equal(stale.last_seen);
      expect((await snapshot()).liveness).to.equal("lost");
      await onHub(1).publish(line(JOB));
      await reach("stale", "lost", "live");
      await reach("stale", "lost", "live", "stale");
      await tenant.until("all of them", () => states(tenant, "tenant").length === states().length);
      expect(states(tenant, "tenant")).to.deep.equal(states());
      expect((await tenant.subscribe()).snapshot).to.have.nested.property("jobs[0].liveness", "stale");
    });

    it("events keep it live, and so does a trainer's socket that has announced it, without any", async () => {
      await keepAlive(() => onHub(0).publish(line(JOB)));
      expect(states()).to.deep.equal([]);
      const trainer = await onHub(0).trainer();
      await trainer.good("announce", { job_id: JOB });
      await keepAlive(async () => {});
      expect(states()).to.deep.equal([]);
      trainer.close();
      await reach("stale");
      const again = await onHub(1).trainer();
      await again.good("announce", { job_id: JOB });
      await reach("stale", "live");
      await again.good("withdraw", { job_id: JOB });
      await reach("stale", "live", "stale");
    });

    it("heartbeats do, by socket and over HTTP; they tell of the last step", async () => {
      const trainer = await onHub(0).trainer();
      const last_step_at = "2026-01-02T03:04:05Z";
      await keepAlive(() => trainer.good("heartbeat", { job_id: JOB, last_step_at }));
      expect(states()).to.deep.equal([]);
      expect(await snapshot()).to.include({ liveness: "live", last_step_at });
      const url = `${onHub(0).url}/api/v1/tenants/acme/training/jobs/${JOB}/heartbeat`;
      const authorization = `Bearer ${onHub(0).token("trainer")}`;
      await keepAlive(async () => {
        const response = await fetch(url, { method: "POST", headers: { authorization } });
        expect(response.status).to.equal(200);
      });
      expect(states()).to.deep.equal([]);
      await reach("stale");
      expect(told()[0]?.last_step_at).to.equal(last_step_at);
      expect(await trainer.refused("heartbeat", { job_id: "none" })).to.include({ code: "job_not_found" });
    });

    it("a trainer that says so may be silent for longer", async () => {
      const trainer = await onHub(0).trainer();
      await trainer.good("heartbeat", { job_id: JOB, expect_next_in: 4 });
      await keepAlive(async () => {});
      expect(states()).to.deep.equal([]);
      await reach("stale");
    });

    it("and may take that back", async () => {
      const trainer = await onHub(0).trainer();
      await trainer.good("heartbeat", { job_id: JOB, expect_next_in: 3_600 });
      await keepAlive(async () => {});
      await trainer.good("heartbeat", { job_id: JOB, expect_next_in: 0 });
      await reach("stale");
    });

    it("a job that waits or has ended is not missed; a new attempt is", async () => {
      await onHub(0).publish(status(JOB, "queued"));
      await keepAlive(async () => {});
      expect(await snapshot()).to.not.have.property("liveness");
      await onHub(0).publish([status(JOB, "running"), status(JOB, "completed"), line(JOB, "late")]);
      await keepAlive(async () => {});
      expect(await snapshot()).to.not.have.property("liveness");
      expect(states()).to.deep.equal([]);
      await onHub(0).publish({ ...status(JOB, "running"), attempt: 2 });
      await reach("stale", "lost");
    });

    it("a stale job that ends is neither", async () => {
      await reach("stale");
      await onHub(0).publish(status(JOB, "failed"));
      await keepAlive(async () => {});
      expect(states()).to.deep.equal(["stale"]);
      expect(await snapshot()).to.not.have.property("liveness");
    });

    if (redis === "plain") {
      it("the jobs of a hub that is gone are judged by the others", async () => {
        const trainer = await onHub(0).trainer();
        await trainer.good("announce", { job_id: JOB });
        const [gone] = hubs.splice(0, 1);
        await gone?.close();
        await reach("stale", "lost");
      });
    }

    it("is not the trainer's to tell", async () => {
      const trainer = await onHub(0).trainer();
      const event = { type: "job_liveness", job_id: JOB, data: { liveness: "live" } };
      const { refused } = await trainer.good<{ refused: Array<{ code: string }> }>("publish", event);
      expect(refused.map(({ code }) => code)).to.deep.equal(["forbidden_type"]);
      await watcher.good("ping", {});
      expect(watcher.events()).to.deep.equal([]);
    });
  });
}
