/** A refreshed token that allows other jobs: what it no longer allows ends at once, on every feed. */
import { expect } from "chai";
import type { Identity } from "../../src/auth.ts";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { Subscription } from "../../src/core/subscription.ts";
import type {
  Closing,
  DeliveredEvent,
  Position,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
} from "../../src/protocol/types.ts";
import { Watcher } from "../../src/sockets/watcher.ts";
import { line as bare, scripted, settle, status as state, WATCHER } from "../core/scripted.ts";
import {
  line,
  progress,
  startTestHub,
  status,
  TENANT,
  type TestClient,
  type TestHub,
  token,
  until,
} from "../support/hub.ts";
import { replied } from "./replied.ts";

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: a token that allows other jobs (${redis})`, () => {
    let hub: TestHub;
    let watcher: TestClient;
    before(async () => {
      hub = await startTestHub({ redis });
    });
    after(() => hub.close());
    let a: string;
    let b: string;
    let round = 0;
    /** Of what the watcher has received, so much was looked at. */
    let seen = 0;
    beforeEach(async () => {
      seen = 0;
      round++;
      [a, b] = [`a${round}`, `b${round}`];
      await hub.publish([line(a), line(b)]);
      watcher = await hub.watcher();
    });
    afterEach(() => watcher.close());

    const allow = (jobs?: readonly string[]) =>
      watcher.good("refresh", { token: token("watcher", jobs && { jobs }) });
    /** The events of feeds since the last look. */
    const since = () => {
      const events = [...watcher.events("job"), ...watcher.events("tenant")];
      const fresh = watcher.received.slice(seen).map(({ value }) => value as DeliveredEvent);
      seen = watcher.received.length;
      return events.filter((event) => fresh.includes(event)).map(({ feed, job_id }) => `${feed} ${job_id}`);
    };
    it("subscriptions by name end, told before the answer, and their rooms are left", async () => {
      for (const job_id of [a, b]) await watcher.subscribe({ job_id });
      await watcher.subscribe({ job_id: `c${round}`, wait: true });
      const { socket } = watcher;
      const rooms = () => hub.io.of("/").sockets.get(socket.id as string)?.rooms;
      const before = rooms()?.size as number;
      await allow([b]);
      const names = watcher.received.slice(-3).map(({ name }) => name);
      expect(names).to.deep.equal(["closing", "closing", "answer:refresh"]);
      expect(watcher.all<Closing>("closing")).to.deep.equal([
        { reason: "forbidden", job_id: a, reconnect: false },
        { reason: "forbidden", job_id: `c${round}`, reconnect: false },
      ]);
      expect(rooms()?.size).to.equal(before - 2);
      since();
      await hub.publish([line(a), line(`c${round}`)]);
      await hub.publish(line(b));
      await watcher.next<DeliveredEvent>("log", ({ job_id }) => job_id === b);
      expect(since()).to.deep.equal([`job ${b}`]);
      expect((await watcher.refused("subscribe", { job_id: a })).code).to.equal("job_not_found");
      expect((await watcher.refused("unsubscribe", { job_id: a })).code).to.equal("not_subscribed");
      await allow();
      expect(await watcher.subscribe({ job_id: a })).to.include({ job_id: a });
    });

    it("what was held back for `max_rate` comes no more", async () => {
      for (const job_id of [a, b]) await watcher.subscribe({ job_id, max_rate: 5 });
      for (const job_id of [a, b]) await hub.publish(progress(job_id, { step: 1 }));
      await watcher.until(
        "both",
        ({ received }) => received.filter((one) => one.name === "training_progress").length === 2,
      );
      await hub.publish(progress(a, { step: 2 }));
      await allow([b]);
      since();
      // Held back after the other one was, so it would come after it.
      await hub.publish(progress(b, { step: 1 }));
      await hub.publish(progress(b, { step: 2 }));
      await watcher.next<DeliveredEvent<"training_progress">>(
        "training_progress",
        ({ job_id, data }) => job_id === b && data.step === 2,
      );
      expect(new Set(since())).to.deep.equal(new Set([`job ${b}`]));
    });

    it("the tenant's feed shows what the token allows, and the tenant's own events only to whoever sees all", async () => {
      await watcher.subscribe({});
      const alert = { type: "alert", data: { level: "info", title: "of the tenant" } } as const;
      const publish = async () => {
        await hub.publish([status(a, "running"), alert]);
        await hub.publish(status(b, "running"));
        await watcher.next<DeliveredEvent>("training_status", ({ job_id }) => job_id === b);
        return since();
      };
      since();
      expect(await publish()).to.deep.equal([`tenant ${a}`, "tenant undefined", `tenant ${b}`]);
      await allow([b]);
      expect(await publish()).to.deep.equal([`tenant ${b}`]);
      await allow([a, b]);
      expect(await publish()).to.deep.equal([`tenant ${a}`, `tenant ${b}`]);
      await allow();
      expect(await publish()).to.deep.equal([`tenant ${a}`, "tenant undefined", `tenant ${b}`]);
      expect(watcher.all("closing")).to.deep.equal([]);
    });

    it('"*" ends jobs that are no longer allowed, once, also when they are followed by name', async () => {
      await watcher.subscribeAll();
      await watcher.subscribe({ job_id: a });
      await allow([`b${round}*`]);
      const told = watcher.all<Closing>("closing").map(({ reason, job_id }) => `${reason} ${job_id}`);
      expect(told.filter((each) => each.endsWith(` ${a}`))).to.deep.equal([`forbidden ${a}`]);
      expect(told).to.not.include(`forbidden ${b}`);
      const { positions } = await watcher.good<{ positions: Position[] }>("ping", {});
      expect(positions.map(({ job_id }) => job_id)).to.deep.equal([b]);
      since();
      await hub.publish([line(a), line(`x${round}`)]);
      await hub.publish([line(b), line(`${b}-new`)]);
      await watcher.next<DeliveredEvent>("log", ({ job_id }) => job_id === `${b}-new`);
      expect(new Set(since())).to.deep.equal(new Set([`job ${b}`, `job ${b}-new`]));
    });

    it('"*" takes up what a wider token shows: active jobs from where they stand, new ones from their first event', async () => {
      await allow([b]);
      await watcher.subscribeAll();
      await allow([a, b, `x${round}`]);
      await until("the job is followed", async () => {
        const { positions } = await watcher.good<{ positions: Position[] }>("ping", {});
        return positions.some(({ job_id }) => job_id === a);
      });
      since();
      await hub.publish(line(a, "from now on"));
      expect(await watcher.next<DeliveredEvent<"log">>("log")).to.have.nested.property(
        "data.message",
        "from now on",
      );
      await hub.publish(line(`x${round}`));
      await watcher.next<DeliveredEvent>("log", ({ job_id }) => job_id === `x${round}`);
      expect(since()).to.deep.equal([`job ${a}`, `job x${round}`, `job x${round}`]);
    });

    it("whatever tokens come: an event of a job that is allowed arrives once, any other never", async () => {
      const jobs = [0, 1, 2, 3].map((i) => `r${round}-${i}`);
      const expected: string[] = [];
      const arrived = (message: string, count: number) =>
        watcher.until(`${count} of ${message}`, ({ received }) => {
          const texts = received.map(({ value }) => (value as DeliveredEvent<"log">)?.data?.message);
          return texts.filter((text) => text === message).length >= count;
        });
      await hub.publish(jobs.map((job) => line(job, "0")));
      await watcher.subscribeAll();
      await watcher.subscribe({ job_id: jobs[0] as string });
      for (let step = 1; step <= 30; step++) {
        const allowed = jobs.filter(() => Math.random() < 0.5);
        await allow(allowed);
        // A named subscription ends with its permission; "*" takes a job up again by itself.
        if (allowed.includes(jobs[0] as string) && Math.random() < 0.5)
          await watcher.ask("subscribe", { job_id: jobs[0] });
        await until("every allowed job is followed, and no other", async () => {
          const { positions } = await watcher.good<{ positions: Position[] }>("ping", {});
          return String(positions.map(({ job_id }) => job_id).sort()) === String(allowed);
        });
        await hub.publish(jobs.map((job) => line(job, `${step}`)));
        expected.push(...allowed.map((job) => `${job} ${step}`));
        await arrived(`${step}`, allowed.length);
      }
      await allow(jobs);
      await until("every job is followed", async () => {
        const { positions } = await watcher.good<{ positions: Position[] }>("ping", {});
        return positions.length === jobs.length;
      });
      await hub.publish(jobs.map((job) => line(job, "last")));
      expected.push(...jobs.map((job) => `${job} last`));
      await arrived("last", jobs.length);
      const got = (watcher.events("job") as DeliveredEvent<"log">[]).map(
        ({ job_id, data }) => `${job_id} ${data.message}`,
      );
      for (const job of jobs) {
        const of = (all: string[]) => all.filter((text) => text.startsWith(`${job} `));
        expect(of(got), job).to.deep.equal(of(expected));
      }
    });

    it("nothing is left of what has ended", async () => {
      await watcher.subscribeAll();
      await watcher.subscribe({});
      await watcher.subscribe({ job_id: a });
      await allow([]);
      watcher.close();
      await until("every subscription has ended", () => hub.hub.feeds.subscriptions === 0);
      const none = { ...WATCHER, tenantId: TENANT, jobs: [] };
      expect(await hub.hub.jobs.list(none, { limit: 1 })).to.deep.equal({ jobs: [] });
    });
  });
}

describe("sockets: a token that allows other jobs, while something is read", () => {
  const NARROW: Identity = { ...WATCHER, jobs: ["b"] };
  const sent: Array<{ name: string; value: { job_id?: string } }> = [];
  const socket = {
    connected: true,
    join() {},
    leave() {},
    emit: (name: string, value: object) => void sent.push({ name, value }),
  };
  let hub: ReturnType<typeof scripted>;
  let connection: { socket: never; outbox: never; identity: Identity };
  let watcher: Watcher;

  beforeEach(async () => {
    sent.length = 0;
    hub = scripted();
    const write = ({ type, wire }: FeedEvent) => {
      sent.push({ name: type, value: JSON.parse(wire) });
      return true;
    };
    const outbox = { behind: false, write, count() {}, room: () => Promise.resolve() };
    connection = { socket: socket as never, outbox: outbox as never, identity: WATCHER };
    watcher = new Watcher(connection, hub.hub);
    await hub.publish({ ...bare(), job_id: "a" }, { ...bare(), job_id: "b" });
  });
  afterEach(async () => {
    watcher.close();
    await settle();
    expect(hub.hub.feeds.subscriptions).to.equal(0);
    await hub.close();
  });

  function narrow(identity = NARROW): void {
    connection.identity = identity;
    watcher.narrow();
  }
  /** The token is narrowed once while the store does this. */
  function during(call: "heads" | "job" | "jobs" | "read"): void {
    hub.store.around = (each, moment) => {
      if (each !== call || moment !== "after") return;
      hub.store.around = () => {};
      narrow();
    };
  }
  async function subscribe<A = SubscribeAnswer>(request: SubscribeRequest): Promise<A | string> {
    let answer: A | string = "none";
    await watcher
      .subscribe(request, (data) => {
        answer = replied<A>(data);
      })
      .catch((error: { code: string }) => {
        answer = error.code;
      });
    return answer;
  }

  for (const request of [{ job_id: "a" }, { job_id: "a", history: 5 }] as const) {
    it(`the page of a job that is no longer allowed is not shown: ${JSON.stringify(request)}`, async () => {
      during("history" in request ? "read" : "job");
      expect(await subscribe(request)).to.equal("job_not_found");
      await hub.publish({ ...bare(), job_id: "a" });
      expect(sent).to.deep.equal([]);
    });
  }

  it("the tenant's page holds only what the new token allows", async () => {
    await hub.publish({ ...state("running"), job_id: "a" }, { ...state("running"), job_id: "b" });
    during("read");
    const answer = (await subscribe({ history: 10 })) as SubscribeAnswer;
    const jobs = answer.events.map(({ job_id }) => job_id);
    expect([...new Set(jobs)]).to.deep.equal(["b"]);
  });

  for (const call of ["jobs", "heads", "job"] as const) {
    it(`"*" answers only what the new token allows, when it came at ${call}`, async () => {
      during(call);
      const answer = (await subscribe<SubscribeAllAnswer>({ job_id: "*" })) as SubscribeAllAnswer;
      expect(answer.jobs.map(({ job_id }) => job_id)).to.deep.equal(["b"]);
      await hub.publish({ ...bare(), job_id: "a" }, { ...bare(), job_id: "b" });
      expect(sent.map(({ value }) => value.job_id)).to.deep.equal(["b"]);
    });
  }

  it('"*": a later page that the new token leaves empty still ends the answer', async () => {
    const big = { type: "custom", data: { name: "n", data: { text: "x".repeat(60_000) } } };
    for (const job_id of ["b1", "b2", "c1", "c2"]) await hub.publish({ ...big, job_id });
    const first = (await subscribe<SubscribeAllAnswer>({ job_id: "*" })) as SubscribeAllAnswer;
    expect(first.more).to.equal(true);
    narrow({ ...WATCHER, jobs: ["new"] });
    expect(new Set(sent.map(({ name }) => name))).to.deep.equal(new Set(["closing"]));
    expect(new Set(sent.map(({ value }) => value.job_id))).to.deep.equal(
      new Set(["a", "b", "b1", "b2", "c1", "c2"]),
    );
    const last = await subscribe<SubscribeAllAnswer>({ job_id: "*", next: first.next as string });
    expect(last).to.deep.equal({ job_id: "*", jobs: [] });
    sent.length = 0;
    await hub.publish({ ...bare(), job_id: "c1" }, { ...bare(), job_id: "new" });
    await settle();
    expect(sent.map(({ name, value }) => `${name} ${value.job_id}`)).to.deep.equal([
      "job_created new",
      "log new",
    ]);
  });

  it('"*": a job whose first events are being read when it is no longer allowed brings nothing', async () => {
    await subscribe({ job_id: "*" });
    during("read");
    await hub.publish({ ...bare(), job_id: "c" });
    await settle(10);
    expect(sent.map(({ name, value }) => `${name} ${value.job_id}`)).to.deep.equal([
      "closing a",
      "closing c",
    ]);
  });

  it('"*": narrowed and widened again while first events are read, a job comes once', async () => {
    await subscribe({ job_id: "*" });
    hub.store.around = (each, moment) => {
      if (each !== "read" || moment !== "after") return;
      hub.store.around = () => {};
      narrow();
      narrow(WATCHER);
    };
    await hub.publish({ ...bare(), job_id: "c" });
    await settle(20);
    sent.length = 0;
    await hub.publish({ ...bare(), job_id: "c" });
    await settle(10);
    expect(sent.map(({ name, value }) => `${name} ${value.job_id}`)).to.deep.equal(["log c"]);
  });

  it("the tenant's feed: a held-back value of a job that is no longer allowed is dropped", async () => {
    const delivered: string[] = [];
    const subscription = new Subscription({
      name: { tenantId: "acme" },
      types: undefined,
      maySee: undefined,
      subscriber: {
        deliver: ({ jobId, seq }) => void delivered.push(`${jobId} ${seq}`),
        gap() {},
        position() {},
        waitExpired() {},
      },
      epoch: "e",
      seq: 0,
      maxRate: 60,
    });
    const offer = (seq: number, jobId: string) => {
      const wire = JSON.stringify({ data: { step: seq } });
      const event = {
        epoch: "e",
        seq,
        type: "training_progress",
        durable: false,
        jobId,
        key: jobId,
        wire,
      } as const;
      subscription.offer(event);
    };
    for (const [i, jobId] of ["a", "b", "a", "b"].entries()) offer(i + 1, jobId);
    hub.hub.replays.identify(subscription, NARROW);
    await until("what is allowed has come", () => delivered.includes("b 4"));
    expect(delivered).to.deep.equal(["a 1", "b 2", "b 4"]);
    subscription.end();
  });
});
