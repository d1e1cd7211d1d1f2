/** The metric points that are held back for a watcher travel along: its curve has no holes. */
import type { Socket as NetSocket } from "node:net";
import { expect } from "chai";
import type { DeliveredEvent, MetricPoint, Series, SeriesAnswer } from "../../src/protocol/types.ts";
import { progress, startTestHub, status, type TestClient, type TestHub } from "../support/hub.ts";

type Progress = DeliveredEvent<"training_progress">;

const JOB = "job";

/** What `series` says of it as long as no bucket holds more than one point. */
function seriesOf(
  events: readonly Progress[],
): Array<Pick<Series, "metric" | "rank"> & { points: unknown[] }> {
  const curves = new Map<string, Pick<Series, "metric" | "rank"> & { points: unknown[] }>();
  const seen = new Set<string>();
  for (const { seq, rank, points, data } of events) {
    const { loss, metrics, step } = data;
    const own = { seq, step, metrics: { ...metrics, ...(loss !== undefined && { loss }) } };
    for (const point of points ?? [own as MetricPoint]) {
      for (const [metric, value] of Object.entries(point.metrics)) {
        const id = `${rank ?? 0} ${metric}`;
        expect(seen.has(`${id} ${point.seq}`), `${id}: ${point.seq} comes twice`).to.equal(false);
        seen.add(`${id} ${point.seq}`);
        const curve = curves.get(id) ?? { metric, ...(rank && { rank }), points: [] };
        curve.points.push([point.step ?? null, typeof value === "number" ? value : null]);
        curves.set(id, curve);
      }
    }
  }
  return [...curves.values()].sort(byName);
}

const byName = (a: Pick<Series, "metric" | "rank">, b: Pick<Series, "metric" | "rank">) =>
  `${a.rank} ${a.metric}` < `${b.rank} ${b.metric}` ? -1 : 1;

async function theSeries(client: TestClient) {
  const { series } = await client.good<SeriesAnswer>("series", { job_id: JOB });
  return series
    .map(({ buckets, ...name }) => ({
      ...name,
      points: buckets.map(({ first_step, last }) => [first_step, last]),
    }))
    .sort(byName);
}

/** The client's own TCP connection. */
function wireOf({ socket }: TestClient): NetSocket {
  return (socket.io.engine.transport as unknown as { ws: { _socket: NetSocket } }).ws._socket;
}

