import { readdirSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import type { RunningProcess } from "../support/process.ts";
import { run, start, startHub, useCommands } from "./support.ts";

const SECRET = "a secret of more than thirty-two bytes";

/** The process of the demo that has begun a job, after so many lines of the hub's log. */
async function demoOf(hub: RunningProcess, after = 0): Promise<number> {
  const [, pid] = await hub.waitForLine(/"demo_pid":(\d+),"msg":"the demo trains"/, 15_000, after);
  return Number(pid);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // An orphan that has ended stays listed until the first process of the machine looks after it.
    return process.platform !== "linux" || readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}

describe("trainwire", () => {
  useCommands();

  describe("serve", () => {
    let folder: TempFolder;
    beforeEach(() => {
      folder = tempFolder("cli");
    });
    afterEach(() => folder.remove());

    it("makes a secret that only its owner reads, and ends cleanly at Ctrl-C", async () => {
      const { hub, url } = await startHub(folder.path);
      expect((await fetch(`${url}/healthz`)).status).to.equal(200);
      expect(statSync(join(folder.path, ".trainwire/jwt-secret")).mode & 0o777).to.equal(0o600);
      const asked = Date.now();
      // npm passes on what the terminal has sent to everybody: the second one at once is no second wish.
      hub.signal("SIGINT");
      hub.signal("SIGINT");
      expect(await hub.exited).to.deep.equal({ code: 0, signal: null });
      expect(Date.now() - asked).to.be.below(3_000);
    });

    it("tells all faulty settings at once, one a line, and exits with 1", async () => {
      const env = { PORT: "many", JWT_SECRET: "short", LOG_LEVEL: "loud", TRAINWIRE_MAX_JOB: "1" };
      const { code, stdout, stderr } = await run(["serve"], { cwd: folder.path, env });
      expect({ code, stdout }).to.deep.equal({ code: 1, stdout: "" });
      const lines = stderr.trim().split("\n");
      for (const name of Object.keys(env))
        expect(lines.filter((line) => line.includes(name))).to.have.length(1);
      expect(lines.every((line) => line.startsWith("trainwire: "))).to.equal(true);
    });

    it("says in one line that its port is taken, and exits with 1", async () => {
      const other = createServer();
      await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
      const { port } = other.address() as AddressInfo;
      try {
        const result = await run(["serve"], {
          cwd: folder.path,
          env: { PORT: String(port), LOG_LEVEL: "warn" },
        });
        expect(result).to.deep.equal({
          code: 1,
          stdout: "",
          stderr: `trainwire: Port ${port} on 127.0.0.1 is taken; set PORT to another one.\n`,
        });
      } finally {
        other.close();
      }
    });
  });

  describe("serve --demo", () => {
    let folder: TempFolder;
    before(() => {
      folder = tempFolder("demo");
    });
    after(() => folder.remove());

    it("says within 10 s what to type, trains, starts the demo again when it dies, and takes it along", async () => {
      const started = Date.now();
      // Of the demo's checkpoints.
      const temporary = tempFolder("demo-tmp");
      const env = { TRAINWIRE_STALE_MS: "500", TMPDIR: temporary.path };
      const { hub, url } = await startHub(folder.path, ["--demo"], env);
      try {
        await hub.waitForLine(/npx trainwire watch --url http:/, 10_000);
        expect(Date.now() - started).to.be.below(10_000);

        // A second terminal, without arguments but the URL.
        const watch = start(["watch", "--url", url, "--json"], { cwd: folder.path });
        const losses: number[] = [];
        for (let line = 0; losses.length < 24; line++) {
          await watch.waitForLine(/./, 10_000, line);
          const { type, product, data } = JSON.parse(watch.output[line] as string);
          if (type === "training_progress" && product === undefined && data.loss !== undefined)
            losses.push(data.loss);
        }
        const mean = (values: number[]) => values.reduce((sum, value) => sum + value) / values.length;
        expect(mean(losses.slice(-6))).to.be.below(mean(losses.slice(0, 6)) / 2);
        const { code } = await watch.stop("SIGINT");
        expect(code).to.equal(130);

        const pid = await demoOf(hub);
        process.kill(pid, "SIGKILL");
        await hub.waitForLine(/the demo has ended/);
        const next = await demoOf(hub, hub.output.length);
        expect(next).not.to.equal(pid);
        // It takes up what the other one has left.
        const { stdout } = await run(["watch", "--url", url, "--once", "--json"], { cwd: folder.path });
        expect(JSON.parse(stdout)).to.include({ attempt: 2, liveness: "live", status: "running" });
        const jobs = hub.output.flatMap((line) => line.match(/"job_id":"demo-[^"]+"/) ?? []);
        expect([jobs.length, new Set(jobs).size]).to.deep.equal([2, 1]);

        const asked = Date.now();
        expect((await hub.stop("SIGINT")).code).to.equal(0);
        expect(Date.now() - asked).to.be.below(3_000);
        expect(isRunning(next)).to.equal(false);
        expect(readdirSync(temporary.path).filter((name) => name.startsWith("trainwire-demo"))).to.deep.equal(
          [],
        );
      } finally {
        await hub.stop("SIGKILL");
        temporary.remove();
      }
    });

    it("leaves no demo behind when it is killed", async () => {
      const temporary = tempFolder("demo-tmp");
      try {
        const { hub } = await startHub(folder.path, ["--demo"], { TMPDIR: temporary.path });
        const pid = await demoOf(hub);
        await hub.stop("SIGKILL");
        const deadline = Date.now() + 5_000;
        while (isRunning(pid) && Date.now() < deadline)
          await new Promise((resolve) => setTimeout(resolve, 20));
        expect(isRunning(pid)).to.equal(false);
        const left = readdirSync(temporary.path).filter((name) => name.startsWith("trainwire-demo"));
        expect(left).to.deep.equal([]);
      } finally {
        temporary.remove();
      }
    });
  });

  describe("demo", () => {
    let folder: TempFolder;
    before(() => {
      folder = tempFolder("demo");
    });
    after(() => folder.remove());

    it("cancels its job at SIGTERM, and ends quickly also when the hub is gone", async () => {
      const { hub, url } = await startHub(folder.path, [], { JWT_SECRET: SECRET });
      const env = { JWT_SECRET: SECRET, TRAINWIRE_URL: url };
      const first = start(["demo", "--pace", "20"], { cwd: folder.path, env });
      const second = start(["demo", "--seed", "3"], { cwd: folder.path, env });
      try {
        const [, job] = await first.waitForLine(/^training (demo-\S+)$/);
        await second.waitForLine(/^training demo-planet-/);
        expect(await first.stop("SIGTERM")).to.deep.equal({ code: 0, signal: null });
        const { code, stdout } = await run(["watch", job as string, "--once", "--json"], {
          cwd: folder.path,
          env,
        });
        expect(code).to.equal(0);
        expect(JSON.parse(stdout)).to.include({ status: "cancelled", created_by: "trainwire-demo" });

        await hub.stop("SIGKILL");
        const asked = Date.now();
        expect(await second.stop("SIGTERM")).to.deep.equal({ code: 0, signal: null });
        expect(Date.now() - asked).to.be.below(2_500);
      } finally {
        for (const each of [first, second, hub]) await each.stop("SIGKILL");
      }
    });

    it("ends when the hub refuses it, in one line", async () => {
      const { hub, url } = await startHub(folder.path, [], { JWT_SECRET: SECRET });
      try {
        const env = { JWT_SECRET: `another ${SECRET}`, TRAINWIRE_URL: url };
        const { code, stderr } = await run(["demo"], { cwd: folder.path, env });
        expect(code).to.equal(1);
        expect(stderr).to.match(/trainwire: The token's signature does not verify\. .*JWT_SECRET.*\n$/);
      } finally {
        await hub.stop();
      }
    });
  });
});
