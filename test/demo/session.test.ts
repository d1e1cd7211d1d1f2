import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { CheckpointFile } from "../../src/demo/checkpoint.ts";
import { Session, type SessionOptions } from "../../src/demo/session.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { EventMap } from "../../src/protocol/types.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import { type LocalRun, localRun, type Told } from "./support.ts";

const SMALL = { size: 16, totalSteps: 1_800 };

describe("Session", () => {
  let folder: TempFolder;
  let file: CheckpointFile;
  let end: AbortController;

  beforeEach(() => {
    folder = tempFolder("session");
    file = new CheckpointFile(join(folder.path, "checkpoint"));
    end = new AbortController();
  });
  afterEach(() => folder.remove());

  function session(local: LocalRun, options: Partial<SessionOptions> = {}): Session {
    return new Session(local.run, {
      ...SMALL,
      seed: 4,
      fate: "good",
      attempt: 1,
      file,
      signal: end.signal,
      rest: () => new Promise((resolve) => setImmediate(resolve)),
      die: () => {
        throw new Error("it has died");
      },
      ...options,
    });
  }

  const statuses = (local: LocalRun) => local.of("training_status").map(({ status }) => status);
  /** Its own progress, not a product's. */
  const own = (local: LocalRun) =>
    local.events.flatMap(({ type, product, data }) =>
      type === "training_progress" && product === undefined ? [data as { [field: string]: unknown }] : [],
    );
  /** Resolves when the job has told something. */
  const telling = (matches: (event: Told) => boolean) => {
    let seen = () => {};
    const told = new Promise<void>((resolve) => {
      seen = resolve;
    });
    return { told, local: localRun(1, (event) => matches(event) && seen()) };
  };
  const inTraining = ({ type, product, data }: Told) =>
    type === "training_progress" && product === undefined && "step" in data;

  it("goes through its stages to the end, never backwards, and completes its products on the way", async () => {
    const local = localRun();
    await session(local).train();
    expect(statuses(local)).to.deep.equal(["running", "completed"]);
    const stages = own(local).map(({ stage }) => stage);
    expect([...new Set(stages)]).to.deep.equal([
      "loading picture",
      "preparing",
      "training",
      "evaluating",
      "saving",
    ]);
    const percents = own(local).map(({ progress }) => progress as number);
    expect(percents).to.deep.equal([...percents].sort((a, b) => a - b));
    expect(local.of("job_updated")).to.deep.equal([{ products_total: 3 }]);

    // The hub counts 20 + 60 for all products; the job's own percentage says the same when one is done.
    const done = local.events.flatMap(({ type, product, data }, at) =>
      type === "product_completed" ? [{ product, failed: (data as { failed?: boolean }).failed, at }] : [],
    );
    expect(done.map(({ product, failed }) => [product, failed])).to.deep.equal([
      ["blue", undefined],
      ["red", undefined],
      ["green", undefined],
    ]);
    for (const [index, { at }] of done.entries()) {
      const before = local.events.slice(0, at).filter(inTraining).at(-1)?.data as { progress: number };
      expect(before.progress).to.be.within(20 * index + 38, 20 * index + 40);
    }
    const { result } = local.of("training_status").at(-1) ?? {};
    expect(result).to.include({ successful: 3, failed: 0 });
    expect(result?.metrics?.psnr).to.be.above(18);
  });

  it("tells each product's own progress, to its end", async () => {
    const local = localRun();
    await session(local).train();
    for (const [product, steps] of [
      ["red", 500],
      ["green", 1_100],
      ["blue", 200],
    ] as const) {
      const told = local.events.filter(
        (each) => each.product === product && each.type === "training_progress",
      );
      const { progress, step, total_steps, loss } = (told.at(-1) as Told)
        .data as EventMap["training_progress"];
      expect({ progress, step, total_steps }).to.deep.equal({
        progress: 100,
        step: steps,
        total_steps: steps,
      });
      expect(loss).to.be.above(0);
      expect(told.length).to.be.above(5);
    }
  });

  it("completes without a product that does not come out well", async () => {
    const local = localRun();
    await session(local, { fate: "weak product", size: 32 }).train();
    const failed = local.events.filter(({ data }) => (data as { failed?: boolean }).failed === true);
    expect(failed.map(({ product }) => product)).to.deep.equal(["blue"]);
    expect(failed[0]?.data)
      .to.have.property("message")
      .that.matches(/^\d+\.\d\d dB .* 20 dB are wanted$/);
    expect(local.of("training_status").at(-1)?.result).to.include({ successful: 2, failed: 1 });
  });

  it("shows NaN when it diverges, and then fails for it", async () => {
    const local = localRun();
    await session(local, { fate: "diverges", totalSteps: 3_600 }).train();
    const losses = own(local).flatMap(({ loss }) => (loss === undefined ? [] : [loss as number]));
    const first = losses.findIndex(Number.isNaN);
    expect(first).to.be.above(20);
    expect(losses.slice(first).every(Number.isNaN)).to.equal(true);
    expect(losses.length - first).to.be.within(8, 12);
    expect(Math.max(...losses.slice(first - 8, first))).to.be.above(losses[first - 20] as number);

    const last = local.of("training_status").at(-1);
    expect(last).to.include({ status: "failed", end_reason: "error" });
    expect(last?.error).to.include({ type: "DivergenceError" });
    expect(last?.error?.message).to.match(/not a number any more since step \d+/);
    expect(local.of("alert")).to.have.length(1);
    // They are not done: the job's percentage stays where it was.
    expect(local.of("product_completed").filter((product) => product.failed)).to.deep.equal([]);
  });

  it("dies without a word, and goes on from its checkpoint as another attempt", async () => {
    const local = localRun();
    await session(local, { fate: "dies" })
      .train()
      .then(
        () => expect.fail("it lives"),
        (error: Error) => expect(error.message).to.equal("it has died"),
      );
    expect(statuses(local)).to.deep.equal(["running"]);
    const checkpoint = file.read();
    expect(checkpoint).to.include({ jobId: "job", attempt: 1, seed: 4 });

    const again = localRun(2);
    await session(again, { attempt: 2, checkpoint }).train();
    expect(again.events.every(({ attempt }) => attempt === 2)).to.equal(true);
    expect(again.of("training_status")[0]).to.deep.equal({
      status: "running",
      message: "Taken up from the checkpoint of attempt 1.",
    });
    const steps = own(again).flatMap(({ step }) => (step === undefined ? [] : [step as number]));
    const from = local.of("checkpoint_saved").at(-1)?.step as number;
    expect(steps[0]).to.be.within(from + 1, from + 15);
    // The products that were done before are told again: an attempt counts its own.
    expect(again.of("product_completed")).to.have.length(3);
    expect(statuses(again).at(-1)).to.equal("completed");
  });

  it("pauses, goes on, and does what it is told meanwhile", async () => {
    const { told, local } = telling(inTraining);
    const over = session(local).train();
    await told;
    expect(local.commands).to.deep.equal(["pause", "resume", "stop", "save", "sample", "validate"]);
    expect(await local.command("pause"))
      .to.include({ ok: true })
      .and.to.have.property("message");
    const steps = () => own(local).at(-1)?.step;
    await new Promise((resolve) => setImmediate(resolve));
    const paused = steps();
    const [sample, validation, save] = [
      await local.command("sample"),
      await local.command("validate"),
      await local.command("save"),
    ];
    expect([sample.ok, validation.ok, save.ok]).to.deep.equal([true, true, true]);
    expect(local.of("sample_generated")).to.have.length(1);
    expect(local.of("validation_result")).to.have.length(1);
    expect(validation.message).to.match(/^\d+\.\d\d dB after step \d+$/);
    expect(save.data?.size_bytes).to.equal(readFileSync(file.path).length);
    expect(JSON.stringify(save).length).to.be.below(LIMITS.commandBytes);
    expect(steps()).to.equal(paused);
    expect((await local.command("resume")).ok).to.equal(true);
    await over;
    expect(statuses(local)).to.deep.equal(["running", "paused", "running", "completed"]);
  });

  it("stops in a pause: saves, and is cancelled", async () => {
    const { told, local } = telling(inTraining);
    const over = session(local).train();
    await told;
    await local.command("pause");
    expect((await local.command("stop")).ok).to.equal(true);
    await over;
    expect(statuses(local)).to.deep.equal(["running", "paused", "stopping", "cancelled"]);
    const [last, end] = [local.of("checkpoint_saved").at(-1), local.of("training_status").at(-1)];
    expect(end).to.deep.equal({
      status: "cancelled",
      end_reason: "user",
      message: `Stopped after step ${last?.step}.`,
    });
    expect(file.read()?.planes.planes.red.stepsDone).to.be.above(0);
  });

  it("refuses what cannot be done before the training has begun, but stops", async () => {
    const { told, local } = telling(({ data }) => (data as { stage?: string }).stage === "loading picture");
    const over = session(local).train();
    await told;
    expect(await local.command("save")).to.deep.equal({
      ok: false,
      message: "The training has not begun yet.",
    });
    expect(local.reported).to.deep.equal(['The handler of "save" threw: The training has not begun yet.']);
    expect((await local.command("stop")).ok).to.equal(true);
    await over;
    expect(statuses(local)).to.deep.equal(["running", "stopping", "cancelled"]);
    expect(existsSync(file.path)).to.equal(false);
  });

  it("ends at the signal, also in a pause", async () => {
    const { told, local } = telling(inTraining);
    const over = session(local).train();
    await told;
    await local.command("pause");
    end.abort(new Error("the end"));
    local.run.cancel();
    await over.then(
      () => expect.fail("it goes on"),
      (error: Error) => expect(error.message).to.equal("the end"),
    );
    expect(statuses(local)).to.deep.equal(["running", "paused", "cancelled"]);
  });

  it("trains on when a checkpoint cannot be written", async () => {
    const local = localRun();
    await session(local, { file: new CheckpointFile(join(folder.path, "no/folder")) }).train();
    expect(statuses(local)).to.deep.equal(["running", "completed"]);
    expect(local.of("checkpoint_saved")).to.deep.equal([]);
    expect(local.of("log").filter(({ level }) => level === "warning")).to.have.length.above(0);
  });
});

describe("CheckpointFile", () => {
  it("has nothing where there is no file, or one that is none", () => {
    const folder = tempFolder("checkpoint");
    try {
      const file = new CheckpointFile(join(folder.path, "checkpoint"));
      expect(file.read()).to.equal(undefined);
      writeFileSync(file.path, "something else");
      expect(file.read()).to.equal(undefined);
      file.remove();
      file.remove();
      expect(existsSync(file.path)).to.equal(false);
    } finally {
      folder.remove();
    }
  });
});
