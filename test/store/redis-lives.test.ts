/** No key stays for ever, and a feed bears it when some of its keys are gone before the others. */
import { expect } from "chai";
import type { Entry, Page } from "../../src/store/store.ts";
import { plainRedis } from "../support/hooks.ts";
import {
  created,
  dataset,
  entryOf,
  FEED,
  JOB,
  log,
  product,
  progress,
  readAll,
  sample,
  seqsOf,
  status,
  TENANT,
  TENANT_FEED,
  withId,
  withN,
} from "./entries.ts";
import { openRedis, type RedisSubject } from "./subject.ts";

const DAY = 86_400_000;
/** Together they write every key there is. */
const KINDS: Record<string, Entry> = {
  "a log line": log(),
  "an event": sample(),
  "an event with an id": withId("a", sample()),
  "an event with n": withN(1, {}, sample()),
  "a status": status("running"),
  "a terminal status": status("completed"),
  "a product": product("a"),
  "progress of the job": progress({ step: 1, loss: 1 }),
  "progress of a rank": progress({ step: 1 }, { rank: 1 }),
  "a point": progress({ loss: 1 }, { rank: 2 }),
  "a system's state": entryOf("system_stats", { host: "a" }),
  "an alert": entryOf("alert", { level: "info", title: "x" }),
  "a change of the job": entryOf("job_updated", { name: "x" }),
};
const ALL_KINDS = Object.values(KINDS);

