import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { createAuth, signToken } from "../src/auth.ts";
import { ConfigError } from "../src/config.ts";
import { localSecret } from "../src/secret.ts";
import { startProcess } from "./support/process.ts";

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

describe("localSecret", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "trainwire-secret-"));
    path = join(directory, ".trainwire", "jwt-secret");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("makes 32 random bytes in a file that only its owner reads", () => {
    const secret = localSecret(path);
    expect(Buffer.from(secret, "base64url")).to.have.length(32);
    expect(readFileSync(path, "utf8").trim()).to.equal(secret);
    expect(mode(path)).to.equal("600");
    expect(mode(join(directory, ".trainwire"))).to.equal("700");
    expect(readdirSync(join(directory, ".trainwire"))).to.deep.equal(["jwt-secret"]);
  });

  it("reads the same secret again, and another for another file", () => {
    const secret = localSecret(path);
    expect(localSecret(path)).to.equal(secret);
    expect(localSecret(join(directory, "other"))).not.to.equal(secret);
  });

  it("reads a secret that somebody wrote", () => {
    mkdirSync(join(directory, ".trainwire"));
    writeFileSync(path, `${"s".repeat(32)}\n`, { mode: 0o600 });
    expect(localSecret(path)).to.equal("s".repeat(32));
  });

  it("makes a secret that signs and verifies", () => {
    const secret = localSecret(path);
    const token = signToken(secret, { subject: "me", tenantId: "demo", role: "watcher", ttlSeconds: 60 });
    expect(createAuth({ secret }).verify(token).tenantId).to.equal("demo");
  });

  for (const open of [0o640, 0o604, 0o644, 0o620, 0o666]) {
    it(`refuses mode ${open.toString(8)} with the command to run`, function () {
      if (process.platform === "win32") this.skip();
      localSecret(path);
      chmodSync(path, open);
      expect(() => localSecret(path)).to.throw(ConfigError, `run: chmod 600 '${path}'`);
      chmodSync(path, 0o600);
      expect(localSecret(path)).to.have.length(43);
    });
  }

  it("refuses a file that is too short, and does not touch it", () => {
    mkdirSync(join(directory, ".trainwire"));
    writeFileSync(path, `${"s".repeat(31)}\n`, { mode: 0o600 });
    expect(() => localSecret(path)).to.throw(ConfigError, "fewer than 32 bytes");
    expect(readFileSync(path, "utf8")).to.equal(`${"s".repeat(31)}\n`);
  });

  it("refuses what is no file, or lies below one", () => {
    expect(() => localSecret(directory)).to.throw(ConfigError, "not a regular file");
    writeFileSync(join(directory, "file"), "");
    expect(() => localSecret(join(directory, "file", "secret"))).to.throw(ConfigError, "ENOTDIR");
  });

  it("gives processes that start at once the same secret", async () => {
    // Many files in a row: whoever only reads catches up with whoever makes, so they meet at some of them.
    const program = `
      import { localSecret } from ${JSON.stringify(new URL("../src/secret.ts", import.meta.url).href)};
      const waiting = setInterval(() => {}, 1_000);
      process.once("SIGUSR2", () => {
        clearInterval(waiting);
        for (let file = 0; file < 300; file++) console.log("secret", localSecret(process.argv[1] + file));
        console.log("done");
      });
      console.log("ready");`;
    const children = Array.from({ length: 4 }, () =>
      startProcess(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program, path]),
    );
    try {
      await Promise.all(children.map((child) => child.waitForLine(/^ready$/)));
      expect(existsSync(`${path}0`)).to.equal(false);
      for (const child of children) child.signal("SIGUSR2");
      await Promise.all(children.map((child) => child.waitForLine(/^done$/)));
      const kept = Array.from({ length: 300 }, (_, file) => `secret ${localSecret(path + file)}`);
      for (const child of children) expect(child.output).to.deep.equal(["ready", ...kept, "done"]);
      expect(readdirSync(join(directory, ".trainwire"))).to.have.length(300);
    } finally {
      await Promise.all(children.map((child) => child.stop()));
    }
  });
});
