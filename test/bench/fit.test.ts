import { expect } from "chai";
import { eventCost, fitCost, type RunCost } from "../../bench/fit.ts";
import { Random } from "../cluster/random.ts";

const run = (events: number, perEvent: number, deliver: number, perDelivery: number): RunCost => ({
  events,
  deliveries: events * deliver,
  costUs: events * perEvent + events * deliver * perDelivery,
});

describe("fitCost(runs)", () => {
  it("finds both costs exactly where nothing disturbs", () => {
    const { perEvent, perDelivery } = fitCost([
      run(500, 120, 1, 5),
      run(300, 120, 10, 5),
      run(20, 120, 10_000, 5),
    ]);
    expect(perEvent).to.be.closeTo(120, 1e-6);
    expect(perDelivery).to.be.closeTo(5, 1e-9);
  });

  it("counts a small run as much as a large one", () => {
    // Absolute errors of the last would drown the first, which alone says what an event costs.
    const runs = [run(1_000, 100, 1, 6), { ...run(1_000, 100, 10_000, 6), costUs: 66_000_000 }];
    expect(fitCost(runs).perEvent).to.be.closeTo(100, 1);
  });

  it("stays near with noise of a few per cent", () => {
    const random = new Random(7);
    const noisy = Array.from({ length: 60 }, (_, i) => {
      const exact = run(200, 150, [1, 10, 100][i % 3] as number, 7);
      return { ...exact, costUs: exact.costUs * (0.95 + random.int(0, 1_000) / 10_000) };
    });
    const { perEvent, perDelivery } = fitCost(noisy);
    expect(perEvent).to.be.closeTo(150, 10);
    expect(perDelivery).to.be.closeTo(7, 0.3);
  });

  it("refuses runs that cannot tell them apart", () => {
    expect(() => fitCost([run(100, 50, 10, 5), run(400, 50, 10, 5)])).to.throw("cannot be told apart");
    expect(() => fitCost([run(100, 50, 10, 5)])).to.throw("cannot be told apart");
    expect(() => fitCost([])).to.throw("cannot be told apart");
  });

  it("refuses a run that has cost nothing", () => {
    expect(() => fitCost([{ events: 5, deliveries: 5, costUs: 0 }])).to.throw("a run of 5 events cost 0 µs");
  });
});

describe("eventCost(run, perDelivery)", () => {
  it("takes off what is known", () => {
    expect(eventCost(run(40, 90, 3, 6), 6)).to.be.closeTo(90, 1e-9);
  });
});
