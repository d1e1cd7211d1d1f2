import { expect } from "chai";
import { isValid } from "./scripted-hub.ts";
import { Bench } from "./trainer-support.ts";

const TABLE = {
  "loading data": 20,
  preprocessing: 30,
  splitting: 50,
  training: 70,
  evaluating: 85,
  saving: 95,
  done: 100,
};

describe("run.stages(table)", () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = await Bench.start();
  });
  afterEach(() => bench.stop());
  const told = async () => {
    await bench.trainer.flush();
    expect(bench.store.events.every(isValid)).to.equal(true);
    return bench.store.of("training_progress").map(({ data }) => data);
  };

  it("tells where the job is by the stage and how far that is", async () => {
    const stages = bench.trainer.run("a").stages(TABLE);
    expect(stages.stage).to.equal(undefined);
    stages.enter("loading data", "from disk");
    stages.progress(0.333333);
    stages.enter("training");
    stages.progress(0.5, { epoch: 2, loss: 0.25, message: "half" });
    stages.progress(7);
    stages.progress(-7);
    stages.enter("done");
    stages.progress(1);
    expect(stages.stage).to.equal("done");
    expect(await told()).to.deep.equal([
      { stage: "loading data", stage_progress: 0, progress: 0, message: "from disk" },
      { stage: "loading data", stage_progress: 33.33, progress: 6.67 },
      { stage: "training", stage_progress: 0, progress: 50, message: "" },
      { stage: "training", stage_progress: 50, progress: 60, epoch: 2, loss: 0.25, message: "half" },
      { stage: "training", stage_progress: 100, progress: 70 },
      { stage: "training", stage_progress: 0, progress: 50 },
      { stage: "done", stage_progress: 0, progress: 95, message: "" },
      { stage: "done", stage_progress: 100, progress: 100 },
    ]);
    expect(bench.errors).to.deep.equal([]);
  });

  it("orders the stages by their numbers, whatever the order of the keys is", async () => {
    const stages = bench.trainer.run("a").stages({ first: 10, "2": 20, "1": 100 });
    stages.enter("2");
    stages.enter("1");
    expect((await told()).map(({ progress }) => progress)).to.deep.equal([10, 20]);
  });

  it("reports what is wrong and tells nothing then", async () => {
    const run = bench.trainer.run("a");
    const stages = run.stages(TABLE);
    stages.progress(0.5);
    stages.enter("trainning");
    stages.enter("training");
    stages.progress(Number.NaN);
    run.stages({});
    run.stages({ a: 101 });
    run.stages(undefined as never).enter("a");
    expect((await told()).map(({ stage }) => stage)).to.deep.equal(["training"]);
    const messages = bench.errors.map(({ message }) => message);
    expect(messages.slice(0, 5)).to.deep.equal([
      "No stage has been entered.",
      `No stage "trainning" in the table: ${Object.keys(TABLE)
        .map((name) => `"${name}"`)
        .join(", ")}.`,
      "A stage's progress is a number from 0 to 1.",
      "The table of stages is empty.",
      'Stage "a" ends at a percentage from 0 to 100.',
    ]);
    expect(messages).to.have.length(7);
    expect(new Set(bench.errors.map(({ code }) => code))).to.deep.equal(new Set(["invalid_event"]));
  });
});
