import { expect } from "chai";
import fc from "fast-check";
import { EtaEstimator, type EtaOptions } from "../../src/core/eta.ts";
import type { DeliveredEvent, TrainingProgress } from "../../src/protocol/types.ts";
import type { CheckedEvent } from "../../src/store/reduce.ts";
import { progress, startTestHub, status } from "../support/hub.ts";

const TOTAL = 10_000;

/** An estimator with a clock that the test sets. */
class Run {
  /** ms */
  now = 1_000;
  readonly eta: EtaEstimator;

  constructor(options: EtaOptions = {}) {
    this.eta = new EtaEstimator({ now: () => this.now, ...options });
  }

  tell(data: TrainingProgress, envelope: object = {}): number | undefined {
    return this.eta.observe("acme", { ...progress("job", data), ...envelope } as CheckedEvent);
  }

  step(step: number, envelope: object = {}): number | undefined {
    return this.tell({ step, total_steps: TOTAL }, envelope);
  }

  status(value: "running" | "paused" | "completed" | "queued", envelope: object = {}): void {
    expect(this.eta.observe("acme", { ...status("job", value), ...envelope } as CheckedEvent)).to.equal(
      undefined,
    );
  }

  /** Steps `from` to `to`, each of so many ms; answers the last estimate. */
  train(from: number, to: number, ms: number, envelope: object = {}): number | undefined {
    let last: number | undefined;
    for (let step = from; step <= to; step++) {
      this.now += ms;
      last = this.step(step, envelope);
    }
    return last;
  }

  /** The same, sent in batches. */
  batches(from: number, to: number, ms: number, size: number): number | undefined {
    let last: number | undefined;
    for (let first = from; first <= to; first += size) {
      this.now += ms * size;
      for (let step = first; step < first + size; step++) last = this.step(step);
    }
    return last;
  }
}

/** Seconds that are left after `step` at so many ms each. */
const left = (step: number, ms: number): number => ((TOTAL - step) * ms) / 1_000;
const near = (actual: number | undefined, expected: number, part = 0.01) =>
  expect(actual).to.be.closeTo(expected, expected * part);

