/** Operators, trainers and the hub itself, in this process with the memory store. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import {
  type CommandUpdate,
  type JobUpdated,
  type Snapshot,
  TrainwireClient,
  type TrainwireError,
  TrainwireTrainer,
} from "../../client/index.ts";
import { startTestHub, type TestHub, token } from "../support/hub.ts";
import { until } from "../support/until.ts";
import { Cutter, FAST } from "./support.ts";

describe("operators and trainers on a hub", () => {
  let hub: TestHub;
  let near: Cutter;
  let far: Cutter;
  let trainer: TrainwireTrainer;
  let client: TrainwireClient;
  /** For snapshots beside the client's own subscriptions. */
  let observer: TrainwireClient;
  const errors: string[] = [];
  const note = ({ code, message }: TrainwireError) => errors.push(`${code}: ${message}`);

  beforeEach(async () => {
    hub = await startTestHub();
    near = await Cutter.before(hub.url);
    far = await Cutter.before(hub.url);
    errors.length = 0;
    trainer = new TrainwireTrainer({
      url: near.url,
      token: token("trainer"),
      ...FAST,
      producer: "gpu/1",
      flushIntervalMs: 1,
      progressIntervalMs: 0,
      heartbeatIntervalMs: 5,
      onError: note,
    });
    client = new TrainwireClient({ url: far.url, token: token("operator", { subject: "ann" }), ...FAST });
    client.connect().on("error", note);
    observer = new TrainwireClient({ url: hub.url, token: token("watcher"), ...FAST }).connect();
  });
  afterEach(async () => {
    client.close();
    observer.close();
    await trainer.close({ timeoutMs: 0 });
    await near.stop();
    await far.stop();
    await hub.close();
  });

  const snapshot = (job: string) =>
    new Promise<Snapshot>((resolve, reject) => {
      const subscription = observer.subscribe({ job_id: job });
      subscription.on("snapshot", (state) => {
        subscription.close();
        resolve(state);
      });
      subscription.on("error", reject);
    });
  const refusal = (asked: Promise<unknown>) =>
    asked.then(
      () => expect.fail("answered"),
      (error: TrainwireError) => error,
    );
  /** Waits until the job's trainer has announced these. */
  const announced = (job: string, ...commands: string[]) =>
    until(async () => {
      const state = await snapshot(job).catch(() => undefined);
      return state?.commands?.toSorted().join() === commands.toSorted().join();
    });

  it("pause, resume and stop a loop of ten lines, and see what became of it", async () => {
    const told: unknown[] = [];
    const subscription = client.subscribe(
      { job_id: "loop", wait: true },
      {
        event: ({ type, data }) => {
          if (type === "job_created") told.push(type);
          if (type === "training_status") told.push((data as { status: string }).status);
          if (type === "job_updated") told.push((data as JobUpdated).commands?.toSorted().join());
          if (type === "command_update") {
            const { action, state } = data as CommandUpdate;
            told.push(`${action} ${state}`);
          }
        },
      },
    );
    await subscription.ready;
    const run = trainer.run("loop", { name: "Loop" });
    let steps = 0;
    const ended = (async () => {
      run.status("running");
      while (!run.shouldStop()) {
        await run.whilePaused();
        await sleep(1);
        run.progress({ step: ++steps });
      }
      run.cancel("by the operator");
    })();
    await announced("loop", "pause", "resume", "stop");
    expect(await client.command("loop", "pause", { commandId: "c1" })).to.deep.equal({
      job_id: "loop",
      command_id: "c1",
      state: "applied",
    });
    expect(run.paused).to.equal(true);
    await client.command("loop", "resume");
    await client.command("loop", "stop");
    await ended;
    // The trainer's answer and its status are two messages: either may be stored first.
    await until(() => told.includes("cancelled") && told.includes("stop applied"));
    const commands = told.filter((one) => String(one).includes(" "));
    expect(commands).to.deep.equal(
      ["pause", "resume", "stop"].flatMap((action) =>
        ["requested", "delivered", "applied"].map((state) => `${action} ${state}`),
      ),
    );
    expect(told.filter((one) => !commands.includes(one))).to.deep.equal([
      "job_created",
      "running",
      "pause,resume,stop",
      "paused",
      "running",
      "stopping",
      "cancelled",
    ]);
    expect((await refusal(client.command("loop", "stop"))).code).to.equal("job_ended");
    expect(errors).to.deep.equal([]);
  });

  it("get the trainer's words, or why there are none", async () => {
    const run = trainer.run("a");
    run.onCommand({
      save: ({ args, requested_by }) => ({ path: `/c/${args?.name}`, by: requested_by }),
      sample: () => "made 3",
      validate: () => {
        throw new Error("no data");
      },
    });
    await announced("a", "save", "sample", "validate");
    expect(await client.command("a", "save", { args: { name: "x" } })).to.deep.include({
      data: { path: "/c/x", by: "ann" },
    });
    expect(await client.command("a", "sample")).to.deep.include({ message: "made 3" });
    expect(await refusal(client.command("a", "validate"))).to.deep.include({
      code: "command_failed",
      message: "no data",
    });
    expect((await refusal(client.command("a", "stop"))).code).to.equal("unsupported_command");
    expect((await refusal(client.command("nowhere", "stop"))).code).to.equal("job_not_found");
    expect(errors).to.deep.equal(['handler_failed: The handler of "validate" threw: no data']);
  });

  it("have a command carried out once, whoever's connection breaks meanwhile", async () => {
    let made = 0;
    const finish: Array<() => void> = [];
    trainer.run("a").onCommand("save", async () => {
      made += 1;
      await new Promise<void>((resolve) => finish.push(resolve));
      return `${made}`;
    });
    await announced("a", "save");
    for (const [round, cutter] of [near, far].entries()) {
      const answered = client.command("a", "save");
      await until(() => finish.length === round + 1);
      cutter.cut();
      const whole = cutter === near ? trainer : client;
      await until(() => whole.state === "reconnecting");
      await until(() => whole.state === "connected");
      finish[round]?.();
      expect(await answered).to.deep.include({ state: "applied", message: `${round + 1}` });
    }
    expect(made).to.equal(2);
  });

  it("see a job that lives, its products, curves and watchers", async () => {
    const run = trainer.run("a", { kind: "forecast" });
    run.status("running");
    const products = run.products(3);
    products.complete("p1");
    products.fail("p2", "no data");
    products.complete("p1");
    run.product("p3").progress({ step: 1, loss: 0.5 });
    const stages = run.stages({ loading: 20, training: 90 });
    stages.enter("training");
    stages.progress(0.5, { step: 7, loss: 0.25 });
    run.expect(60);
    await trainer.flush();
    await until(async () => (await snapshot("a")).last_step_at !== undefined);
    const state = await snapshot("a");
    expect(state).to.deep.include({ status: "running", liveness: "live" });
    expect(state.products).to.deep.equal({ completed: 1, failed: 1, total: 3, progress: 60 });
    const { series } = await client.series("a", { metric: "loss" });
    expect(series.map(({ product, buckets }) => [product, buckets[0]?.last])).to.have.deep.members([
      ["p3", 0.5],
      [undefined, 0.25],
    ]);
    const watching = client.subscribe({ job_id: "a" });
    await watching.ready;
    await until(async () => (await client.presence("a")).watchers === 1);
    watching.close();
    run.finish();
    await trainer.flush();
    const end = await snapshot("a");
    expect(end.status).to.equal("completed");
    expect(end.liveness).to.equal(undefined);
    expect(end.products.progress).to.equal(100);
    expect(errors).to.deep.equal([]);
  });

  it("see a new attempt after the end; without one a status is refused and reported once", async () => {
    const run = trainer.run("a");
    run.fail(new Error("CUDA out of memory"));
    run.status("running");
    await trainer.flush();
    expect(errors.map((error) => error.split(":")[0])).to.deep.equal(["invalid_transition"]);
    const second = trainer.run("a", { attempt: 2 });
    second.status("running");
    second.shouldStop();
    await announced("a", "stop");
    expect(await snapshot("a")).to.deep.include({ status: "running", attempt: 2 });
    await client.command("a", "stop");
    expect(second.shouldStop()).to.equal(true);
    expect(run.shouldStop()).to.equal(false);
  });
});
