/** Presence on real registries and a store in memory, which several instances share. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { FeedEvent, JobName } from "../../src/bus/bus.ts";
import { MemoryBus } from "../../src/bus/memory.ts";
import { Instances } from "../../src/core/instances.ts";
import { Presence, type PresenceOptions } from "../../src/core/presence.ts";
import { hubEntry } from "../../src/core/publish.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { DeliveredEvent } from "../../src/protocol/types.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { MemoryRegistry } from "../../src/store/memory-registry.ts";
import type { Registry } from "../../src/store/registry.ts";
import type { Store } from "../../src/store/store.ts";
import { openRegistries, type RedisRegistries } from "../store/registry-subject.ts";
import { OPTIONS } from "../store/subject.ts";
import { plainRedis } from "../support/hooks.ts";
import { until } from "../support/until.ts";

const INTERVAL = 30;
const JOB: JobName = { tenantId: "acme", jobId: "job" };

interface Told {
  watchers: number;
  users: string[];
  at: number;
}

describe("core/presence", () => {
  let bus: MemoryBus;
  let store: MemoryStore;
  let told: Told[];
  let errors: unknown[];
  /** As the hub takes them: that the store is away is nothing unforeseen. */
  const unforeseen = (error: unknown) => {
    if (!(error instanceof HubError)) errors.push(error);
  };
  let closing: Array<() => unknown>;

  beforeEach(async () => {
    bus = new MemoryBus({ onError: (error) => errors.push(error) });
    store = new MemoryStore({ ...OPTIONS, bus });
    told = [];
    errors = [];
    closing = [];
    const events = (all: readonly FeedEvent[]) => {
      for (const { type, wire } of all) {
        const { data } = JSON.parse(wire) as DeliveredEvent<"presence">;
        if (type === "presence") told.push({ users: [], ...data, at: performance.now() });
      }
    };
    bus.hold(JOB, { events, unreadable() {}, subscribed() {}, unsubscribed() {} });
    await exist(JOB);
  });
  afterEach(async () => {
    for (const close of closing.reverse()) await close();
    await bus.close();
    await store.close();
    expect(errors).to.deep.equal([]);
  });

  const exist = ({ tenantId, jobId }: JobName) =>
    store.append({ tenantId, jobId }, [hubEntry("job_created", jobId, tenantId, {})]);

  /** A store on which appending is something else. */
  const withAppend = (append: Store["append"]): PresenceOptions["store"] => ({
    append,
    heads: (...args) => store.heads(...args),
  });

  function presence(options: Partial<PresenceOptions> = {}): Presence {
    const made = new Presence({
      registry: new MemoryRegistry({ instanceId: "hub-a" }),
      store,
      intervalMs: INTERVAL,
      exists: () => true,
      onError: unforeseen,
      ...options,
    });
    closing.push(() => made.close());
    return made;
  }

  const last = () => {
    const { watchers, users } = told.at(-1) ?? { watchers: -1, users: [] };
    return `${watchers} ${users.join(",")}`;
  };
  const ends = (what: string) => until(() => last() === what);

  it("counts connections, and names each user once", async () => {
    const here = presence();
    for (const user of ["ann", "bob", "ann"]) here.join(JOB, user);
    expect(await here.read(JOB), "at once").to.deep.equal({ watchers: 3, users: ["ann", "bob"] });
    await ends("3 ann,bob");
    here.leave(JOB, "ann");
    expect(await here.read(JOB)).to.deep.equal({ watchers: 2, users: ["ann", "bob"] });
    here.leave(JOB, "ann");
    await ends("1 bob");
    expect(await here.read({ ...JOB, jobId: "other" })).to.deep.equal({ watchers: 0, users: [] });
    expect(await here.read({ ...JOB, tenantId: "other" })).to.deep.equal({ watchers: 0, users: [] });
  });

  it("a thousand joins and leaves are one event an interval, and the last one is true", async () => {
    const here = presence({ intervalMs: 100 });
    const start = performance.now();
    for (let i = 0; i < 1_000; i++) {
      here.join(JOB, `user-${i % 7}`);
      if (i % 5 !== 0) here.leave(JOB, `user-${i % 7}`);
      if (i % 10 === 0) await sleep(2);
    }
    await until(() => told.at(-1)?.watchers === 200);
    const intervals = (performance.now() - start) / 100;
    expect(told.length).to.be.within(2, Math.ceil(intervals) + 1);
  });

  it("who comes and goes between two looks is not told", async () => {
    const here = presence();
    here.join(JOB, "ann");
    await ends("1 ann");
    for (const job of [JOB, { ...JOB, jobId: "other" }]) {
      here.join(job, "bob");
      here.leave(job, "bob");
    }
    here.join(JOB, "cid");
    await ends("2 ann,cid");
    here.leave(JOB, "cid");
    await ends("1 ann");
    expect(told.map(({ watchers }) => watchers)).to.deep.equal([1, 2, 1]);
  });

  it("names a hundred users, the first ones, as far as an event holds them", async () => {
    const here = presence();
    for (let i = 0; i < LIMITS.presenceUsers + 50; i++) here.join(JOB, `user-${String(i).padStart(3, "0")}`);
    await until(() => told.at(-1)?.watchers === 150);
    expect(told.at(-1)?.users).to.have.length(100).and.include("user-099").and.not.include("user-100");
    for (let i = 0; i < LIMITS.presenceUsers; i++) here.join(JOB, `"${i}${"\u{1F600}".repeat(125)}`);
    await until(() => told.at(-1)?.watchers === 250);
    expect(told.at(-1)?.users).to.have.length.within(50, 99);
  });

  it("interval 0 tells nothing, and answers", async () => {
    const here = presence({ intervalMs: 0 });
    here.join(JOB, "ann");
    expect(await here.read(JOB)).to.deep.equal({ watchers: 1, users: ["ann"] });
    here.leave(JOB, "ann");
    expect(await here.read(JOB)).to.deep.equal({ watchers: 0, users: [] });
    expect(told).to.deep.equal([]);
  });

  it("a job that is not there yet is told once it is", async () => {
    const later: JobName = { ...JOB, jobId: "later" };
    const all: number[] = [];
    bus.hold(later, {
      events: (events) => all.push(...events.map(({ seq }) => seq)),
      unreadable() {},
      subscribed() {},
      unsubscribed() {},
    });
    let appends = 0;
    const counting = withAppend((...args) => {
      appends++;
      return store.append(...args);
    });
    let there: boolean | undefined = false;
    const here = presence({ store: counting, exists: ({ jobId }) => (jobId === "later" ? there : true) });
    here.join(later, "ann");
    here.join(JOB, "ann");
    await ends("1 ann");
    expect(appends).to.equal(1);
    await exist(later);
    there = true;
    await until(() => all.length === 2);
    bus.release(later);
  });

  it("a job that is gone is tried now and then, and not at every look", async () => {
    let refused = 0;
    const gone = withAppend(async () => {
      refused++;
      return { stored: [{ refused: "conflict" }] };
    });
    const here = presence({ store: gone, intervalMs: 5 });
    here.join(JOB, "ann");
    await until(() => refused === 1);
    await sleep(100);
    expect(refused).to.equal(1);
  });

  it("a refusal that is for good is not tried again before the next change", async () => {
    let refused = 0;
    const full = withAppend(async () => {
      refused++;
      return { stored: [{ refused: "too_many_producers" }] };
    });
    const here = presence({ store: full, intervalMs: 5 });
    here.join(JOB, "ann");
    await until(() => refused === 1);
    await sleep(50);
    expect(refused).to.equal(1);
    here.join(JOB, "bob");
    await until(() => refused === 2);
  });

  it("what is inherited while a total is told is told as well", async () => {
    const registry = new MemoryRegistry({ instanceId: "hub-a" });
    const here = presence({ registry });
    const turn = registry.turn.bind(registry);
    let turns = 0;
    registry.turn = async (...args) => {
      const given = await turn(...args);
      if (++turns === 1) here.inherit([JOB]);
      return given;
    };
    here.join(JOB, "ann");
    await until(() => turns === 2);
  });

  it("store and registry may be away: in the end it is told", async () => {
    let away = true;
    const broken = <T extends object>(whole: T): T =>
      new Proxy(whole, {
        get: (target, name) => {
          const value = Reflect.get(target, name) as unknown;
          if (typeof value !== "function") return value;
          return async (...args: unknown[]) => {
            if (away) throw new HubError("unavailable");
            return await (value as (...args: unknown[]) => unknown).apply(target, args);
          };
        },
      });
    const registry = broken<Registry>(new MemoryRegistry({ instanceId: "hub-a" }));
    const here = presence({ registry, store: broken<Store>(store) });
    here.join(JOB, "ann");
    here.join(JOB, "bob");
    await sleep(INTERVAL * 3);
    here.leave(JOB, "ann");
    await sleep(INTERVAL * 3);
    away = false;
    await ends("1 bob");
  });

  describe("on several instances", () => {
    const TIMEOUT = 450;
    let registries: RedisRegistries;
    beforeEach(async () => {
      registries = await openRegistries(await plainRedis(), { instanceTimeoutMs: TIMEOUT });
      closing.push(() => registries.close());
    });

    interface Member {
      here: Presence;
      /** As kill -9. */
      die(): void;
    }

    async function member(options: Partial<PresenceOptions> = {}): Promise<Member> {
      const registry = await registries.another();
      const here = presence({ registry, ...options });
      let dead = false;
      const instances = new Instances({
        registry: new Proxy<Registry>(registry, {
          get: (target, name) => {
            const value = Reflect.get(target, name) as unknown;
            if (!dead) return typeof value === "function" ? value.bind(target) : value;
            return async () => Promise.reject(new HubError("unavailable"));
          },
        }),
        timeoutMs: TIMEOUT,
        report: () => "{}",
        onAnew: () => here.again(),
        onForgotten: (jobs) => here.inherit(jobs),
        onError: unforeseen,
      });
      const die = () => {
        dead = true;
        here.close();
      };
      closing.push(() => instances.close());
      return { here, die };
    }

    it("each tells the sum, an older sum never comes after a newer one", async () => {
      const [a, b, c] = await Promise.all([member(), member(), member()]);
      const leaves = Array.from({ length: 30 }, (_, i) => {
        const { here } = [a, b, c][i % 3] as Member;
        here.join(JOB, `u${i % 2}`);
        return () => here.leave(JOB, `u${i % 2}`);
      });
      await ends("30 u0,u1");
      for (const leave of leaves.slice(1)) leave();
      await ends("1 u0");
      for (const { here } of [a, b, c]) {
        expect(await here.read(JOB)).to.deep.equal({ watchers: 1, users: ["u0"] });
      }
      for (let i = 1; i < told.length; i++) {
        // One look of slack: a turn says when it was given, not when it was told.
        expect((told[i] as Told).at - (told[i - 1] as Told).at).to.be.above(INTERVAL / 10);
      }
    });

    it("of an instance that dies the others tell what it had, also a change that it had yet to tell", async () => {
      const [a, b] = await Promise.all([member(), member()]);
      a.here.join(JOB, "ann");
      b.here.join(JOB, "bob");
      b.here.join(JOB, "cid");
      await ends("3 ann,bob,cid");
      b.here.leave(JOB, "cid");
      await b.here.read(JOB);
      b.die();
      await ends("1 ann");
    });

    it("one that dies with the turn in its hand keeps nobody from telling", async () => {
      const hung = withAppend(() => new Promise(() => {}));
      const [a, b] = await Promise.all([member({ store: hung }), member()]);
      a.here.join(JOB, "ann");
      const { keys, raw } = registries;
      const { watchers } = keys.job(JOB.tenantId, JOB.jobId);
      await until(async () => (await raw.hexists(watchers, ":turn")) === 1);
      expect(told).to.deep.equal([]);
      b.here.join(JOB, "bob");
      await ends("2 ann,bob");
      a.die();
      await ends("1 bob");
    });

    it("the list of an instance is empty when there is nothing to tell", async () => {
      const { here } = await member();
      here.join(JOB, "ann");
      await ends("1 ann");
      const listed = async () => {
        const lists = (await registries.allKeys()).filter((key) => key.includes(":instance:"));
        return await Promise.all(lists.map((key) => registries.raw.smembers(key)));
      };
      expect(await listed()).to.deep.equal([["acme/job"]]);
      here.leave(JOB, "ann");
      await ends("0 ");
      await until(async () => (await listed()).flat().length === 0);
    });

    it("whatever comes, goes and dies: the last word is the truth", async function () {
      this.timeout(30_000);
      const seed = Number(process.env.PRESENCE_SEED ?? Date.now() % 100_000);
      let state = seed;
      const random = (below: number) => {
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
        return Math.floor((state / 2_147_483_648) * below);
      };
      let members: Member[] = await Promise.all([member(), member(), member(), member()]);
      let joined: Array<{ by: Member; user: string }> = [];
      for (let step = 0; step < 300; step++) {
        const by = members[random(members.length)] as Member;
        if (random(2) === 0) {
          const user = `u${random(9)}`;
          by.here.join(JOB, user);
          joined.push({ by, user });
        } else {
          const [left] = joined.splice(random(joined.length), 1);
          left?.by.here.leave(JOB, left.user);
        }
        if (step % 100 === 99) {
          by.die();
          members = members.filter((each) => each !== by);
          joined = joined.filter((each) => each.by !== by);
          if (step === 199) members.push(await member());
        }
        if (random(5) === 0) await sleep(random(20));
      }
      const truth = `${joined.length} ${[...new Set(joined.map(({ user }) => user))].sort().join(",")}`;
      try {
        await Promise.race([
          ends(truth),
          sleep(15_000, undefined, { ref: false }).then(() => Promise.reject(new Error("never"))),
        ]);
      } catch {
        throw new Error(`PRESENCE_SEED=${seed}: the last word was ${last()}, the truth is ${truth}`);
      }
      for (const { here } of members) {
        const { watchers, users } = await here.read(JOB);
        expect(`${watchers} ${users.join(",")}`, `PRESENCE_SEED=${seed}`).to.equal(truth);
      }
    });
  });
});
