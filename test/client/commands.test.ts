import { expect } from "chai";
import type { Run, TrainerAnswer, TrainerCommand } from "../../client/index.ts";
import { until } from "../support/until.ts";
import { Bench } from "./trainer-support.ts";

describe("run.onCommand(action, handler)", () => {
  let bench: Bench;
  let run: Run;
  beforeEach(async () => {
    bench = await Bench.start();
    run = bench.trainer.run("a");
  });
  afterEach(() => bench.stop());
  const codes = () => bench.errors.map(({ code }) => code);

  it("answers with nothing, a text or an object, at once or later", async () => {
    const seen: TrainerCommand[] = [];
    run.onCommand({
      save: (command) => {
        seen.push(command);
      },
      sample: async () => "made 3",
      validate: () => Promise.resolve({ loss: Number.NaN, at: new Date(0) }),
      custom: () => 3 as never,
    });
    await bench.until("a", "save", "sample", "validate", "custom");
    const args = { name: "best" };
    expect(await bench.command("save", { command_id: "c1", args, requested_by: "ann" })).to.deep.equal({
      ok: true,
    });
    expect(seen).to.deep.equal([
      { job_id: "a", command_id: "c1", action: "save", args, timeout_ms: 5_000, requested_by: "ann" },
    ]);
    expect(await bench.command("sample")).to.deep.equal({ ok: true, message: "made 3" });
    expect(await bench.command("validate")).to.deep.equal({
      ok: true,
      data: { loss: "NaN", at: "1970-01-01T00:00:00.000Z" },
    });
    expect(await bench.command("custom")).to.deep.equal({ ok: true });
    expect(codes()).to.deep.equal([]);
  });

  it("answers what is thrown as a failure, and reports it", async () => {
    run.onCommand({
      save: () => {
        throw new Error("disk full");
      },
      sample: () => Promise.reject("no model"),
    });
    await bench.until("a", "save", "sample");
    expect(await bench.command("save")).to.deep.equal({ ok: false, message: "disk full" });
    expect(await bench.command("sample")).to.deep.equal({ ok: false, message: "no model" });
    expect(codes()).to.deep.equal(["handler_failed", "handler_failed"]);
  });

  it("answers what it has no handler for, and what is no command, with a failure", async () => {
    run.onCommand("save", () => {});
    await bench.until("a", "save");
    const refused = { ok: false, message: "not supported" };
    expect(await bench.command("sample")).to.deep.equal(refused);
    expect(await bench.command("stop")).to.deep.equal(refused);
    expect(await bench.command("save", { job_id: "other" })).to.deep.equal(refused);
    expect(await bench.command("save", { command_id: 3 as never })).to.include({ ok: false });
    bench.socket.emit("command", { job_id: "a", command_id: "c", action: "save", timeout_ms: 1 });
    expect(await bench.command("save")).to.deep.equal({ ok: true });
  });

  it("leaves out what is too large to send, the command being done all the same", async () => {
    run.onCommand({
      save: () => ({ text: "é".repeat(2_100) }),
      sample: () => "é".repeat(5_000),
      validate: () => [1, 2],
      custom: () => {
        throw new Error("\0".repeat(5_000));
      },
    });
    await bench.until("a", "save", "sample", "validate", "custom");
    expect(await bench.command("save")).to.deep.equal({ ok: true });
    expect(await bench.command("validate")).to.deep.equal({ ok: true });
    expect(codes()).to.deep.equal(["command_too_large", "handler_failed"]);
    for (const action of ["sample", "custom"]) {
      expect((await bench.command(action)).message).to.match(/^(é|\0){1024}$/);
    }
  });

  it("carries each id out once: the same answer again, also while it runs and after a reconnect", async () => {
    let made = 0;
    const finish: Array<() => void> = [];
    run.onCommand("save", async () => {
      made += 1;
      if (made === 1) await new Promise<void>((resolve) => finish.push(resolve));
      return `save ${made}`;
    });
    await bench.until("a", "save");
    const lost = { job_id: "a", command_id: "c1", action: "save", timeout_ms: 100 };
    bench.socket.timeout(100).emit("command", lost, () => {});
    await until(() => made === 1);
    bench.hub.cut();
    await until(() => bench.announced("a").length === 2);
    const both = [1, 2].map(() => bench.command("save", { command_id: "c1" }));
    // What comes after them has been answered: they are there.
    expect(await bench.command("sample")).to.include({ ok: false });
    finish[0]?.();
    const wanted: TrainerAnswer = { ok: true, message: "save 1" };
    expect(await Promise.all(both)).to.deep.equal([wanted, wanted]);
    for (let i = 2; i <= 256; i++) await bench.command("save", { command_id: `c${i}` });
    expect(await bench.command("save", { command_id: "c1" })).to.deep.equal(wanted);
    expect(made).to.equal(256);
  });

  it("never acknowledges on a connection what came on the one before", async () => {
    let finish: (() => void) | undefined;
    run.onCommand("save", () => new Promise<void>((resolve) => (finish = resolve)));
    run.onCommand("sample", () => new Promise<string>(() => {}));
    await bench.until("a", "save", "sample");
    const early = { job_id: "a", command_id: "c1", action: "save", timeout_ms: 100 };
    bench.socket.timeout(100).emit("command", early, () => {});
    await until(() => finish !== undefined);
    bench.hub.cut();
    await until(() => bench.announced("a").length === 2);
    const packets: unknown[] = [];
    bench.socket.conn.on("packet", ({ data }: { data?: string }) => packets.push(data));
    finish?.();
    await bench.trainer.flush();
    run.log("after");
    await bench.trainer.flush();
    // 3 is Socket.IO's ACK.
    expect(packets.filter((data) => String(data).startsWith("3"))).to.deep.equal([]);
    expect(packets.length).to.be.above(0);
  });

  it("calls the handlers of all runs of the job, a new one of the same run in place of the old", async () => {
    const called: string[] = [];
    const other = bench.trainer.run("a", { rank: 1 });
    run.onCommand("save", () => void called.push("old"));
    run.onCommand("save", () => void called.push("first"));
    other.onCommand("save", () => void called.push("second"));
    await bench.until("a", "save");
    await bench.command("save");
    expect(called).to.deep.equal(["first", "second"]);
  });

  it("reports what is no handler", () => {
    run.onCommand("explode" as never, () => {});
    run.onCommand("save", undefined as never);
    run.onCommand({ sample: "x" } as never);
    run.onCommand(null as never);
    run.onCommand({ save: undefined as never });
    expect(codes()).to.deep.equal(Array(4).fill("invalid_request"));
  });
});

