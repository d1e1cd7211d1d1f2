import { expect } from "chai";
import { trainerId } from "../../client/announcer.ts";
import type { AnnounceRequest, HeartbeatRequest, TrainerOptions } from "../../client/index.ts";
import { until } from "../support/until.ts";
import type { Call } from "./scripted-hub.ts";
import { Bench } from "./trainer-support.ts";

describe("a run's announcement", () => {
  let bench: Bench;
  afterEach(() => bench.stop());

  async function start(options: Partial<TrainerOptions> = {}): Promise<Bench> {
    bench = await Bench.start(options);
    return bench;
  }
  const verbs = () => bench.hub.calls.map(({ verb }) => verb);

  it("comes after its first events, with what it carries out, its rank and the trainer's name", async () => {
    const { trainer } = await start();
    trainer.run("a", { name: "A", rank: 3 }).onCommand("save", () => {});
    await bench.until("a", "save");
    expect(bench.announced("a")).to.deep.equal([
      { job_id: "a", commands: ["save"], rank: 3, trainer_id: "gpu-1" },
    ]);
    expect(verbs()).to.deep.equal(["connection", "publish", "announce"]);
  });

  it("does not wait for a first event for ever, but for one that is on its way", async () => {
    const { trainer, hub } = await start();
    trainer.run("quiet");
    await bench.until("quiet");
    const publish = hub.next("publish");
    const run = trainer.run("a");
    run.log("1");
    const first = await publish;
    trainer.run("other");
    await bench.until("other");
    expect(bench.announced("a")).to.deep.equal([]);
    first.answer(bench.store.publish(first.request as never));
    await bench.until("a");
  });

  it("is not sent for an id that is none, and commands are refused then", async () => {
    const { trainer } = await start();
    const run = trainer.run("no id").onCommand("save", () => {});
    expect([run.shouldStop(), run.paused]).to.deep.equal([false, false]);
    await run.whilePaused();
    run.expect(3);
    run.end();
    trainer.run("a");
    await bench.until("a");
    expect(bench.asked("announce")).to.have.length(1);
    expect(bench.asked("heartbeat")).to.deep.equal([]);
  });

  it("follows what the run carries out, one request for a turn", async () => {
    const { trainer } = await start();
    const run = trainer.run("a");
    await bench.until("a");
    run.onCommand({ sample: () => {}, save: () => {} }).onCommand("custom", () => {});
    await bench.until("a", "save", "sample", "custom");
    run.shouldStop();
    await bench.until("a", "stop", "save", "sample", "custom");
    run.paused;
    run.whilePaused();
    await bench.until("a", "pause", "resume", "stop", "save", "sample", "custom");
    run.onCommand("save", () => {});
    await trainer.flush();
    expect(bench.announced("a")).to.have.length(4);
  });

  it("is one for all runs of a job, of the lowest rank, without the commands of those that have ended", async () => {
    const { trainer } = await start();
    const first = trainer.run("a", { rank: 2 }).onCommand("save", () => {});
    const second = trainer.run("a", { rank: 1 }).onCommand("sample", () => {});
    await bench.until("a", "save", "sample");
    expect(bench.announced("a")).to.have.length(1);
    expect(bench.announced("a")[0]?.rank).to.equal(1);
    second.end();
    second.end();
    await bench.until("a", "save");
    expect(bench.asked("withdraw")).to.deep.equal([]);
    first.end();
    await until(() => bench.asked("withdraw").length > 0);
    expect(bench.asked("withdraw")).to.deep.equal([{ job_id: "a" }]);
  });

  it("is sent again on every connection", async () => {
    const { trainer, hub } = await start();
    trainer.run("a").onCommand("save", () => {});
    trainer.run("b");
    await Promise.all([bench.until("a", "save"), bench.until("b")]);
    hub.cut();
    await until(() => bench.announced("a").length === 2 && bench.announced("b").length === 2);
    expect(bench.announced("a")[1]).to.deep.equal(bench.announced("a")[0]);
  });

  it("is sent again after a temporary refusal; another one is reported", async () => {
    const { trainer, hub } = await start();
    const refusals: Array<[string, boolean]> = [
      ["unavailable", true],
      ["too_many_trainers", false],
    ];
    hub.on.announce = ({ request, answer, refuse }: Call<AnnounceRequest>) => {
      const refusal = refusals.shift();
      if (refusal) refuse(...refusal);
      else answer({ job_id: request.job_id, trainer_id: "x" });
    };
    const run = trainer.run("a");
    await until(() => bench.errors.length > 0);
    expect(bench.errors.map(({ code }) => code)).to.deep.equal(["too_many_trainers"]);
    expect(bench.asked("announce")).to.have.length(2);
    run.onCommand("save", () => {});
    await bench.until("a", "save");
  });

  it("gets a new token when the old one has ended", async () => {
    let made = 0;
    const { hub, trainer } = await start({ token: undefined as never, getToken: () => `t${++made}` });
    hub.on.announce = ({ request, answer, refuse }: Call<AnnounceRequest>) =>
      made === 1 ? refuse("token_expired") : answer({ job_id: request.job_id, trainer_id: "x" });
    trainer.run("a");
    await until(() => bench.announced("a").length === 2);
    expect(hub.auths.map(({ token }) => token)).to.deep.equal(["t1", "t2"]);
  });

  it("is withdrawn after the end was stored", async () => {
    const { trainer, hub } = await start();
    const run = trainer.run("a");
    await bench.until("a");
    const publish = hub.next("publish");
    run.finish();
    const call = await publish;
    expect(bench.asked("withdraw")).to.deep.equal([]);
    call.answer(bench.store.publish(call.request as never));
    await until(() => bench.asked("withdraw").length > 0);
    expect(bench.statuses()).to.deep.equal(["completed"]);
    run.log("later");
    run.shouldStop();
    await trainer.flush();
    expect(bench.asked("announce")).to.have.length(1);
  });

  it("is withdrawn when `job_updated` tells the end", async () => {
    const { trainer } = await start();
    const run = trainer.run("a");
    await bench.until("a");
    run.publish("job_updated", { progress: 50 });
    run.publish("job_updated", { status: "failed" });
    await until(() => bench.asked("withdraw").length > 0);
    expect(bench.store.events).to.have.length(2);
  });

  it("is not sent for a job that begins and ends at once, nor withdrawn", async () => {
    const { trainer } = await start();
    const run = trainer.run("a");
    run.log("1");
    run.fail("broken");
    expect(await trainer.close()).to.equal(true);
    expect(verbs().filter((verb) => verb !== "publish")).to.deep.equal(["connection"]);
  });

  it("goes on with the next attempt, whose run is not stopped", async () => {
    const { trainer } = await start();
    const first = trainer.run("a", { attempt: 1 });
    expect(first.shouldStop()).to.equal(false);
    await bench.until("a", "stop");
    await bench.command("stop");
    expect(first.shouldStop()).to.equal(true);
    const second = trainer.run("a", { attempt: 2 });
    expect(second.shouldStop()).to.equal(false);
    second.onCommand("save", () => {});
    await bench.until("a", "stop", "save");
    // Of the first attempt: not the end of the second.
    first.fail("late");
    await trainer.flush();
    expect(await bench.command("save")).to.deep.equal({ ok: true });
    expect(first.shouldStop()).to.equal(true);
    expect(bench.asked("withdraw")).to.deep.equal([]);
    // Without an attempt it is of the newest.
    trainer.publish("training_status", { status: "failed" }, { job_id: "a" });
    await until(() => bench.asked("withdraw").length > 0);
    expect(bench.store.of("training_status").map((event) => event.attempt)).to.deep.equal([1, 1, undefined]);
  });

  it("names the trainer by its producer, in what the hub takes as an id", () => {
    expect(trainerId("gpu-1_a.B")).to.equal("gpu-1_a.B");
    const names = ["gpu:1", "gpu/1", "é".repeat(64), "x".repeat(63), `${"x".repeat(63)}/`].map(trainerId);
    expect(new Set(names).size).to.equal(5);
    for (const name of names) expect(name).to.match(/^[A-Za-z0-9_.-]{1,64}$/);
    expect(trainerId("gpu:1")).to.equal(trainerId("gpu:1"));
  });
});

