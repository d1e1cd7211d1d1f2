import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import type { Summary } from "../../bench/report.ts";
import { type TempFolder, tempFolder } from "../support/cleanup.ts";
import { startProcess } from "../support/process.ts";

const PROGRAM = fileURLToPath(new URL("../../scripts/bench.ts", import.meta.url));
/** Anybody's server and driver would do. */
const PEER = fileURLToPath(new URL("../../bench/peers/ws.ts", import.meta.url));
const DRIVER = fileURLToPath(new URL("../../bench/drivers/ws.ts", import.meta.url));
const LIMIT_MS = 120_000;

describe("npm run bench", () => {
  let folder: TempFolder;

  beforeEach(() => {
    folder = tempFolder("results");
  });

  afterEach(() => folder.remove());

  async function bench(...args: string[]): Promise<{ code: number | null; output: readonly string[] }> {
    const own = ["--import", "tsx", PROGRAM, "--results", folder.path, ...args];
    const running = startProcess(process.execPath, own);
    const { code } = await running.exited;
    return { code, output: running.output };
  }

  it("measures what it is told to, and ends with one object", async () => {
    const peer = ["--peer", `other=${process.execPath} --import tsx ${PEER}`, "--driver", DRIVER];
    const client = ["--client", "trainwire-client"];
    const { code, output } = await bench("fanout", "--quick", "--rounds", "1", "--json", ...client, ...peer);
    expect(code, output.join("\n")).to.equal(0);
    const last = output.findLast((line) => line.startsWith("{")) as string;
    const summary = JSON.parse(last) as Record<string, Summary>;
    expect(Object.keys(summary)).to.deep.equal(["fanout", "fanout_single"]);
    for (const { ratio, spread, target, met } of Object.values(summary)) {
      expect(ratio).to.be.within(0.01, 100);
      expect(spread).to.have.length(2);
      expect(target).to.be.above(0);
      expect(met).to.equal((ratio as number) <= target);
    }
    const [page, json] = readdirSync(folder.path).sort();
    expect(page).to.match(/^\d{4}-\d\d-\d\d-\d{6}-.+-quick\.html$/);
    const kept = JSON.parse(readFileSync(join(folder.path, json as string), "utf8"));
    expect(kept).to.include.keys("date", "machine", "versions", "systems", "rows");
    expect(kept.systems[0].description).to.include("driver trainwire-client");
    expect(kept.summary).to.deep.equal(summary);
    expect(kept.rows[0].figures).to.have.keys("trainwire", "socket.io-default", "socket.io-sharded", "other");
  }).timeout(LIMIT_MS);

  it("refuses what it does not know", async () => {
    const { code, output } = await bench("speed");
    expect(code).to.equal(1);
    expect(output.join("\n")).to.match(/it is one of: fanout, .*memory/);
    expect((await bench("--client", "mine")).output.join("\n")).to.include("trainwire-sdk");
    expect((await bench("--peer", "other=./serve")).output.join("\n")).to.include(
      "each --peer needs its --driver",
    );
  });
});
