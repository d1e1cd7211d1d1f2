/** Subscribing while others publish: at every point of the way in, without gap and without double. */
import { expect } from "chai";
import type { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Cursor, DeliveredEvent, SubscribeRequest } from "../../src/protocol/types.ts";
import { Oracle } from "./oracle.ts";
import {
  asTold,
  type Fate,
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

interface Case {
  name: string;
  request(head: { epoch: string; seq: number }): SubscribeRequest;
  /** Events that the job has before; none: it does not exist. */
  before: number;
}

const CASES: Case[] = [
  { name: "a snapshot", before: 3, request: () => ({}) },
  { name: "a cursor", before: 6, request: ({ epoch }) => ({ since: { epoch, seq: 2 } }) },
  { name: "the head as a cursor", before: 3, request: (head) => ({ since: head }) },
  { name: "history", before: 6, request: () => ({ history: 3 }) },
  { name: "types", before: 3, request: () => ({ types: ["log"], history: 1 }) },
  { name: "wait", before: 0, request: () => ({ wait: true }) },
];

const seqsOf = (events: DeliveredEvent[]) => events.map(({ seq }) => seq);

describe("core/open", () => {
  let hub: Scripted;
  afterEach(() => hub.close());

  /** Subscribes, and publishes `count` events at the given moment of its way; answers how many moments there were. */
  async function race(one: Case, moment: number, fate: Fate, followed: boolean): Promise<number> {
    hub = scripted();
    for (let i = 0; i < one.before; i++) await hub.publish(i % 2 ? sample(i) : line(String(i)));
    const other = followed ? await new Watching().join(hub.hub, { job_id: "job", wait: true }) : undefined;
    const [head] = await hub.store.heads("acme", [JOB]);
    const request = { job_id: "job", ...one.request(head ?? { epoch: "none", seq: 0 }) };
    hub.bus.fate = () => fate;
    let moments = 0;
    let publishing = false;
    const publish = async () => {
      publishing = true;
      await hub.publish(line("a"), progress({ loss: 1 }), status("running"), line("b"));
      publishing = false;
    };
    hub.store.around = async () => {
      if (!publishing && ++moments === moment) await publish();
    };
    const watching = new Watching();
    const opening = await hub.hub.replays.open(WATCHER, request, watching);
    hub.store.around = () => {};
    if (++moments === moment) await publish();
    const answer = asTold(opening.finish());
    watching.received.push({ answer, request });
    watching.subscription = opening.start();
    if (answer.more && answer.next) {
      const { history: _, ...rest } = request;
      await watching.join(hub.hub, { ...rest, since: answer.next });
    }
    if (++moments === moment) await publish();
    hub.bus.fate = () => "now";
    hub.bus.flush();
    hub.bus.renew();
    await settle();
    await hub.publish(line("last"));
    await settle();
    const state = await hub.store.job("acme", "job");
    const [end] = await hub.store.heads("acme", [JOB]);
    const newest = request.types ? [] : (state?.newest ?? []).map(({ seq }) => ({ seq, data: { loss: 1 } }));
    for (const [who, types] of [
      [watching, request.types],
      [other, undefined],
    ] as const) {
      if (!who) continue;
      const oracle = new Oracle(types).take(who.received);
      expect(oracle.check(hub.bus.history(), end, newest), `moment ${moment}`).to.deep.equal([]);
      expect(who.gaps).to.deep.equal([]);
    }
    return moments;
  }

  for (const one of CASES) {
    for (const fate of ["now", "hold", "lose", "twice"] as const) {
      it(`open(${one.name}): an event that is published meanwhile comes once, wherever (messages: ${fate})`, async () => {
        for (const followed of [false, true]) {
          let moments = 1;
          for (let moment = 1; moment <= moments; moment++) {
            moments = await race(one, moment, fate, followed);
            await hub.close();
          }
          expect(moments).to.be.above(3);
        }
      });
    }
  }

  it("open(): an instance that lags behind the page repeats nothing of it to the new watcher, and all to the others", async () => {
    hub = scripted();
    await hub.publish(line());
    const other = await new Watching().join(hub.hub);
    hub.bus.fate = () => "hold";
    await hub.publish(line(), line(), line());
    const late = await new Watching().join(hub.hub);
    expect(late.answers[0]?.seq).to.equal(5);
    hub.bus.fate = () => "now";
    hub.bus.flush();
    await hub.publish(line());
    expect(late.seqs).to.deep.equal([6]);
    expect(other.seqs).to.deep.equal([3, 4, 5, 6]);
  });

  it("open(): events follow the answer in the same turn", async () => {
    hub = scripted();
    await hub.publish(line());
    const watching = new Watching();
    const opening = await hub.hub.replays.open(WATCHER, { job_id: "job" }, watching);
    await hub.publish(line(), line());
    const answer = asTold(opening.finish());
    expect(watching.received).to.deep.equal([]);
    opening.start();
    expect(answer.seq).to.equal(2);
    expect(watching.seqs).to.deep.equal([3, 4]);
  });

  it("open(): when too much is published meanwhile, the next page reads on", async () => {
    hub = scripted();
    await hub.publish(line());
    const watching = new Watching();
    const opening = await hub.hub.replays.open(WATCHER, { job_id: "job" }, watching);
    for (let i = 0; i <= LIMITS.healEvents; i++) await hub.publish(line());
    const answer = asTold(opening.finish());
    expect(answer).to.include({ more: true, seq: 2 });
    expect(answer.next).to.deep.equal({ epoch: answer.epoch, seq: 2 });
    expect(opening.start()).to.equal(undefined);
    await watching.join(hub.hub, { job_id: "job", since: answer.next as { epoch: string; seq: number } });
    const all = watching.answers.flatMap(({ events }) => seqsOf(events as DeliveredEvent[]));
    expect(all).to.deep.equal(Array.from({ length: LIMITS.healEvents + 1 }, (_, i) => i + 3));
  });

  it("open(wait): when too much is published meanwhile, too", async () => {
    hub = scripted();
    const watching = new Watching();
    const opening = await hub.hub.replays.open(WATCHER, { job_id: "job", wait: true }, watching);
    for (let i = 0; i <= LIMITS.healEvents; i++) {
      await hub.publish(line());
      if (i === 0) await settle();
    }
    const answer = asTold(opening.finish());
    expect(answer).to.include({ more: true, epoch: null });
    expect(answer.next?.seq).to.equal(0);
    expect(opening.start()).to.equal(undefined);
  });

  it("open(): when the history is reset meanwhile, the next page says so", async () => {
    hub = scripted();
    await hub.publish(line(), line());
    const watching = new Watching();
    const opening = await hub.hub.replays.open(WATCHER, { job_id: "job" }, watching);
    await hub.store.lose();
    await hub.publish(line());
    await settle();
    const answer = asTold(opening.finish());
    expect(answer.more).to.equal(true);
    expect(opening.start()).to.equal(undefined);
    await watching.join(hub.hub, { job_id: "job", since: answer.next as { epoch: string; seq: number } });
    expect(watching.answers[0]).to.include({ recovered: false, seq: 2 });
    expect(watching.answers[0]?.epoch).to.not.equal(answer.epoch);
  });

  it("open(since): another epoch, or a seq above the head, is not recovered", async () => {
    hub = scripted();
    await hub.publish(line());
    const [head] = await hub.store.heads("acme", [JOB]);
    for (const since of [
      { epoch: "another", seq: 1 },
      { epoch: head?.epoch as string, seq: 3 },
    ]) {
      const watching = await new Watching().join(hub.hub, { job_id: "job", since });
      expect(watching.answers[0]).to.deep.include({ ...head, recovered: false, events: [] });
      expect(watching.answers[0]?.snapshot).to.include({ seq: 2, status: "pending" });
    }
  });

  it("open(since): a value that lies before the cursor comes whole, wherever it changes meanwhile", async () => {
    for (let moment = 1, moments = 1; moment <= moments; moment++) {
      hub = scripted();
      await hub.publish(progress({ loss: 1, stage: "held back" }), line());
      const [since] = await hub.store.heads("acme", [JOB]);
      let publishing = false;
      moments = 0;
      hub.store.around = async () => {
        if (publishing || ++moments !== moment) return;
        publishing = true;
        await hub.publish(progress({ loss: 2 }));
        publishing = false;
      };
      const watching = await new Watching().join(hub.hub, { job_id: "job", since: since as Cursor });
      hub.store.around = () => {};
      await settle();
      const data = {};
      const live = watching.events.map(({ wire }) => JSON.parse(wire) as DeliveredEvent);
      for (const event of [...((watching.answers[0]?.events ?? []) as DeliveredEvent[]), ...live]) {
        if (event.type === "training_progress") Object.assign(data, event.data);
      }
      expect(data, `moment ${moment} of ${moments}`).to.deep.equal({ loss: 2, stage: "held back" });
      await hub.close();
    }
  });

  it("open(wait): everything from the start of what has not begun is recovered, a cursor of what is gone is not", async () => {
    hub = scripted();
    for (const [since, recovered] of [
      [{ epoch: "", seq: 0 }, true],
      [{ epoch: "gone", seq: 7 }, false],
    ] as const) {
      const watching = await new Watching().join(hub.hub, { job_id: "job", wait: true, since });
      expect(watching.answers[0]).to.deep.include({ epoch: null, seq: 0, recovered, events: [] });
    }
  });

  it("open(since): trimmed log lines leave a gap in place, other trimmed events are not recovered", async () => {
    hub = scripted({ store: { maxLogLines: 2, maxEvents: 3 } });
    await hub.publish(line(), line(), line(), sample(), line());
    const [{ epoch } = { epoch: "" }] = await hub.store.heads("acme", [JOB]);
    const since = { epoch, seq: 1 };
    const lines = await new Watching().join(hub.hub, { job_id: "job", since });
    expect(lines.answers[0]).to.include({ recovered: true });
    expect(lines.answers[0]?.events.map((one) => [one.type, one.seq])).to.deep.equal([
      ["gap", 1],
      ["log", 4],
      ["sample_generated", 5],
      ["log", 6],
    ]);
    expect(lines.answers[0]?.events[0]).to.include({ from: 2, to: 3, stream: "log", reason: "trimmed" });
    await hub.publish(sample(), sample(), sample());
    const lost = await new Watching().join(hub.hub, { job_id: "job", since });
    expect(lost.answers[0]).to.deep.include({ recovered: false, events: [], seq: 9 });
    const statuses = await new Watching().join(hub.hub, { job_id: "job", since, types: ["log"] });
    expect(statuses.answers[0]).to.include({ recovered: true });
  });

  it("open(history) begins with the last n durable events of the types, and calls nothing trimmed", async () => {
    hub = scripted({ store: { maxLogLines: 3, maxEvents: 2 } });
    await hub.publish(line(), sample(1), line(), sample(2), line(), progress({ loss: 1 }), line(), sample(3));
    const types = async (request: SubscribeRequest) =>
      (await new Watching().join(hub.hub, { job_id: "job", ...request })).answers[0]?.events.map(
        ({ type, seq }) => `${type} ${seq}`,
      );
    expect(await types({ history: 2 })).to.deep.equal(["log 8", "sample_generated 9"]);
    expect(await types({ history: 2, types: ["sample_generated"] })).to.deep.equal([
      "sample_generated 5",
      "sample_generated 9",
    ]);
    expect(await types({ history: 100 })).to.deep.equal([
      ...["log 4", "sample_generated 5", "log 6", "training_progress 7", "log 8", "sample_generated 9"],
    ]);
    expect(await types({ history: 0 })).to.deep.equal([]);
  });

  it("open() pages by 256 events and by 128 KB, and only the last page joins", async () => {
    hub = scripted();
    await hub.publish(line());
    const [{ epoch } = { epoch: "" }] = await hub.store.heads("acme", [JOB]);
    const big = { type: "custom", data: { name: "n", data: { text: "x".repeat(50_000) } } };
    await hub.publish(...Array.from({ length: 300 }, () => line()), big, big, big, big, line());
    const watching = await new Watching().join(hub.hub, { job_id: "job", since: { epoch, seq: 2 } });
    const pages = watching.answers.map(({ events }) => events.length);
    expect(pages).to.deep.equal([256, 46, 3]);
    expect(hub.hub.feeds.subscriptions).to.equal(1);
    for (const { events } of watching.answers)
      expect(JSON.stringify(events).length).to.be.below(LIMITS.pageBytes + 1_000);
    expect(watching.answers.map(({ more = false }) => more)).to.deep.equal([true, true, false]);
    const seqs = watching.answers.flatMap(({ events }) => seqsOf(events as DeliveredEvent[]));
    expect(seqs).to.deep.equal(Array.from({ length: 305 }, (_, i) => i + 3));
  });

  it("open() of an unknown job is job_not_found, and alike for one outside the allow-list", async () => {
    hub = scripted();
    await hub.publish(line());
    const errors = await Promise.all(
      [
        hub.hub.replays.open(WATCHER, { job_id: "none" }, new Watching()),
        hub.hub.replays.open({ ...WATCHER, jobs: ["mine"] }, { job_id: "job" }, new Watching()),
        hub.hub.replays.open({ ...WATCHER, tenantId: "other" }, { job_id: "job" }, new Watching()),
        hub.hub.replays.open({ ...WATCHER, jobs: ["mine"] }, { job_id: "job", wait: true }, new Watching()),
        hub.hub.replays.open(WATCHER, { job_id: "none", history: 5 }, new Watching()),
      ].map((promise) => promise.catch((error: HubError) => JSON.stringify(error))),
    );
    expect(new Set(errors).size).to.equal(1);
    expect(errors[0]).to.include("job_not_found");
  });

  it("open() says unavailable when the bus does not confirm in time, and leaves nothing behind", async () => {
    stopClock();
    try {
      hub = scripted({ timeoutMs: 1_000 });
      await hub.publish(line());
      hub.bus.down = true;
      const failed = hub.hub.replays
        .open(WATCHER, { job_id: "job" }, new Watching())
        .catch((error: HubError) => error);
      await pass(1_100);
      expect(await failed).to.have.property("code", "unavailable");
      await pass(12_000, 500);
      expect(hub.hub.feeds.size).to.equal(0);
    } finally {
      startClock();
    }
  });

  it("open() of the tenant's feed shows the newest jobs, and its own events after a cursor", async () => {
    hub = scripted();
    await hub.publish({ ...line(), job_id: "a" }, { ...status("running"), job_id: "b" });
    const watching = await new Watching().join(hub.hub, {});
    const [answer] = watching.answers;
    expect(answer).to.include({ feed: "tenant", seq: 3, recovered: true });
    expect(answer?.snapshot).to.have.property("jobs").with.length(2);
    await hub.publish({ ...status("completed"), job_id: "b" }, { ...line(), job_id: "b" });
    expect(watching.events.map(({ jobId, type }) => `${jobId} ${type}`)).to.deep.equal(["b training_status"]);
    const since = { epoch: answer?.epoch as string, seq: 1 };
    const again = await new Watching().join(hub.hub, { since });
    expect(again.answers[0]?.events.map(({ type }) => type)).to.deep.equal([
      ...["job_created", "training_status", "training_status"],
    ]);
    expect(hub.bus.history(TENANT)).to.have.length(4);
  });
});
