/** The contract of `Bus`, one sentence a test: what a store has stored reaches whoever holds the feed. */
import { expect } from "chai";
import { loggedWire, newestWire } from "../../src/store/wire.ts";
import {
  created,
  dataset,
  entryOf,
  FEED,
  log,
  product,
  progress,
  readAll,
  sample,
  status,
  TENANT,
  TENANT_FEED,
  withId,
} from "../store/entries.ts";
import type { Open, Subject } from "../store/subject.ts";
import { listen, Recorder } from "./recorder.ts";

export function busSuite(name: string, open: Open): void {
  describe(`bus: ${name}`, () => {
    let subject: Subject;
    beforeEach(async () => {
      subject = await open();
    });
    afterEach(() => subject.close());
    const append = (...entries: Parameters<Subject["store"]["append"]>[1]) =>
      subject.store.append(FEED, entries, created());

    it("brings each stored event once, in order, with its class, type, job and key", async () => {
      const heard = await listen(subject.bus, FEED);
      const { position } = await append(
        log(),
        progress({ step: 1 }, { product: "a b  c", rank: 3 }),
        entryOf("system_stats", { host: "ä host" }),
        status("running"),
      );
      await append(product("x"));
      await heard.reach(6);
      const epoch = position?.epoch as string;
      expect(heard.received.map(({ wire: _, ...event }) => event)).to.deep.equal(
        [
          { seq: 1, type: "job_created", durable: true, key: "" },
          { seq: 2, type: "log", durable: true, key: "" },
          { seq: 3, type: "training_progress", durable: false, key: "training_progress\u001fa b  c\u001f3" },
          { seq: 4, type: "system_stats", durable: false, key: "system_stats\u001fä host\u001f" },
          { seq: 5, type: "training_status", durable: true, key: "" },
          { seq: 6, type: "product_completed", durable: true, key: "" },
        ].map((event) => ({ epoch, jobId: FEED.jobId, ...event })),
      );
    });

    it("brings the very bytes that a read makes of the log", async () => {
      const heard = await listen(subject.bus, FEED);
      const tenant = await listen(subject.bus, TENANT_FEED);
      await subject.store.append(TENANT_FEED, [dataset("ä😀\u2028")]);
      await append(
        log('"\\\u2028'),
        sample(),
        entryOf("alert", { level: "info", title: "t" }),
        status("failed"),
      );
      await heard.reach(5);
      await tenant.reach(4);
      const job = await readAll(subject.store);
      expect(heard.wires).to.deep.equal(
        job.logged.map((event) => loggedWire("job", job.epoch as string, event)),
      );
      const own = await readAll(subject.store, TENANT_FEED);
      expect(tenant.wires).to.deep.equal(
        own.logged.map((event) => loggedWire("tenant", own.epoch as string, event)),
      );
      expect(tenant.received.map(({ jobId }) => jobId)).to.deep.equal([
        "",
        FEED.jobId,
        FEED.jobId,
        FEED.jobId,
      ]);
    });

    it("brings a conflatable event as it was sent, and to the tenant what a read makes of the merged value", async () => {
      const heard = await listen(subject.bus, FEED);
      const tenant = await listen(subject.bus, TENANT_FEED);
      const sent = progress({ step: 1, loss: 2, metrics: { b: 1, a: 2 } });
      await append(progress({ stage: "x" }), sent);
      await subject.store.flushTenant(TENANT);
      await heard.reach(3);
      await tenant.reach(2);
      expect(heard.wires[2]).to.contain(`,${sent.head},"data":${sent.data}}`);
      const { newest, epoch } = await readAll(subject.store, TENANT_FEED);
      expect(tenant.wires[1]).to.equal(
        newestWire("tenant", epoch as string, newest[0] as (typeof newest)[0]),
      );
      const { wire: _, ...event } = tenant.received[1] ?? { wire: "" };
      expect(event).to.deep.equal({
        ...{ epoch, seq: 2, type: "training_progress", durable: false, jobId: FEED.jobId, key: FEED.jobId },
      });
    });

    it("names the job whatever it is called", async () => {
      const tenant = await listen(subject.bus, TENANT_FEED);
      const names = ["-", ".", "_", "0", "a-b.c_d"];
      for (const jobId of names) await subject.store.append({ ...FEED, jobId }, [log()], created(jobId));
      await subject.store.append(TENANT_FEED, [dataset()]);
      await tenant.reach(names.length + 1);
      expect(tenant.received.map(({ jobId }) => jobId)).to.deep.equal([...names, ""]);
    });

    it("brings large batches whole and in order", async () => {
      const heard = await listen(subject.bus, FEED);
      const lines = Array.from({ length: 60 }, (_, i) => log(`${i} ${"x".repeat(16_000)}`));
      await append(...lines, progress({ step: 1 }));
      await heard.reach(62);
      expect(heard.seqs).to.deep.equal(Array.from({ length: 62 }, (_, i) => i + 1));
      expect(heard.received.slice(1, 61).map(({ wire }) => JSON.parse(wire).data)).to.deep.equal(
        lines.map(({ data }) => JSON.parse(data)),
      );
    });

    it("brings nothing of duplicates and of what was refused", async () => {
      const heard = await listen(subject.bus, FEED);
      await append(withId("a"));
      await append(withId("a"), entryOf("job_created", {}));
      await append(withId("b"));
      await heard.reach(3);
      expect(heard.seqs).to.deep.equal([1, 2, 3]);
    });

    it("brings nothing of other feeds", async () => {
      const heard = await listen(subject.bus, FEED);
      await subject.store.append({ tenantId: "other", jobId: FEED.jobId }, [log()], created());
      await subject.store.append({ tenantId: TENANT, jobId: "job-10" }, [log()], created("job-10"));
      await subject.store.append(TENANT_FEED, [dataset()]);
      await append(log("mine"));
      await heard.reach(2);
      expect(heard.received.map(({ type, jobId }) => `${type} ${jobId}`)).to.deep.equal([
        `job_created ${FEED.jobId}`,
        `log ${FEED.jobId}`,
      ]);
    });

    it("reaches every instance that holds the feed", async () => {
      const { bus } = await subject.second();
      if (bus === subject.bus) return; // there is only one
      const both = await Promise.all([listen(subject.bus, FEED), listen(bus, FEED)]);
      await append(log());
      for (const heard of both) await heard.reach(2);
      expect(both[0].wires).to.deep.equal(both[1].wires);
    });

    it("says when the subscription is in force, and brings everything from then on", async () => {
      for (let i = 0; i < 20; i++) {
        const feed = { ...FEED, jobId: `j${i}` };
        const heard = await listen(subject.bus, feed);
        await subject.store.append(feed, [log()], created(feed.jobId));
        await heard.reach(2);
        expect(heard.seqs).to.deep.equal([1, 2]);
        subject.bus.release(feed);
      }
      expect(subject.bus.held).to.equal(0);
    });

    it("is silent after a release, and speaks again to who holds it then", async () => {
      const first = await listen(subject.bus, FEED);
      await append(log());
      await first.reach(2);
      subject.bus.release(FEED);
      await append(log());
      const second = await listen(subject.bus, FEED);
      await append(log());
      await second.reach(4);
      expect(first.seqs).to.deep.equal([1, 2]);
      // The one between may be missing, or still come.
      expect(second.seqs.join()).to.be.oneOf(["4", "3,4"]);
      subject.bus.release(FEED);
      subject.bus.release(FEED);
      expect(subject.bus.held).to.equal(0);
    });

    it("is held by whoever came last, however fast they come and go", async () => {
      const recorders = Array.from({ length: 10 }, () => new Recorder());
      for (const recorder of recorders) {
        subject.bus.hold(FEED, recorder);
        subject.bus.release(FEED);
        subject.bus.hold(FEED, recorder);
      }
      const last = recorders.at(-1) as Recorder;
      await last.until(({ subscriptions }) => subscriptions > 0);
      await append(log(), log());
      await last.reach(3);
      // Until it was in force for good, something may be missing; nothing comes twice.
      expect(last.seqs).to.deep.equal([...new Set(last.seqs)].sort((a, b) => a - b));
      for (const recorder of recorders.slice(0, -1)) expect(recorder.received).to.deep.equal([]);
      expect(subject.bus.held).to.equal(1);
    });

    it("counts the feeds that are held", async () => {
      const feeds = Array.from({ length: 50 }, (_, i) => ({ ...FEED, jobId: `j${i}` }));
      for (const feed of feeds) subject.bus.hold(feed, new Recorder());
      await listen(subject.bus, TENANT_FEED);
      expect(subject.bus.held).to.equal(51);
      for (const feed of [...feeds, TENANT_FEED]) subject.bus.release(feed);
      expect(subject.bus.held).to.equal(0);
    });

    it("keeps a handler's throw to itself: the append succeeds, other feeds and later events arrive", async () => {
      const heard = await listen(subject.bus, FEED);
      const tenant = await listen(subject.bus, TENANT_FEED);
      heard.events = () => {
        throw new Error("on purpose");
      };
      await append(log());
      await tenant.reach(1);
      expect(subject.errors.map(({ message }) => message)).to.deep.equal(["on purpose"]);
      Reflect.deleteProperty(heard, "events");
      await append(log());
      await heard.reach(3);
      expect(heard.seqs).to.deep.equal([3]);
    });

    it("keeps the order when a handler itself publishes", async () => {
      const heard = await listen(subject.bus, FEED);
      const tenant = await listen(subject.bus, TENANT_FEED);
      const take = heard.events.bind(heard);
      let left = 3;
      const answers: Array<Promise<unknown>> = [];
      heard.events = (events) => {
        if (left-- > 0) answers.push(append(status("running")));
        take(events);
      };
      await append(status("running"));
      await heard.reach(5);
      await Promise.all(answers);
      await tenant.reach(5);
      expect(heard.seqs).to.deep.equal([1, 2, 3, 4, 5]);
      expect(tenant.seqs).to.deep.equal([1, 2, 3, 4, 5]);
    });

    it("brings a probe back, after it has said that it is on its way", async () => {
      const said: string[] = [];
      await subject.bus.probe(() => said.push("sent")).then(() => said.push("back"));
      expect(said).to.deep.equal(["sent", "back"]);
      await Promise.all(Array.from({ length: 20 }, () => subject.bus.probe()));
      expect(subject.bus.held).to.equal(0);
    });

    it("reconnect() tells every feed that it is in force again; probes and events come as before", async () => {
      const heard = await Promise.all([listen(subject.bus, FEED), listen(subject.bus, TENANT_FEED)]);
      for (let round = 1; round <= 3; round++) {
        subject.bus.reconnect();
        for (const one of heard) await one.until(({ subscriptions }) => subscriptions > round);
        await subject.bus.probe();
        const { position } = await append(log());
        await heard[0].reach(position?.seq as number);
      }
      expect(heard[0].seqs).to.deep.equal([1, 2, 3, 4]);
      expect(subject.errors).to.deep.equal([]);
    });
  });
}
