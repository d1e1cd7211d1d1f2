import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { Cluster, Redis } from "ioredis";
import {
  ensure,
  MissingRequirements,
  REQUIREMENTS,
  type Requirement,
  type System,
} from "../scripts/requirements.ts";
import { notUndone, tempFolder } from "./support/cleanup.ts";
import { clusterRedis, freshPrefix, plainRedis } from "./support/hooks.ts";
import { CLUSTER_BUS_OFFSET, freePort } from "./support/ports.ts";
import { startProcess } from "./support/process.ts";
import { processesLeft } from "./support/processes-left.ts";
import { RedisServer, startRedis } from "./support/redis.ts";

const TREE =
  'require("node:child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"]).unref();';
const FOREVER =
  'console.log("first"); console.log("up 1"); console.error("up 2"); setInterval(() => {}, 1e6);';
const DEAF = 'process.on("SIGTERM", () => console.log("no")); console.log("up"); setInterval(() => {}, 1e6);';

describe("the shared Redis", () => {
  it("answers PING and is the same for every test", async () => {
    const server = await plainRedis();
    expect(await plainRedis()).to.equal(server);
    const client = new Redis(server.url);
    expect(await client.ping()).to.equal("PONG");
    client.disconnect();
  });

  it("has a cluster of one node, which serves sharded channels and every slot", async () => {
    const server = await clusterRedis();
    const prefix = freshPrefix();
    const subscriber = new Redis(server.url);
    const client = new Redis(server.url);
    const heard = new Promise((resolve) =>
      subscriber.on("smessage", (channel, message) => resolve({ channel, message })),
    );
    await subscriber.ssubscribe(`${prefix}{a}`);
    expect(await client.spublish(`${prefix}{a}`, "hello")).to.equal(1);
    expect(await heard).to.deep.equal({ channel: `${prefix}{a}`, message: "hello" });
    const refused = await client.mset(`${prefix}{a}`, "1", `${prefix}{b}`, "2").catch((error) => error);
    expect(refused.message).to.match(/^CROSSSLOT/);
    subscriber.disconnect();
    client.disconnect();
  });

  it("is found by a cluster client", async () => {
    const { port } = await clusterRedis();
    const prefix = freshPrefix();
    const cluster = new Cluster([{ host: "127.0.0.1", port }]);
    await cluster.set(`${prefix}{a}`, "1");
    expect(await cluster.get(`${prefix}{a}`)).to.equal("1");
    cluster.disconnect();
  });

  it("gives every test its own key prefix", () => {
    expect(freshPrefix())
      .to.match(/^[a-z0-9-]+:$/)
      .and.not.equal(freshPrefix());
  });
});

describe("a Redis of the test's own", () => {
  it("loses its data at a restart, keeps its port, and leaves nothing when it stops", async () => {
    const server = await startRedis();
    const client = new Redis(server.url);
    await client.set("key", "value");
    const before = server.pid;
    const gone = new Promise((resolve) => client.once("close", resolve));
    expect(await server.kill()).to.deep.equal({ code: null, signal: "SIGKILL" });
    await gone;
    await server.start();
    expect(server.pid).to.not.equal(before);
    expect(await client.get("key")).to.equal(null);
    client.disconnect();
    expect(existsSync(server.folder)).to.equal(true);
    await server.stop();
    expect(existsSync(server.folder)).to.equal(false);
    expect(() => server.pid).to.throw("does not run");
  });

  it("keeps its data when told to", async () => {
    const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
    const client = new Redis(server.url);
    await client.set("key", "value");
    await server.restart("SIGKILL");
    expect(await client.get("key")).to.equal("value");
    client.disconnect();
    await server.stop();
  });

  it("stops answering while it is paused, and can be stopped then", async () => {
    const server = await startRedis();
    const client = new Redis(server.url, { maxRetriesPerRequest: 0 });
    await client.ping();
    server.pause();
    let answered = false;
    const ping = client.ping().then((answer) => {
      answered = true;
      return answer;
    });
    const second = new Redis(server.url, { commandTimeout: 200, retryStrategy: () => null });
    second.on("error", () => {});
    expect(await second.ping().catch((error) => error.message)).to.equal("Command timed out");
    expect(answered).to.equal(false);
    server.resume();
    expect(await ping).to.equal("PONG");
    server.pause();
    await server.stop();
    client.disconnect();
    second.disconnect();
  });

  it("is a cluster again after a restart", async () => {
    const server = await startRedis({ cluster: true });
    await server.restart();
    const client = new Redis(server.url);
    expect(await client.set("key", "value")).to.equal("OK");
    client.disconnect();
    await server.stop();
  });

  it("says why it did not start", async () => {
    const error = await startRedis({ args: ["--maxmemory", "nonsense"] }).catch((reason) => reason);
    expect(error.message).to.match(/did not start:[\s\S]*maxmemory/);
  });

  it("does not take another's server for its own", async () => {
    const first = await startRedis();
    const second = new RedisServer(first.port);
    expect((await second.start().catch((error) => error)).message).to.match(/^port \d+ is taken$/);
    await second.stop();
    await first.stop();
  });
});