describe("a run that obeys", () => {
  let bench: Bench;
  let run: Run;
  beforeEach(async () => {
    bench = await Bench.start();
    run = bench.trainer.run("a");
  });
  afterEach(() => bench.stop());

  it("pauses, resumes and stops in a loop that never waits by itself", async () => {
    let steps = 0;
    const loop = async () => {
      while (!run.shouldStop()) {
        await run.whilePaused();
        const end = performance.now() + 1;
        while (performance.now() < end);
        run.progress({ step: ++steps });
      }
      run.cancel();
    };
    const ended = loop();
    await bench.until("a", "pause", "resume", "stop");
    expect(await bench.command("pause")).to.deep.equal({ ok: true });
    expect(await bench.command("pause")).to.deep.equal({ ok: true });
    await until(() => bench.statuses().length === 1);
    expect(run.paused).to.equal(true);
    await bench.trainer.flush();
    const paused = steps;
    await bench.command("sample");
    expect(steps).to.equal(paused);
    expect(await bench.command("resume")).to.deep.equal({ ok: true });
    expect(await bench.command("resume")).to.deep.equal({ ok: true });
    await until(() => steps > paused);
    expect(await bench.command("stop")).to.deep.equal({ ok: true });
    await ended;
    await bench.trainer.flush();
    expect(bench.statuses()).to.deep.equal(["paused", "running", "stopping", "cancelled"]);
    expect(bench.errors).to.deep.equal([]);
  });

  it("comes out of a pause by a stop, and does not pause any more then", async () => {
    run.shouldStop();
    await run.whilePaused();
    await bench.until("a", "pause", "resume", "stop");
    await bench.command("pause");
    const waiting = run.whilePaused();
    await bench.command("stop");
    await waiting;
    expect([run.shouldStop(), run.paused]).to.deep.equal([true, false]);
    expect(await bench.command("pause")).to.deep.equal({ ok: false, message: "The run is stopping." });
    expect(await bench.command("stop")).to.deep.equal({ ok: true });
    await bench.trainer.flush();
    expect(bench.statuses()).to.deep.equal(["paused", "stopping"]);
  });

  it("comes out of a pause when it ends, or the trainer is closed", async () => {
    for (const [job, end] of [
      ["b", (each: Run) => each.end()],
      ["c", (each: Run) => each.finish()],
      ["d", () => bench.trainer.close()],
    ] as const) {
      const each = bench.trainer.run(job);
      each.paused;
      await bench.until(job, "pause", "resume");
      await bench.command("pause", { job_id: job });
      const waiting = each.whilePaused();
      void end(each);
      await waiting;
      expect(each.paused).to.equal(false);
    }
  });

  it("calls its own handler before, which may refuse by throwing or end the run", async () => {
    let veto = true;
    const told: unknown[] = [];
    run.onCommand({
      pause: () => {
        if (veto) throw new Error("not now");
        told.push(run.paused);
      },
      resume: () => void told.push(run.paused),
      stop: async () => {
        told.push(run.shouldStop());
        run.cancel("by the operator");
        return "saved";
      },
    });
    await bench.until("a", "pause", "resume", "stop");
    expect(await bench.command("pause")).to.deep.equal({ ok: false, message: "not now" });
    expect(run.paused).to.equal(false);
    veto = false;
    await bench.command("pause");
    await bench.command("resume");
    expect(await bench.command("stop")).to.deep.equal({ ok: true, message: "saved" });
    expect(told).to.deep.equal([false, true, false]);
    await bench.trainer.flush();
    expect(bench.statuses()).to.deep.equal(["paused", "running", "cancelled"]);
  });

  it("does not let a resume overtake its pause, nor a stop wait for it", async () => {
    let pausing: (() => void) | undefined;
    run.onCommand("pause", () => new Promise<void>((resolve) => (pausing = resolve)));
    run.paused;
    run.shouldStop();
    await bench.until("a", "pause", "resume", "stop");
    const order: string[] = [];
    const commands = ["pause", "resume"].map((action) =>
      bench.command(action).then(() => order.push(action)),
    );
    await until(() => pausing !== undefined);
    await bench.command("sample");
    expect(order).to.deep.equal([]);
    pausing?.();
    await Promise.all(commands);
    expect(order).to.deep.equal(["pause", "resume"]);
    expect(run.paused).to.equal(false);
    const hanging = bench.command("pause");
    expect(await bench.command("stop")).to.deep.equal({ ok: true });
    pausing?.();
    await hanging;
    await bench.trainer.flush();
    expect(bench.statuses()).to.deep.equal(["paused", "running", "stopping"]);
  });
});
