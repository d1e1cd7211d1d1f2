/** What a feed does with messages that are lost, doubled, late or unreadable, and with a store that has lost things. */
import { expect } from "chai";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Snapshot, TenantSnapshot } from "../../src/protocol/types.ts";
import {
  JOB,
  line,
  pass,
  progress,
  type Scripted,
  sample,
  scripted,
  settle,
  startClock,
  status,
  stopClock,
  TENANT,
  WATCHER,
  Watching,
} from "./scripted.ts";

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe("core/feed", () => {
  let hub: Scripted;
  let watcher: Watching;

  /** A job with one event and a watcher on it, which stands at seq 1. */
  async function begin(options: Parameters<typeof scripted>[0] = {}): Promise<void> {
    hub = scripted(options);
    await hub.publish({ type: "job_created", data: {} });
    watcher = await new Watching().join(hub.hub);
  }

  beforeEach(() => stopClock());
  afterEach(async () => {
    await hub.close();
    startClock();
  });

  const heals = () => hub.hub.counters.heals;

  it("delivers each event once, in order, without reading when nothing is amiss", async () => {
    await begin();
    await hub.publish(line(), status("running"), progress({ loss: 1 }), sample());
    expect(watcher.seqs).to.deep.equal([2, 3, 4, 5]);
    expect(watcher.events.map(({ wire }) => wire)).to.deep.equal(
      hub.bus
        .history()
        .slice(1)
        .map(({ wire }) => wire),
    );
    expect(heals()).to.equal(0);
  });

  it("drops what comes twice", async () => {
    await begin();
    hub.bus.fate = () => "twice";
    await hub.publish(line(), line(), line());
    expect(watcher.seqs).to.deep.equal([2, 3, 4]);
    expect(heals()).to.equal(0);
  });

  it("heals a hole as soon as a later event shows it", async () => {
    await begin();
    hub.bus.fate = () => "lose";
    await hub.publish(line(), line());
    hub.bus.fate = () => "now";
    await hub.publish(line());
    await settle();
    expect(watcher.seqs).to.deep.equal([2, 3, 4]);
    expect(heals()).to.equal(1);
  });

  it("finds a lost last event by comparing heads, within one check", async () => {
    await begin();
    hub.bus.fate = () => "lose";
    await hub.publish(line());
    await pass(1_900);
    expect(watcher.seqs).to.deep.equal([]);
    await pass(400);
    expect(watcher.seqs).to.deep.equal([2]);
  });

  it("finds a lost last value of a conflatable type too", async () => {
    await begin();
    hub.bus.fate = () => "lose";
    await hub.publish(progress({ loss: 0.5 }), progress({ stage: "s" }));
    await pass(2_400);
    expect(watcher.events.map(({ wire }) => JSON.parse(wire).data)).to.deep.equal([
      { loss: 0.5, stage: "s" },
    ]);
    expect(watcher.seqs).to.deep.equal([3]);
  });

  it("does not heal for a message that is merely on its way while heads are compared", async () => {
    await begin();
    hub.bus.fate = () => "hold";
    await pass(1_950);
    await hub.publish(line());
    await pass(100);
    hub.bus.flush();
    await pass(500);
    expect(watcher.seqs).to.deep.equal([2]);
    expect(heals()).to.equal(0);
  });

  it("puts what comes in the wrong order right", async () => {
    await begin();
    hub.bus.fate = () => "hold";
    await hub.publish(...range(2, 9).map(() => line()));
    hub.bus.flush((waiting) => waiting - 1);
    await settle();
    expect(watcher.seqs).to.deep.equal(range(2, 9));
  });

  it("reads the log for a message that cannot be read", async () => {
    await begin();
    hub.bus.fate = () => "unreadable";
    await hub.publish(line());
    await settle();
    expect(watcher.seqs).to.deep.equal([2]);
    hub.bus.fate = () => "now";
    await hub.publish(line());
    expect(watcher.seqs).to.deep.equal([2, 3]);
  });

  it("reads the log when its subscription is renewed", async () => {
    await begin();
    hub.bus.fate = () => "lose";
    await hub.publish(line(), line());
    hub.bus.renew();
    await settle();
    expect(watcher.seqs).to.deep.equal([2, 3]);
  });

  it("says where it stands while it is complete, and not while it is cut off or heals", async () => {
    await begin();
    const feed = hub.hub.feeds.get(JOB);
    expect(feed.standing()).to.deep.equal(feed.position());
    feed.unsubscribed();
    expect(feed.standing()).to.equal(null);
    feed.subscribed();
    expect(feed.standing(), "healing").to.equal(null);
    await settle();
    expect(feed.standing()).to.deep.equal(feed.position());
  });

  it("is not misled by a message of an older epoch", async () => {
    await begin();
    const stale: FeedEvent = { ...(hub.bus.history()[0] as FeedEvent), epoch: "older", seq: 2 };
    hub.bus.deliver(JOB, [stale, { ...stale, seq: 900 }]);
    await settle();
    await hub.publish(line());
    expect(watcher.seqs).to.deep.equal([2]);
    expect(watcher.gaps).to.deep.equal([]);
  });

  it("tries until the store answers, keeps what comes meanwhile, and logs only what nobody expects", async () => {
    await begin();
    let failures = 0;
    hub.store.around = (call, moment) => {
      if (call !== "read" || moment !== "before" || ++failures > 5) return;
      if (failures < 5) throw new HubError("unavailable");
      throw new Error("not expected");
    };
    hub.bus.fate = () => "lose";
    await hub.publish(line());
    hub.bus.fate = () => "now";
    await hub.publish(line(), line());
    await pass(5_000);
    expect(failures).to.be.above(5);
    expect(watcher.seqs).to.deep.equal([2, 3, 4]);
    expect(hub.logged).to.have.length(1);
    expect(hub.logged[0]).to.include("not expected");
  });

  it("bounds what it keeps while it heals; what it throws away comes from the log", async () => {
    await begin();
    hub.store.around = (call) => {
      if (call === "read") throw new HubError("unavailable");
    };
    hub.bus.renew();
    await settle();
    await hub.publish(...range(1, LIMITS.healEvents - 50).map(() => line()));
    hub.store.around = () => {};
    await pass(3_000);
    expect(watcher.seqs).to.deep.equal(range(2, LIMITS.healEvents - 49));
    expect(watcher.gaps).to.deep.equal([]);
  });

  it("gap overflow: beyond 1 000 events it goes to the head, with a snapshot, and on from there", async () => {
    await begin();
    hub.bus.fate = () => "lose";
    await hub.publish(...range(1, LIMITS.healEvents + 100).map(() => line()), status("paused"));
    hub.bus.fate = () => "now";
    await hub.publish(line());
    await settle(20);
    await hub.publish(line("after"));
    const [gap] = watcher.gaps;
    expect(gap).to.include({ reason: "overflow", feed: "job", job_id: "job", seq: 1_103, to: 1_103 });
    expect((gap!.snapshot as Snapshot).status).to.equal("paused");
    // What came before the gap is in order, and the gap covers the rest.
    const { seqs } = watcher;
    expect(seqs).to.deep.equal([...range(2, (gap?.from as number) - 1), 1_104]);
    expect(watcher.gaps).to.have.length(1);
  });

  it("gap overflow: beyond 1 MB too", async () => {
    await begin();
    hub.bus.fate = () => "lose";
    const big = { type: "custom", data: { name: "n", data: { text: "x".repeat(60_000) } } };
    await hub.publish(...range(1, 20).map(() => big));
    hub.bus.renew();
    await settle(20);
    expect(watcher.gaps.map(({ reason, seq }) => [reason, seq])).to.deep.equal([["overflow", 21]]);
  });

  it("gap trimmed, in place: log lines alone without a snapshot, other events with one", async () => {
    await begin({ store: { maxLogLines: 2, maxEvents: 2 } });
    hub.bus.fate = () => "lose";
    await hub.publish(line(), sample(1), line(), line(), sample(2), line());
    hub.bus.renew();
    await settle();
    const told = watcher.received
      .slice(1)
      .map((one) => ("gap" in one ? `${one.gap.stream} ${one.gap.from}-${one.gap.to}` : one));
    expect(
      told.map((one) => (typeof one === "string" ? one : "event" in one && one.event.seq)),
    ).to.deep.equal([...["log 2-4", 3, 5, 6, 7]]);
    expect(watcher.gaps[0]).to.include({ reason: "trimmed", seq: 1 });
    expect(watcher.gaps[0]).to.not.have.property("snapshot");

    await hub.publish(sample(3), sample(4), sample(5));
    hub.bus.renew();
    await settle();
    const [, gap] = watcher.gaps;
    expect(gap).to.include({ reason: "trimmed", stream: "events", from: 8, to: 8, seq: 7 });
    expect((gap!.snapshot as Snapshot).seq).to.equal(10);
    expect(watcher.seqs.slice(-2)).to.deep.equal([9, 10]);
  });

  it("gap trimmed concerns only watchers of that stream", async () => {
    await begin({ store: { maxLogLines: 1 } });
    const statuses = await new Watching().join(hub.hub, { job_id: "job", types: ["training_status"] });
    const logs = await new Watching().join(hub.hub, { job_id: "job", types: ["log"] });
    hub.bus.fate = () => "lose";
    await hub.publish(line(), line(), status("running"));
    hub.bus.renew();
    await settle();
    expect(statuses.gaps).to.deep.equal([]);
    expect(statuses.seqs).to.deep.equal([4]);
    expect(logs.gaps.map(({ from, to }) => [from, to])).to.deep.equal([[2, 2]]);
    expect(logs.seqs).to.deep.equal([3]);
  });

  it("gap reset: another epoch, with a snapshot; it goes on in the new one", async () => {
    await begin();
    await hub.publish(line(), line());
    await hub.store.lose();
    await hub.publish(line("new"));
    await settle();
    await hub.publish(line("newer"));
    const [gap] = watcher.gaps;
    const epoch = hub.bus.history().at(-1)?.epoch;
    expect(gap).to.include({ reason: "reset", epoch, seq: 2 });
    expect((gap!.snapshot as Snapshot).epoch).to.equal(epoch);
    expect(watcher.seqs).to.deep.equal([2, 3, 3]);
    expect(watcher.events.at(-1)?.epoch).to.equal(epoch);
  });

  it("gap reset: the job is gone, and begins again from its first event", async () => {
    await begin();
    await hub.store.lose();
    await pass(2_300);
    expect(watcher.gaps).to.deep.equal([
      { type: "gap", feed: "job", job_id: "job", epoch: null, seq: 0, reason: "reset", snapshot: null },
    ]);
    await hub.publish(line());
    expect(watcher.seqs).to.deep.equal([1, 2]);
    expect(watcher.gaps).to.have.length(1);
  });

  it("tells who has joined in the new epoch already what it misses when the feed jumps there", async () => {
    await begin();
    await hub.publish(line(), line());
    await hub.store.lose();
    hub.bus.fate = () => "lose";
    await hub.publish(line());
    const early = await new Watching().join(hub.hub);
    expect(early.answers[0]).to.include({ seq: 2, recovered: true });
    await hub.publish(line(), line());
    const late = await new Watching().join(hub.hub);
    hub.bus.fate = () => "now";
    hub.bus.renew();
    await settle();
    await hub.publish(line());
    expect(early.gaps.map(({ reason, from, to, seq }) => [reason, from, to, seq])).to.deep.equal([
      ["overflow", 3, 4, 4],
    ]);
    expect(late.gaps).to.deep.equal([]);
    expect(watcher.gaps.map(({ reason }) => reason)).to.deep.equal(["reset"]);
    for (const one of [early, late, watcher]) expect(one.seqs.at(-1)).to.equal(5);
  });

  it("gap reset on the tenant's feed shows a token only the jobs of its list", async () => {
    await begin();
    const limited = { ...WATCHER, jobs: ["mine"] };
    const tenant = await new Watching().join(hub.hub, {}, limited);
    const all = await new Watching().join(hub.hub, {});
    await hub.store.lose();
    hub.bus.fate = () => "lose";
    await hub.publish({ ...line(), job_id: "mine" }, { ...line(), job_id: "theirs" });
    hub.bus.renew(TENANT);
    await settle();
    const jobs = (one: Watching) =>
      (one.gaps[0]!.snapshot as TenantSnapshot).jobs.map(({ job_id }) => job_id);
    expect(jobs(tenant)).to.deep.equal(["mine"]);
    expect(jobs(all)).to.have.members(["mine", "theirs"]);
  });

  it("counts what it delivers and heals", async () => {
    await begin();
    hub.bus.fate = () => "unreadable";
    await hub.publish(line(), line());
    await settle();
    expect(hub.hub.counters).to.include({ delivered: 2, gaps: 0 });
    expect(heals()).to.be.within(1, 2);
  });
});
