/** What the timers that all feeds share do: release, comparison with the store, positions, waits, the tenant's progress. */
import { expect } from "chai";
import { HubError } from "../../src/protocol/codes.ts";
import {
  line,
  pass,
  progress,
  type Scripted,
  type ScriptedOptions,
  sample,
  scripted,
  settle,
  startClock,
  status,
  stopClock,
  Watching,
} from "./scripted.ts";

describe("core/feeds", () => {
  let hub: Scripted;
  const open = (options: ScriptedOptions = {}) => {
    hub = scripted(options);
  };

  beforeEach(() => stopClock());
  afterEach(async () => {
    await hub.close();
    startClock();
  });

  it("lets a feed go 10 s after its last watcher has left, and its channel with it", async () => {
    open();
    await hub.publish(line());
    const one = await new Watching().join(hub.hub);
    const two = await new Watching().join(hub.hub, { job_id: "job", types: ["log"] });
    expect(hub.hub.feeds.size).to.equal(1);
    expect(hub.hub.feeds.subscriptions).to.equal(2);
    one.leave(hub.hub);
    await pass(15_000, 500);
    expect(hub.bus.held).to.equal(1);
    two.leave(hub.hub);
    await pass(9_000, 500);
    expect(hub.bus.held).to.equal(1);
    await pass(2_000, 500);
    expect(hub.bus.held).to.equal(0);
    expect(hub.hub.feeds.size).to.equal(0);
  });

  it("keeps a feed that is taken up again in time, and follows one again that was let go", async () => {
    open();
    await hub.publish(line());
    const one = await new Watching().join(hub.hub);
    one.leave(hub.hub);
    await pass(8_000, 500);
    const two = await new Watching().join(hub.hub);
    two.leave(hub.hub);
    await pass(8_000, 500);
    expect(hub.bus.held).to.equal(1);
    await pass(4_000, 500);
    expect(hub.bus.held).to.equal(0);
    const three = await new Watching().join(hub.hub);
    await hub.publish(line("again"));
    expect(three.seqs).to.deep.equal([3]);
  });

  it("asks for the heads of all feeds of a tenant at once, a hundred at a time", async () => {
    open();
    const watching = new Watching();
    for (let i = 0; i < 150; i++) {
      await hub.publish({ ...line(), job_id: `job-${i}` });
      await watching.join(hub.hub, { job_id: `job-${i}` });
    }
    let asked = 0;
    hub.store.around = (call, moment) => {
      if (call === "heads" && moment === "before") asked++;
    };
    await pass(2_100);
    expect(asked).to.equal(2);
  });

  it("goes on comparing after the store was away", async () => {
    open();
    await hub.publish(line());
    const watching = await new Watching().join(hub.hub);
    hub.store.around = () => {
      throw new HubError("unavailable");
    };
    await pass(6_000, 100);
    hub.store.around = () => {};
    hub.bus.fate = () => "lose";
    await hub.publish(line());
    await pass(3_000, 100);
    expect(watching.seqs).to.deep.equal([3]);
    expect(hub.logged).to.deep.equal([]);
  });

  it("tells a watcher that filters where it stands, every 10 s, and only when the feed has moved", async () => {
    open();
    await hub.publish(line());
    const watching = await new Watching().join(hub.hub, { job_id: "job", types: ["training_status"] });
    const positions = () => watching.received.flatMap((one) => ("position" in one ? [one.position] : []));
    await hub.publish(line(), sample());
    await pass(9_500, 500);
    expect(positions()).to.deep.equal([]);
    await pass(1_000, 500);
    const { epoch } = watching.answers[0] as { epoch: string };
    expect(positions()).to.deep.equal([{ feed: "job", job_id: "job", epoch, seq: 4 }]);
    await pass(20_000, 500);
    expect(positions()).to.have.length(1);
    await hub.publish(status("running"));
    await pass(20_000, 500);
    expect(positions()).to.have.length(1);
    expect(watching.subscription?.position()).to.include({ seq: 5 });
  });

  it("wait: events follow from the first when the job comes", async () => {
    open();
    const watching = await new Watching().join(hub.hub, { job_id: "job", wait: 30 });
    expect(watching.answers[0]).to.deep.equal({
      ...{ job_id: "job", feed: "job", epoch: null, seq: 0, recovered: true, snapshot: null, events: [] },
    });
    await pass(29_000, 1_000);
    await hub.publish(line());
    await settle();
    expect(watching.seqs).to.deep.equal([1, 2]);
    await pass(60_000, 1_000);
    await hub.publish(line());
    expect(watching.seqs).to.deep.equal([1, 2, 3]);
    expect(watching.received.some((one) => "expired" in one)).to.equal(false);
  });

  it("wait: ends after the seconds that were asked for, or an hour", async () => {
    open();
    const short = await new Watching().join(hub.hub, { job_id: "job", wait: 5 });
    const long = await new Watching().join(hub.hub, { job_id: "job", wait: true });
    await pass(4_500, 500);
    expect(short.received).to.have.length(1);
    await pass(2_000, 500);
    expect(short.received.slice(1)).to.deep.equal([{ expired: "job" }]);
    await pass(3_590_000, 10_000);
    expect(long.received).to.have.length(1);
    await pass(10_000, 1_000);
    expect(long.received.slice(1)).to.deep.equal([{ expired: "job" }]);
    await pass(12_000, 1_000);
    expect(hub.hub.feeds.size).to.equal(0);
    await hub.publish(line());
    expect([...short.events, ...long.events]).to.deep.equal([]);
  });

  it("brings merged progress to the tenant's feed at most once a second a job, and before a status that ends it", async () => {
    open();
    await hub.publish(line());
    const watching = await new Watching().join(hub.hub, {});
    const shown = () =>
      watching.events.map(({ wire }) => {
        const { type, data } = JSON.parse(wire);
        return `${type} ${data.loss ?? data.status}`;
      });
    for (let i = 1; i <= 30; i++) {
      await hub.publish(progress({ loss: i }));
      await pass(100);
    }
    const progressed = shown();
    expect(progressed.length).to.be.within(2, 4);
    await hub.publish(progress({ loss: 99 }), status("completed"));
    expect(shown().slice(progressed.length)).to.deep.equal([
      "training_progress 99",
      "training_status completed",
    ]);
    await pass(3_000, 500);
    expect(shown()).to.have.length(progressed.length + 2);
  });

  it("flushes no tenant that nobody watches", async () => {
    open();
    let flushed = 0;
    hub.store.around = (call, moment) => {
      if (call === "flushTenant" && moment === "before") flushed++;
    };
    await hub.publish(progress({ loss: 1 }));
    await pass(3_000, 500);
    expect(flushed).to.equal(0);
    const watching = await new Watching().join(hub.hub, {});
    await pass(3_000, 500);
    expect(flushed).to.be.within(2, 4);
    expect(watching.events.map(({ type }) => type)).to.deep.equal(["training_progress"]);
  });
});
