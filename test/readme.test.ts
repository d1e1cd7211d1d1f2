/** README's programs run as they stand. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { signToken } from "../src/auth.ts";
import { loadConfig } from "../src/config.ts";
import { createLog } from "../src/log.ts";
import { type RunningHub, startHub } from "../src/server.ts";
import { type TempFolder, tempFolder } from "./support/cleanup.ts";
import { startProcess } from "./support/process.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const README = readFileSync(join(ROOT, "README.md"), "utf8");
const SECRET = "a secret of more than thirty-two bytes";

/** The sample of the SDK, on this source and this hub, with what it takes for granted. */
function sdkProgram(url: string, trainerToken: string, watcherToken: string): string {
  const [, block = ""] = /```ts\n(import \{ TrainwireClient[\s\S]*?)```/.exec(README) ?? [];
  const given = `const [trainerToken, watcherToken] = ${JSON.stringify([trainerToken, watcherToken])};
const train = async (step: number) => 1 / step;\n`;
  const sdk = JSON.stringify(join(ROOT, "client/index.ts"));
  return (
    given + block.replace('"trainwire/client"', sdk).replace('"http://127.0.0.1:3000"', JSON.stringify(url))
  );
}

function program(name: string): string {
  const block = [...README.matchAll(/```js\n([\s\S]*?)```/g)].find(([, body]) =>
    body?.startsWith(`// ${name}`),
  );
  return block?.[1] as string;
}

describe("README's programs", () => {
  let hub: RunningHub;
  let temp: TempFolder;
  let folder: string;
  const token = (role: "trainer" | "watcher") =>
    signToken(SECRET, { subject: "me", tenantId: "demo", role, ttlSeconds: 60 });

  before(async () => {
    temp = tempFolder("readme");
    folder = join(temp.path, "app");
    mkdirSync(folder);
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    for (const name of ["trainer.mjs", "watcher.mjs"]) writeFileSync(join(folder, name), program(name));
    hub = await startHub(loadConfig({ PORT: "0", JWT_SECRET: SECRET }), createLog({ level: "silent" }));
  });
  after(async () => {
    temp.remove();
    await hub?.close();
  });

  it("are about 20 lines long", () => {
    for (const name of ["trainer.mjs", "watcher.mjs"]) {
      expect(program(name).trim().split("\n").length, name).to.be.within(15, 30);
    }
  });

  it("the watcher, started first, shows what the trainer publishes, once and in order", async () => {
    const watcher = startProcess("node", ["watcher.mjs", token("watcher"), hub.url], { cwd: folder });
    const trainer = startProcess("node", ["trainer.mjs", token("trainer"), hub.url], { cwd: folder });
    try {
      expect(await trainer.exited).to.include({ code: 0 });
      await watcher.waitForLine(/"completed"/, 10_000);
      const shown = watcher.output.filter((line) => /^\d+ /.test(line)).map((line) => line.split(" "));
      const seqs = shown.map(([seq]) => Number(seq));
      expect(seqs).to.deep.equal([...seqs].sort((a, b) => a - b));
      expect(new Set(seqs).size).to.equal(seqs.length);
      expect(shown.filter(([, type]) => type === "training_status")).to.have.length(2);
      expect(shown.at(-2)?.[2]).to.include('"step":50');
    } finally {
      await watcher.stop("SIGTERM");
    }
  });

  it("the SDK's sample shows the loss to its end, and ends", async () => {
    writeFileSync(join(folder, "sdk.mts"), sdkProgram(hub.url, token("trainer"), token("watcher")));
    const sample = startProcess("node", ["--import", "tsx", "sdk.mts"], { cwd: folder });
    try {
      expect(await sample.exited, sample.output.join("\n")).to.include({ code: 0 });
      expect(sample.output.at(-1)).to.equal("0.001");
    } finally {
      await sample.stop();
    }
  });
});
