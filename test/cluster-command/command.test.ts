/** `trainwire cluster` as a user has it: processes, signals, exit codes, and nothing left behind. */
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { run, start, useCommands } from "../cli/support.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import { freePort } from "../support/ports.ts";
import type { RunningProcess } from "../support/process.ts";
import { processesLeft } from "../support/processes-left.ts";
import { until } from "../support/until.ts";
import { ask } from "./support.ts";

interface Line {
  name?: string;
  module?: string;
  msg: string;
  pid?: number;
  url?: string;
  folder?: string;
  code?: number | null;
  signal?: string | null;
}

interface Started {
  command: RunningProcess;
  url: string;
  /** What it has made in the temporary folder. */
  scratch: string;
}

describe("trainwire cluster", () => {
  useCommands();

  let folder: TempFolder;
  /** Of the clusters' own; marks all of their processes. */
  let temporary: TempFolder;
  const commands: RunningProcess[] = [];
  beforeEach(() => {
    folder = tempFolder("cli");
    temporary = tempFolder("tmp");
  });
  afterEach(async () => {
    for (const command of commands.splice(0)) await command.stop("SIGKILL");
    expect(await processesLeft(temporary.path, 10_000)).to.deep.equal([]);
    expect(readdirSync(temporary.path)).to.deep.equal([]);
    temporary.remove();
    folder.remove();
  });

  const options = (env: NodeJS.ProcessEnv = {}) => ({
    cwd: folder.path,
    env: { TMPDIR: temporary.path, TRAINWIRE_DRAIN_MS: "500", ...env },
  });
  const linesOf = ({ output }: RunningProcess): Line[] =>
    output.flatMap((line) => (line.startsWith("{") ? [JSON.parse(line)] : []));
  const pidOf = (command: RunningProcess, name: string) =>
    linesOf(command).findLast((line) => line.name === name && line.msg === "started")?.pid as number;
  const starts = (command: RunningProcess) =>
    linesOf(command).flatMap(({ msg, name }) => (msg === "started" ? [name as string] : []));

  async function startCluster(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Started> {
    const command = start(["cluster", "--port", "0", ...args], options(env));
    commands.push(command);
    await command.waitForLine(/trainwire cluster is listening/, 40_000);
    const line = linesOf(command).find(({ msg }) => msg === "trainwire cluster is listening");
    return { command, url: line?.url as string, scratch: line?.folder as string };
  }

  it("starts three hubs behind nginx, says how to watch, and ends cleanly at Ctrl-C", async () => {
    const { command, url, scratch } = await startCluster();
    expect(starts(command).sort()).to.deep.equal(["hub-1", "hub-2", "hub-3", "nginx", "redis"]);
    await command.waitForLine(new RegExp(`"command":"npx trainwire watch --url ${url}"`));
    // Lines of hubs come through with their names.
    const named = linesOf(command).filter(({ msg }) => msg === "trainwire is listening");
    expect(named.map(({ name }) => name).sort()).to.deep.equal(["hub-1", "hub-2", "hub-3"]);

    // The secret of this folder, as `serve` has made it.
    const args = ["token", "--tenant", "acme", "--role", "watcher", "--sub", "me"];
    const { stdout } = await run(args, options());
    const headers = { authorization: `Bearer ${stdout.trim()}` };
    const status = await ask(`${url}/api/v1/status`, { headers });
    expect(status.status).to.equal(200);
    expect(JSON.parse(status.body).instance_id).to.match(/^hub-[123]$/);

    const asked = Date.now();
    command.signal("SIGINT"); // as npm passes it on: twice
    command.signal("SIGINT");
    expect(await command.exited).to.deep.equal({ code: 0, signal: null });
    expect(Date.now() - asked).to.be.below(5_000);
    expect(existsSync(scratch)).to.equal(false);
  });

  it("publishes and watches through it", async () => {
    const { command, url } = await startCluster(["--replicas", "2"]);
    const emitted = await run(
      ["emit", "job_created", '{"name":"a"}', "--job", "a", "--tenant", "acme", "--url", url],
      options(),
    );
    expect(emitted, emitted.stderr).to.include({ code: 0 });
    const watched = await run(
      ["watch", "a", "--tenant", "acme", "--once", "--json", "--url", url],
      options(),
    );
    expect(JSON.parse(watched.stdout)).to.include({ job_id: "a" });
    expect((await command.stop("SIGTERM", 20_000)).code).to.equal(0);
  });

  for (const name of ["hub-2", "redis", "nginx"]) {
    it(`says that ${name} has died, ends everything, and exits with 1`, async () => {
      const { command, scratch } = await startCluster(["--replicas", "2"]);
      const pid = pidOf(command, name);
      process.kill(pid, "SIGKILL");
      expect(await command.exited).to.deep.equal({ code: 1, signal: null });
      expect(linesOf(command).find(({ msg }) => msg === "died")).to.include({
        module: "cluster",
        name,
        pid,
        code: null,
        signal: "SIGKILL",
      });
      expect(linesOf(command).map(({ msg }) => msg)).to.include(`${name} (pid ${pid}) died: signal SIGKILL.`);
      expect(existsSync(scratch)).to.equal(false);
    });
  }

  it("starts again what dies, with --restart", async () => {
    const { command, url } = await startCluster(["--replicas", "2", "--restart"]);
    for (const name of ["hub-1", "nginx", "redis", "hub-1"]) {
      const before = pidOf(command, name);
      process.kill(before, "SIGKILL");
      await until(() => pidOf(command, name) !== before);
    }
    await until(() =>
      ask(`${url}/healthz`).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
    expect((await command.stop("SIGTERM", 20_000)).code).to.equal(0);
  });

  it("restarts the hubs one after the other at SIGHUP", async () => {
    const { command, url } = await startCluster(["--replicas", "2"]);
    const before = starts(command).length;
    command.signal("SIGHUP");
    await command.waitForLine(/"msg":"rolling restart is over"/, 30_000);
    expect(starts(command).slice(before)).to.deep.equal(["hub-1", "hub-2"]);
    expect(linesOf(command).map(({ msg }) => msg)).not.to.include("died");
    expect((await ask(`${url}/healthz`)).status).to.equal(200);
    expect(await command.stop("SIGTERM", 20_000)).to.deep.equal({ code: 0, signal: null });
  });

  it("has hubs drain at SIGTERM; a second signal kills", async () => {
    const { command, scratch } = await startCluster(["--replicas", "2"], { TRAINWIRE_DRAIN_MS: "30000" });
    // Whoever hangs does not end by itself.
    process.kill(pidOf(command, "hub-1"), "SIGSTOP");
    command.signal("SIGTERM");
    await command.waitForLine(/"name":"hub-2".*"msg":"draining"/);
    command.signal("SIGINT");
    expect(await command.exited).to.deep.equal({ code: 130, signal: null });
    await until(() => !existsSync(scratch));
  });

  it("leaves nothing behind when it is killed, whatever its processes are at", async () => {
    const { command, scratch } = await startCluster(["--replicas", "2"]);
    process.kill(pidOf(command, "hub-1"), "SIGSTOP");
    expect((await processesLeft(temporary.path, 0)).length).to.be.above(6);
    await command.stop("SIGKILL");
    expect(await processesLeft(temporary.path, 10_000)).to.deep.equal([]);
    await until(() => !existsSync(scratch));
  });

  it("ends also while it starts", async () => {
    const command = start(["cluster", "--port", "0"], options());
    commands.push(command);
    await command.waitForLine(/"name":"redis".*"msg":"started"/);
    command.signal("SIGINT");
    expect(await command.exited).to.deep.equal({ code: 0, signal: null });
  });

  it("runs beside another one", async () => {
    const [first, second] = await Promise.all([
      startCluster(["--replicas", "1"]),
      startCluster(["--replicas", "1"]),
    ]);
    expect(first.url).to.not.equal(second.url);
    expect((await first.command.stop("SIGTERM", 20_000)).code).to.equal(0);
    expect((await ask(`${second.url}/healthz`)).status).to.equal(200);
    expect((await second.command.stop("SIGTERM", 20_000)).code).to.equal(0);
  });

  it("says in one line that its port is taken", async () => {
    const port = await freePort();
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(port, "127.0.0.1", resolve));
    try {
      const result = await run(["cluster", "--port", String(port)], options());
      expect(result).to.deep.equal({
        code: 1,
        stdout: "",
        stderr: `trainwire: Port ${port} on 127.0.0.1 is taken; choose another one with --port.\n`,
      });
    } finally {
      other.close();
    }
  });

  it("says in one line which program is missing", async () => {
    const { code, stderr } = await run(["cluster", "--port", "0"], options({ PATH: "" }));
    expect(code).to.equal(1);
    expect(stderr).to.match(
      /^trainwire: .*redis-server .*(?:is|are) missing\. .*apt-get install redis-server.*\n$/,
    );
    expect(existsSync(join(folder.path, ".trainwire"))).to.equal(false);
  });

  it("refuses settings and numbers that do not serve before anything starts", async () => {
    for (const args of [
      ["--replicas", "0"],
      ["--replicas", "17"],
      ["--replicas", "x"],
      ["--port", "65536"],
    ]) {
      expect((await run(["cluster", ...args], options())).code, args.join(" ")).to.equal(2);
    }
    const { code, stderr } = await run(["cluster"], options({ JWT_SECRET: "short", LOG_LEVEL: "loud" }));
    expect(code).to.equal(1);
    expect(stderr.trim().split("\n")).to.have.length(2);
  });
});
