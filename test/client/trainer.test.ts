import { expect } from "chai";
import fc from "fast-check";
import {
  type AnswerError,
  type PublishedEvent,
  type TrainerOptions,
  type TrainwireError,
  TrainwireTrainer,
} from "../../client/index.ts";
import { type Call, isValid, ScriptedHub, ScriptedStore } from "./scripted-hub.ts";
import { FAST } from "./support.ts";

type Publish = Call<PublishedEvent[]>;

const unavailable: AnswerError = { code: "unavailable", message: "", temporary: true };

describe("new TrainwireTrainer(options)", () => {
  let hub: ScriptedHub;
  let store: ScriptedStore;
  let trainer: TrainwireTrainer;
  let errors: TrainwireError[];
  beforeEach(async () => {
    hub = await ScriptedHub.start();
    store = new ScriptedStore();
    errors = [];
  });
  afterEach(async () => {
    await trainer.close({ timeoutMs: 0 });
    await hub.stop();
  });

  function train(options: Partial<TrainerOptions> = {}): TrainwireTrainer {
    const how = options.getToken ? {} : { token: "t" };
    const onError = (error: TrainwireError) => errors.push(error);
    trainer = new TrainwireTrainer({
      url: hub.url,
      ...how,
      ...FAST,
      flushIntervalMs: 1,
      onError,
      ...options,
    });
    return trainer;
  }

  /** Lets the hub store everything from now on. */
  function open(refuse?: (event: PublishedEvent) => AnswerError | undefined): void {
    hub.on.publish = ({ request, answer }: Publish) => answer(store.publish(request, refuse));
  }

  const codes = () => errors.map(({ code }) => code);
  const messages = () => store.of("log").map(({ data }) => data.message);

  describe("a run", () => {
    it("sends every kind of event in order, stamped and numbered", async () => {
      open();
      train({ producer: "gpu-1", progressIntervalMs: 0 });
      const run = trainer.run("a", { name: "A", kind: "lora", attempt: 2, rank: 1 });
      run.status("running", { message: "go" });
      run.progress({ step: 1, loss: 0.5 });
      run.log("hello");
      run.log({ level: "warning", message: "hm", line: 3 }, { metadata: { machine: "m" } });
      run.sample({ url: "https://s/1.png", step: 1 });
      run.validation({ metrics: { accuracy: 0.9 } });
      run.stats({ host: "h", cpu_percent: 3 });
      run.checkpoint({ path: "/c" });
      run.alert({ level: "error", title: "t" });
      run.custom("mine", { x: 1 });
      run.productCompleted("p1", { total: 3 });
      run.publish("job_updated", { progress: 3 });
      run.finish({ final_loss: 0.1 });
      trainer.publish("dataset_update", { dataset_id: "d", action: "created" });
      expect(await trainer.flush()).to.equal(true);
      expect(store.events.map(({ type }) => type)).to.deep.equal([
        "job_created",
        "training_status",
        "training_progress",
        "log",
        "log",
        "sample_generated",
        "validation_result",
        "system_stats",
        "checkpoint_saved",
        "alert",
        "custom",
        "product_completed",
        "job_updated",
        "training_status",
        "dataset_update",
      ]);
      expect(store.events.filter((event) => !isValid(event))).to.deep.equal([]);
      const [created, running, progress, , warning] = store.events;
      expect(created?.data).to.deep.equal({ name: "A", kind: "lora" });
      expect([created?.attempt, created?.rank]).to.deep.equal([2, undefined]);
      expect(running).to.deep.include({ attempt: 2, rank: 1, n: 2 });
      expect(running?.producer?.id).to.equal("gpu-1");
      expect(running?.producer?.incarnation).to.be.above(Date.now() * 1_000 - 1e9);
      expect(progress).not.to.have.any.keys("producer", "n");
      expect(warning).to.deep.include({ metadata: { machine: "m" } });
      expect(store.of("training_status")[1]?.data).to.deep.equal({
        status: "completed",
        end_reason: "finished",
        result: { final_loss: 0.1 },
      });
      expect(trainer.stats).to.deep.include({ published: 15, stored: 15, refused: 0, buffered: 0 });
      expect(errors).to.deep.equal([]);
    });

    it("is none the worse for a job that is there already", async () => {
      open((event) =>
        event.type === "job_created" ? { code: "job_exists", message: "", temporary: false } : undefined,
      );
      train();
      trainer.run("a", { name: "A" }).log("1");
      await trainer.flush();
      expect(errors).to.deep.equal([]);
      expect(messages()).to.deep.equal(["1"]);
      expect(trainer.stats.refused).to.equal(0);
    });

    it("tells how a job ended", async () => {
      open();
      train();
      const error = new RangeError("out of range");
      trainer.run("a").fail(error);
      trainer.run("b").fail("just text", { end_reason: "out_of_memory" });
      trainer.run("c").cancel("by hand");
      for (const message of ["CUDA out of memory. Tried to allocate 2 GiB", "std::bad_alloc"]) {
        trainer.run("e").fail(new Error(message));
      }
      trainer.run("e").fail(new RangeError("Array buffer allocation failed"));
      trainer.run("e").fail(new Error("out of memory"), { end_reason: "preempted" });
      trainer.run("d").fail(Object.assign(new Error("x".repeat(50_000)), { stack: "y".repeat(200_000) }));
      await trainer.flush();
      const [failed, text, cancelled, ...rest] = store.of("training_status").map(({ data }) => data);
      expect(failed).to.deep.equal({
        status: "failed",
        end_reason: "error",
        error: { type: "RangeError", message: "out of range", traceback: error.stack },
      });
      expect(text).to.deep.equal({
        status: "failed",
        end_reason: "out_of_memory",
        error: { message: "just text" },
      });
      expect(cancelled).to.deep.equal({ status: "cancelled", end_reason: "user", message: "by hand" });
      const long = rest.pop();
      expect(rest.map(({ end_reason }) => end_reason)).to.deep.equal([
        ...Array(3).fill("out_of_memory"),
        "preempted",
      ]);
      expect(long?.error?.message).to.match(/^x+ … x+$/);
      expect(store.events.filter((event) => !isValid(event))).to.deep.equal([]);
    });

    it("sends numbers without a JSON form, and leaves them out where the protocol has no place for them", async () => {
      open();
      train({ progressIntervalMs: 0 });
      const run = trainer.run("a");
      run.progress({
        loss: Number.NaN,
        eta_seconds: Number.POSITIVE_INFINITY,
        stage: "NaN",
        metrics: { lr: Number.NEGATIVE_INFINITY },
      });
      run.stats({ host: "h", cpu_percent: Number.NaN, gpus: [{ index: 0, power_watts: Number.NaN }] });
      run.validation({ metrics: { accuracy: Number.NaN } });
      await trainer.flush();
      expect(store.events.map(({ data }) => data)).to.deep.equal([
        { loss: "NaN", stage: "NaN", metrics: { lr: "-Infinity" } },
        { host: "h", gpus: [{ index: 0 }] },
        { metrics: { accuracy: "NaN" } },
      ]);
      expect(store.events.filter((event) => !isValid(event))).to.deep.equal([]);
    });

    it("copies data and takes the time when it is called", async () => {
      const data = { metrics: { loss: 1 } };
      train().run("a").validation(data);
      const called = Date.now();
      data.metrics.loss = 2;
      open();
      await trainer.flush();
      const [event] = store.of("validation_result");
      expect(event?.data.metrics.loss).to.equal(1);
      expect(Date.parse(event?.timestamp ?? "")).to.be.within(called - 1_000, called);
    });
  });

  describe("progress", () => {
    it("is merged within the interval, the last one sent", async () => {
      open();
      train({ progressIntervalMs: 30 });
      const run = trainer.run("a");
      for (let step = 1; step <= 1_000; step++)
        run.progress(step === 500 ? { step, stage: "half" } : { step });
      run.progress({ metrics: { a: 1 } });
      const second = await new Promise<PublishedEvent>((resolve) => {
        hub.on.publish = ({ request, answer }: Publish) => {
          answer(store.publish(request));
          if (store.events.length === 2) resolve(store.events[1] as PublishedEvent);
        };
      });
      expect(store.events[0]?.data).to.deep.equal({ step: 1 });
      expect(second.data).to.deep.equal({ step: 1_000, stage: "half", metrics: { a: 1 } });
      expect(trainer.stats.merged).to.equal(999);
    });

    it("is flushed before a status of the same job, and by flush() and close()", async () => {
      open();
      train({ progressIntervalMs: 60_000 });
      const run = trainer.run("a");
      const other = trainer.run("b");
      for (const step of [1, 2, 3]) {
        run.progress({ step });
        other.progress({ step });
      }
      run.finish();
      const seen = () =>
        store.events.map(({ job_id, type, data }) => `${job_id} ${(data as { step?: number }).step ?? type}`);
      await trainer.flush();
      expect(seen()).to.deep.equal(["a 1", "a 3", "a training_status", "b 1", "b 3"]);
      other.progress({ step: 4 });
      other.progress({ step: 5 });
      expect(await trainer.close()).to.equal(true);
      expect(seen().slice(5)).to.deep.equal(["b 5"]);
    });

    it("is kept apart by rank and product, and not merged beyond what the hub takes", async () => {
      open();
      train({ progressIntervalMs: 60_000 });
      const metrics = (prefix: string) =>
        Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`${prefix}${i}`, i]));
      const run = trainer.run("a");
      run.progress({ step: 1 });
      run.progress({ step: 1 }, { rank: 1 });
      run.progress({ step: 1 }, { product: "p" });
      run.progress({ metrics: metrics("a") });
      run.progress({ metrics: metrics("b") });
      await trainer.flush();
      expect(store.events).to.have.length(5);
    });
  });

  describe("sending again", () => {
    it("stores once what was stored but not answered", async () => {
      let lost = 0;
      hub.on.publish = ({ request, answer, socket }: Publish) => {
        const stored = store.publish(request);
        if (lost++ < 2) socket.conn.close();
        else answer(stored);
      };
      train();
      const run = trainer.run("a");
      run.log("1");
      run.log("2");
      expect(await trainer.flush()).to.equal(true);
      run.log("3");
      await trainer.flush();
      expect(messages()).to.deep.equal(["1", "2", "3"]);
      expect(trainer.stats).to.deep.include({
        published: 3,
        stored: 1,
        duplicates: 2,
        resent: 4,
        refused: 0,
      });
    });

    it("does so when no answer comes in time", async () => {
      train({ ackTimeoutMs: 20 });
      trainer.run("a").log("1");
      await hub.next("publish");
      open();
      expect(await trainer.flush()).to.equal(true);
      expect(messages()).to.deep.equal(["1"]);
    });

    it("does so after a temporary refusal of the whole call, or of everything", async () => {
      const calls: Array<(call: Publish) => void> = [
        ({ refuse }) => refuse("unavailable", true),
        ({ request, answer }) => answer(store.publish(request, () => unavailable)),
      ];
      hub.on.publish = (call: Publish) => {
        const script = calls.shift();
        if (script) script(call);
        else call.answer(store.publish(call.request));
      };
      train();
      const run = trainer.run("a");
      for (let i = 0; i < 5; i++) run.log(String(i));
      run.progress({ step: 1 });
      expect(await trainer.flush()).to.equal(true);
      expect(messages()).to.deep.equal(["0", "1", "2", "3", "4"]);
      expect(store.duplicates).to.equal(0);
      expect(store.of("training_progress")).to.have.length(1);
    });

    it("lets nothing of a job pass an event that was refused for now, while other jobs go on", async () => {
      let refusals = 5;
      open((event) => {
        const first =
          event.type === "log" && event.data && (event.data as { message: string }).message === "a1";
        return first && refusals-- > 0 ? unavailable : undefined;
      });
      train();
      const [a, b] = [trainer.run("a"), trainer.run("b")];
      for (let i = 0; i < 4; i++) {
        a.log(`a${i}`);
        b.log(`b${i}`);
      }
      await trainer.flush();
      const of = (job: string) => messages().filter((message) => message.startsWith(job));
      expect(of("a")).to.deep.equal(["a0", "a1", "a2", "a3"]);
      expect(of("b")).to.deep.equal(["b0", "b1", "b2", "b3"]);
      expect(messages().indexOf("b3")).to.be.below(messages().indexOf("a1"));
      expect(store.duplicates).to.equal(0);
    });

    it("keeps the order through any mixture of lost answers, cuts and refusals", async function () {
      this.timeout(60_000);
      await fc.assert(
        fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 12 }), async (script) => {
          store = new ScriptedStore();
          hub.on.publish = ({ request, answer, refuse, socket }: Publish) => {
            const step = script.shift();
            if (step === 0) socket.conn.close();
            else if (step === 1) {
              store.publish(request);
              socket.conn.close();
            } else if (step === 2) refuse("unavailable", true);
            else if (step === 3) {
              const from = request.length / 2;
              answer(
                store.publish(request, (event) => (request.indexOf(event) >= from ? unavailable : undefined)),
              );
            } else if (step === 4) store.publish(request.slice(0, 3));
            else answer(store.publish(request));
          };
          train({ ackTimeoutMs: 10, reconnectDelayMs: 1, reconnectDelayMaxMs: 2 });
          const runs = [trainer.run("a"), trainer.run("b")];
          for (let i = 0; i < 30; i++) runs[i % 2]?.log(String(i));
          expect(await trainer.close()).to.equal(true);
          for (const job of ["a", "b"]) {
            const sent = Array.from({ length: 30 }, (_, i) => i).filter(
              (i) => i % 2 === (job === "a" ? 0 : 1),
            );
            const stored = store.of("log").filter(({ job_id }) => job_id === job);
            expect(stored.map(({ data }) => Number(data.message))).to.deep.equal(sent);
          }
        }),
        { numRuns: 40 },
      );
    });

    it("sends at most 500 events and half a megabyte in one call", async () => {
      open();
      train({ flushIntervalMs: 1_000 });
      const run = trainer.run("a");
      for (let i = 0; i < 1_200; i++) run.log(String(i));
      for (let i = 0; i < 40; i++) run.log("€".repeat(16_000));
      expect(await trainer.flush()).to.equal(true);
      const calls = hub.calls.filter(({ verb }) => verb === "publish").map(({ request }) => request);
      expect(calls.slice(0, 2).map(({ length }) => length)).to.deep.equal([500, 500]);
      for (const call of calls) expect(Buffer.byteLength(JSON.stringify(call))).to.be.below(530_000);
      expect(store.events).to.have.length(1_240);
    });

    it("uses a new token for every connect", async () => {
      open();
      let made = 0;
      train({ getToken: () => `t${++made}` });
      await hub.next("connection");
      hub.on.publish = ({ refuse }: Publish) => {
        open();
        refuse("token_expired");
      };
      trainer.run("a").log("1");
      expect(await trainer.flush()).to.equal(true);
      expect(hub.auths.map(({ token }) => token)).to.deep.equal(["t1", "t2"]);
    });
  });

  describe("events that the hub does not take", () => {
    it("drops and reports what is refused for good, once per code and call", async () => {
      open((event) => {
        const { message } = event.data as { message?: string };
        return message?.startsWith("bad")
          ? { code: "invalid_event", message: "bad", temporary: false }
          : undefined;
      });
      train();
      const run = trainer.run("a");
      for (const message of ["1", "bad 1", "2", "bad 2", "3"]) run.log(message);
      expect(await trainer.flush()).to.equal(true);
      expect(messages()).to.deep.equal(["1", "2", "3"]);
      expect(errors.map(({ code, events, event }) => [code, events, event?.data])).to.deep.equal([
        ["invalid_event", 2, { level: "info", message: "bad 1" }],
      ]);
      expect(trainer.stats).to.deep.include({ stored: 3, refused: 2 });
    });

    it("finds the one to blame when a whole call is malformed", async () => {
      hub.on.publish = ({ request, answer, refuse }: Publish) => {
        if (request.some(({ data }) => (data as { message?: string }).message === "poison"))
          refuse("malformed");
        else answer(store.publish(request));
      };
      train();
      const run = trainer.run("a");
      for (let i = 0; i < 100; i++) run.log(i === 37 || i === 73 ? "poison" : String(i));
      expect(await trainer.flush()).to.equal(true);
      expect(messages()).to.deep.equal(
        Array.from({ length: 100 }, (_, i) => String(i)).filter((i) => i !== "37" && i !== "73"),
      );
      expect(codes()).to.deep.equal(["malformed", "malformed"]);
      expect(hub.calls.length).to.be.below(60);
    });

    it("finds the one to blame when the connection breaks with it on the way", async () => {
      hub.on.publish = ({ request, answer, socket }: Publish) => {
        if (request.some(({ data }) => (data as { message?: string }).message === "poison"))
          socket.conn.close();
        else answer(store.publish(request));
      };
      train({ reconnectDelayMs: 1, reconnectDelayMaxMs: 1 });
      const run = trainer.run("a");
      for (let i = 0; i < 8; i++) run.log(i === 5 ? "poison" : String(i));
      expect(await trainer.flush()).to.equal(true);
      expect(messages()).to.deep.equal(["0", "1", "2", "3", "4", "6", "7"]);
      expect(codes().filter((code) => code !== "connect_failed")).to.deep.equal(["poison"]);
      expect(errors.find(({ code }) => code === "poison")?.event?.data).to.deep.equal({
        level: "info",
        message: "poison",
      });
      expect(trainer.stats.dropped).to.equal(1);
    });

    it("blames no event for a hub that breaks before it has answered a ping", async () => {
      let breaks = 20;
      hub.on.ping = ({ answer, socket }) => (breaks-- > 0 ? socket.conn.close() : answer({}));
      hub.on.publish = ({ request, answer, socket }: Publish) => {
        if (breaks === 20) socket.conn.close();
        else answer(store.publish(request));
      };
      train({ reconnectDelayMs: 1, reconnectDelayMaxMs: 1 });
      trainer.run("a").finish();
      expect(await trainer.flush()).to.equal(true);
      expect(store.events).to.have.length(1);
      expect(trainer.stats.dropped).to.equal(0);
    });

    it("drops a call that may not be made at all, and reports it once", async () => {
      hub.on.publish = ({ refuse }: Publish) => refuse("forbidden");
      train();
      for (let i = 0; i < 10; i++) trainer.run("a").log(String(i));
      expect(await trainer.flush()).to.equal(true);
      expect(errors.map(({ code, events }) => [code, events])).to.deep.equal([["forbidden", 10]]);
    });
  });

  describe("while the hub is away", () => {
    it("merges progress, drops the oldest log lines and keeps every status", async () => {
      hub.admit = () => unavailable;
      train({ maxBufferedEvents: 64, progressIntervalMs: 0 });
      const run = trainer.run("a");
      run.status("running");
      for (let step = 1; step <= 500; step++) {
        run.progress({ step });
        run.log(`line ${step}`);
      }
      run.finish();
      expect(trainer.stats.buffered).to.be.at.most(64);
      hub.admit = () => undefined;
      open();
      expect(await trainer.flush()).to.equal(true);
      expect(store.of("training_status").map(({ data }) => data.status)).to.deep.equal([
        "running",
        "completed",
      ]);
      expect(store.of("training_progress").at(-1)?.data.step).to.equal(500);
      expect(messages().at(-1)).to.equal("line 500");
      expect(messages().length).to.be.within(40, 64);
      const { published, stored, merged, dropped } = trainer.stats;
      expect(published).to.equal(stored + merged + dropped);
      expect(codes()).to.include("buffer_full");
    });

    it("flushes in vain: false when the time is over, or the hub has refused the connection for good", async () => {
      hub.admit = () => unavailable;
      train();
      trainer.run("a").log("1");
      expect(await trainer.flush({ timeoutMs: 1 })).to.equal(false);
      hub.admit = () => ({ code: "unauthorized", message: "", temporary: false });
      expect(await trainer.flush()).to.equal(false);
      expect(trainer.state).to.equal("closed");
      hub.admit = () => undefined;
      open();
      trainer.connect();
      expect(await trainer.flush()).to.equal(true);
      expect(messages()).to.deep.equal(["1"]);
    });

    it("closes in time, and reports what is lost", async () => {
      hub.admit = () => unavailable;
      train();
      const run = trainer.run("a");
      for (const message of ["1", "2"]) run.log(message);
      expect(await trainer.close({ timeoutMs: 1 })).to.equal(false);
      run.log("3");
      const closed = errors.filter(({ code }) => code === "closed");
      expect(closed.map(({ events }) => events)).to.deep.equal([2, 1]);
      expect(trainer.stats).to.deep.include({ dropped: 3, buffered: 0, bufferedBytes: 0 });
      expect(await trainer.close()).to.equal(true);
    });
  });

  describe("the training loop", () => {
    it("never sees an exception, whatever it hands over", async () => {
      hub.on.publish = ({ request, answer }: Publish) =>
        answer(
          store.publish(request, (event) =>
            isValid(event) ? undefined : { code: "invalid_event", message: "", temporary: false },
          ),
        );
      train({
        onError: () => {
          throw new Error("of the application");
        },
      });
      const trap = new Proxy(
        {},
        {
          get() {
            throw new Error("trap");
          },
          ownKeys() {
            throw new Error("trap");
          },
        },
      );
      const odd = fc.oneof(
        fc.anything({
          withBigInt: true,
          withDate: true,
          withMap: true,
          withSet: true,
          withTypedArray: true,
          withSparseArray: true,
          withBoxedValues: true,
          withNullPrototype: true,
        }),
        fc.constantFrom(trap, Symbol("s"), () => 1, Number.NaN),
        fc.record(
          { message: fc.anything(), step: fc.anything(), metrics: fc.dictionary(fc.string(), fc.anything()) },
          { requiredKeys: [] },
        ),
      ) as fc.Arbitrary<never>;
      fc.assert(
        fc.property(odd, odd, odd, (a, b, c) => {
          for (const jobId of ["a", a]) {
            const run = trainer.run(jobId, b);
            run.progress(a, c);
            run.status(a, b);
            run.log(a, b);
            run.sample(a);
            run.validation(a, b);
            run.stats(a);
            run.checkpoint(a);
            run.alert(a);
            run.custom(a, b);
            run.productCompleted(a, b);
            const products = run.products(a);
            products.complete(a, b);
            products.fail(b, a);
            run.product(a).log(b);
            const stages = run.stages(a);
            stages.enter(b, a);
            stages.progress(a, b);
            run.onCommand(a, b);
            run.expect(a);
            run.shouldStop();
            run.publish(a, b, c);
            run.finish(a);
            run.fail(a, b);
            run.cancel(a);
          }
          trainer.publish(a, b, c);
        }),
        { numRuns: 200, examples: [[trap as never, trap as never, trap as never]] },
      );
      expect(await trainer.flush({ timeoutMs: Number.NaN })).to.equal(true);
      const { published, stored, merged, refused, dropped, invalid } = trainer.stats;
      expect(published).to.equal(stored + merged + refused + dropped);
      expect(invalid).to.be.above(0);
    });

    it("hears of what is not valid", async () => {
      train();
      const run = trainer.run("a job with spaces", { name: "n" });
      run.log("x");
      trainer.run("a").publish("nonsense" as never, {} as never);
      trainer.run("a").progress(null as never);
      trainer.run("a").custom("big", { text: "x".repeat(60_000), more: ["y".repeat(5_600)] });
      expect(codes()).to.deep.equal([
        "invalid_event",
        "invalid_event",
        "unknown_type",
        "invalid_event",
        "event_too_large",
      ]);
      expect(trainer.stats).to.deep.include({ invalid: 5, published: 0 });
    });

    it("prints the first error of each code when there is no onError", async () => {
      const printed: unknown[] = [];
      const { warn } = console;
      console.warn = (error: TrainwireError) => printed.push(error.code);
      try {
        train({ onError: undefined as never });
        for (let i = 0; i < 3; i++) {
          trainer.run("a").progress(null as never);
          trainer.run("a").publish("x" as never, {} as never);
        }
      } finally {
        console.warn = warn;
      }
      expect(printed).to.deep.equal(["invalid_event", "unknown_type"]);
    });

    it("throws only on wrong options", () => {
      train();
      const options = { url: hub.url, token: "t" };
      const make = (wrong: object) => () => new TrainwireTrainer({ ...options, ...wrong });
      expect(make({ producer: "two words" })).to.throw("`producer` is 1 to 64 characters without spaces.");
      expect(make({ maxBufferedEvents: 0 })).to.throw("`maxBufferedEvents` is a number from 1.");
      expect(make({ maxBufferedBytes: 10 })).to.throw("`maxBufferedBytes` is a number from 65536.");
      expect(make({ heartbeatIntervalMs: -1 })).to.throw("`heartbeatIntervalMs` is a number from 0.");
      expect(make({ token: undefined })).to.throw("Give either `token` or `getToken`.");
    });

    it("gives later trainers higher incarnations", async () => {
      open();
      const incarnations: number[] = [];
      for (let i = 0; i < 3; i++) {
        train().run("a").log("x");
        await trainer.close();
        incarnations.push(store.events.at(-1)?.producer?.incarnation ?? 0);
      }
      expect(incarnations).to.deep.equal([...new Set(incarnations)].sort((a, b) => a - b));
    });
  });
});
