/** docs/operations.md says what there is, and its line for Redis works. */
import { readFileSync } from "node:fs";
import { expect } from "chai";
import { Redis } from "ioredis";
import { METRICS, PROCESS_METRICS } from "../src/metrics/table.ts";
import { SETTINGS } from "../src/settings.ts";
import { ROWS } from "./faults/rows.ts";
import { startTestHub } from "./support/hub.ts";
import { startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const TEXT = readFileSync(new URL("../docs/operations.md", import.meta.url), "utf8");
/** Without the tables that are made from the code. */
const PROSE = TEXT.replaceAll(/<!-- table:\w+ -->[\s\S]*?<!-- \/table -->/g, "");

describe("docs/operations.md", () => {
  it("names metrics that there are, with labels and values that they have", () => {
    const all = new Map<
      string,
      { type: string; labels?: Readonly<Record<string, readonly string[] | string>> }
    >([...METRICS, ...PROCESS_METRICS].map((row) => [row.name, row]));
    const found = [...PROSE.matchAll(/\b((?:trainwire|process|nodejs)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)];
    expect(found.length).to.be.above(20);
    for (const [text, name = "", labels = ""] of found) {
      const row = all.get(name) ?? all.get(name.replace(/_(?:bucket|sum|count)$/, ""));
      if (!row) throw new Error(`there is no metric ${name}`);
      if (name.endsWith("_bucket")) expect(row.type, name).to.equal("histogram");
      for (const [, label = "", values = ""] of labels.matchAll(/(\w+)=~?"([^"]*)"/g)) {
        const known = row.labels?.[label];
        expect(known, text).to.not.equal(undefined);
        if (typeof known !== "string") expect(known, text).to.include.members(values.split(/\\?\|/));
      }
    }
  });

  it("names settings that there are, and says of each where to move it", () => {
    const known = SETTINGS.map(({ env }) => env);
    for (const [name] of PROSE.matchAll(/\bTRAINWIRE_[A-Z_]+/g)) expect(known).to.include(name);
    const advice = PROSE.split("\n## Settings\n")[1] ?? "";
    for (const name of known) expect(advice, name).to.include(`\`${name}\``);
  });

  it("has every fault of the suite", () => {
    const rows = PROSE.split("## When something breaks")[1]?.split("\n## ")[0] ?? "";
    for (const { number } of ROWS) expect(rows).to.include(`\n| ${number} | `);
  });

  it("gives Redis a user with which a hub can do all it does, and nothing else", async () => {
    const [, line = ""] = /^(ACL SETUSER .*)$/m.exec(TEXT) ?? [];
    const server = await startRedis({ args: ["--appendonly", "yes"] });
    const admin = new Redis(server.url);
    const [command = "", ...words] = line.split(" ");
    expect(await admin.call(command, ...words)).to.equal("OK");
    const url = server.url.replace("//", "//trainwire:PASSWORD@");

    const hub = await startTestHub({ redis: { url }, prefix: "trainwire" });
    const watcher = await hub.watcher();
    const trainer = await hub.trainer();
    await watcher.subscribe({ job_id: "j", wait: true });
    await trainer.publish({ type: "training_progress", job_id: "j", data: { step: 1, loss: 1 } });
    await watcher.next("training_progress");
    await watcher.good("series", { job_id: "j" });
    await watcher.good("presence", { job_id: "j" });
    await until(() => hub.hub.state === "ready");
    await hub.close();
    expect(hub.log).to.deep.equal([]);
    expect(await admin.call("ACL", "LOG")).to.deep.equal([]);

    const other = new Redis(url);
    for (const refused of [
      ["SET", "other:key", "1"],
      ["SPUBLISH", "other:channel", "x"],
      ["SSUBSCRIBE", "other:channel"],
      ["FLUSHALL"],
      ["KEYS", "*"],
      ["CONFIG", "SET", "maxmemory", "1"],
      ["ACL", "LIST"],
      ["SCRIPT", "FLUSH"],
      ["SHUTDOWN"],
    ] as const) {
      const [name, ...args] = refused;
      const error = await other.call(name, ...args).then(
        () => undefined,
        (reason: Error) => reason.message,
      );
      expect(error, refused.join(" ")).to.match(/^NOPERM/);
    }
    other.disconnect();
    admin.disconnect();
    await server.stop();
  });
});
