/** One process of a cluster, and the programs that it needs. */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { type Death, Member } from "../../src/cluster/member.ts";
import { Output } from "../../src/cluster/output.ts";
import type { Part } from "../../src/cluster/parts.ts";
import { findPrograms } from "../../src/cluster/programs.ts";
import { Reaper } from "../../src/cluster/reaper.ts";
import { createLog } from "../../src/log.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";

describe("a process of a cluster", () => {
  let folder: TempFolder;
  let reaper: Reaper;
  let said: string[];
  let deaths: Death[];
  let failures: string[];
  beforeEach(() => {
    folder = tempFolder("member");
    reaper = new Reaper(folder.path);
    said = [];
    deaths = [];
    failures = [];
  });
  afterEach(async () => {
    await reaper.end();
    folder.remove();
  });

  /** `script`: what it does, as a program of Node; it serves once it has said `up`. */
  function member(script: string, restart: boolean): Member {
    const output = new Output(join(folder.path, "log"));
    const part: Part = {
      name: "part",
      port: 1,
      url: "test://part",
      program: { command: process.execPath, args: ["-e", script], env: process.env, output },
      serves: async () => output.newest().includes("up"),
      last: () => output.last(),
      portTaken: () => false,
      graceMs: 200,
    };
    return new Member(part, {
      reaper,
      log: createLog({
        levels: { level: "info", modules: {} },
        pretty: false,
        destination: { write: (line: string) => void said.push(line) },
      }),
      died: (death) => deaths.push(death) > 0 && restart,
      failed: (reason) => failures.push(reason),
      backoffMs: { first: 1, longest: 4 },
    });
  }

  const FOREVER = 'console.log("up"); setInterval(() => {}, 1e6);';
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
  };

  it("tells who has died, of what, and its last words", async () => {
    const part = member(
      'console.log("up"); setTimeout(() => { console.log("oh"); process.exit(3); }, 100);',
      false,
    );
    await part.start();
    const { pid } = part;
    await until(() => failures.length > 0);
    expect(deaths).to.deep.equal([{ name: "part", pid, code: 3, signal: null }]);
    expect(failures).to.deep.equal([`part (pid ${pid}) died: exit code 3.`]);
    expect(said.join("")).to.match(/"name":"part","pid":\d+,"code":3,"signal":null,"msg":"died"/);
    expect(said.join("")).to.include('"line":"oh","msg":"its last lines"');
    await part.close();
  });

  it("is given up when it does not come up again", async () => {
    const once = join(folder.path, "once");
    const fs = 'require("node:fs")';
    const script = `if (${fs}.existsSync("${once}")) process.exit(7); ${fs}.writeFileSync("${once}", ""); ${FOREVER}`;
    const part = member(script, true);
    await part.start();
    process.kill(part.pid as number, "SIGKILL");
    await until(() => failures.length > 0);
    expect(failures).to.deep.equal(["part does not come up: part has ended before it served (exit code 7)."]);
    expect(said.filter((line) => line.includes("does not come up"))).to.have.length(7);
    expect(deaths).to.have.length(1);
    await part.close();
  });

  it("is killed when it does not end by itself, also while it is paused; that is no death", async () => {
    const part = member(`process.on("SIGTERM", () => {}); ${FOREVER}`, false);
    await part.start();
    part.signal("SIGSTOP");
    await part.close();
    expect([deaths, failures, part.pid]).to.deep.equal([[], [], undefined]);
    expect(said.at(-1)).to.include('"signal":"SIGKILL","msg":"ended, but not in good order"');
  });

  it("does not start when its program ends at once, or when it is closed meanwhile", async () => {
    const short = member("process.exit(2)", true);
    expect((await short.start().catch((error) => error)).message).to.match(
      /ended before it served \(exit code 2\)/,
    );
    const slow = member("setInterval(() => {}, 1e6)", true);
    const started = slow.start().catch((error) => error);
    await slow.close();
    expect((await started).message).to.match(/closed|ended before/);
    expect(deaths).to.deep.equal([]);
  });

  it("has its reaper replaced when that is killed", async () => {
    const part = member(FOREVER, false);
    await part.start();
    const { pid } = reaper;
    process.kill(pid as number, "SIGKILL");
    await until(() => reaper.pid !== pid);
    await reaper.end(); // which ends what the one before had been told of
    await until(() => part.pid === undefined);
    expect(deaths).to.have.length(1);
  });
});

describe("the output of a process", () => {
  it("is emptied when it is large, and goes on", () => {
    const folder = tempFolder("output");
    const output = new Output(join(folder.path, "log"));
    expect([output.size, output.last()]).to.deep.equal([0, []]);
    writeFileSync(output.path, `${"x".repeat(1_023)}\n`.repeat(16_385));
    output.open();
    output.trim();
    expect(output.size).to.equal(0);
    writeFileSync(output.path, "a\nb\n", { flag: "a" });
    expect(output.last()).to.deep.equal(["a", "b"]);
    expect(output.newest()).to.equal("a\nb\n");
    folder.remove();
  });
});

describe("the programs that a cluster needs", () => {
  let folder: TempFolder;
  beforeEach(() => {
    folder = tempFolder("programs");
  });
  afterEach(() => folder.remove());
  const put = (name: string) => {
    const path = join(folder.path, name);
    writeFileSync(path, "");
    chmodSync(path, 0o755);
    return path;
  };

  it("are found on the PATH or where servers are", () => {
    const redis = put("valkey-server");
    const nginx = put("nginx");
    expect(findPrograms(folder.path, [])).to.deep.equal({ redis, nginx });
    expect(findPrograms("", [folder.path])).to.deep.equal({ redis, nginx });
  });

  it("are named in one line when they are missing", () => {
    expect(() => findPrograms(folder.path, [])).to.throw(
      /^redis-server and nginx are missing\. On Debian and Ubuntu: sudo apt-get install redis-server nginx\. On macOS: brew install redis nginx\.$/,
    );
    put("redis-server");
    expect(() => findPrograms(folder.path, [])).to.throw(/^nginx is missing\. .* apt-get install nginx\. /);
  });
});