describe("freePort", () => {
  it("gives ports that can be listened on, and none twice", async () => {
    const ports = await Promise.all(Array.from({ length: 50 }, () => freePort([CLUSTER_BUS_OFFSET])));
    expect(new Set(ports).size).to.equal(50);
    for (const port of ports) expect(port + CLUSTER_BUS_OFFSET).to.be.at.most(65_535);
    for (const port of [ports[0]!, ports[0]! + CLUSTER_BUS_OFFSET]) {
      const server = createServer().listen(port, "127.0.0.1");
      await once(server, "listening");
      server.close();
      await once(server, "close");
    }
  });
});

describe("startProcess", () => {
  it("collects lines and finds one that is there already or still to come", async () => {
    const child = startProcess(process.execPath, ["-e", FOREVER]);
    expect((await child.waitForLine(/^up (\d)$/))[1]).to.match(/[12]/);
    await child.waitForLine(/^up 2$/);
    expect((await child.waitForLine(/^first$/))[0]).to.equal("first");
    expect([...child.output].sort()).to.deep.equal(["first", "up 1", "up 2"]);
    expect(await child.stop()).to.deep.equal({ code: null, signal: "SIGTERM" });
  });

  it("rejects a wait for a line that does not come, with what came instead", async () => {
    const child = startProcess(process.execPath, ["-e", FOREVER]);
    await child.waitForLine(/^up 1$/);
    const late = await child.waitForLine(/never/, 50).catch((error) => error);
    expect(late.message).to.match(/no \/never\/ within 50 ms:\n[\s\S]*up 1/);
    const ended = child.waitForLine(/never/).catch((error) => error);
    await child.stop();
    expect((await ended).message).to.match(/ended without \/never\//);
    expect((await child.waitForLine(/never/).catch((error) => error)).message).to.match(/ended without/);
  });

  it("gives the environment and the folder, and the exit code with the whole output", async () => {
    const folder = tempFolder("support");
    const code = "console.log(process.cwd(), process.env.A); process.exit(3)";
    const child = startProcess(process.execPath, ["-e", code], { env: { A: "b" }, cwd: folder.path });
    expect(await child.exited).to.deep.equal({ code: 3, signal: null });
    expect(child.output).to.deep.equal([`${folder.path} b`]);
    expect(await child.stop()).to.deep.equal({ code: 3, signal: null });
    folder.remove();
  });

  it("ends a process that does not listen", async () => {
    const child = startProcess(process.execPath, ["-e", DEAF]);
    await child.waitForLine(/^up$/);
    expect(await child.stop("SIGTERM", 100)).to.deep.equal({ code: null, signal: "SIGKILL" });
    expect(child.output).to.include("no");
  });

  it("says when there is no such program", () => {
    expect(() => startProcess("no-such-program-anywhere")).to.throw("cannot start no-such-program-anywhere");
  });
});

describe("what is left behind", () => {
  it("is listed until it is stopped or removed", async () => {
    const before = notUndone().length;
    const folder = tempFolder("support");
    const child = startProcess(process.execPath, ["-e", FOREVER]);
    expect(notUndone().slice(before)).to.deep.equal([
      `folder ${folder.path}`,
      `process ${child.pid} (${process.execPath})`,
    ]);
    await child.stop();
    folder.remove();
    expect(notUndone()).to.have.length(before);
  });

  it("is found by a mark in the environment, also where the parent has ended", async () => {
    const folder = tempFolder("support");
    const parent = startProcess(process.execPath, ["-e", `${TREE} process.exit()`], {
      env: { MARK: folder.path },
    });
    await parent.exited;
    const left = await processesLeft(folder.path, 0);
    expect(left).to.have.length(1);
    process.kill(left[0]!.pid, "SIGKILL");
    expect(await processesLeft(folder.path)).to.deep.equal([]);
    folder.remove();
  });

  it("includes a Redis server", async () => {
    const server = await startRedis();
    expect((await processesLeft(server.folder, 0)).map(({ pid }) => pid)).to.deep.equal([server.pid]);
    await server.stop();
    expect(await processesLeft(server.folder)).to.deep.equal([]);
  });

  for (const [ending, how, code] of [
    ["throws", "throw new Error('crash')", 1],
    ["is interrupted", "process.kill(process.pid, 'SIGINT')", 130],
    ["is terminated", "process.kill(process.pid, 'SIGTERM')", 143],
  ] as const) {
    it(`is nothing after a test process that ${ending}`, async () => {
      const folder = tempFolder("support");
      const script = join(folder.path, "script.mts");
      const support = new URL("./support/redis.ts", import.meta.url).href;
      writeFileSync(
        script,
        `import { startRedis } from "${support}"; console.log((await startRedis()).folder); ${how};`,
      );
      const child = startProcess(process.execPath, ["--import", "tsx", script], { env: { MARK: script } });
      expect(await child.exited).to.deep.equal({ code, signal: null });
      expect(existsSync(child.output[0]!)).to.equal(false);
      expect(await processesLeft(script)).to.deep.equal([]);
      folder.remove();
    });
  }
});

describe("requirements", () => {
  const redis: Requirement = {
    commands: ["redis-server", "valkey-server"],
    debian: "redis-server",
    brew: "redis",
    version: { args: ["--version"], atLeast: "7.0" },
  };
  const nginx: Requirement = { commands: ["nginx"], debian: "nginx", brew: "nginx" };

  /** A machine whose apt-get installs what its name says. */
  function machine(commands: Record<string, string>, rights: Partial<System> = {}) {
    const installed: { packages: readonly string[]; withSudo: boolean }[] = [];
    const system: System = {
      find: (command) => (command in commands ? `/bin/${command}` : undefined),
      run: (path) => commands[path.slice("/bin/".length)] ?? "",
      hasApt: () => true,
      isRoot: () => false,
      hasSudo: () => false,
      install(packages, withSudo) {
        installed.push({ packages, withSudo });
        for (const name of packages) commands[name] = "v=7.0.15";
        return true;
      },
      ...rights,
    };
    return { system, installed };
  }

  it("are met by what is there", () => {
    const { system, installed } = machine({ "valkey-server": "Valkey server v=8.0.1 sha=0", nginx: "" });
    expect(ensure([redis, nginx], system)).to.deep.equal(["/bin/valkey-server 8.0.1", "/bin/nginx"]);
    expect(installed).to.deep.equal([]);
  });

  it("are installed by root, and with sudo where it asks nothing", () => {
    const root = machine({ nginx: "" }, { isRoot: () => true });
    expect(ensure([redis, nginx], root.system)).to.deep.equal(["/bin/redis-server 7.0.15", "/bin/nginx"]);
    expect(root.installed).to.deep.equal([{ packages: ["redis-server"], withSudo: false }]);
    const sudo = machine({}, { hasSudo: () => true });
    ensure([redis, nginx], sudo.system);
    expect(sudo.installed).to.deep.equal([{ packages: ["redis-server", "nginx"], withSudo: true }]);
  });

  it("stop the run with one line where nothing may be installed", () => {
    const { system, installed } = machine({ "redis-server": "Redis server v=6.0.16 sha=0" });
    expect(() => ensure([redis, nginx], system)).to.throw(
      MissingRequirements,
      /^Missing: redis-server >= 7.0 \(\/bin\/redis-server is 6.0.16\), nginx. On Debian: sudo apt-get install redis-server nginx. On macOS: brew install redis nginx.$/,
    );
    expect(installed).to.deep.equal([]);
  });

  it("take docker-compose of either generation", () => {
    const compose = REQUIREMENTS.filter(({ debian }) => debian === "docker-compose");
    for (const version of ["1.29.2", "2.40.3"]) {
      const { system } = machine({ "docker-compose": `${version}\n` });
      expect(ensure(compose, system)).to.deep.equal([`/bin/docker-compose ${version}`]);
    }
    const { system } = machine({ "docker-compose": "1.25.0\n" });
    expect(() => ensure(compose, system)).to.throw(MissingRequirements, "docker-compose >= 1.29");
  });

  it("stop the run where there is no apt-get, or where it did not help", () => {
    const mac = machine({}, { hasApt: () => false, isRoot: () => true });
    expect(() => ensure([redis], mac.system)).to.throw(MissingRequirements);
    expect(mac.installed).to.deep.equal([]);
    const offline = machine({}, { isRoot: () => true, install: () => false });
    expect(() => ensure([redis], offline.system)).to.throw(MissingRequirements);
  });
});
