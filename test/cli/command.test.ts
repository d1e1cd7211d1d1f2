/** `trainwire command` against one hub, with a trainer in this process. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { type Run, TrainwireError, TrainwireTrainer } from "../../client/index.ts";
import { signToken } from "../../src/auth.ts";
import { type Commander, Order, type OrderOptions } from "../../src/cli/command.ts";
import type { CommandAnswer, CommandUpdate, DeliveredEvent } from "../../src/protocol/types.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import type { RunningProcess } from "../support/process.ts";
import { until } from "../support/until.ts";
import { type Finished, run, start, startHub, useCommands } from "./support.ts";

describe("trainwire command", () => {
  useCommands();
  let folder: TempFolder;
  let hub: RunningProcess;
  let url: string;
  let trainer: TrainwireTrainer;

  before(async () => {
    folder = tempFolder("command");
    ({ hub, url } = await startHub(folder.path));
    trainer = new TrainwireTrainer({ url, token: token("trainer"), onError: () => {} });
  });
  after(async () => {
    await trainer.close();
    await hub.stop();
    folder.remove();
  });

  function token(role: "trainer" | "watcher"): string {
    const secret = readFileSync(join(folder.path, ".trainwire/jwt-secret"), "utf8").trim();
    return signToken(secret, { subject: "test", tenantId: "demo", role, ttlSeconds: 600 });
  }
  const command = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Finished> =>
    run(["command", ...args], { cwd: folder.path, env: { TRAINWIRE_URL: url, ...env } });
  const times = ({ stdout }: Finished) =>
    stdout
      .trim()
      .split("\n")
      .map((line) => line.slice(0, 10));
  const texts = ({ stdout }: Finished) =>
    stdout
      .trim()
      .split("\n")
      .map((line) => line.slice(10));

  /** A run whose trainer the hub knows by then, with what it does. */
  async function announced(job: string, commands: (run: Run) => void): Promise<Run> {
    const begun = trainer.run(job);
    begun.status("running");
    commands(begun);
    await trainer.flush();
    const address = `${url}/api/v1/tenants/demo/training/jobs/${job}`;
    await until(async () => {
      const response = await fetch(address, { headers: { authorization: `Bearer ${token("watcher")}` } });
      const { job: known } = (await response.json()) as { job?: { commands?: string[] } };
      return (known?.commands?.length ?? 0) > 0;
    });
    return begun;
  }

  it("says how the command comes to the trainer and what that answers, and exits with 0", async () => {
    const got: unknown[] = [];
    await announced("good", (begun) =>
      begun.onCommand({
        sample: ({ args }) => {
          got.push(args);
          return "a fox\u0007 and more";
        },
        save: () => ({ step: 7 }),
      }),
    );
    const sampled = await command(["good", "sample", "--args", '{"prompt": "a red fox"}']);
    expect([sampled.code, sampled.stderr]).to.deep.equal([0, ""]);
    expect(texts(sampled)).to.deep.equal([
      "requested by trainwire-command",
      "delivered to 1 trainer",
      "applied: a fox␇ and more",
    ]);
    expect(times(sampled).every((time) => /^\d\d:\d\d:\d\d {2}$/.test(time))).to.equal(true);
    expect(got).to.deep.equal([{ prompt: "a red fox" }]);
    expect(texts(await command(["good", "save", "--all"]))).to.deep.equal([
      "requested by trainwire-command for every trainer",
      "delivered to 1 trainer",
      'applied: {"step":7}',
    ]);
  });

  it("prints the events as delivered and then the answer with --json", async () => {
    await announced("json", (begun) => begun.onCommand("validate", () => ({ psnr: 31 })));
    const { code, stdout } = await command(["json", "validate", "--json"]);
    expect(code).to.equal(0);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const answer = lines.pop();
    expect(lines.map(({ type }) => type)).to.deep.equal(lines.map(() => "command_update"));
    expect(lines.slice(0, 2).map(({ data }) => data.state)).to.deep.equal(["requested", "delivered"]);
    expect(answer).to.deep.include({ ok: true });
    expect(answer.data).to.deep.include({ job_id: "json", state: "applied", data: { psnr: 31 } });
  });

  it("exits with 1 when the trainer could not, does not do it, or does not answer", async () => {
    await announced("bad", (begun) =>
      begun.onCommand({
        save: () => {
          throw new Error("the disk is full");
        },
        sample: () => new Promise(() => {}),
      }),
    );
    const failed = await command(["bad", "save"]);
    expect(failed.code).to.equal(1);
    expect(failed.stderr).to.match(/^trainwire: command_failed: .*the disk is full.*\n$/);
    const other = await command(["bad", "pause"]);
    expect({ code: other.code, stdout: other.stdout }).to.deep.equal({ code: 1, stdout: "" });
    expect(other.stderr).to.match(/^trainwire: unsupported_command: .*sample, save.*\n$/);
    const late = await command(["bad", "sample", "--timeout", "0.5"]);
    expect(late.code).to.equal(1);
    expect(texts(late).slice(0, 2)).to.deep.equal([
      "requested by trainwire-command",
      "delivered to 1 trainer",
    ]);
    expect(late.stderr).to.match(/^trainwire: command_timeout: .+\n$/);
  });

  it("exits with 1, in one line, for a job that is not there, a job that has ended, and a token that may not", async () => {
    expect(await command(["nowhere", "stop"])).to.deep.equal({
      code: 1,
      stdout: "",
      stderr: "trainwire: There is no job nowhere.\n",
    });
    const ended = await announced("ended", (begun) => begun.onCommand("save", () => {}));
    ended.finish();
    await trainer.flush();
    expect((await command(["ended", "save"])).stderr).to.match(/^trainwire: job_ended: .+\n$/);
    await announced("guarded", (begun) => begun.onCommand("save", () => {}));
    const watching = await command(["guarded", "save"], { TRAINWIRE_TOKEN: token("watcher") });
    expect({ code: watching.code, stdout: watching.stdout }).to.deep.equal({ code: 1, stdout: "" });
    expect(watching.stderr).to.match(/^trainwire: .*operators?.*\n$/);
  });

  it("bad usage exits with 2 and names the actions that there are", async () => {
    const fly = await command(["good", "fly"]);
    expect(fly.code).to.equal(2);
    expect(fly.stderr).to.include("pause, resume, stop, save, sample, validate, custom");
    for (const args of [
      ["good"],
      ["a/b", "stop"],
      ["good", "stop", "--args", "[1]"],
      ["good", "stop", "--timeout", "0"],
    ]) {
      expect((await command(args)).code, args.join(" ")).to.equal(2);
    }
  });

  it("ends with 130 at Ctrl-C while it waits", async () => {
    await announced("waiting", (begun) => begun.onCommand("save", () => new Promise(() => {})));
    const asking = start(["command", "waiting", "save"], { cwd: folder.path, env: { TRAINWIRE_URL: url } });
    await asking.waitForLine(/delivered/);
    expect(await asking.stop("SIGINT")).to.deep.equal({ code: 130, signal: null });
  });

  describe("the order", () => {
    interface Script {
      refusal?: TrainwireError;
      answer?: CommandAnswer | TrainwireError;
      /** States that come before the answer. */
      states?: Array<CommandUpdate["state"]>;
      live?: boolean;
    }

    function order({ refusal, answer, states = [], live = true }: Script) {
      const told: Array<[CommandUpdate["state"], boolean]> = [];
      let hear = (_event: DeliveredEvent) => {};
      const commander = {
        connect: () => commander,
        on: () => commander,
        subscribe: (_request: object, handlers: Parameters<Commander["subscribe"]>[1] = {}) => {
          hear = (event) => handlers.event?.(event);
          setImmediate(() => {
            if (refusal) handlers.error?.(refusal);
            else if (live) handlers.live?.();
          });
        },
        command: async (_job: string, _action: string, { commandId = "" }: { commandId?: string }) => {
          const update = (command_id: string, state: CommandUpdate["state"]) =>
            ({
              type: "command_update",
              data: { command_id, action: "save", state },
            }) as unknown as DeliveredEvent;
          hear(update("another", "failed"));
          for (const state of states) hear(update(commandId, state));
          if (answer instanceof Error) throw answer;
          return answer;
        },
      } as unknown as Commander;
      const options: OrderOptions = {
        told: ({ state }, event) => told.push([state, event !== undefined]),
        refused: (error) => new Error(`refused ${error.code}`),
        patienceMs: 30,
        hub: "http://hub",
      };
      return { told, given: new Order(commander, options).give("job", "save", { timeoutMs: 1_000 }) };
    }

    const applied: CommandAnswer = { job_id: "job", command_id: "c", state: "applied" };

    it("tells its own states alone, and the last one once, whichever of event and answer is first", async () => {
      const both = order({ answer: applied, states: ["requested", "delivered", "applied"] });
      expect(await both.given).to.deep.equal({ answer: { ok: true, data: applied } });
      expect(both.told).to.deep.equal([
        ["requested", true],
        ["delivered", true],
        ["applied", true],
      ]);
      const early = order({ answer: applied, states: ["requested"] });
      await early.given;
      expect(early.told).to.deep.equal([
        ["requested", true],
        ["applied", false],
      ]);
    });

    it("gives the hub's refusal as it is, and a token's explained", async () => {
      const expired = await order({
        answer: new TrainwireError("no_trainer", "Nobody.", { temporary: true }),
      }).given;
      expect(expired.error).to.equal("no_trainer: Nobody.");
      expect(expired.answer).to.deep.equal({
        ok: false,
        error: { code: "no_trainer", message: "Nobody.", temporary: true },
      });
      const forbidden = await order({ answer: new TrainwireError("forbidden", "no") }).given;
      expect(forbidden.error).to.equal("refused forbidden");
    });

    it("does not begin when the hub does not let it in", async () => {
      const why = (script: Script) =>
        order(script).given.then(
          () => "it began",
          (error: Error) => error.message,
        );
      expect(await why({ refusal: new TrainwireError("job_not_found", "none") })).to.equal(
        "There is no job job.",
      );
      expect(await why({ refusal: new TrainwireError("forbidden", "no") })).to.equal("refused forbidden");
      expect(await why({ live: false })).to.equal("Given up after 0.03 s with http://hub: no answer");
    });
  });
});
