import { expect } from "chai";
import { Check } from "typebox/value";
import { EVENT_BYTES, type Outgoing } from "../../bench/driver.ts";
import { eventOf, jobOf, stampOf } from "../../bench/event.ts";
import { Histogram } from "../../bench/histogram.ts";
import { Numbers } from "../../bench/numbers.ts";
import { publishedSchema } from "../../src/protocol/events.ts";

describe("bench events", () => {
  const sentUs = 1_234_567_890;

  for (const kind of ["log", "progress"] as const) {
    it(`${kind}: has its length, and the hub takes it`, () => {
      const schema = publishedSchema(kind === "log" ? "log" : "training_progress");
      for (const more of [{}, { id: "a-1" }, { bytes: kind === "log" ? 4_096 : 1_024 }] as Array<
        Partial<Outgoing>
      >) {
        const event = eventOf("job-1", { n: 17, sentUs, kind, ...more });
        const text = JSON.stringify(event);
        expect(text).to.have.length(more.bytes ?? EVENT_BYTES);
        expect(stampOf(text)).to.deep.equal({ n: 17, sentUs });
        expect(jobOf(text)).to.equal("job-1");
        expect(Check(schema, event)).to.equal(true);
      }
    });
  }

  it("what the hub says of its own has no stamp", () => {
    expect(stampOf('{"type":"job_created","job_id":"job-1"}')).to.equal(undefined);
  });

  it("numbers that come, come late, twice, or never", () => {
    const numbers = new Numbers(10);
    const noted = [11, 13, 13, 12, 12, 16].map((n) => numbers.note(n));
    expect(noted).to.deep.equal([true, true, false, true, false, true]);
    expect({ ...numbers }).to.deep.equal({ lost: 2, doubled: 2, misordered: 1 });
    expect(numbers.lostUpTo(18)).to.equal(4);
    numbers.reset();
    expect(numbers.lostUpTo(16)).to.equal(0);
  });

  it("histograms of several processes are merged exactly to three digits", () => {
    const [a, b] = [Histogram.empty(), Histogram.empty()];
    for (let us = 1; us <= 1_000; us++) a.record(us);
    for (let us = 100_001; us <= 101_000; us++) b.record(us);
    const merged = Histogram.merged([a, b].map((each) => Histogram.parse(String(each))));
    expect(merged.count).to.equal(2_000);
    expect(merged.percentile(50)).to.be.closeTo(1_000, 1);
    expect(merged.percentile(75)).to.be.closeTo(100_500, 101);
    expect(merged.max).to.be.closeTo(101_000, 101);
    for (const share of [1, 50, 75, 99, 100])
      expect(Histogram.percentileOf([a, b], share)).to.equal(merged.percentile(share));
    expect(Histogram.percentileOf([Histogram.empty()], 50)).to.equal(undefined);
  });
});
