/** token, emit and watch against one hub. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import jwt from "jsonwebtoken";
import { signToken } from "../../src/auth.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import { freePort } from "../support/ports.ts";
import { type RunningProcess, startProcess } from "../support/process.ts";
import { BARE, type Finished, main, run, start, startHub, useCommands } from "./support.ts";

const SECRET = "a secret of more than thirty-two bytes";

describe("trainwire token, emit and watch", () => {
  useCommands();
  let folder: TempFolder;
  let hub: RunningProcess;
  let url: string;
  const command = (args: string[], input?: string): Promise<Finished> =>
    run(args, { cwd: folder.path, env: { TRAINWIRE_URL: url }, ...(input !== undefined && { input }) });
  const emit = (job: string, type: string, data: object) =>
    command(["emit", "--job", job, type, JSON.stringify(data)]);

  before(async () => {
    folder = tempFolder("cli");
    ({ hub, url } = await startHub(folder.path));
  });
  after(async () => {
    await hub.stop();
    folder.remove();
  });

  describe("token", () => {
    it("prints the token alone", async () => {
      const args = ["token", "--tenant", "demo", "--role", "watcher", "--sub", "me"];
      const { code, stdout, stderr } = await command([...args, "--job", "a", "b-*", "--ttl", "90s"]);
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: "" });
      expect(stdout).to.match(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
      const claims = jwt.decode(stdout.trim()) as jwt.JwtPayload;
      expect(claims).to.include({ sub: "me", tenant_id: "demo", role: "watcher" });
      expect(claims.jobs).to.deep.equal(["a", "b-*"]);
      expect((claims.exp as number) - (claims.iat as number)).to.equal(90);
      const jobs = `${url}/api/v1/tenants/demo/training/jobs`;
      const response = await fetch(jobs, { headers: { authorization: `Bearer ${stdout.trim()}` } });
      expect(response.status).to.equal(200);
    });

    it("is signed with JWT_SECRET when that is set", async () => {
      const args = ["token", "--tenant", "demo", "--role", "trainer", "--sub", "me"];
      const { stdout } = await run(args, { cwd: folder.path, env: { JWT_SECRET: SECRET } });
      expect(jwt.verify(stdout.trim(), SECRET)).to.include({ role: "trainer" });
    });

    it("bad usage exits with 2 and says what is wrong", async () => {
      const missing = await command(["token", "--tenant", "demo"]);
      expect(missing.code).to.equal(2);
      expect(missing.stdout).to.equal("");
      expect(missing.stderr).to.include("--role");
      const role = await command(["token", "--tenant", "demo", "--role", "king", "--sub", "me"]);
      expect(role.code).to.equal(2);
    });

    it("makes no secret in a folder without a hub", async () => {
      const elsewhere = tempFolder("elsewhere");
      try {
        const args = ["token", "--tenant", "demo", "--role", "watcher", "--sub", "me"];
        const { code, stderr } = await run(args, { cwd: elsewhere.path });
        expect(code).to.equal(1);
        expect(stderr).to.match(/^trainwire: There is no secret file .*JWT_SECRET.*\n$/);
      } finally {
        elsewhere.remove();
      }
    });
  });

  describe("emit", () => {
    it("publishes one event", async () => {
      const result = await emit("one", "training_progress", { step: 1, loss: 0.5 });
      expect(result).to.deep.equal({ code: 0, stdout: "1 stored, 0 duplicates, 0 refused\n", stderr: "" });
    });

    it("publishes NDJSON, names the lines that are refused, and exits with 1 for them", async () => {
      const lines = [
        `{"type": "training_status", "data": {"status": "running"}}`,
        "",
        "not JSON",
        `{"type": "log", "data": {"message": 5}}`,
        `{"type": "log", "job_id": "other", "data": {"message": "to another job"}}`,
        `{"type": "custom", "data": {"name": "deep", "data": {"a": ${"[".repeat(80)}${"]".repeat(80)}}}}`,
        `{"type": "nonsense", "data": {}}`,
        `{"type": "training_progress", "data": {"loss": 1e20}}`,
      ];
      const { code, stdout, stderr } = await command(["emit", "--job", "many"], lines.join("\n"));
      expect(code).to.equal(1);
      expect(stdout).to.equal("3 stored, 0 duplicates, 4 refused\n");
      const refused = stderr.trim().split("\n").sort();
      expect(refused.map((line) => line.split(":").slice(1, 3).join(":"))).to.deep.equal([
        " line 3: malformed",
        " line 4: invalid_event",
        " line 6: too_deep",
        " line 7: unknown_type",
      ]);
    });

    it("stores a large input in order, and each line with an id once", async () => {
      const line = (n: number) =>
        JSON.stringify({ type: "log", id: `line-${n}`, data: { message: `${n} ${"x".repeat(1_000)}` } });
      const input = Array.from({ length: 2_000 }, (_, n) => line(n)).join("\n");
      const first = await command(["emit", "--job", "large", "--json"], input);
      expect(first.code).to.equal(0);
      const answers = first.stdout
        .trim()
        .split("\n")
        .map((text) => JSON.parse(text));
      const sum = (field: string) => answers.reduce((total, answer) => total + answer[field], 0);
      expect([sum("accepted"), sum("duplicates")]).to.deep.equal([2_000, 0]);
      const again = await command(["emit", "--job", "large"], input);
      expect(again.stdout).to.equal("0 stored, 2,000 duplicates, 0 refused\n");
      const { stdout } = await command(["watch", "large", "--once", "--json"]);
      expect(JSON.parse(stdout).counts).to.deep.equal({ job_created: 1, log: 2_000 });
    });

    it("prints the hub's answer with --json", async () => {
      const { code, stdout } = await command(
        ["emit", "--json"],
        `{"type": "log", "job_id": "answer", "data": {"message": "x"}}\n{"type": "log", "data": {"message": "x"}}`,
      );
      expect(code).to.equal(1);
      const { accepted, positions, refused } = JSON.parse(stdout);
      expect(accepted).to.equal(1);
      expect(positions.answer.seq).to.equal(2);
      expect(refused[0]).to.include({ index: 1, line: 2, code: "invalid_event" });
    });

    it("bad usage exits with 2", async () => {
      expect((await command(["emit", "--job", "a/b", "log", "{}"])).code).to.equal(2);
      expect((await command(["emit", "--job", "a", "log", "text"])).code).to.equal(2);
    });

    it("is refused with a token that may not publish", async () => {
      const { stdout: token } = await command([
        "token",
        "--tenant",
        "demo",
        "--role",
        "watcher",
        "--sub",
        "me",
      ]);
      const env = { TRAINWIRE_URL: url, TRAINWIRE_TOKEN: token.trim() };
      const args = ["emit", "--job", "one", "log", '{"message": "x"}'];
      const { code, stdout, stderr } = await run(args, { cwd: folder.path, env });
      expect({ code, stdout }).to.deep.equal({ code: 1, stdout: "" });
      expect(stderr).to.match(/^trainwire: .+\n$/);
    });
  });

  describe("watch", () => {
    /** Publishes over HTTP, which takes no second as a process does. */
    const publish = async (job: string, ...events: object[]) => {
      const secret = readFileSync(join(folder.path, ".trainwire/jwt-secret"), "utf8").trim();
      const token = signToken(secret, { subject: "test", tenantId: "demo", role: "trainer", ttlSeconds: 60 });
      const response = await fetch(`${url}/api/v1/tenants/demo/training/jobs/${job}/events`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}` },
        body: JSON.stringify(events),
      });
      expect(response.status).to.equal(200);
    };
    const status = (name: string, more: object = {}) => ({
      type: "training_status",
      data: { status: name, ...more },
    });
    const progress = (data: object) => ({ type: "training_progress", data });
    const log = (message: string) => ({ type: "log", data: { message } });
    /** Publishes logs until the watcher shows one: from then on it misses nothing. */
    const untilSeen = async (watch: RunningProcess, job: string) => {
      const text = `seen in ${job}`;
      for (;;) {
        await publish(job, log(text));
        const seen = await watch.waitForLine(new RegExp(text), 200).catch(() => undefined);
        if (seen) return;
      }
    };
    const watching = (...args: string[]) =>
      start(["watch", ...args], { cwd: folder.path, env: { TRAINWIRE_URL: url } });

    it("writes a line an event where there is no terminal, and ends with the job", async () => {
      const created = { type: "job_created", data: { name: "Plain" } };
      await publish("plain", created, status("running"));
      const watch = watching("plain");
      await watch.waitForLine(/^\d\d:\d\d:\d\d {2}plain: running "Plain"$/);
      await publish(
        "plain",
        progress({ step: 1, total_steps: 4, loss: 0.25 }),
        log("\u001b[31mred\u001b[0m \u0007"),
      );
      await publish("plain", status("completed", { result: { final_loss: 0.25 } }));
      expect(await watch.exited).to.deep.equal({ code: 0, signal: null });
      expect(watch.output.slice(1).map((line) => line.slice(10))).to.deep.equal([
        "step 1/4 25.0 % loss 0.2500",
        "info red ␇",
        "completed loss 0.2500",
      ]);
    });

    it("--json writes the events as they were delivered and nothing else; exits with 3 for a job that failed", async () => {
      const watch = watching("json", "--json", "--wait");
      await untilSeen(watch, "json");
      await publish("json", progress({ loss: "NaN", step: 2 }), log("\u009b2J"), status("failed"));
      expect(await watch.exited).to.deep.equal({ code: 3, signal: null });
      const events = watch.output.map((line) => JSON.parse(line));
      const last = events.slice(-3);
      expect(last.map(({ type }) => type)).to.deep.equal(["training_progress", "log", "training_status"]);
      expect(last.map(({ data }) => data)).to.deep.equal([
        { loss: "NaN", step: 2 },
        { message: "\u009b2J" },
        { status: "failed" },
      ]);
      expect(last[0]).to.include({ feed: "job", tenant_id: "demo", job_id: "json" });
      expect(watch.output.join("")).to.match(/^[\x20-\x7e]*$/);
    });

    it("without JOB shows the newest one, and the next when that has ended", async () => {
      await publish("first", status("running"));
      const watch = watching("--json");
      await untilSeen(watch, "first");
      await publish("second", status("running"));
      await publish("first", log("still here"));
      await watch.waitForLine(/still here/);
      await publish("first", status("completed"));
      await untilSeen(watch, "second");
      expect(await watch.stop("SIGINT")).to.deep.equal({ code: 130, signal: null });
    });

    it("--once shows how the job stands", async () => {
      await publish(
        "once",
        status("running"),
        progress({ step: 1, total_steps: 2, loss: 0.5 }),
        log("hello"),
      );
      const { code, stdout } = await command(["watch", "once", "--once"]);
      expect(code).to.equal(0);
      expect(stdout)
        .to.match(/^once +● running/)
        .and.to.include("50.0 %")
        .and.to.include("hello");
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colours, which a pipe must not get
      expect(stdout).not.to.match(/\u001b/);
    });

    it("exits with 1, in one line, for a job that does not exist", async () => {
      expect(await command(["watch", "nowhere"])).to.deep.equal({
        code: 1,
        stdout: "",
        stderr: "trainwire: There is no job nowhere; --wait waits for it.\n",
      });
      const { code, stdout } = await command(["watch", "nowhere", "--once", "--json"]);
      expect({ code, stdout }).to.deep.equal({ code: 1, stdout: "" });
    });

    it("says that the connection is lost and that it is back, and goes on when the hub has lost the job", async () => {
      const port = String(await freePort());
      const own = { cwd: folder.path, env: { TRAINWIRE_URL: `http://127.0.0.1:${port}` } };
      const serve = () => startHub(folder.path, [], { PORT: port });
      const before = await serve();
      const args = ["emit", "--job", "kept", "training_status", '{"status": "running"}'];
      expect((await run(args, own)).code).to.equal(0);
      const watch = start(["watch", "kept"], own);
      await watch.waitForLine(/kept: running/);
      await before.hub.stop("SIGKILL");
      await watch.waitForLine(/^trainwire: .*reconnecting$/);
      const after = await serve();
      try {
        await watch.waitForLine(/^trainwire: connected$/, 15_000);
        await watch.waitForLine(/gap: the job and its history are gone/);
        expect((await run(args, own)).code).to.equal(0);
        await watch.waitForLine(/^\S+ {2}running$/);
      } finally {
        await watch.stop("SIGINT");
        await after.hub.stop();
      }
    });

    it("is a screen on a terminal, and gives the cursor back", async function () {
      if (process.platform !== "linux") this.skip(); // script(1) has other options elsewhere
      await publish("screen", status("running"), progress({ step: 1, total_steps: 4, loss: 0.5 }));
      const line = ["stty cols 80 rows 24;", process.execPath, main(), "watch", "screen", "--url", url].join(
        " ",
      );
      const terminal = startProcess("script", ["-qefc", line, "/dev/null"], { cwd: folder.path, env: BARE });
      await terminal.waitForLine(/25\.0 %/);
      await publish("screen", status("completed"));
      expect(await terminal.exited).to.deep.equal({ code: 0, signal: null });
      const text = terminal.output.join("\n");
      expect(text).to.include("completed").and.to.include("\u001b[?25l");
      expect(text.lastIndexOf("\u001b[?25h")).to.be.greaterThan(text.lastIndexOf("\u001b[?25l"));
    });
  });
});
