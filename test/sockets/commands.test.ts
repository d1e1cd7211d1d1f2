/** Commands from an operator's socket on one hub to a trainer's on another, and what the job's watchers see on a third. */
import { expect } from "chai";
import { Redis } from "ioredis";
import { LIMITS } from "../../src/protocol/limits.ts";
import type {
  CommandRequest,
  CommandUpdate,
  TrainerAnswer,
  TrainerCommand,
} from "../../src/protocol/types.ts";
import { freshPrefix, plainRedis } from "../support/hooks.ts";
import { startTestHub, type TestClient, type TestHub, until as untilSo } from "../support/hub.ts";

const JOB = "job-1";
const until = (condition: () => boolean | Promise<boolean>) => untilSo("the states", condition);

for (const redis of ["memory", "plain"] as const) {
  describe(`commands: ${redis}`, () => {
    /** One hub in memory; three on Redis: of the operator, the trainer, the watcher. */
    let hubs: TestHub[] = [];
    let operator: TestClient;
    let watcher: TestClient;
    const onHub = (i: number) => hubs[i % hubs.length] as TestHub;

    beforeEach(async () => {
      const prefix = freshPrefix();
      hubs = await Promise.all(
        Array.from({ length: redis === "memory" ? 1 : 3 }, () =>
          startTestHub({ redis, prefix, env: { TRAINWIRE_STALE_MS: "2000" } }),
        ),
      );
      await onHub(0).publish({ type: "training_status", job_id: JOB, data: { status: "running" } });
      operator = await onHub(0).watcher({ role: "operator", subject: "olga" });
      watcher = await onHub(2).watcher();
      await watcher.subscribe({ job_id: JOB, types: ["command_update"] });
    });
    afterEach(async () => {
      for (const hub of hubs) await hub.close();
      hubs = [];
    });

    const command = (request: Partial<CommandRequest>, from = operator) =>
      from.ask("command", { job_id: JOB, action: "pause", ...request });
    const ok = async (request: Partial<CommandRequest>) => {
      const answer = await command(request);
      if (!answer.ok) throw new Error(JSON.stringify(answer));
      return answer.data as Record<string, unknown>;
    };
    const code = async (request: Partial<CommandRequest>, from = operator) => {
      const answer = await command(request, from);
      return answer.ok ? "ok" : answer.error.code;
    };
    const updates = () =>
      watcher
        .events()
        .filter(({ type }) => type === "command_update")
        .map(({ data }) => data as CommandUpdate);
    const states = (id: string) => updates().flatMap((one) => (one.command_id === id ? one.state : []));

    /** A trainer that has announced the job, and what it was told. */
    async function announced(
      hub: TestHub,
      answer: (command: TrainerCommand) => TrainerAnswer | undefined | Promise<TrainerAnswer | undefined>,
      request: object = {},
    ) {
      const trainer = await hub.trainer();
      const told: TrainerCommand[] = [];
      trainer.socket.on("command", async (one: TrainerCommand, ack: (answer: unknown) => void) => {
        told.push(one);
        const reply = await answer(one);
        if (reply !== undefined) ack(reply);
      });
      const all = { job_id: JOB, commands: ["pause", "resume", "stop", "custom"], ...request };
      expect(await trainer.ask("announce", all)).to.have.property("ok", true);
      return { trainer, told };
    }

    it("reaches the trainer, and its answer the operator; the watcher sees the states", async () => {
      const { told } = await announced(onHub(1), () => ({
        ok: true,
        message: "paused at step 7",
        data: { step: 7 },
      }));
      const answer = await ok({ args: { why: "lunch" }, command_id: "c1", timeout_ms: 10_000 });
      expect(answer).to.deep.equal({
        ...{ job_id: JOB, command_id: "c1", state: "applied" },
        ...{ message: "paused at step 7", data: { step: 7 } },
      });
      expect(told).to.deep.equal([
        {
          ...{ job_id: JOB, command_id: "c1", action: "pause", timeout_ms: 10_000, requested_by: "olga" },
          args: { why: "lunch" },
        },
      ]);
      await until(() => states("c1").length === 3);
      const [requested, delivered, applied] = updates();
      expect(requested).to.deep.equal({
        ...{
          command_id: "c1",
          action: "pause",
          state: "requested",
          requested_by: "olga",
          timeout_ms: 10_000,
        },
        args: { why: "lunch" },
      });
      expect(delivered).to.include({ state: "delivered", answered: 0 });
      expect(applied).to.deep.include({
        state: "applied",
        message: "paused at step 7",
        data: { step: 7 },
        answered: 1,
      });
      expect(applied?.targets).to.deep.equal(delivered?.targets);
    });

    it("that the trainer could not do, or answers nonsense to, has failed", async () => {
      const answers: unknown[] = [
        { ok: false, message: "no disk" },
        7,
        { ok: true, data: { big: "x".repeat(5_000) } },
      ];
      await announced(onHub(1), () => answers.shift() as TrainerAnswer);
      expect(await command({})).to.deep.equal({
        ok: false,
        error: { code: "command_failed", message: "no disk", temporary: false },
      });
      expect(await code({})).to.equal("command_failed");
      expect(await ok({}))
        .to.include({ state: "applied" })
        .and.to.not.have.property("data");
    });

    it("is carried out once, however often it is sent with one id, also when the job has ended by it", async () => {
      const { trainer, told } = await announced(onHub(1), async () => {
        await trainer.ask("publish", { type: "training_status", job_id: JOB, data: { status: "cancelled" } });
        return { ok: true };
      });
      const both = await Promise.all([
        ok({ action: "stop", command_id: "s" }),
        ok({ action: "stop", command_id: "s" }),
      ]);
      expect(both.map(({ state }) => state)).to.deep.equal(["applied", "applied"]);
      expect(await ok({ action: "stop", command_id: "s" })).to.include({ state: "applied" });
      expect(await code({ action: "stop", command_id: "t" })).to.equal("job_ended");
      expect(told).to.have.length(1);
    });

    it("refuses what cannot be", async () => {
      expect(await code({ job_id: "none" })).to.equal("job_not_found");
      expect(await code({})).to.equal("no_trainer");
      expect(await code({}, watcher)).to.equal("forbidden");
      const { trainer } = await announced(onHub(1), () => ({ ok: true }));
      const unsupported = await command({ action: "save" });
      expect(unsupported).to.have.nested.property("error.code", "unsupported_command");
      expect(unsupported)
        .to.have.nested.property("error.message")
        .that.includes("custom, pause, resume, stop");
      expect(await code({ args: { big: "x".repeat(LIMITS.commandBytes) } })).to.equal("command_too_large");
      expect(await code({ action: "explode" as never })).to.equal("invalid_request");
      expect(await code({ timeout_ms: 1 })).to.equal("invalid_request");
      const other = await onHub(0).watcher({ role: "operator", jobs: ["else-*"] });
      expect(await code({}, other)).to.equal("job_not_found");
      const foreign = await onHub(0).watcher({ role: "operator", tenant: "globex" });
      expect(await code({}, foreign)).to.equal("job_not_found");
      await trainer.ask("publish", { type: "training_status", job_id: JOB, data: { status: "failed" } });
      expect(await code({})).to.equal("job_ended");
      expect(updates()).to.deep.equal([]);
    });

    it("waits for a trainer that is away, and no longer than its time-out", async () => {
      const { trainer } = await announced(onHub(1), () => ({ ok: true }));
      trainer.socket.disconnect();
      await until(() => onHub(1).io.of("/trainer").sockets.size === 0);
      const waiting = ok({ command_id: "w" });
      await until(() => states("w").length === 1);
      const { told } = await announced(onHub(2), () => ({ ok: true }));
      expect(await waiting).to.include({ state: "applied" });
      expect(told.map(({ command_id }) => command_id)).to.deep.equal(["w"]);
    });

    it("expires: nobody came, or nobody answered", async () => {
      const { trainer } = await announced(onHub(1), () => undefined);
      expect(await code({ timeout_ms: 400, command_id: "a" })).to.equal("command_timeout");
      trainer.socket.disconnect();
      await until(() => onHub(1).io.of("/trainer").sockets.size === 0);
      expect(await code({ timeout_ms: 300, command_id: "b" })).to.equal("no_trainer");
      await until(() => states("b").includes("expired"));
      expect(states("a")).to.deep.equal(["requested", "delivered", "expired"]);
    });

    it("goes to the newest trainer of rank 0; to the others only with all", async () => {
      const say = (name: string) => () => ({ ok: true, message: name });
      const one = await announced(onHub(1), say("one"), { trainer_id: "one" });
      const two = await announced(onHub(2), say("two"), { trainer_id: "two" });
      const rank = await announced(onHub(0), say("rank"), { trainer_id: "rank", rank: 1 });
      expect(await ok({})).to.include({ message: "two" });
      expect(await ok({ all: true, command_id: "all" })).to.include({ state: "applied" });
      expect([one, two, rank].map(({ told }) => told.length)).to.deep.equal([1, 2, 1]);
      await until(() => states("all").includes("applied"));
      expect(updates().find(({ command_id }) => command_id === "all")?.all).to.equal(true);
      const last = updates().findLast(({ command_id }) => command_id === "all");
      expect(last).to.include({ answered: 3 });
      expect(last?.targets).to.have.members(["one", "two", "rank"]);
      two.trainer.socket.disconnect();
      await until(async () => (await ok({})).message === "one");
    });

    it("with all is answered by many at once", async () => {
      const ranks = Array.from({ length: 20 }, (_, rank) => rank);
      await Promise.all(
        ranks.map((rank) =>
          announced(onHub(rank), () => ({ ok: true }), { trainer_id: `rank-${rank}`, rank }),
        ),
      );
      expect(await ok({ all: true, command_id: "many", timeout_ms: 20_000 })).to.include({
        state: "applied",
      });
      await until(() => states("many").includes("applied"));
      expect(updates().findLast(({ command_id }) => command_id === "many")).to.include({ answered: 20 });
    });

    it("with all has failed when one has", async () => {
      await announced(onHub(1), () => ({ ok: true }));
      await announced(onHub(2), () => ({ ok: false, message: "no" }));
      expect(await command({ all: true })).to.have.nested.property("error.message", "1 of 2 trainers: no");
    });

    it("with the same id hears of the first one's outcome, however short its own time is", async () => {
      let answer: (value: TrainerAnswer) => void = () => {};
      const { told } = await announced(
        onHub(1),
        () => new Promise<TrainerAnswer>((resolve) => (answer = resolve)),
      );
      const first = ok({ command_id: "same", timeout_ms: 20_000 });
      await until(() => told.length === 1);
      const second = ok({ command_id: "same", timeout_ms: 100 });
      await until(() => states("same").length === 2);
      answer({ ok: true });
      expect(await first).to.include({ state: "applied" });
      expect(await second).to.include({ state: "applied" });
      expect(states("same")).to.not.include("expired");
    });

    if (redis === "plain") {
      it("goes on to the next hub when that of the first trainers is gone, however many they were", async () => {
        const ranks = Array.from({ length: 12 }, (_, rank) => rank);
        await Promise.all(ranks.map((rank) => announced(onHub(1), () => undefined, { rank })));
        const { told } = await announced(onHub(2), () => ({ ok: true }), { rank: 99, trainer_id: "last" });
        // Its trainers stay in the registry, as of a hub that has just died.
        onHub(1).hub.trainers.close();
        expect(await ok({ timeout_ms: 7_000 })).to.include({ state: "applied" });
        expect(told).to.have.length(1);
      });
    }

    it("is handed over again when the trainer comes back before it has answered", async () => {
      const first = await announced(onHub(1), () => undefined, { trainer_id: "t" });
      const waiting = ok({ command_id: "again" });
      await until(() => first.told.length === 1);
      first.trainer.socket.disconnect();
      const second = await announced(onHub(2), () => ({ ok: true }), { trainer_id: "t" });
      expect(await waiting).to.include({ state: "applied" });
      expect(second.told.map(({ command_id }) => command_id)).to.deep.equal(["again"]);
    });

    it("no more than the limit are under way", async () => {
      await announced(onHub(1), () => undefined);
      const many = Array.from({ length: LIMITS.commands }, (_, i) =>
        command({ command_id: `m${i}`, timeout_ms: 3_000 }),
      );
      await until(() => updates().filter(({ state }) => state === "requested").length === LIMITS.commands);
      expect(await code({})).to.equal("too_many_commands");
      await Promise.all(many);
    });

    it("over HTTP too", async () => {
      await announced(onHub(1), () => ({ ok: true, message: "done" }));
      const url = `${onHub(0).url}/api/v1/tenants/acme/training/jobs/${JOB}/commands`;
      const post = async (body: object, role: "operator" | "watcher" = "operator", query = "") => {
        const response = await fetch(url + query, {
          method: "POST",
          headers: { authorization: `Bearer ${onHub(0).token(role)}`, "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        return { status: response.status, body: (await response.json()) as Record<string, unknown> };
      };
      expect((await post({ action: "pause" })).body).to.include({ state: "applied", message: "done" });
      expect(await post({ action: "pause", command_id: "h" }, "operator", "?wait=false")).to.deep.equal({
        status: 202,
        body: { job_id: JOB, command_id: "h", state: "requested" },
      });
      await until(() => states("h").includes("applied"));
      expect((await post({ action: "save" })).status).to.equal(409);
      expect((await post({ action: "pause" }, "watcher")).status).to.equal(403);
    });

    it("what a trainer does is told when it announces the job, which creates it if need be", async () => {
      await announced(onHub(1), () => ({ ok: true }));
      await announced(onHub(1), () => ({ ok: true }), {
        job_id: "new",
        commands: ["sample", "save", "sample"],
      });
      const { snapshot } = await watcher.subscribe({ job_id: "new" });
      expect(snapshot).to.deep.include({
        commands: ["sample", "save"],
        status: "pending",
        liveness: "live",
        attempt: 1,
      });
    });

    it("a connection announces no more jobs than it may", async () => {
      const trainer = await onHub(1).trainer();
      const jobs = Array.from({ length: LIMITS.announcedJobs }, (_, i) => `many-${i}`);
      await Promise.all(jobs.map((job_id) => trainer.good("announce", { job_id })));
      expect(await trainer.refused("announce", { job_id: "one-more" })).to.include({
        code: "too_many_trainers",
      });
      await trainer.good("announce", { job_id: "many-0" });
      await trainer.good("withdraw", { job_id: "many-0" });
      await trainer.good("announce", { job_id: "one-more" });
    });

    if (redis === "plain") {
      it("reaches the trainer after the store has lost everything, once the job is there again", async () => {
        const { trainer } = await announced(onHub(1), () => ({ ok: true }));
        const server = new Redis((await plainRedis()).url);
        await server.unlink(...(await server.keys(`${onHub(1).prefix}*`)));
        server.disconnect();
        await trainer.ask("publish", { type: "training_status", job_id: JOB, data: { status: "running" } });
        await until(async () => (await code({ timeout_ms: 5_000 })) === "ok");
      });
    }

    it("a withdrawn job gets no more commands, and is not announced", async () => {
      const { trainer, told } = await announced(onHub(1), () => ({ ok: true }));
      expect(await trainer.ask("withdraw", { job_id: JOB })).to.have.property("ok", true);
      expect(await trainer.ask("withdraw", { job_id: JOB })).to.have.nested.property(
        "error.code",
        "not_announced",
      );
      await code({ timeout_ms: 200 });
      expect(told).to.deep.equal([]);
    });
  });
}
