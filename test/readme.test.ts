/** README's programs run as they stand. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { signToken } from "../src/auth.ts";
import { loadConfig } from "../src/config.ts";
import { createLog } from "../src/log.ts";
import type { Snapshot } from "../src/protocol/types.ts";
import { type RunningHub, startHub } from "../src/server.ts";
import { type TempFolder, tempFolder } from "./support/cleanup.ts";
import { startProcess } from "./support/process.ts";
import { until } from "./support/until.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const README = readFileSync(join(ROOT, "README.md"), "utf8");
const SECRET = "a secret of more than thirty-two bytes";

/** A sample of the SDK that imports this first, on this source and this hub, with what it takes for granted. */
function sdkProgram(imported: string, url: string, given: string): string {
  const [, block = ""] = new RegExp(`\`\`\`ts\\n(import \\{ ${imported}[\\s\\S]*?)\`\`\``).exec(README) ?? [];
  const sdk = JSON.stringify(join(ROOT, "client/index.ts"));
  return (
    given + block.replace('"trainwire/client"', sdk).replace('"http://127.0.0.1:3000"', JSON.stringify(url))
  );
}

/** What the trainer that obeys takes for granted; a step takes so many ms. */
const storesOf = (stepMs: number) => `const loadStores = async () => ["north", "south"];
const save = async () => "model.bin";
const clock = new Int32Array(new SharedArrayBuffer(4));
const train = (store: string) => (Atomics.wait(clock, 0, 0, ${stepMs}), store.length);\n`;

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
  const token = (role: "trainer" | "watcher" | "operator", tenantId = "demo") =>
    signToken(SECRET, { subject: "me", tenantId, role, ttlSeconds: 60 });

  before(async () => {
    temp = tempFolder("readme");
    folder = join(temp.path, "app");
    mkdirSync(folder);
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    for (const name of ["trainer.mjs", "watcher.mjs"]) writeFileSync(join(folder, name), program(name));
    hub = await startHub(
      loadConfig({ PORT: "0", JWT_SECRET: SECRET }),
      createLog({ levels: { level: "silent", modules: {} } }),
    );
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
    const tokens = JSON.stringify([token("trainer"), token("watcher")]);
    const given = `const [trainerToken, watcherToken] = ${tokens};
const train = async (step: number) => 1 / step;\n`;
    writeFileSync(join(folder, "sdk.mts"), sdkProgram("TrainwireClient", hub.url, given));
    const sample = startProcess("node", ["--import", "tsx", "sdk.mts"], { cwd: folder });
    try {
      expect(await sample.exited, sample.output.join("\n")).to.include({ code: 0 });
      expect(sample.output.at(-1)).to.equal("0.001");
    } finally {
      await sample.stop();
    }
  });

  /** Each in a tenant of its own, because the job is the same. */
  for (const tenant of ["stops", "completes"]) {
    it(`the trainer that obeys ${tenant}`, async () => {
      const job = async (path = "", body?: object) => {
        const response = await fetch(`${hub.url}/api/v1/tenants/${tenant}/training/jobs/sales-7${path}`, {
          headers: { authorization: `Bearer ${token("operator", tenant)}` },
          ...(body && { method: "POST", body: JSON.stringify(body) }),
        });
        return { status: response.status, body: (await response.json()) as { job?: Snapshot } };
      };
      const stops = tenant === "stops";
      const given = storesOf(stops ? 20 : 1);
      writeFileSync(join(folder, "obeys.mts"), sdkProgram("TrainwireTrainer }", hub.url, given));
      const env = { TOKEN: token("trainer", tenant) };
      const sample = startProcess("node", ["--import", "tsx", "obeys.mts"], { cwd: folder, env });
      try {
        if (stops) {
          const save = { action: "save", command_id: "saved" };
          await until(async () => (await job("/commands", save)).status === 200);
          const { body } = await job("/commands", save);
          expect(body).to.deep.include({ state: "applied", data: { path: "model.bin" } });
          await until(async () => (await job("/commands", { action: "stop" })).status === 200);
        }
        expect(await sample.exited).to.include({ code: 0 });
        expect(sample.output).to.deep.equal([]);
        const { status, products } = (await job()).body.job as Snapshot;
        expect(status).to.equal(stops ? "cancelled" : "completed");
        if (!stops) expect(products).to.deep.equal({ completed: 2, failed: 0, total: 2, progress: 100 });
      } finally {
        await sample.stop();
      }
    });
  }
});
