import { expect } from "chai";
import { nowUs } from "../../bench/clock.ts";
import type { Driver, Outgoing } from "../../bench/driver.ts";
import { Histogram } from "../../bench/histogram.ts";
import { cycleOf, dueUs, Schedule } from "../../bench/schedule.ts";

const STALL_US = 200_000;

/** @param publish what publishing does */
function fake(publish: (job: string, events: readonly Outgoing[]) => Promise<void>): Driver {
  return {
    watch: () => Promise.reject(new Error("nobody watches")),
    publisher: async () => ({ publish, close() {} }),
  };
}

describe("schedule", () => {
  it("gives each publish its time, jobs shifted against each other", () => {
    const even = cycleOf({ jobs: ["a", "b"], perSecond: 10, pattern: "even", seconds: 2 });
    expect(even).to.deep.equal({ events: 1, lengthUs: 100_000, cycles: 20 });
    expect([0, 1, 2, 3].map((i) => dueUs(even, 2, i))).to.deep.equal([0, 50_000, 100_000, 150_000]);
    const burst = cycleOf({ jobs: ["a", "b"], perSecond: 10, pattern: { burst: 10 }, seconds: 2 });
    expect(burst).to.deep.equal({ events: 10, lengthUs: 1_000_000, cycles: 2 });
  });

  it("counts what waits behind a slow one as waiting", async () => {
    const times = Histogram.empty();
    const driver = fake(async (_, [event]) => {
      if (times.count === 4) {
        const end = nowUs() + STALL_US;
        while (nowUs() < end); // nobody is served meanwhile
      }
      times.record(nowUs() - (event as Outgoing).sentUs);
    });
    const schedule = new Schedule({
      ...{ driver: "fake", targets: [{ url: "none" }], jobs: ["a"] },
      ...{ perSecond: 100, pattern: "even", seconds: 0.5 },
    });
    const { sent, acknowledged } = await schedule.run(driver);
    expect({ sent, acknowledged }).to.deep.equal({ sent: 50, acknowledged: 50 });
    // One every 10 ms: 19 more were due during the stall, and waited 190, 180, … 10 ms.
    expect(times.count).to.equal(50);
    expect(times.max).to.be.at.least(STALL_US - STALL_US / 500);
    expect(times.percentile(80)).to.be.at.least(90_000);
  });

  it("stamps the times of the schedule, and numbers each job through", async () => {
    const sent: Array<[string, number, number]> = [];
    const driver = fake(async (job, events) => {
      for (const { n, sentUs } of events) sent.push([job, n, sentUs]);
    });
    const schedule = new Schedule({
      ...{ driver: "fake", targets: [{ url: "none" }], jobs: ["a", "b"], after: 7 },
      ...{ perSecond: 200, pattern: { burst: 2 }, seconds: 0.02 },
    });
    expect(await schedule.run(driver)).to.include({ sent: 8, last: 11 });
    const [, , start = 0] = sent[0] ?? [];
    expect(sent.map(([job, n, us]) => [job, n, us - start])).to.deep.equal([
      ...[
        ["a", 8, 0],
        ["a", 9, 0],
        ["b", 8, 5_000],
        ["b", 9, 5_000],
      ],
      ...[
        ["a", 10, 10_000],
        ["a", 11, 10_000],
        ["b", 10, 15_000],
        ["b", 11, 15_000],
      ],
    ]);
  });

  it("ends when the server does not keep up", async () => {
    const driver = fake(() => new Promise((resolve) => setTimeout(resolve, 100)));
    const schedule = new Schedule({
      ...{ driver: "fake", targets: [{ url: "none" }], jobs: ["a"], maxOpen: 3 },
      ...{ perSecond: 1_000, pattern: "even", seconds: 60 },
    });
    const { overloaded, sent, acknowledged } = await schedule.run(driver);
    expect(overloaded).to.equal(true);
    expect(acknowledged).to.equal(sent);
    expect(sent).to.be.lessThan(60_000);
  });

  it("tells why something was refused", async () => {
    const driver = fake(() => Promise.reject(new Error("storage_full")));
    const schedule = new Schedule({
      ...{ driver: "fake", targets: [{ url: "none" }], jobs: ["a"] },
      ...{ perSecond: 100, pattern: "even", seconds: 0.02 },
    });
    expect(await schedule.run(driver)).to.include({ acknowledged: 0, refused: 2, fault: "storage_full" });
  });
});