describe("core/eta", () => {
  it("tells the time left of a steady run, from its 30th step on, with one decimal", () => {
    for (const ms of [3, 80, 1_000, 45_000]) {
      const run = new Run();
      expect(run.train(1, 30, ms), `${ms} ms`).to.equal(undefined);
      const eta = run.train(31, 300, ms);
      near(eta, left(300, ms));
      expect((eta as number) * 10).to.be.closeTo(Math.round((eta as number) * 10), 1e-6);
    }
  });

  it("is there with the first report of 30 steps, however rare reports are", () => {
    const run = new Run();
    expect(run.step(100)).to.equal(undefined);
    run.now += 600_000;
    near(run.step(200), left(200, 6_000));
  });

  it("stays within 25 % of the truth after 100 steps, however steps jitter and are batched", () => {
    const mean = fc.integer({ min: 1, max: 20_000 });
    const jitter = fc.array(fc.double({ min: 0.5, max: 1.5, noNaN: true }), {
      minLength: 400,
      maxLength: 400,
    });
    const size = fc.integer({ min: 1, max: 40 });
    fc.assert(
      fc.property(mean, jitter, size, (ms, factors, batch) => {
        const run = new Run();
        const start = 5_000;
        // The run as it was drawn is the truth, not what it was drawn from.
        const each = (ms * factors.reduce((sum, factor) => sum + factor, 0)) / factors.length;
        let told = 0;
        for (const [i, factor] of factors.entries()) {
          run.now += ms * factor;
          if ((i + 1) % batch !== 0) continue;
          const steps = Array.from({ length: batch }, (_, k) => start + i + 1 - batch + k + 1);
          for (const step of steps) {
            const eta = run.step(step);
            // Steps so short that all come within two moments tell nothing yet.
            if (i < 100 || eta === undefined) continue;
            told++;
            expect(Math.abs(eta - left(step, each)), `${step}`).to.be.at.most(0.25 * left(step, each) + 0.1);
          }
        }
        if (ms >= 100) expect(told).to.be.above(0);
      }),
      { numRuns: 200 },
    );
  });

  it("follows a rate that changes, to slower and to faster", () => {
    for (const [before, after] of [
      [100, 400],
      [400, 100],
      [5_000, 20_000],
    ] as const) {
      const run = new Run();
      run.train(1, 1_000, before);
      const steps = Math.max(150, 360_000 / after);
      near(run.train(1_001, 1_000 + steps, after), left(1_000 + steps, after), 0.2);
    }
  });

  it("follows when each step becomes a silence", () => {
    const run = new Run();
    run.train(1, 1_000, 100);
    near(run.train(1_001, 1_003, 90_000), left(1_003, 90_000));
  });

  it("is not misled by a first step that compiles the model", () => {
    const run = new Run();
    run.step(0);
    run.now += 120_000;
    run.step(1);
    near(run.train(2, 60, 100), left(60, 100), 0.05);
  });

  describe("batches", () => {
    it("gives the same for batches as for single events, at each event of a batch", () => {
      const run = new Run();
      run.batches(1, 200, 500, 50);
      run.now += 25_000;
      for (let step = 201; step <= 250; step++) near(run.step(step), left(step, 500));
    });

    it("takes batches that follow at once, as after an outage, for one", () => {
      const run = new Run();
      run.batches(1, 1_000, 100, 10);
      run.now += 150_000;
      for (let step = 1_001; step <= 2_500; step++) {
        if (step % 500 === 0) run.now += 20;
        run.step(step);
      }
      near(run.batches(2_501, 2_600, 100, 10), left(2_600, 100), 0.05);
    });

    it("is not changed by a batch that is sent again, nor by all that was ever sent", () => {
      const run = new Run();
      run.batches(1, 500, 100, 10);
      for (const from of [491, 491, 400, 1]) {
        run.now += 40;
        for (let step = from; step <= 500; step++) run.step(step);
        near(run.batches(501, 520, 100, 10), left(520, 100));
      }
      // So much that it takes several moments.
      for (let step = 1; step <= 520; step++) {
        run.now += 2;
        run.step(step);
      }
      near(run.batches(521, 540, 100, 10), left(540, 100), 0.02);
    });
  });

  describe("segments", () => {
    it("a pause does not count, whatever it is called", () => {
      for (const value of ["paused", "queued"] as const) {
        const run = new Run();
        run.train(1, 100, 1_000);
        run.status(value);
        run.now += 7_000;
        run.status("running");
        run.now += 7_000;
        near(run.train(101, 130, 1_000), left(130, 1_000), 0.001);
      }
    });

    it("`running` is no pause, so that a status with each report does no harm", () => {
      const run = new Run();
      let eta: number | undefined;
      for (let step = 50; step <= 500; step += 50) {
        run.now += 20_000;
        run.status("running");
        eta = run.step(step);
      }
      near(eta, left(500, 400));
    });

    it("a silence that is much too long does not count, a long step does", () => {
      const run = new Run();
      run.train(1, 200, 100);
      run.now += 3_600_000;
      near(run.train(201, 202, 100), left(202, 100));
      const slow = new Run();
      slow.train(1, 100, 10_000);
      slow.now += 80_000;
      expect(slow.step(101)).to.be.above(left(101, 10_000) * 1.05);
    });

    it("a silence in which the same step is told again and again is one, too", () => {
      const run = new Run();
      run.train(1, 200, 100);
      for (let i = 0; i < 60; i++) {
        run.now += 10_000;
        near(run.step(200), left(200, 100));
      }
      near(run.train(201, 210, 100), left(210, 100));
    });

    it("steps that go back begin again at the same rate, and are refused nowhere", () => {
      const run = new Run();
      run.train(1, 500, 100);
      run.now += 100;
      near(run.step(300), left(300, 100));
      near(run.train(301, 700, 100), left(700, 100));
    });

    it("steps that begin anew with each epoch have an estimate", () => {
      const run = new Run();
      for (let epoch = 0; epoch < 5; epoch++) near(run.train(0, 100, 500), left(100, 500));
    });
  });

  describe("attempts", () => {
    it("a higher one begins anew, and its first step is no distance", () => {
      const run = new Run();
      run.train(1, 100, 100);
      expect(run.train(5_000, 5_029, 700, { attempt: 2 })).to.equal(undefined);
      near(run.train(5_030, 5_060, 700, { attempt: 2 }), left(5_060, 700));
    });

    it("a lower one is ignored, and so are its statuses", () => {
      const run = new Run();
      run.train(1, 100, 100, { attempt: 2 });
      expect(run.train(500, 600, 0, { attempt: 1 })).to.equal(undefined);
      run.status("completed", { attempt: 1 });
      near(run.train(101, 110, 100, { attempt: 2 }), left(110, 100));
    });

    it("remembers total_steps within an attempt, and only there", () => {
      const run = new Run();
      run.tell({ total_steps: 1_000 });
      let eta: number | undefined;
      for (let step = 1; step <= 100; step++) {
        run.now += 1_000;
        eta = run.tell({ step });
      }
      near(eta, 900);
      expect(run.tell({ loss: 1 })).to.equal(undefined);
      for (let step = 1; step <= 100; step++) {
        run.now += 1_000;
        expect(run.tell({ step }, { attempt: 2 })).to.equal(undefined);
      }
    });
  });

  it("adds none once the trainer has told its own, until the next attempt", () => {
    const run = new Run();
    run.train(1, 100, 100);
    expect(run.tell({ step: 101, total_steps: TOTAL, eta_seconds: 5 })).to.equal(undefined);
    expect(run.train(102, 200, 100)).to.equal(undefined);
    near(run.train(1, 100, 100, { rank: 1 }), left(100, 100));
    near(run.train(1, 100, 100, { attempt: 2 }), left(100, 100));
  });

  it("tells ranks, products, jobs and tenants apart", () => {
    const run = new Run();
    const places = [{}, { rank: 0 }, { rank: 1 }, { product: "1" }, { product: "p" }, { job_id: "other" }];
    for (let step = 1; step <= 100; step++) {
      for (const [i, place] of places.entries()) {
        run.now += 10;
        const eta = run.step(step * (i + 1), place);
        if (step > 50) near(eta, left(step * (i + 1), 60 / (i + 1)), 0.02);
      }
    }
    expect(run.eta.size).to.equal(6);
    run.eta.observe("rival", progress("job", { step: 1, total_steps: 2 }) as CheckedEvent);
    expect(run.eta.size).to.equal(7);
  });

  it("two hubs that each see every other event, or half the batches, are both right", () => {
    const hubs = [new Run(), new Run()] as const;
    for (let step = 1; step <= 400; step++) {
      const hub = hubs[Math.floor(step / 7) % 2] as Run;
      hub.now = step * 200;
      const eta = hub.step(step);
      if (step > 100) near(eta, left(step, 200), 0.02);
    }
  });

  describe("bounds", () => {
    it("keeps so many keys, and forgets those that were not used for the longest time", () => {
      const run = new Run({ maxKeys: 3 });
      const train = (job_id: string, from: number) => run.train(from, from + 49, 100, { job_id });
      for (const job of ["a", "b", "c"]) train(job, 1);
      train("a", 51);
      train("d", 1);
      expect(run.eta.size).to.equal(3);
      expect(run.step(101, { job_id: "a" }), "a was used").to.be.a("number");
      expect(run.step(51, { job_id: "b" }), "b was forgotten").to.equal(undefined);
    });

    it("holds for one job with more products than that, and for 10 000 by default", () => {
      const run = new Run();
      for (let i = 0; i < 10_100; i++) run.step(1, { product: `p${i}` });
      expect(run.eta.size).to.equal(10_000);
      run.status("completed");
      expect(run.eta.size).to.equal(0);
    });

    it("the end of a job forgets it, a new attempt replaces the one before", () => {
      const run = new Run();
      run.train(1, 100, 100);
      run.train(1, 100, 100, { attempt: 2 });
      expect(run.eta.size).to.equal(1);
      run.status("completed");
      expect(run.eta.size).to.equal(0);
      run.status("paused");
      run.tell({ loss: 1 });
      expect(run.eta.size).to.equal(0);
    });
  });

  it("is 0 when all steps are done, and never anything but a number from 0 on", () => {
    const run = new Run();
    expect(run.step(TOTAL)).to.equal(0);
    expect(run.step(TOTAL + 5)).to.equal(0);
    expect(run.tell({ step: 0, total_steps: 0 })).to.equal(undefined);
    const step = fc.oneof(
      fc.constantFrom(0, 1, 31, 2 ** 31, Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER),
      fc.integer({ min: 0, max: 1_000 }),
    );
    const wait = fc.constantFrom(0, 1e-6, 1, 249, 250, 31_000, 1e9);
    const data = fc.record({ step, total_steps: step }, { requiredKeys: [] });
    fc.assert(
      fc.property(fc.array(fc.record({ wait, data, pause: fc.boolean() }), { maxLength: 60 }), (events) => {
        const weird = new Run();
        for (const one of events) {
          weird.now += one.wait;
          if (one.pause) weird.status("paused");
          const eta = weird.tell(one.data as TrainingProgress);
          if (eta === undefined) continue;
          expect(Number.isFinite(eta) && eta >= 0, `${eta}`).to.equal(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("watchers get it live and in the snapshot, and a trainer's own as it is", async () => {
    const hub = await startTestHub();
    try {
      const watcher = await hub.watcher();
      await hub.publish(status("job", "running"));
      await watcher.subscribe({ job_id: "job" });
      const told = () =>
        watcher.all<DeliveredEvent<"training_progress">>("training_progress").map(({ data }) => data);
      for (let step = 100; told().at(-1)?.eta_seconds === undefined; step += 100) {
        const answer = await hub.publish(progress("job", { step, total_steps: 100_000_000, loss: 1 }));
        await watcher.reach(answer.positions.job?.seq as number);
      }
      const last = told().at(-1) as TrainingProgress;
      expect(last.eta_seconds).to.be.above(0);
      const snapshot = async () => {
        const { snapshot: state } = await (await hub.watcher()).subscribe({ job_id: "job" });
        const newest = (state as { newest: DeliveredEvent[] }).newest;
        return newest.find(({ type }) => type === "training_progress")?.data;
      };
      expect(await snapshot()).to.deep.equal(last);
      const own = { step: 5, total_steps: 9, eta_seconds: 77.125 };
      await hub.publish(progress("job", own));
      expect(await snapshot()).to.deep.include(own);
    } finally {
      await hub.close();
    }
  });
});