describe("a run's heartbeats", () => {
  let bench: Bench;
  afterEach(() => bench.stop());
  const beats = () => bench.asked<HeartbeatRequest>("heartbeat");

  it("come while it lives and is announced, and say when the last step was", async () => {
    bench = await Bench.start({ heartbeatIntervalMs: 5 });
    const { trainer } = bench;
    const run = trainer.run("a");
    await until(() => beats().length > 0);
    expect(beats()[0]).to.deep.equal({ job_id: "a" });
    const before = Date.now();
    run.progress({ step: 1 });
    await until(() => beats().at(-1)?.last_step_at !== undefined);
    expect(Date.parse(beats().at(-1)?.last_step_at ?? "")).to.be.within(before, Date.now());
    const { last_step_at } = beats().at(-1) ?? {};
    run.progress({ loss: 1 });
    const count = beats().length;
    await until(() => beats().length > count + 1);
    expect(beats().at(-1)?.last_step_at).to.equal(last_step_at);
    run.end();
    await until(() => bench.asked("withdraw").length > 0);
    const verbs = bench.hub.calls.map(({ verb }) => verb);
    expect(verbs.lastIndexOf("heartbeat")).to.be.below(verbs.indexOf("withdraw"));
  });

  it("announce a long silence at once, until the next step", async () => {
    bench = await Bench.start();
    const run = bench.trainer.run("a");
    run.expect(60.5);
    await until(() => beats().length === 1);
    expect(beats()[0]?.expect_next_in).to.be.within(60, 61);
    run.expect(1e9);
    await until(() => beats().length === 2);
    expect(beats()[1]?.expect_next_in).to.equal(86_400);
    run.progress({ step: 2 });
    run.expect(Number.NaN);
    run.expect("long" as never);
    expect(bench.errors.map(({ code }) => code)).to.deep.equal(["invalid_request", "invalid_request"]);
    bench.hub.cut();
    await until(() => bench.announced("a").length === 2);
    expect(beats()).to.have.length(2);
  });

  it("make up for a job that the hub has lost, and end when it does not take them", async () => {
    bench = await Bench.start({ heartbeatIntervalMs: 5 });
    const codes = ["job_not_found", "forbidden"];
    bench.hub.on.heartbeat = ({ answer, refuse }) => {
      const code = codes.shift();
      if (code) refuse(code);
      else answer({ job_id: "a", server_time: "" });
    };
    bench.trainer.run("a");
    await until(() => bench.errors.length > 0 && bench.announced("a").length === 2);
    expect(bench.errors.map(({ code }) => code)).to.deep.equal(["forbidden"]);
    const count = beats().length;
    bench.hub.cut();
    await until(() => beats().length > count);
  });
});
