import { expect } from "chai";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { Throttle } from "../../src/core/throttle.ts";
import { until } from "../support/hub.ts";
import { line, progress, type Scripted, scripted, settle, status, WATCHER, Watching } from "./scripted.ts";

const event = (seq: number, data: object, rest: object = {}, key = "k"): FeedEvent => ({
  epoch: "e",
  seq,
  type: "training_progress",
  durable: false,
  jobId: "job",
  key,
  wire: JSON.stringify({ seq, ...rest, data }),
});
const dataOf = ({ wire }: FeedEvent) => JSON.parse(wire).data;

describe("core/throttle", () => {
  it("delivers at most so many a second and key, and always the newest", async () => {
    const delivered: Array<{ seq: number; key: string; at: number }> = [];
    const throttle = new Throttle(20, ({ seq, key }) => delivered.push({ seq, key, at: performance.now() }));
    for (let seq = 1; seq <= 40; seq++) {
      throttle.offer(event(seq, { step: seq }, {}, seq % 2 ? "odd" : "even"));
      await settle(1);
    }
    await until("the last of both", () =>
      ["39", "40"].every((seq) => delivered.some((one) => `${one.seq}` === seq)),
    );
    for (const key of ["odd", "even"]) {
      const own = delivered.filter((one) => one.key === key);
      for (const [i, { seq, at }] of own.entries()) {
        const before = own[i - 1];
        if (!before) continue;
        expect(seq).to.be.above(before.seq);
        expect(at - before.at).to.be.at.least(49);
      }
    }
    throttle.clear();
  });

  it("flush() delivers what is held at once, clear() forgets it", () => {
    const delivered: number[] = [];
    const throttle = new Throttle(0.1, ({ seq }) => delivered.push(seq));
    for (const seq of [1, 2, 3]) throttle.offer(event(seq, { step: seq }));
    expect(delivered).to.deep.equal([1]);
    throttle.flush();
    expect(delivered).to.deep.equal([1, 3]);
    throttle.offer(event(4, {}));
    throttle.clear();
    throttle.flush();
    expect(delivered).to.deep.equal([1, 3]);
  });

  describe("of a subscription", () => {
    let hub: Scripted;
    beforeEach(() => {
      hub = scripted();
    });
    afterEach(() => hub.close());

    it("max_rate holds progress back, not durable events, and brings the last before a status", async () => {
      await hub.publish(line());
      const watching = await new Watching().join(hub.hub, { job_id: "job", max_rate: 0.1 });
      await hub.publish(progress({ step: 1 }), progress({ step: 2 }), line(), progress({ loss: 3 }));
      expect(watching.seqs).to.deep.equal([3, 5]);
      await hub.publish(status("completed"));
      expect(watching.seqs).to.deep.equal([3, 5, 6, 7]);
      expect(dataOf(watching.events[2] as FeedEvent)).to.deep.equal({ step: 2, loss: 3 });
      watching.leave(hub.hub);
    });

    it("a resumed watcher gets what was held back, although it lies before its cursor", async () => {
      await hub.publish(line());
      const before = await new Watching().join(hub.hub, { job_id: "job", max_rate: 0.1 });
      await hub.publish(progress({ step: 1 }), progress({ step: 2 }), line());
      expect(before.seqs).to.deep.equal([3, 5]);
      before.leave(hub.hub);
      const since = { epoch: before.subscription?.epoch as string, seq: 5 };
      const after = await new Watching().join(hub.hub, { job_id: "job", max_rate: 0.1, since });
      expect(after.answers[0]?.events).to.have.length(1);
      expect(after.answers[0]?.events[0]).to.deep.include({
        type: "training_progress",
        seq: 4,
        data: { step: 2 },
      });
      after.leave(hub.hub);
      // It may have been held back because the watcher was behind.
      const without = await new Watching().join(hub.hub, { job_id: "job", since });
      expect(without.answers[0]?.events).to.deep.equal(after.answers[0]?.events);
      // Nothing is held back for those who only read.
      const { events } = await hub.hub.replays.page(WATCHER, { job_id: "job", since });
      expect(events).to.deep.equal([]);
    });

    it("nothing is delivered to who has left, and nothing of a history that is gone", async () => {
      await hub.publish(line());
      const left = await new Watching().join(hub.hub, { job_id: "job", max_rate: 50 });
      const lost = await new Watching().join(hub.hub, { job_id: "job", max_rate: 50 });
      const other = await new Watching().join(hub.hub, { job_id: "job", max_rate: 50 });
      await hub.publish(progress({ step: 1 }), progress({ step: 2 }));
      left.leave(hub.hub);
      await until("the others' last", () => other.seqs.at(-1) === 4);
      await hub.publish(progress({ step: 3 }), progress({ step: 4 }));
      await hub.store.lose();
      await hub.publish(line());
      await settle();
      expect(lost.gaps).to.have.length(1);
      await hub.publish(progress({ step: 5 }));
      await until("the new history's", () => other.seqs.at(-1) === 3);
      expect(left.seqs).to.deep.equal([3]);
      const steps = lost.events.map((one) => dataOf(one).step);
      expect(steps).to.not.include(4);
      expect(steps.at(-1)).to.equal(5);
      for (const one of [lost, other]) one.leave(hub.hub);
    });
  });
});
