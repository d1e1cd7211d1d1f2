/** Everybody comes back at once: with what each has missed, from a handful of reads, and by turns. */
import { expect } from "chai";
import fc from "fast-check";
import { SHARE_MS } from "../../src/core/shares.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { EventType, SubscribeRequest } from "../../src/protocol/types.ts";
import { joinFields } from "../../src/store/wire.ts";
import { Oracle } from "./oracle.ts";
import {
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
  stopClock,
  WATCHER,
  Watching,
} from "./scripted.ts";

const ANOTHER = { ...WATCHER, tenantId: "another" };

describe("core, join storms", () => {
  let hub: Scripted;
  /** When each read of the log began, by the clock that stands still. */
  let begun: number[];
  let jobs: number;

  function start(options: Parameters<typeof scripted>[0] = {}): void {
    hub = scripted({ shareMs: SHARE_MS, ...options });
    begun = [];
    jobs = 0;
    hub.store.around = async (call, moment) => {
      if (moment === "before" && call === "read") begun.push(Date.now());
      if (moment === "before" && call === "job") jobs++;
      if (call === "read" || call === "heads" || call === "job") await settle(1);
    };
  }

  beforeEach(() => stopClock());
  afterEach(async () => {
    await hub.close();
    startClock();
  });

  async function over(promise: Promise<unknown>, step = 10): Promise<void> {
    let done = false;
    void promise.finally(() => {
      done = true;
    });
    for (let i = 0; i < 2_000 && !done; i++) await pass(step, step);
    expect(done, "it has come to an end").to.equal(true);
    await promise;
  }

  it("2 000 watchers who are up to 100 events behind: all of them get all, from one read in 50 ms", async () => {
    start();
    await hub.publish(...Array.from({ length: 200 }, (_, i) => line(String(i))));
    const [head] = await hub.store.heads("acme", [JOB]);
    const epoch = head?.epoch as string;
    const watchers = Array.from({ length: 2_000 }, () => new Watching());
    const joined: Array<Promise<unknown>> = [];
    for (const [i, watching] of watchers.entries()) {
      joined.push(watching.join(hub.hub, { job_id: "job", since: { epoch, seq: 101 + (i % 100) } }));
      if (i % 100 === 99) {
        await hub.publish(line(`live ${i}`));
        await pass(10);
      }
    }
    await over(Promise.all(joined));
    await hub.publish(line("last"));
    for (const watching of watchers) {
      const oracle = new Oracle().take(watching.received);
      expect(oracle.check(hub.bus.history(), { epoch, seq: 222 }, [])).to.deep.equal([]);
      expect(watching.gaps).to.deep.equal([]);
    }
    for (const [i, at] of begun.entries()) {
      if (i > 0) expect(at - (begun[i - 1] as number)).to.be.at.least(SHARE_MS);
    }
    expect(begun.length).to.be.below(15);
    expect(hub.hub.replays).to.include({ reads: begun.length, waiting: 0 });
  });

  it("without a cursor they share what begins the feed, read once for each position", async () => {
    start();
    await hub.publish(line(), progress({ loss: 1 }));
    const join = (count: number) =>
      Promise.all(Array.from({ length: count }, () => new Watching().join(hub.hub, { job_id: "job" })));
    const first = join(500);
    await over(first);
    expect(jobs).to.equal(1);
    await pass(SHARE_MS);
    const same = join(100);
    await over(same);
    expect(jobs, "nothing has changed").to.equal(1);
    await hub.publish(progress({ loss: 2 }));
    const newer = join(100);
    await over(newer);
    expect(jobs).to.equal(2);
    for (const [watchers, seq] of [
      [await first, 3],
      [await same, 3],
      [await newer, 4],
    ] as const) {
      for (const { answers } of watchers) expect(answers[0]?.snapshot).to.include({ seq });
    }
    await pass(1_000);
    await over(join(1));
    expect(jobs, "signs of life are no older than that").to.equal(3);
  });

  it("whoever waits for the next read keeps nothing until it begins: it finds what came until then", async () => {
    start();
    await hub.publish(line());
    const epoch = (await hub.store.heads("acme", [JOB]))[0]?.epoch as string;
    for (const request of [{}, { since: { epoch, seq: LIMITS.healEvents + 2 } }]) {
      const first = new Watching().join(hub.hub, { job_id: "job", ...request });
      await settle(6);
      await first;
      const late = new Watching();
      const joined = late.join(hub.hub, { job_id: "job", ...request });
      await settle();
      for (let i = 0; i <= LIMITS.healEvents; i++) await hub.publish(line());
      await over(joined);
      await hub.publish(line("last"));
      const [head] = await hub.store.heads("acme", [JOB]);
      if (!("since" in request)) expect(late.answers).to.have.length(1);
      expect(late.gaps).to.deep.equal([]);
      expect(late.seqs.at(-1)).to.equal(head?.seq);
      expect(new Oracle().take(late.received).check(hub.bus.history(), head, [])).to.deep.equal([]);
      await pass(SHARE_MS);
    }
  });

  it("one tenant's storm does not hold up another tenant's single watcher", async () => {
    start({ maxReplays: 4 });
    const events = Array.from({ length: 40 }, (_, i) => ({ ...line(), job_id: `job-${i}` }));
    await hub.publish(...events);
    await hub.hub.publish({ ...ANOTHER, role: "trainer" }, { ...line(), job_id: "job" });
    const order: string[] = [];
    // One after the other, as the slots come free.
    hub.store.around = async (call) => {
      if (call === "job") await settle(2);
    };
    const ended = events.map(({ job_id }) =>
      new Watching().join(hub.hub, { job_id }).then(() => order.push(job_id)),
    );
    await settle(1);
    const single = new Watching().join(hub.hub, { job_id: "job" }, ANOTHER).then(() => order.push("single"));
    await over(Promise.all([...ended, single]), 1);
    expect(order.indexOf("single")).to.be.below(12);
    expect(order).to.have.length(41);
    expect(hub.hub.replays.waiting).to.equal(0);
  });

  it("whoever waits for a feed that the bus does not bring holds up nobody else", async () => {
    start({ maxReplays: 2, timeoutMs: 5_000 });
    await hub.publish(line(), { ...line(), job_id: "other" });
    await over(new Watching().join(hub.hub, { job_id: "other" }));
    hub.bus.down = true;
    const stuck = Array.from({ length: 5 }, () =>
      new Watching().join(hub.hub, { job_id: "job" }).catch((error: { code: string }) => error.code),
    );
    await settle();
    let joined = false;
    void new Watching().join(hub.hub, { job_id: "other" }).then(() => {
      joined = true;
    });
    await pass(200, 10);
    expect(joined).to.equal(true);
    await pass(5_000, 100);
    expect(await Promise.all(stuck)).to.deep.equal(Array(5).fill("unavailable"));
  });

  describe("whatever happens meanwhile", () => {
    const limits = LIMITS as Record<string, number>;
    const { pageEvents, pageBytes } = LIMITS;
    before(() => {
      Object.assign(limits, { pageEvents: 8, pageBytes: 4_000 });
    });
    after(() => {
      Object.assign(limits, { pageEvents, pageBytes });
    });

    const fate = fc.constantFrom<Fate>("now", "now", "now", "lose", "twice", "hold");
    const seats = fc.array(
      fc.record({
        /** Share of what was there, for a cursor; none: a snapshot. */
        cursor: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
        types: fc.constantFrom<EventType[] | undefined>(
          undefined,
          undefined,
          ["log"],
          ["sample_generated", "training_progress"],
        ),
      }),
      { minLength: 5, maxLength: 30 },
    );
    const steps = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          publish: fc.array(fc.constantFrom("log", "sample", "progress", "large"), {
            minLength: 1,
            maxLength: 10,
          }),
          fate,
        }),
      },
      { weight: 3, arbitrary: fc.record({ join: seats }) },
      { weight: 2, arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 60 }) }) },
      { weight: 1, arbitrary: fc.constant({ lose: true as const }) },
    );

    it("each has all since his cursor, or is told what is missing", async function () {
      this.timeout(120_000);
      await fc.assert(
        fc.asyncProperty(fc.array(steps, { minLength: 3, maxLength: 15 }), async (all) => {
          start({ maxReplays: 7, store: { maxEvents: 20, maxLogLines: 12 } });
          let number = 0;
          const eventOf = (kind: "log" | "sample" | "progress" | "large") => {
            number++;
            if (kind === "log") return line(String(number));
            if (kind === "large") return line("x".repeat(1_500));
            return kind === "sample" ? sample(number) : progress({ loss: number });
          };
          await hub.publish(line(), sample(), line(), progress({ loss: 0 }));
          const joined: Array<{ watching: Watching; types: EventType[] | undefined; end: Promise<unknown> }> =
            [];
          for (const step of all) {
            if ("pass" in step) await pass(step.pass, 10);
            else if ("lose" in step) {
              await hub.store.lose();
              await hub.publish(line());
            } else if ("publish" in step) {
              hub.bus.fate = () => step.fate;
              await hub.publish(...step.publish.map(eventOf));
            } else {
              const [head] = await hub.store.heads("acme", [JOB]);
              for (const { cursor, types } of step.join) {
                const request: SubscribeRequest = {
                  job_id: "job",
                  ...(types && { types }),
                  ...(cursor !== null && {
                    since: { epoch: head?.epoch as string, seq: Math.floor(cursor * (head?.seq ?? 0)) },
                  }),
                };
                const watching = new Watching();
                joined.push({ watching, types, end: watching.join(hub.hub, request) });
              }
            }
          }
          hub.bus.fate = () => "now";
          hub.bus.flush();
          await over(Promise.all(joined.map(({ end }) => end)));
          await pass(5_000, 100);
          const [head] = await hub.store.heads("acme", [JOB]);
          const state = await hub.store.job("acme", "job");
          const faults = joined.flatMap(({ watching, types }, i) => {
            const newest = (state?.newest ?? [])
              .filter(({ type }) => !types || types.includes(type))
              .map(({ seq, fields }) => ({ seq, data: JSON.parse(joinFields(fields)) }));
            const oracle = new Oracle(types).take(watching.received);
            return oracle.check(hub.bus.history(), head, newest).map((fault) => `watcher ${i}: ${fault}`);
          });
          await hub.close();
          if (faults.length > 0) throw new Error(faults.join("\n"));
        }),
        { numRuns: 150 },
      );
    });
  });
});
