/** What a watcher draws of progress, live. */
import { expect } from "chai";
import { type DeliveredEvent, type MetricPoint, pointsOf, TrainwireClient } from "../../client/index.ts";
import { progress, startTestHub, status, type TestHub } from "../support/hub.ts";
import { FAST } from "./support.ts";

type Progress = DeliveredEvent<"training_progress">;

const WHEN = "2026-03-01T12:00:00.000Z";
const event = (data: Progress["data"], rest: Partial<Progress> = {}): Progress => ({
  feed: "job",
  epoch: "e",
  seq: 7,
  type: "training_progress",
  tenant_id: "acme",
  job_id: "job",
  timestamp: WHEN,
  received_at: WHEN,
  data,
  ...rest,
});

describe("pointsOf(event)", () => {
  it("is the event itself, under the names of the series", () => {
    const metrics = { "val/acc": 0.5, loss: 9 };
    const data = { step: 3, loss: "NaN", learning_rate: 0.1, stage: "x", metrics } as const;
    expect(pointsOf(event(data))).to.deep.equal([
      { seq: 7, step: 3, timestamp: WHEN, metrics: { "val/acc": 0.5, loss: "NaN", learning_rate: 0.1 } },
    ]);
    expect(metrics).to.deep.equal({ "val/acc": 0.5, loss: 9 });
    expect(pointsOf(event({ smooth_loss: 1 }))).to.deep.equal([
      { seq: 7, timestamp: WHEN, metrics: { smooth_loss: 1 } },
    ]);
  });

  it("is what was held back, not the merged value", () => {
    const points: MetricPoint[] = [{ seq: 5, step: 2, timestamp: WHEN, metrics: { loss: 1 } }];
    expect(pointsOf(event({ step: 3, loss: 1 }, { points }))).to.equal(points);
  });

  it("is nothing without metrics, of a value that was read, and on the tenant's feed", () => {
    expect(pointsOf(event({ step: 3, stage: "x" }))).to.deep.equal([]);
    expect(pointsOf(event({ loss: 1 }, { points: [] }))).to.deep.equal([]);
    expect(pointsOf(event({ loss: 1 }, { feed: "tenant" }))).to.deep.equal([]);
  });

  describe("with series()", () => {
    let hub: TestHub;
    let client: TrainwireClient;
    before(async () => {
      hub = await startTestHub();
    });
    after(async () => {
      client.close();
      await hub.close();
    });

    it("goes on where the answer ends, without a hole or a double", async () => {
      const steps = (from: number) =>
        Array.from({ length: 30 }, (_, i) => progress("run", { step: from + i, loss: 1 / (from + i) }));
      await hub.publish(steps(1));
      client = new TrainwireClient({ url: hub.url, token: hub.token("watcher"), ...FAST }).connect();
      const drawn: MetricPoint[] = [];
      let progressed = 0;
      const subscription = client.subscribe({ job_id: "run", max_rate: 1 });
      const done = new Promise<void>((resolve) => {
        subscription.on("training_status", () => resolve());
      });
      subscription.on("training_progress", (each) => {
        progressed++;
        drawn.push(...pointsOf(each));
      });
      await subscription.ready;
      await hub.publish(steps(31));
      // Some of what is held back is in it already.
      const { seq, series } = await client.series("run", { metric: "loss" });
      await hub.publish([...steps(61), status("run", "completed")]);
      await done;
      const curve = [
        ...(series[0]?.buckets ?? []).map(({ first_step }) => first_step),
        ...drawn.filter((point) => point.seq > seq).map(({ step }) => step),
      ];
      expect(curve).to.deep.equal(Array.from({ length: 90 }, (_, i) => i + 1));
      expect(drawn).to.have.length(60);
      expect(progressed).to.be.below(10);
    });
  });
});
