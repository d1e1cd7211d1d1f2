import { existsSync } from "node:fs";
import { expect } from "chai";
import { createLog, type Log } from "../src/log.ts";
import type { LogLevel, LogLevels } from "../src/settings.ts";
import { startProcess } from "./support/process.ts";

/** A log and all that it wrote. */
function record(
  pretty: boolean,
  level: LogLevel = "trace",
  modules: LogLevels["modules"] = {},
): { log: Log; text: () => string } {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  return {
    log: createLog({ levels: { level, modules }, pretty, destination }),
    text: () => written.join(""),
  };
}

const HOSTILE =
  'end\n[12:00:00.000] INFO: forged\r\u001b[2J\u0000\u007f\u009b2J\u2028\u202eabc\t\\n "quoted"';
// biome-ignore lint/suspicious/noControlCharactersInRegex: these must not appear
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e]/;
const JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl-_";

describe("log", () => {
  it("writes one JSON object a line, with level, time and message", () => {
    const { log, text } = record(false);
    log.info({ job_id: "j1" }, "job %s", "started");
    log.warn("careful");
    const [first, second] = text()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(first).to.include({ level: "info", msg: "job started", job_id: "j1" });
    expect(new Date(first.time).toISOString()).to.equal(first.time);
    expect(second).to.include({ level: "warn", msg: "careful" });
  });

  it("leaves out what is below the level, and everything at silent", () => {
    const warn = record(false, "warn");
    warn.log.info("no");
    warn.log.error("yes");
    expect(JSON.parse(warn.text()).msg).to.equal("yes");
    const silent = record(false, "silent");
    silent.log.fatal("no");
    expect(silent.text()).to.equal("");
  });

  it("gives a child's fields on all its lines", () => {
    const { log, text } = record(false);
    log.child({ instance_id: "h1" }).child({ job_id: "j1" }).info("hello");
    expect(JSON.parse(text())).to.include({ instance_id: "h1", job_id: "j1", msg: "hello" });
  });

  it("gives each module its own level, and the others that of all", () => {
    const { log, text } = record(false, "info", { sockets: "debug", redis: "error" });
    for (const name of ["sockets", "redis", "feeds"] as const) {
      log.module(name).debug(`${name} debug`);
      log.module(name).info(`${name} info`);
      log.child({ bound: 1 }).module(name).error(`${name} error`);
      expect(log.module(name).isLevelEnabled("debug")).to.equal(name === "sockets");
    }
    const lines = text()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ msg }) => msg)).to.deep.equal([
      "sockets debug",
      "sockets info",
      "sockets error",
      "redis error",
      "feeds info",
      "feeds error",
    ]);
    expect(lines[0]).to.include({ module: "sockets", level: "debug" });
    expect(lines[2]).to.include({ module: "sockets", bound: 1 });
  });

  it("silences all but one module", () => {
    const { log, text } = record(false, "silent", { http: "debug" });
    log.error("no");
    log.module("feeds").fatal("no");
    log.module("http").debug("yes");
    expect(JSON.parse(text()).msg).to.equal("yes");
  });

  it("writes errors whole, causes included", () => {
    for (const pretty of [false, true]) {
      const { log, text } = record(pretty);
      log.error({ err: new Error("outer", { cause: new TypeError("inner") }) }, "failed");
      expect(text()).to.contain("outer").and.contain("inner").and.contain("log.test.ts");
    }
  });

  it("leaves out what else an error carries: Redis' client adds the command that failed, and its payload", () => {
    const { log, text } = record(false);
    const cause = Object.assign(new Error("inner"), { command: { args: ["a payload"] } });
    const failed = Object.assign(new Error("WRONGTYPE", { cause }), {
      code: "E1",
      command: { name: "evalsha", args: ["a payload"] },
    });
    log.error({ err: failed }, "append failed");
    expect(text()).to.include("WRONGTYPE").and.to.include("E1").and.not.include("a payload");
  });

  it("is readable on a terminal: time, level, message, fields in one line", () => {
    const { log, text } = record(true);
    log.info({ job_id: "j1" }, "job started");
    log.module("hub").warn({ job_id: "j2" }, "careful");
    expect(text()).to.match(
      /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: job started \{"job_id":"j1"\}\n\[.{12}\] WARN: hub: careful \{"job_id":"j2"\}\n$/,
    );
  });

  it("keeps hostile text within its line, in both forms", () => {
    for (const pretty of [false, true]) {
      const { log, text } = record(pretty);
      log.info(HOSTILE);
      log.info({ value: HOSTILE, [HOSTILE]: 1, deep: [{ [HOSTILE]: HOSTILE }] }, "text %s", HOSTILE);
      log.child({ bound: HOSTILE }).info("child");
      expect(text(), `pretty ${pretty}`).not.to.match(CONTROL);
      expect(text().match(/\n/g), `pretty ${pretty}`).to.have.length(3);
    }
  });

  it("keeps JSON lossless: hostile text parses back to itself", () => {
    const { log, text } = record(false);
    log.info({ [HOSTILE]: HOSTILE }, HOSTILE);
    expect(JSON.parse(text())).to.include({ msg: HOSTILE, [HOSTILE]: HOSTILE });
  });

  it("shows hostile errors with no line that begins like one of the log", () => {
    const { log, text } = record(true);
    log.error({ err: new Error(HOSTILE, { cause: new Error(HOSTILE) }) }, "failed");
    log.error(new Error(`${HOSTILE}\n    at forged\ncaused by: forged`));
    expect(text()).not.to.match(CONTROL);
    expect(text().match(/^\[/gm)).to.have.length(2);
    expect(text()).to.match(/^ +at .*log\.test\.ts/m);
  });

  const secrets: Array<[name: string, fields: object, message?: string]> = [
    ["a token field", { token: "hunter2" }],
    ["a token with quotes", { token: 'hunter2"hunter2\\' }],
    ["a nested token", { handshake: { auth: { token: "hunter2" } } }],
    [
      "an authorization header",
      { headers: { Authorization: "Basic hunter2", authorization: "Bearer hunter2" } },
    ],
    ["a cookie", { headers: { cookie: "hunter2", "set-cookie": "hunter2" } }],
    [
      "the settings",
      { jwtSecret: "hunter2", token: "hunter2", redisUrl: "redis://user:hunter2@127.0.0.1:6379/0" },
    ],
    ["a password", { password: "hunter2" }],
    ["raw headers", { rawHeaders: ["Authorization", "Bearer hunter2"] }],
    ["a token in a query", { url: "/socket.io/?EIO=4&token=hunter2&transport=polling" }],
    ["a Redis URL without user", {}, "cannot reach rediss://:hunter2@cache.example"],
    ["a JWT in an error", { err: new Error(`bad token ${JWT}`) }],
    ["a JWT in a message", {}, `refused ${JWT}`],
    ["an unsigned JWT in a list", { list: [[`${JWT.split(".", 2).join(".")}.`]] }],
  ];
  for (const [name, fields, message] of secrets) {
    it(`hides ${name}`, () => {
      for (const pretty of [false, true]) {
        const { log, text } = record(pretty);
        log.info({ ...fields, after: "kept" }, message ?? "text");
        log.child({ ...fields, after: "kept" }).info(message ?? "text");
        expect(text()).to.contain("[redacted]").and.contain("kept");
        expect(text()).not.to.contain("hunter2").and.not.contain("eyJhbGci").and.not.contain("eyJzdWIi");
        if (!pretty) for (const line of text().trimEnd().split("\n")) JSON.parse(line);
      }
    });
  }

  it("hides nothing else", () => {
    const { log, text } = record(false);
    const fields = {
      tokenId: "t1",
      tokens: 5,
      token_expiring: "soon",
      url: "http://127.0.0.1:3000/a?b=c",
      path: "/token",
    };
    log.info(fields, "the token is missing: see http://localhost:3000 or mail a@b.example");
    expect(JSON.parse(text())).to.include({
      ...fields,
      msg: "the token is missing: see http://localhost:3000 or mail a@b.example",
    });
  });

  it("takes time in proportion to the text, whatever the text", () => {
    const { log } = record(true);
    const started = performance.now();
    for (const piece of [
      "eyJa-",
      "a.",
      "http://",
      '"token":"',
      "Bearer ",
      "\\",
      "\n    at ",
      "?token=",
      "a-token",
    ]) {
      log.info({ text: piece.repeat(20_000) }, piece.repeat(20_000));
    }
    expect(performance.now() - started).to.be.below(2_000);
  });

  describe("on standard output", () => {
    /** Runs a program with `log` in a shell that sends its output somewhere. */
    async function run(program: string, where: string): Promise<readonly string[]> {
      const start = `
        import { writeSync } from "node:fs";
        import { createLog } from ${JSON.stringify(new URL("../src/log.ts", import.meta.url).href)};
        const log = createLog({ levels: { level: "info", modules: {} } });
        ${program}
        console.error("alive");`;
      const shell = `"$0" --import tsx --input-type=module -e "$1" ${where}`;
      const child = startProcess("sh", ["-c", shell, process.execPath, start]);
      try {
        await child.waitForLine(/^alive$/);
        await child.exited;
        return child.output;
      } finally {
        await child.stop();
      }
    }

    it("is JSON on a pipe, and complete when the process is killed in the same turn", async () => {
      const program = `log.info("first"); console.error("alive"); process.kill(process.pid, "SIGKILL");`;
      const [line = ""] = (await run(program, "| cat")).filter((text) => text.startsWith("{"));
      expect(JSON.parse(line).msg).to.equal("first");
    });

    it("goes on when the reader leaves", async () => {
      const program = `
        log.info("first");
        const closed = () => { try { writeSync(1, "x"); return false; } catch (error) { return error.code === "EPIPE"; } };
        while (!closed());
        for (let line = 0; line < 100; line++) log.info("nobody reads this");`;
      await run(program, "| head -n 1");
    });

    it("goes on when the disk is full, and does not keep what it cannot write", async function () {
      if (!existsSync("/dev/full")) this.skip();
      const program = `
        const text = "x".repeat(10_000);
        globalThis.gc();
        const before = process.memoryUsage().rss;
        for (let line = 0; line < 10_000; line++) log.info(text);
        globalThis.gc();
        if (process.memoryUsage().rss - before > 64e6) throw new Error("100 MB of lines are kept");`;
      await run(
        `import { setFlagsFromString } from "node:v8"; import { runInNewContext } from "node:vm";
        setFlagsFromString("--expose-gc"); globalThis.gc = runInNewContext("gc"); ${program}`,
        "> /dev/full",
      );
    });
  });
});
