import { expect } from "chai";
import { Neighbours } from "../../bench/neighbours.ts";
import { startProcess } from "../support/process.ts";

/** What the kernel counts whole ticks of is exact over some time only. */
const WORK_MS = 500;
const WORK = `const end = Date.now() + ${WORK_MS}; while (Date.now() < end); console.log("done");`;

describe("Neighbours", () => {
  it("are all but those that one has started", async () => {
    const own = new Neighbours();
    // For this one even the process of the test is a neighbour.
    const idle = startProcess("sleep", ["60"]);
    const foreign = new Neighbours(idle.pid);
    const worker = startProcess(process.execPath, ["-e", WORK]);
    await worker.waitForLine(/done/);
    const [ownShare, foreignShare] = [own.share(), foreign.share()];
    await Promise.all([worker.stop(), idle.stop()]);
    expect(foreignShare).to.be.greaterThan(0.2);
    // The worker is in the one and not in the other; whatever else runs here is in both.
    expect(foreignShare - ownShare).to.be.greaterThan(0.1);
  });
});
