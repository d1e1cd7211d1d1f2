import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";

const MODULE = new URL("../../src/cli/garbage.ts", import.meta.url);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Makes garbage, and little that stays, and prints the sizes that the young generation had, MB. */
const PROGRAM = `
  import { getHeapSpaceStatistics } from "node:v8";
  if (process.env.EVENLY) (await import(${JSON.stringify(MODULE.href)})).collectGarbageEvenly();
  const sizes = new Set();
  const kept = [];
  for (let i = 0; i < 400_000; i++) {
    const garbage = { i, list: [i, i, i] };
    if (i % 20 === 0) kept.push(garbage);
    if (i % 1_000 === 0) {
      const young = getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space");
      sizes.add(Math.round(young.space_size / 2 ** 20));
    }
  }
  console.log(JSON.stringify([...sizes]));
`;

async function sizes(env: NodeJS.ProcessEnv): Promise<number[]> {
  const args = ["--import", "tsx", "--input-type=module", "--eval", PROGRAM];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, ...env },
  });
  // V8 complains there about flags that it does not know.
  expect(stderr).to.equal("");
  return JSON.parse(stdout) as number[];
}

describe("cli: garbage", () => {
  it("a young generation that was small becomes large in one step", async () => {
    const [own, evenly] = await Promise.all([sizes({}), sizes({ EVENLY: "yes" })]);
    // Two semi-spaces of 16 MB, and nothing between the size that a process begins with and that.
    expect(Math.max(...evenly)).to.be.at.least(32);
    expect(evenly.filter((size) => size > (own[0] as number) * 2 && size < 32)).to.deep.equal([]);
    expect(Math.max(...own)).to.be.below(32);
  });
});
