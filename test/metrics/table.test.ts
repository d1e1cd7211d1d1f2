/** The table of metrics keeps Prometheus' conventions, and tells an operator something. */
import { expect } from "chai";
import { METRICS, type MetricRow, PROCESS_METRICS } from "../../src/metrics/table.ts";

const ROWS: readonly MetricRow[] = METRICS;

describe("metrics: table", () => {
  it("names each metric once, with prefix and unit as is the custom", () => {
    expect(new Set(ROWS.map(({ name }) => name)).size).to.equal(ROWS.length);
    for (const { name, type } of ROWS) {
      expect(name).to.match(/^trainwire_[a-z]+(_[a-z]+)*$/);
      expect(name.endsWith("_total"), name).to.equal(type === "counter");
      if (type === "histogram") expect(name).to.match(/_seconds$/);
      expect(name).not.to.match(/_(ms|milliseconds|kb|percent)(_|$)/);
    }
  });

  it("has buckets for histograms alone, in order", () => {
    for (const { name, type, buckets } of ROWS) {
      expect(buckets !== undefined, name).to.equal(type === "histogram");
      expect(buckets ?? []).to.deep.equal([...new Set(buckets ?? [])].sort((a, b) => a - b));
    }
  });

  it("explains each in sentences", () => {
    for (const { name, help } of [...ROWS, ...PROCESS_METRICS]) {
      expect(help, name)
        .to.match(/^[A-Z0-9].*\.$/)
        .and.not.match(/[`|\n]/);
      expect(help.length, name).to.be.within(15, 260);
    }
  });

  it("has no label that could hold a tenant, a job or a user", () => {
    const labels = ROWS.flatMap((row) => Object.keys(row.labels ?? {}));
    expect(new Set(labels)).to.deep.equal(
      new Set([
        ...["version", "node", "state", "door", "transport", "reason", "code", "status"],
        ...["result", "clock", "class", "outcome", "liveness", "channel"],
      ]),
    );
  });
});
