import { expect } from "chai";
import {
  type Closing,
  type Snapshot,
  type SubscribeAnswer,
  TrainwireClient,
  type TrainwireError,
  type Welcome,
} from "../../client/index.ts";
import { delivered, line, ScriptedHub } from "./scripted-hub.ts";
import { FAST, heard, record, watch } from "./support.ts";

const SNAPSHOT = { job_id: "a", epoch: "e1", seq: 3, status: "running" } as Snapshot;

function answer(seq: number, rest: Partial<SubscribeAnswer> = {}): SubscribeAnswer {
  return { job_id: "a", feed: "job", epoch: "e1", seq, recovered: true, events: [], ...rest };
}

describe("new TrainwireClient(options)", () => {
  let hub: ScriptedHub;
  let client: TrainwireClient;
  beforeEach(async () => {
    hub = await ScriptedHub.start();
  });
  afterEach(async () => {
    client.close();
    await hub.stop();
  });

  /** A live subscription to job a at seq 3, and the server's side of its connection. */
  async function subscribed(request = {}) {
    client = watch(hub);
    const subscription = client.subscribe({ job_id: "a", ...request });
    const told = record(subscription);
    const call = await hub.next("subscribe");
    call.answer(answer(3, { snapshot: SNAPSHOT }));
    await subscription.ready;
    return { subscription, told, socket: call.socket };
  }

  describe(".subscribe({job_id})", () => {
    it("gives the snapshot, the events of the answer and those that follow in the same turn, in order", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a", types: ["log"], history: 2 });
      const told = record(subscription);
      const { request, answer: give, socket } = await hub.next("subscribe");
      expect(request).to.deep.equal({ job_id: "a", types: ["log"], history: 2 });
      give(answer(3, { snapshot: SNAPSHOT, events: [line(2), line(3)] }));
      for (const seq of [4, 5]) socket.emit("log", line(seq));
      await told.until("log a:5");
      expect([...told]).to.deep.equal(["snapshot a:3", "log a:2", "log a:3", "live", "log a:4", "log a:5"]);
      expect(subscription.cursor).to.deep.equal({ epoch: "e1", seq: 5 });
      expect(subscription.state).to.equal("live");
    });

    it("follows pages", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a", since: { epoch: "e1", seq: 1 } });
      const told = record(subscription);
      const first = await hub.next("subscribe");
      expect(first.request.since).to.deep.equal({ epoch: "e1", seq: 1 });
      first.answer(answer(9, { events: [line(2)], more: true, next: { epoch: "e1", seq: 4 } }));
      const second = await hub.next("subscribe");
      expect(second.request).to.deep.equal({ job_id: "a", since: { epoch: "e1", seq: 4 } });
      // Of a subscription to all jobs, say: the next page covers it.
      second.socket.emit("log", line(9));
      second.answer(answer(9, { events: [line(6), line(9)] }));
      await subscription.ready;
      expect([...told]).to.deep.equal(["log a:2", "log a:6", "log a:9", "live"]);
      expect(subscription.cursor).to.deep.equal({ epoch: "e1", seq: 9 });
    });

    it("asks again when the hub could not go on", async () => {
      client = watch(hub);
      const next = { epoch: "e1", seq: 3 };
      const subscription = client.subscribe({ job_id: "a", since: next });
      (await hub.next("subscribe")).answer(answer(3, { more: true, next }));
      const again = await hub.next("subscribe");
      expect(again.request.since).to.deep.equal(next);
      again.answer(answer(3));
      await subscription.ready;
    });

    it("resumes where it was after every cut, and gives no durable event twice", async () => {
      const { subscription, told, socket } = await subscribed({ max_rate: 2, history: 5 });
      const four = heard(subscription, "log");
      socket.emit("log", line(4));
      await four;
      for (const seq of [5, 6]) {
        hub.cut();
        const call = await hub.next("subscribe");
        expect(call.request).to.deep.equal({
          job_id: "a",
          max_rate: 2,
          since: { epoch: "e1", seq: seq - 1 },
        });
        expect(subscription.state).to.equal("pending");
        const live = heard(subscription, "live");
        call.answer(answer(seq, { events: [line(seq - 1), line(seq)] }));
        call.socket.emit("log", line(seq));
        await live;
      }
      expect([...told]).to.deep.equal([
        "snapshot a:3",
        "live",
        "log a:4",
        "log a:5",
        "live",
        "log a:6",
        "live",
      ]);
    });

    it("takes conflatable events that were held back, behind later durable ones", async () => {
      const { subscription, told, socket } = await subscribed();
      socket.emit("log", line(5));
      const progress = heard(subscription, "training_progress");
      socket.emit("training_progress", delivered("training_progress", 4, { step: 4 }));
      await progress;
      expect(told.slice(2)).to.deep.equal(["log a:5", "training_progress a:4"]);
      expect(subscription.cursor?.seq).to.equal(5);
    });

    it("gives events of types that this SDK does not know to `event`", async () => {
      const { subscription, socket } = await subscribed();
      const event = heard<{ type: string }>(subscription, "event");
      socket.emit("of_the_future", { ...line(4), type: "of_the_future" });
      expect((await event).type).to.equal("of_the_future");
    });

    it("tells an answer that did not recover as a gap with its snapshot", async () => {
      const { subscription, told } = await subscribed();
      hub.cut();
      let live = heard(subscription, "live");
      (await hub.next("subscribe")).answer(
        answer(9, { recovered: false, snapshot: { ...SNAPSHOT, seq: 9 }, events: [] }),
      );
      await live;
      hub.cut();
      live = heard(subscription, "live");
      (await hub.next("subscribe")).answer(
        answer(2, {
          epoch: "e2",
          recovered: false,
          snapshot: { ...SNAPSHOT, epoch: "e2", seq: 2 },
          events: [line(1, { epoch: "e2" })],
        }),
      );
      await live;
      expect(told.slice(2)).to.deep.equal([
        "gap trimmed e1:9",
        "snapshot a:9",
        "live",
        "gap reset e2:2",
        "snapshot a:2",
        "log a:1",
        "live",
      ]);
      expect(subscription.cursor).to.deep.equal({ epoch: "e2", seq: 2 });
    });

    it("goes on at a gap that lost events, and in place at one of trimmed log lines", async () => {
      const { subscription, told, socket } = await subscribed();
      const gap = { type: "gap", feed: "job", job_id: "a", epoch: "e1", seq: 3 };
      let event = heard(subscription, "log");
      socket.emit("gap", { ...gap, reason: "trimmed", stream: "log", from: 4, to: 6 });
      socket.emit("log", line(5));
      await event;
      expect(subscription.cursor?.seq).to.equal(5);
      event = heard(subscription, "log");
      socket.emit("gap", { ...gap, seq: 20, reason: "overflow", snapshot: { ...SNAPSHOT, seq: 20 } });
      socket.emit("log", line(20));
      socket.emit("log", line(21));
      await event;
      const reset = heard(subscription, "gap");
      socket.emit("gap", { ...gap, epoch: null, seq: 0, reason: "reset" });
      await reset;
      expect(subscription.cursor).to.equal(undefined);
      expect(told.slice(2)).to.deep.equal([
        "gap trimmed e1:3",
        "log a:5",
        "gap overflow e1:20",
        "snapshot a:20",
        "log a:21",
        "gap reset null:0",
      ]);
      // Whatever the job did while nobody looked: all of it.
      hub.cut();
      const { request } = await hub.next("subscribe");
      expect(request).to.deep.equal({ job_id: "a", since: { epoch: "", seq: 0 } });
    });

    it("moves its cursor with `position`, never back", async () => {
      const { subscription, socket } = await subscribed({ types: ["alert"] });
      socket.emit("position", { feed: "job", job_id: "a", epoch: "e1", seq: 8 });
      socket.emit("position", { feed: "job", job_id: "a", epoch: "e1", seq: 7 });
      const alert = heard(subscription, "alert");
      socket.emit("alert", delivered("alert", 9, { level: "info", title: "t" }));
      await alert;
      hub.cut();
      expect((await hub.next("subscribe")).request.since).to.deep.equal({ epoch: "e1", seq: 9 });
    });

    it("waits for a job that does not exist yet, and then has it from its first event", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a", wait: true });
      const told = record(subscription);
      const { answer: give, socket } = await hub.next("subscribe");
      give(answer(0, { epoch: null, snapshot: null }));
      socket.emit("job_created", delivered("job_created", 1, {}));
      await heard(subscription, "job_created");
      expect([...told]).to.deep.equal(["live", "job_created a:1"]);
      socket.emit("closing", { job_id: "a", reason: "job_ended", reconnect: false } satisfies Closing);
      expect(((await heard(subscription, "closing")) as Closing).reason).to.equal("job_ended");
    });

    it("ends when the job that it waits for does not come in time", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a", wait: 1 });
      const told = record(subscription);
      const call = await hub.next("subscribe");
      call.answer(answer(0, { epoch: null, snapshot: null }));
      call.socket.emit("closing", { job_id: "a", reason: "wait_expired", reconnect: false });
      await told.until("error wait_expired");
      expect([...told]).to.deep.equal(["live", "closing wait_expired", "error wait_expired"]);
      expect(subscription.state).to.equal("closed");
    });

    it("tells only gaps that its types may have fallen into", async () => {
      const { told, socket } = await subscribed({ types: ["alert"] });
      const gap = { type: "gap", feed: "job", job_id: "a", epoch: "e1", seq: 3, reason: "trimmed" };
      socket.emit("gap", { ...gap, stream: "log" });
      socket.emit("gap", { ...gap, stream: "events" });
      await told.until("gap trimmed e1:3");
      socket.emit("alert", delivered("alert", 9, { level: "info", title: "t" }));
      await told.until("alert a:9");
      expect(told.slice(2)).to.deep.equal(["gap trimmed e1:3", "alert a:9"]);
    });

    it("refuses by itself what cannot be sent", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a", max_rate: 1n as never });
      const error = heard<TrainwireError>(subscription, "error");
      expect((await error).code).to.equal("invalid_request");
    });

    it("asks again after a temporary refusal and after no answer at all, and ends after any other", async () => {
      client = watch(hub, { ackTimeoutMs: 30 });
      const subscription = client.subscribe({ job_id: "a" });
      (await hub.next("subscribe")).refuse("unavailable", true);
      await hub.next("subscribe");
      const error = heard<TrainwireError>(subscription, "error");
      (await hub.next("subscribe")).refuse("job_not_found");
      expect((await error).code).to.equal("job_not_found");
      expect(subscription.state).to.equal("closed");
      const rejected = await subscription.ready.catch((reason: TrainwireError) => reason.code);
      expect(rejected).to.equal("job_not_found");
      // The same feed may be asked for anew.
      client.subscribe({ job_id: "a" });
      await hub.next("subscribe");
    });

    it("gives the client an error that the subscription does not handle", async () => {
      client = watch(hub);
      client.subscribe({ job_id: "a" });
      const error = heard<TrainwireError>(client, "error");
      (await hub.next("subscribe")).refuse("forbidden");
      expect((await error).code).to.equal("forbidden");
    });

    it("goes on after a handler that throws", async () => {
      const { subscription, told, socket } = await subscribed();
      subscription.on("log", () => {
        throw new Error("mine");
      });
      const error = heard<TrainwireError>(subscription, "error");
      socket.emit("log", line(4));
      expect((await error).message).to.contain("mine");
      const alert = heard(subscription, "alert");
      socket.emit("alert", delivered("alert", 5, { level: "info", title: "t" }));
      await alert;
      expect(told.slice(2)).to.deep.equal(["error handler_failed", "log a:4", "alert a:5"]);
    });

    it("survives answers and events that are not what the protocol says", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a" });
      const error = heard<TrainwireError>(subscription, "error");
      (await hub.next("subscribe")).answer({ events: 7 });
      expect((await error).code).to.equal("malformed_answer");
      (await hub.next("subscribe")).answer("what");
      const call = await hub.next("subscribe");
      for (const argument of [null, 1, "x", [], {}, { seq: 1, type: 2 }]) call.socket.emit("log", argument);
      call.socket.emit("gap");
      call.socket.emit("position", { feed: "job", job_id: "b", epoch: "e", seq: 1 });
      call.answer(answer(1));
      await subscription.ready;
    });

    it("asks for a few subscriptions at a time", async () => {
      client = watch(hub);
      const all = ["a", "b", "c", "d", "e", "f"].map((job_id) => client.subscribe({ job_id }));
      const calls = await Promise.all([1, 2, 3, 4].map(() => hub.next("subscribe")));
      expect(calls.map(({ request }) => request.job_id)).to.deep.equal(["a", "b", "c", "d"]);
      calls[1]?.answer(answer(1, { job_id: "b" }));
      const fifth = await hub.next("subscribe");
      expect(fifth.request.job_id).to.equal("e");
      expect(hub.waiting("subscribe")).to.equal(0);
      hub.on.subscribe = ({ request, answer: give }) => give(answer(1, { job_id: request.job_id as string }));
      for (const call of [...calls, fifth]) call.answer(answer(1, { job_id: call.request.job_id as string }));
      await Promise.all(all.map(({ ready }) => ready));
    });
  });

  describe(".subscribe({}) and several feeds on one connection", () => {
    it("keeps the tenant's feed apart from the jobs'", async () => {
      const { subscription, told, socket } = await subscribed();
      const tenant = client.subscribe({});
      const tenantTold = record(tenant as never);
      const call = await hub.next("subscribe");
      expect(call.request).to.deep.equal({});
      call.answer({
        feed: "tenant",
        epoch: "t1",
        seq: 50,
        recovered: true,
        snapshot: { jobs: [] },
        events: [],
      });
      const status = delivered("training_status", 51, { status: "running" });
      const heardThere = heard(tenant, "training_status");
      socket.emit("training_status", {
        ...status,
        feed: "tenant",
        epoch: "t1",
        job_position: { epoch: "e1", seq: 4 },
      });
      await heardThere;
      const heardHere = heard(subscription, "training_status");
      socket.emit("training_status", { ...status, seq: 4 });
      await heardHere;
      expect([...tenantTold]).to.deep.equal(["snapshot", "live", "training_status a:51"]);
      expect(told.slice(2)).to.deep.equal(["training_status a:4"]);
      expect([subscription.cursor?.seq, tenant.cursor]).to.deep.equal([4, { epoch: "t1", seq: 51 }]);
    });

    it("throws when the same feed is watched already", async () => {
      await subscribed();
      expect(() => client.subscribe({ job_id: "a" })).to.throw(
        'This client watches job "a" already: add handlers to that subscription, or close it first.',
      );
    });

    it("takes a close and a new subscription in the same turn", async () => {
      const { subscription, told, socket } = await subscribed();
      subscription.close();
      subscription.close();
      const second = client.subscribe({ job_id: "a", types: ["alert"] });
      const secondTold = record(second);
      const call = await hub.next("subscribe");
      expect(call.request).to.deep.equal({ job_id: "a", types: ["alert"] });
      socket.emit("log", line(4));
      call.answer(answer(4, { snapshot: { ...SNAPSHOT, seq: 4 } }));
      await second.ready;
      expect(told).to.have.length(2);
      expect([...secondTold]).to.deep.equal(["snapshot a:4", "live"]);
      expect(subscription.state).to.equal("closed");
      second.close();
      expect((await hub.next("unsubscribe")).request).to.deep.equal({ job_id: "a" });
    });

    it("unsubscribes what was closed before its answer came, and asks again when that is refused for now", async () => {
      client = watch(hub);
      const subscription = client.subscribe({});
      const told = record(subscription as never);
      const call = await hub.next("subscribe");
      subscription.close();
      const rejected = subscription.ready.catch((reason: TrainwireError) => reason.code);
      expect(await rejected).to.equal("closed");
      call.answer({ feed: "tenant", epoch: "t1", seq: 1, recovered: true, events: [] });
      (await hub.next("unsubscribe")).refuse("unavailable", true);
      const again = await hub.next("unsubscribe");
      expect(again.request).to.deep.equal({});
      again.answer({});
      expect([...told]).to.deep.equal([]);
    });

    it("lets a handler close its subscription in the middle of an answer", async () => {
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a" });
      const told = record(subscription);
      subscription.on("snapshot", () => subscription.close());
      (await hub.next("subscribe")).answer(answer(3, { snapshot: SNAPSHOT, events: [line(3)] }));
      (await hub.next("unsubscribe")).answer({});
      expect([...told]).to.deep.equal(["snapshot a:3"]);
    });
  });

  describe('.subscribe({job_id: "*"})', () => {
    const job = (job_id: string, seq: number, rest: Partial<SubscribeAnswer> = {}) => ({
      ...answer(seq, rest),
      job_id,
      snapshot: rest.events ? null : { ...SNAPSHOT, job_id, seq },
    });

    it("follows pages, new jobs, and resumes with a map of cursors", async () => {
      client = watch(hub);
      const all = client.subscribe({ job_id: "*", types: ["log"] });
      const told = record(all);
      const first = await hub.next("subscribe");
      expect(first.request).to.deep.equal({ job_id: "*", types: ["log"] });
      first.answer({
        job_id: "*",
        jobs: [
          job("a", 3),
          job("b", 9, { events: [line(2, { job_id: "b" })], more: true, next: { epoch: "e1", seq: 2 } }),
        ],
        more: true,
        next: "p2",
      });
      // a is joined; c is new, but it could as well stand on the next page.
      first.socket.emit("log", line(4));
      first.socket.emit("log", line(1, { job_id: "c" }));
      const second = await hub.next("subscribe");
      expect(second.request).to.deep.equal({ job_id: "*", types: ["log"], next: "p2" });
      expect([...told]).to.deep.equal(["snapshot a:3", "log b:2", "log a:4"]);
      second.answer({ job_id: "*", jobs: [job("b", 9, { events: [line(9, { job_id: "b" })] })] });
      second.socket.emit("log", line(2, { job_id: "c" }));
      second.socket.emit("log", line(7, { job_id: "d" }));
      await told.until("log d:7");
      expect(told.slice(3)).to.deep.equal(["log b:9", "log c:1", "live", "log c:2", "log d:7"]);
      expect(all.cursor).to.equal(undefined);
      hub.cut();
      const { request } = await hub.next("subscribe");
      expect(request).to.deep.equal({
        job_id: "*",
        types: ["log"],
        since: {
          a: { epoch: "e1", seq: 4 },
          b: { epoch: "e1", seq: 9 },
          c: { epoch: "e1", seq: 2 },
          d: { epoch: "e1", seq: 7 },
        },
      });
      expect(request.since).to.deep.equal(all.cursors);
    });

    it("goes on without jobs that are gone", async () => {
      client = watch(hub);
      const all = client.subscribe({
        job_id: "*",
        since: { a: { epoch: "e1", seq: 1 }, b: { epoch: "e1", seq: 1 } },
      });
      const told = record(all);
      const { answer: give, socket } = await hub.next("subscribe");
      const gone = { ...answer(0, { epoch: null, recovered: false, snapshot: null }), job_id: "a" };
      give({ job_id: "*", jobs: [gone, job("b", 1, { events: [] })] });
      await all.ready;
      const reset = heard(all, "gap");
      socket.emit("gap", { type: "gap", feed: "job", job_id: "b", epoch: null, seq: 0, reason: "reset" });
      await reset;
      expect([...told]).to.deep.equal(["gap reset null:0", "live", "gap reset null:0"]);
      expect(all.cursors).to.deep.equal({});
    });

    it("begins the first answer again when the hub has forgotten the page: jobs it has not brought are not new", async () => {
      client = watch(hub);
      const all = client.subscribe({ job_id: "*" });
      (await hub.next("subscribe")).answer({ job_id: "*", jobs: [job("a", 3)], more: true, next: "p2" });
      (await hub.next("subscribe")).refuse("invalid_cursor");
      const again = await hub.next("subscribe");
      expect(again.request).to.deep.equal({ job_id: "*" });
      again.answer({ job_id: "*", jobs: [job("a", 3, { events: [] })] });
      await all.ready;
    });

    it("gets a job's events beside a subscription of that job, each by its own types", async () => {
      const { subscription, told, socket } = await subscribed({ types: ["log"] });
      const all = client.subscribe({ job_id: "*" });
      const allTold = record(all);
      const call = await hub.next("subscribe");
      socket.emit("log", line(4));
      call.answer({ job_id: "*", jobs: [job("a", 5)] });
      await all.ready;
      socket.emit("log", line(6));
      socket.emit("alert", delivered("alert", 7, { level: "info", title: "t" }));
      await allTold.until("alert a:7");
      expect(told.slice(2)).to.deep.equal(["log a:4", "log a:6"]);
      expect([...allTold]).to.deep.equal(["snapshot a:5", "live", "log a:6", "alert a:7"]);
      expect(subscription.cursor?.seq).to.equal(7);
    });

    it("asks once more when too much came before the last page", async () => {
      client = watch(hub);
      const all = client.subscribe({ job_id: "*" });
      const told = record(all);
      const call = await hub.next("subscribe");
      for (let seq = 1; seq <= 1_001; seq++) call.socket.emit("log", line(seq, { job_id: "b" }));
      call.answer({ job_id: "*", jobs: [job("a", 3)] });
      const again = await hub.next("subscribe");
      expect(again.request.since).to.deep.equal({ a: { epoch: "e1", seq: 3 } });
      again.answer({ job_id: "*", jobs: [job("a", 3, { events: [] }), job("b", 1_001)] });
      await all.ready;
      expect([...told]).to.deep.equal(["snapshot a:3", "snapshot b:1001", "live"]);
    });
  });

  describe("the connection", () => {
    it("tells its states and the hub's greeting", async () => {
      client = new TrainwireClient({ url: hub.url, token: "secret", ...FAST });
      expect(client.state).to.equal("closed");
      const states: string[] = [];
      client.on("state", (state) => states.push(state));
      client.connect().connect();
      const { socket } = await hub.next("connection");
      expect(hub.auths).to.deep.equal([{ token: "secret" }]);
      const greeted = heard<Welcome>(client, "welcome");
      socket.emit("welcome", { client_id: "c1" });
      expect((await greeted).client_id).to.equal("c1");
      expect(client.welcome?.client_id).to.equal("c1");
      hub.cut();
      await hub.next("connection");
      await heard(client, "state");
      client.close();
      expect(states).to.deep.equal(["connecting", "connected", "reconnecting", "connected", "closed"]);
    });

    it("comes back after the hub was away, and after a disconnect by the server", async () => {
      client = watch(hub);
      const first = await hub.next("connection");
      first.socket.disconnect();
      await hub.next("connection");
      const { port } = hub;
      const lost = heard<TrainwireError>(client, "error");
      await hub.stop();
      expect(await lost).to.include({ code: "connect_failed", temporary: true });
      hub = await ScriptedHub.start(port);
      await hub.next("connection");
    });

    it("stays away when `closing` said so, and comes back on connect()", async () => {
      const { subscription, socket } = await subscribed();
      const error = heard<TrainwireError>(client, "error");
      socket.emit("closing", { reason: "too_many_violations", code: 4501, reconnect: false });
      socket.conn.close();
      expect(await error).to.include({ code: "too_many_violations", temporary: false });
      expect([client.state, subscription.state]).to.deep.equal(["closed", "pending"]);
      client.connect();
      expect((await hub.next("subscribe")).request.since).to.deep.equal({ epoch: "e1", seq: 3 });
    });

    it("comes back when `closing` said so, or concerned one job", async () => {
      const { socket } = await subscribed();
      socket.emit("closing", { reason: "job_ended", reconnect: false, job_id: "a" });
      socket.conn.close();
      const { socket: next } = await hub.next("subscribe");
      next.emit("closing", { reason: "shutdown", code: 4000, reconnect: true });
      next.conn.close();
      await hub.next("subscribe");
    });

    it("tries again after a refusal that is temporary, and not after another", async () => {
      let refusals = 0;
      hub.admit = () => {
        if (++refusals > 3) return { code: "forbidden", message: "no", temporary: false };
        return { code: "unavailable", message: "later", temporary: true };
      };
      client = watch(hub);
      const subscription = client.subscribe({ job_id: "a" });
      const codes: string[] = [];
      const closed = new Promise<void>((resolve) =>
        client.on("error", ({ code, temporary }) => {
          codes.push(code);
          if (!temporary) resolve();
        }),
      );
      await closed;
      expect(codes).to.deep.equal(["unavailable", "unavailable", "unavailable", "forbidden"]);
      expect(client.state).to.equal("closed");
      const rejected = await subscription.ready.catch((reason: TrainwireError) => reason.code);
      expect(rejected).to.equal("forbidden");
      hub.admit = () => new Error("of a stock middleware");
      client.connect();
      expect((await heard<TrainwireError>(client, "error")).code).to.equal("connect_refused");
    });

    it("gets a new token when the old one has expired, and one for every connect", async () => {
      let made = 0;
      hub.admit = ({ token }) =>
        token === "t1" ? { code: "token_expired", message: "", temporary: false } : undefined;
      client = watch(hub, { getToken: async () => `t${++made}` }).on("error", () => {});
      await hub.next("connection");
      hub.cut();
      const { socket } = await hub.next("connection");
      expect(hub.auths.map(({ token }) => token)).to.deep.equal(["t1", "t2", "t3"]);
      socket.emit("closing", { reason: "token_expired", code: 4500, reconnect: false });
      socket.conn.close();
      expect((await hub.next("connection")).request).to.deep.equal({ token: "t4" });
    });

    it("ends when there is no new token to get", async () => {
      hub.admit = () => ({ code: "token_expired", message: "", temporary: false });
      client = watch(hub, { token: "t" });
      expect(await heard(client, "error")).to.include({ code: "token_expired", temporary: false });
      expect(client.state).to.equal("closed");
      client = watch(hub, { getToken: () => "same" });
      expect(await heard(client, "error")).to.include({ code: "token_expired", temporary: true });
      expect(await heard(client, "error")).to.include({ code: "token_expired", temporary: false });
      expect(client.state).to.equal("closed");
    });

    it("asks again for a token that it could not get, or that is late", async () => {
      let asked = 0;
      const getToken = () => {
        asked += 1;
        if (asked === 1) throw new Error("no network");
        if (asked === 2) return 7 as never;
        return asked === 3 ? new Promise<string>(() => {}) : "t";
      };
      client = watch(hub, { getToken, connectTimeoutMs: 200 });
      const codes: string[] = [];
      client.on("error", ({ code }) => codes.push(code));
      await hub.next("connection");
      expect(codes).to.deep.equal(["token_unavailable", "token_unavailable", "connect_failed"]);
    });

    it("tells what the hub refused without being asked", async () => {
      client = watch(hub);
      const { socket } = await hub.next("connection");
      socket.emit("refused", {
        verb: "ping",
        error: { code: "ack_required", message: "m", temporary: false },
      });
      expect((await heard<TrainwireError>(client, "error")).code).to.equal("ack_required");
    });

    it("closes its subscriptions with it", async () => {
      const { subscription, told } = await subscribed();
      client.close();
      expect([client.state, subscription.state, told.length]).to.deep.equal(["closed", "closed", 2]);
      client.connect();
      await hub.next("connection");
      expect(hub.waiting("subscribe")).to.equal(0);
    });

    it("throws on options that contradict each other", () => {
      client = new TrainwireClient({ url: hub.url, token: "t" });
      const both = { url: hub.url, token: "t", getToken: () => "t" };
      expect(() => new TrainwireClient(both)).to.throw("Give either `token` or `getToken`.");
      expect(() => new TrainwireClient({ url: hub.url })).to.throw("Give either `token` or `getToken`.");
      expect(() => new TrainwireClient({ token: "t" } as never)).to.throw("`url` is missing.");
    });
  });
});
