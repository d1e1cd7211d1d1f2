import { expect } from "chai";
import type { JobName } from "../../src/bus/bus.ts";
import { Instances } from "../../src/core/instances.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { MemoryRegistry } from "../../src/store/memory-registry.ts";
import type {} from "../../src/store/registry.ts";
import { until } from "../support/until.ts";

const JOB: JobName = { tenantId: "acme", jobId: "job" };

describe("core/instances", () => {
  let errors: unknown[];
  /** As the hub takes them: that the store is away is nothing unforeseen. */
  const unforeseen = (error: unknown) => {
    if (!(error instanceof HubError)) errors.push(error);
  };
  let closing: Array<() => unknown>;
  beforeEach(() => {
    errors = [];
    closing = [];
  });
  afterEach(async () => {
    for (const close of closing) await close();
    expect(errors).to.deep.equal([]);
  });

  const TIMEOUT = 300;

  /** A registry that says what the test wants. */
  function scripted(beat: () => { anew: boolean; silent: string[] }) {
    const forgotten: number[] = [];
    const registry = new MemoryRegistry({ instanceId: "hub-a" });
    registry.beat = async () => beat();
    registry.forget = async () => {
      forgotten.push(performance.now());
      return [JOB];
    };
    let anew = 0;
    const inherited: JobName[] = [];
    const instances = new Instances({
      registry,
      timeoutMs: TIMEOUT,
      report: () => "{}",
      onAnew: () => anew++,
      onForgotten: (jobs) => inherited.push(...jobs),
      onError: unforeseen,
    });
    closing.push(() => instances.close());
    return { forgotten, inherited, news: () => anew };
  }

  it("judge nobody before their own beats have gone through for one time-out", async () => {
    const start = performance.now();
    let beats = 0;
    let back = 0;
    const { forgotten, inherited, news } = scripted(() => {
      beats++;
      // Away after a while, and back again.
      if (beats >= 2 && beats <= 5) throw new HubError("unavailable");
      if (beats === 6) back = performance.now();
      return { anew: beats === 1, silent: ["hub-z"] };
    });
    await until(() => forgotten.length > 0);
    expect(back).to.be.above(start);
    expect((forgotten[0] as number) - back).to.be.at.least(TIMEOUT * 0.9);
    expect(inherited[0]).to.deep.equal(JOB);
    expect(news()).to.equal(1);
  });

  it("leave when they close, and do not wait for a store that does not answer", async () => {
    const registry = new MemoryRegistry({ instanceId: "hub-a" });
    let left = 0;
    registry.leave = () => {
      left++;
      return new Promise(() => {});
    };
    const instances = new Instances({
      registry,
      timeoutMs: TIMEOUT,
      report: () => "{}",
      onAnew() {},
      onForgotten() {},
      onError: unforeseen,
    });
    await instances.close();
    expect(left).to.equal(1);
  });

  it("report at once when they are new, then at most once a second, and beat on when that fails", async () => {
    const registry = new MemoryRegistry({ instanceId: "hub-a" });
    const reports: number[] = [];
    registry.report = async () => {
      reports.push(performance.now());
      throw new HubError("storage_full");
    };
    let beats = 0;
    const { beat } = registry;
    registry.beat = () => {
      beats++;
      return beat.call(registry);
    };
    const instances = new Instances({
      registry,
      timeoutMs: TIMEOUT,
      report: () => "{}",
      onAnew() {},
      onForgotten() {},
      onError: unforeseen,
    });
    closing.push(() => instances.close());
    await until(() => reports.length === 1);
    expect(beats).to.equal(1);
    await until(() => reports.length === 2);
    expect(beats).to.be.above(5);
    expect((reports[1] as number) - (reports[0] as number)).to.be.at.least(999);
    await instances.report();
    expect(reports).to.have.length(3);
  });

  it("log what nobody foresaw, and go on", async () => {
    const { news } = scripted(() => {
      if (errors.length === 0) throw new Error("a fault");
      return { anew: true, silent: [] };
    });
    await until(() => news() > 0);
    expect(errors.splice(0).map(String)).to.deep.equal(["Error: a fault"]);
  });
});