/** Different metrics, with and without steps, of two ranks. */
const burst = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => {
    const step = from + i;
    return {
      ...progress(JOB, {
        ...(step % 7 !== 0 && { step }),
        ...(step % 5 !== 0 && { loss: step % 11 === 0 ? ("NaN" as const) : 1 / step }),
        ...(step % 50 === 0 && { metrics: { "val/acc": step } }),
        ...(step % 3 === 0 && { stage: `stage ${step}` }),
      }),
      ...(step % 2 === 0 && { rank: 1 }),
    };
  });

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: points held back (${redis === "memory" ? "memory" : "Redis"})`, () => {
    let hub: TestHub;
    afterEach(() => hub.close());

    it("a watcher with max_rate gets every point of a burst once and in order, as the series has them", async () => {
      hub = await startTestHub({ redis });
      await hub.publish(status(JOB, "running"));
      const watcher = await hub.watcher();
      const each = await hub.watcher();
      await watcher.subscribe({ job_id: JOB, max_rate: 5 });
      await each.subscribe({ job_id: JOB });
      for (let from = 1; from <= 200; from += 40) {
        const { positions } = await hub.publish(burst(from, 40));
        await each.reach(positions[JOB]?.seq as number);
      }
      await hub.publish(status(JOB, "completed"));
      await watcher.next("training_status");
      await each.next("training_status");
      const merged = watcher.all<Progress>("training_progress");
      const all = each.all<Progress>("training_progress");
      expect(all).to.have.length(200);
      expect(merged.length).to.be.below(100);
      expect(merged.some(({ points = [] }) => points.length > 1)).to.equal(true);
      for (const { points, seq } of merged) {
        const seqs = points?.map((point) => point.seq) ?? [seq];
        expect(seqs).to.deep.equal([...seqs].sort((a, b) => a - b));
        expect(seqs.at(-1) ?? seq).to.be.at.most(seq);
      }
      expect(merged.every((event) => !("points_omitted" in event))).to.equal(true);
      const truth = await theSeries(watcher);
      expect(seriesOf(merged)).to.deep.equal(truth);
      expect(seriesOf(all)).to.deep.equal(truth);
    });

    it("of more points than fit the first, the last and the extremes come, and how many do not", async () => {
      hub = await startTestHub({ redis });
      await hub.publish(status(JOB, "running"));
      const watcher = await hub.watcher();
      await watcher.subscribe({ job_id: JOB, max_rate: 0.1 });
      const loss = (step: number) => (step === 77 ? 100 : step === 400 ? -100 : Math.sin(step / 50));
      for (let from = 0; from < 1_000; from += 250) {
        await hub.publish(
          Array.from({ length: 250 }, (_, i) => progress(JOB, { step: from + i, loss: loss(from + i) })),
        );
      }
      await hub.publish(status(JOB, "completed"));
      await watcher.next("training_status");
      const [first, held] = watcher.all<Progress>("training_progress");
      expect(first?.data.step).to.equal(0);
      expect(held?.data).to.deep.include({ step: 999, loss: loss(999) });
      const steps = held?.points?.map(({ step }) => step) ?? [];
      expect([steps[0], steps.at(-1)]).to.deep.equal([1, 999]);
      expect(steps).to.include.members([77, 400]);
      expect(steps.length + (held?.points_omitted ?? 0)).to.equal(999);
      expect(Buffer.byteLength(JSON.stringify(held))).to.be.below(65_536);
      expect((await watcher.ask("ping", {})).ok).to.equal(true);
    });

    it("only the hub tells points, and not on the tenant's feed", async () => {
      hub = await startTestHub({ redis });
      const trainer = await hub.trainer();
      const watcher = await hub.watcher();
      await watcher.subscribe({ max_rate: 60 });
      const points = [{ seq: 1, step: 1, timestamp: "2026-03-01T12:00:00Z", metrics: { loss: 1 } }];
      const event = progress(JOB, { step: 1, loss: 1 });
      const { refused } = await trainer.publish([
        { ...event, points } as never,
        { ...event, points_omitted: 1 } as never,
        { ...event, data: { ...event.data, points } } as never,
        event,
        progress(JOB, { step: 2, loss: 2 }),
      ]);
      expect(refused.map(({ index, code }) => [index, code])).to.deep.equal([
        [0, "invalid_event"],
        [1, "invalid_event"],
        [2, "invalid_event"],
      ]);
      const listed = await watcher.next<Progress>("training_progress");
      expect(listed.data).to.deep.include({ step: 2, loss: 2 });
      expect(listed).to.not.have.property("points");
    });

    it("a newest value that is read says that it is no point", async () => {
      hub = await startTestHub({ redis });
      await hub.publish([
        progress(JOB, { step: 1, loss: 1, metrics: { a: 1 } }),
        progress(JOB, { step: 2, loss: 2 }),
      ]);
      const watcher = await hub.watcher();
      const { epoch, snapshot } = await watcher.subscribe({ job_id: JOB });
      const [newest] = (snapshot as { newest: Progress[] }).newest;
      expect(newest).to.deep.include({ data: { step: 2, loss: 2, metrics: { a: 1 } }, points: [] });
      const back = await hub.watcher();
      const { events } = await back.subscribe({ job_id: JOB, since: { epoch: epoch as string, seq: 1 } });
      expect(events).to.deep.equal([newest]);
    });

    it("a watcher that is slow gets every point, too", async () => {
      hub = await startTestHub({
        redis,
        env: { TRAINWIRE_HOLD_BYTES: "2048", TRAINWIRE_SLOW_BYTES: String(512 * 1_048_576) },
      });
      await hub.publish(status(JOB, "running"));
      const behind = await hub.watcher();
      const good = await hub.watcher();
      await behind.subscribe({ job_id: JOB });
      await good.subscribe({ job_id: JOB });
      wireOf(behind).pause();
      // More than the kernel takes of who is not late yet.
      const text = "x".repeat(60_000);
      for (let i = 0; i < 200; i += 10) {
        const { positions } = await hub.publish(
          Array.from({ length: 10 }, () => ({
            type: "custom",
            job_id: JOB,
            data: { name: "blob", data: { text } },
          })),
        );
        await good.reach(positions[JOB]?.seq as number);
      }
      for (let from = 1; from <= 200; from += 20) await hub.publish(burst(from, 20));
      wireOf(behind).resume();
      await behind.next<Progress>("training_progress");
      await hub.publish(burst(201, 5));
      await hub.publish(status(JOB, "completed"));
      await behind.next("training_status");
      const merged = behind.all<Progress>("training_progress");
      expect(merged.length).to.be.below(100);
      expect(seriesOf(merged)).to.deep.equal(await theSeries(good));
    }).timeout(60_000);
  });
}