describe("store: Redis, lives of keys", () => {
  let subject: RedisSubject;
  beforeEach(async () => {
    subject = await openRedis(await plainRedis());
  });
  afterEach(() => subject.close());
  const append = (...entries: Entry[]) => subject.store.append(FEED, entries, created());
  const wipe = async () => subject.raw.unlink(...(await subject.allKeys()));

  /** Every key lives, and those of one feed end together. */
  async function checkLives(when: string): Promise<Map<string, number>> {
    const expiries = new Map<string, number>();
    for (const key of await subject.allKeys()) {
      expiries.set(key, await subject.raw.pexpiretime(key));
      expect(expiries.get(key), `${key} ${when}`).to.be.above(Date.now());
    }
    for (const feed of [":job:", ":tenant:"]) {
      // Deadlines are no feed's: they are kept as long as the latest of them may matter.
      const keys = [...expiries].filter(([key]) => key.includes(feed) && !key.endsWith(":deadlines"));
      const own = keys.map(([, at]) => at);
      expect(new Set(own).size, `${feed} ${when}: ${[...expiries].join("\n")}`).to.be.at.most(1);
    }
    return expiries;
  }

  it("all keys of a feed end together, whatever it was made by and whatever was added later", async () => {
    for (const [first, one] of Object.entries(KINDS)) {
      await append(one);
      await checkLives(`after ${first}`);
      for (const [second, another] of Object.entries(KINDS)) {
        // A clock that has moved on, so that a new expiry would differ.
        await subject.pass(7);
        await append(another);
        await checkLives(`after ${first}, then ${second}`);
      }
      await subject.store.flushTenant(TENANT);
      await subject.store.append(TENANT_FEED, [withId("d", dataset()), withN(1, {}, dataset())]);
      await checkLives("after progress was flushed");
      expect(await subject.allKeys()).to.have.length.at.least(8 + 7);
      await wipe();
    }
  });

  it("the tenant's feed too, whatever it was made by", async () => {
    const steps: Array<() => Promise<unknown>> = [
      () => subject.store.append(TENANT_FEED, [withId("d", dataset())]),
      () => append(progress({ step: 1 })),
      () => subject.store.flushTenant(TENANT),
      () => subject.store.append(TENANT_FEED, [withN(1, {}, dataset())]),
      () => append(progress({ step: 2 }), status("completed")),
    ];
    for (let first = 0; first < steps.length; first++) {
      for (let i = 0; i < steps.length; i++) {
        await steps[(first + i) % steps.length]?.();
        await checkLives(`from step ${first}, ${i} later`);
        await subject.pass(1_013);
      }
      await wipe();
    }
  });

  it("an event renews them when half of the life is over, and not before", async () => {
    await append(...ALL_KINDS.filter(({ ends }) => !ends));
    const job = subject.keys.job(TENANT, JOB);
    const life = async () => Math.round((await subject.raw.pttl(job.events)) / DAY);
    expect(await life()).to.equal(7);
    await subject.pass(3 * DAY);
    await append(log());
    expect(await life()).to.equal(4);
    await subject.pass(DAY);
    await append(log());
    expect(await life()).to.equal(7);
    const expiries = await checkLives("after the renewal");
    expect(expiries.get(subject.keys.tenant(TENANT).index)).to.be.at.least(expiries.get(job.meta) as number);
  });

  it("the end of the job shortens them, and its return lengthens them", async () => {
    const days = async () => {
      const expiries = await checkLives("after a status");
      const of = (key: string) => Math.round(((expiries.get(key) as number) - Date.now()) / DAY);
      return [of(subject.keys.job(TENANT, JOB).meta), of(subject.keys.tenant(TENANT).meta)];
    };
    await append(log(), withId("a"), progress({ step: 1 }));
    expect(await days()).to.deep.equal([7, 7]);
    await append(status("completed"));
    expect(await days()).to.deep.equal([1, 7]);
    await append(log());
    expect(await days()).to.deep.equal([1, 7]);
    await append(status("running", { attempt: 2 }));
    expect(await days()).to.deep.equal([7, 7]);
    await append(status("failed"), status("queued", { attempt: 3 }));
    expect(await days()).to.deep.equal([7, 7]);
  });

  describe("in every order", function () {
    this.timeout(60_000);
    const BATCH = [...ALL_KINDS.filter(({ id, producer }) => !id && !producer)].map((entry, i) =>
      i % 2 ? withId(`id ${i}`, entry) : withN(i + 1, {}, entry),
    );

    it("the job's keys go: what follows is stored, a resend is not lost, and no reader is left in the dark", async () => {
      const {
        meta,
        events,
        log: lines,
        newest,
        members,
        points,
        ids,
        producers,
      } = subject.keys.job(TENANT, JOB);
      await forEverySubset(
        [meta, events, lines, newest, members, points, ids, producers],
        async (when, gone) => {
          const { stored, position } = await append(...BATCH);
          const known = BATCH.map((entry, i) => ({ entry, seq: seqsOf(stored)[i] as number }));
          const head = position?.seq as number;
          await gone();
          const next = await append(withId("next", log("next")));
          expect(next.stored, when).to.have.length(1);
          await append(...BATCH);
          await append(sample(77));
          await checkLives(when);
          for (const after of [0, 1, 5, head - 1, head]) {
            const page = await subject.store.read(FEED, {
              ...{
                epoch: position?.epoch as string,
                after,
                limit: 1_000,
                bytes: 1_000_000,
                streams: ["events", "log"],
              },
            });
            if (page.reset) continue;
            for (const { entry, seq } of known) {
              if (entry.durable && seq > after)
                expect(isTold(page, seq, entry), `${when}: ${seq} after ${after}`).to.equal(true);
            }
          }
          // After the resend everything is there, or was stored before and its loss is told.
          const page = await readAll(subject.store);
          for (const { entry } of known) {
            if (!entry.durable) continue;
            const there = page.logged.some(({ type, data }) => type === entry.type && data === entry.data);
            const lost = page.trimmed.some(({ stream }) => stream === entry.stream);
            expect(there || lost, `${when}: ${entry.type}`).to.equal(true);
          }
          const counts = (await subject.store.job(TENANT, JOB))?.counts;
          expect(counts?.get("type:job_created"), when).to.equal(1);
          expect(await subject.store.series(TENANT, JOB, {}), when).to.include({ epoch: page.epoch });
        },
      );
    });

    it("the tenant's keys go: what follows is stored, and the list of jobs comes back with the next life", async () => {
      const own = subject.keys.tenant(TENANT);
      const { meta, events, newest, order, dirty, index, ids, producers } = own;
      const batch = [withId("d", dataset("a")), withN(1, {}, dataset("b"))];
      await forEverySubset(
        [meta, events, newest, order, dirty, index, ids, producers],
        async (when, gone) => {
          const first = await subject.store.append(TENANT_FEED, batch);
          await append(progress({ step: 1 }), status("running"));
          await subject.store.flushTenant(TENANT);
          await append(progress({ step: 2 }));
          const before = await readAll(subject.store, TENANT_FEED);
          await gone();
          await append(status("paused"), progress({ step: 3 }));
          await subject.store.append(TENANT_FEED, batch);
          await subject.pass(1_000);
          await subject.store.flushTenant(TENANT);
          await append(status("completed"));
          await checkLives(when);
          const page = await subject.store.read(TENANT_FEED, {
            ...{
              epoch: first.position?.epoch as string,
              after: 0,
              limit: 1_000,
              bytes: 1_000_000,
              streams: ["events"],
            },
          });
          for (const event of page.reset ? [] : before.logged) {
            expect(isTold(page, event.seq, event), `${when}: ${event.seq}`).to.equal(true);
          }
          const all = await readAll(subject.store, TENANT_FEED);
          expect(
            all.logged
              .filter(({ type }) => type === "training_status")
              .map(({ data }) => data)
              .slice(-2),
            when,
          ).to.deep.equal([status("paused").data, status("completed").data]);
          const told =
            all.trimmed.length > 0 || all.logged.filter(({ type }) => type === "dataset_update").length >= 2;
          expect(told, when).to.equal(true);
          expect(
            all.newest.map(({ fields }) => [...fields]),
            when,
          ).to.deep.equal([[['"step"', "3"]]]);
          expect(await subject.store.jobs(TENANT, { limit: 10 }), when).to.deep.equal([JOB]);
        },
      );
    });

    async function forEverySubset(
      keys: readonly string[],
      round: (when: string, gone: () => Promise<unknown>) => Promise<void>,
    ): Promise<void> {
      for (let subset = 0; subset < 2 ** keys.length; subset++) {
        const some = keys.filter((_, i) => subset & (2 ** i));
        const when = `without ${some.map((key) => key.slice(key.lastIndexOf(":") + 1)).join(", ") || "any loss"}`;
        await round(when, async () => some.length > 0 && subject.raw.del(...some));
        await wipe();
      }
    }
  });
});

/** Whether the page has the event, as it was, or says that it is gone. */
function isTold(page: Page, seq: number, event: { type: string; data: string }): boolean {
  const stream = event.type === "log" ? "log" : "events";
  if (page.trimmed.some((range) => range.stream === stream && range.from <= seq && seq <= range.to))
    return true;
  return page.logged.some((one) => one.seq === seq && one.data === event.data);
}
