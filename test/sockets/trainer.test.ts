/** `/trainer` with plain clients: what `publish` answers, sending again, and that two hubs are one. */
import { expect } from "chai";
import type { DeliveredEvent, PingAnswer } from "../../src/protocol/types.ts";
import { EXAMPLES } from "../protocol/examples.ts";
import { freshPrefix } from "../support/hooks.ts";
import {
  line,
  lines,
  progress,
  startTestHub,
  status,
  type TestClient,
  type TestHub,
} from "../support/hub.ts";

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: publish (${redis === "memory" ? "memory" : "Redis"})`, () => {
    let hub: TestHub;
    let trainer: TestClient;
    let job: string;
    let jobs = 0;

    before(async () => {
      hub = await startTestHub({ redis });
      trainer = await hub.trainer({ subject: "trainer-7" });
    });
    after(() => hub.close());
    beforeEach(() => {
      job = `job-${++jobs}`;
    });

    it("publish(event) answers where the job stands", async () => {
      const answer = await trainer.publish(line(job));
      const epoch = answer.positions[job]?.epoch;
      expect(answer).to.deep.equal({
        accepted: 1,
        duplicates: 0,
        positions: { [job]: { epoch, seq: 2 } },
        refused: [],
      });
      expect(await trainer.publish(lines(job, 3))).to.deep.include({
        accepted: 3,
        positions: { [job]: { epoch, seq: 5 } },
      });
    });

    it("publish(events) stores the good ones and names each bad one", async () => {
      const bad = { type: "log", job_id: job, data: { message: 5 } };
      const answer = await trainer.publish([line(job), bad, { type: "nothing" }, line(`${job}-b`)] as never);
      expect(answer.accepted).to.equal(2);
      expect(answer.refused).to.deep.equal([
        { index: 1, code: "invalid_event", message: "data/message must be string", temporary: false },
        { index: 2, code: "unknown_type", message: answer.refused[1]?.message, temporary: false },
      ]);
      expect(answer.refused[1]?.message).to.match(
        /^No such event type; there are training_progress, .*custom\.$/,
      );
      expect(Object.keys(answer.positions)).to.deep.equal([job, `${job}-b`]);
    });

    it("sent again with the same id or n, everything is a duplicate, and answered with its position", async () => {
      const producer = { id: "p", incarnation: 1 };
      const events = [
        { ...line(job), id: "a" },
        { ...line(job), producer, n: 1 },
        { ...line(job), producer, n: 2 },
      ];
      const first = await trainer.publish(events);
      const again = await trainer.publish(events);
      expect(first).to.include({ accepted: 3, duplicates: 0 });
      expect(again).to.include({ accepted: 0, duplicates: 3 });
      expect(again.positions).to.deep.equal(first.positions);
    });

    it("the tenant's own events have a position of their own", async () => {
      const dataset = {
        type: "dataset_update" as const,
        data: { dataset_id: "d", action: "created" as const },
      };
      const answer = await trainer.publish(dataset);
      expect(answer).to.deep.include({ accepted: 1, positions: {} });
      expect(answer.tenant_position?.seq).to.be.above(0);
    });

    it("every type that a trainer makes reaches a watcher as it was sent", async () => {
      const watcher = await hub.watcher();
      await trainer.publish(line(job));
      await watcher.subscribe({ job_id: job });
      const sent = { attempt: 2, rank: 0, product: "p", metadata: { machine_id: "m" } };
      for (const type of ["training_progress", "training_status", "sample_generated", "log"] as const) {
        const data = EXAMPLES[type];
        await trainer.publish({ type, job_id: job, data, ...sent });
        const { feed, epoch, seq, timestamp, received_at, tenant_id, ...rest } =
          await watcher.next<DeliveredEvent>(type);
        expect(rest).to.deep.equal({ type, job_id: job, data, ...sent });
      }
      watcher.close();
    });

    it("created_by is the token's subject", async () => {
      const watcher = await hub.watcher();
      await trainer.publish({
        type: "job_created",
        job_id: job,
        data: { name: "n", created_by: "somebody else" },
      });
      const { snapshot } = await watcher.subscribe({ job_id: job });
      expect(snapshot).to.include({ created_by: "trainer-7", name: "n" });
      watcher.close();
    });

    it("ping answers a trainer too", async () => {
      expect(await trainer.good<PingAnswer>("ping", {})).to.have.deep.property("positions", []);
    });
  });
}

describe("sockets: two hubs on one Redis", () => {
  const prefix = freshPrefix();
  let one: TestHub;
  let two: TestHub;
  before(async () => {
    one = await startTestHub({ redis: "plain", prefix });
    two = await startTestHub({ redis: "plain", prefix });
  });
  after(async () => {
    await one.close();
    await two.close();
  });

  it("what is published on either reaches watchers on both, in one order", async () => {
    const watchers = await Promise.all([one.watcher(), two.watcher(), two.watcher()]);
    const trainers = await Promise.all([one.trainer(), two.trainer()]);
    await trainers[0]!.publish(line("shared"));
    for (const watcher of watchers) await watcher.subscribe({ job_id: "shared" });
    await Promise.all(
      trainers.map(async (trainer, who) => {
        for (let i = 0; i < 50; i++)
          await trainer.publish([line("shared", `${who} ${i}`), progress("shared", { step: i })]);
      }),
    );
    await Promise.all(watchers.map((watcher) => watcher.reach(202)));
    const histories = watchers.map((watcher) =>
      watcher
        .events()
        .filter(({ type }) => type === "log")
        .map((event) => JSON.stringify(event)),
    );
    expect(histories[0]).to.have.length(100);
    expect(histories[1]).to.deep.equal(histories[0]);
    expect(histories[2]).to.deep.equal(histories[0]);
  });

  it("a watcher goes on on the other hub where it was", async () => {
    const first = await one.watcher();
    await two.publish(line("moved"));
    const { epoch, seq } = await first.subscribe({ job_id: "moved" });
    first.close();
    await one.publish([line("moved"), status("moved", "running")]);
    const second = await two.watcher();
    const answer = await second.subscribe({ job_id: "moved", since: { epoch: epoch as string, seq } });
    expect(answer.recovered).to.equal(true);
    expect(answer.events.map(({ type }) => type)).to.deep.equal(["log", "training_status"]);
  });

  it("trainers on two hubs with one producer are told apart by incarnation, and duplicates are seen on either", async () => {
    const [older, newer] = await Promise.all([one.trainer(), two.trainer()]);
    const event = (incarnation: number, n: number) => ({
      ...line("fenced"),
      producer: { id: "p", incarnation },
      n,
    });
    expect(await older.publish(event(1, 1))).to.include({ accepted: 1 });
    expect(await newer.publish(event(1, 1))).to.include({ duplicates: 1 });
    expect(await newer.publish(event(2, 1))).to.include({ accepted: 1 });
    expect((await older.publish(event(1, 2))).refused[0]).to.include({
      code: "producer_fenced",
      temporary: false,
    });
  });

  it("numbers reach the other hub's watchers unchanged", async () => {
    const watcher = await two.watcher();
    await one.publish(line("numbers"));
    await watcher.subscribe({ job_id: "numbers" });
    const data = {
      loss: 1e20,
      smooth_loss: "NaN",
      learning_rate: 3.4e38,
      metrics: { a: 2 ** 53 + 2, b: "Infinity" },
    };
    await one.publish({ type: "training_progress", job_id: "numbers", data });
    expect(await watcher.next("training_progress")).to.have.deep.property("data", data);
    const late = await two.watcher();
    const { snapshot } = await late.subscribe({ job_id: "numbers" });
    expect((snapshot as { newest: DeliveredEvent[] }).newest[0]?.data).to.deep.equal(data);
  });
});
