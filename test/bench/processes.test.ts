import { expect } from "chai";
import { CpuClock, parseSockstat, residentBytes } from "../../bench/processes.ts";
import { type RunningProcess, startProcess } from "../support/process.ts";

const MB = 2 ** 20;

describe("CpuClock", () => {
  let started: RunningProcess;

  afterEach(() => started.stop("SIGKILL"));

  const run = (program: string) => {
    started = startProcess(process.execPath, ["--input-type=module", "--eval", program]);
    return started;
  };
  /** Works for 300 ms of its own CPU time when it is told to, and says so. */
  const worker = `
    const work = () => {
      const end = process.cpuUsage().user + 300_000;
      while (process.cpuUsage().user < end);
    };`;

  it("counts what a process has used since the clock was made", async () => {
    const { pid, waitForLine, signal } = run(`${worker}
      work();
      process.on("SIGUSR2", () => { work(); console.log("done"); });
      setInterval(() => {}, 1_000);
      console.log("ready");`);
    await waitForLine(/ready/);
    const clock = new CpuClock([pid]);
    const before = clock.spentUs();
    signal("SIGUSR2");
    await waitForLine(/done/);
    expect(before).to.be.below(100_000);
    expect(clock.spentUs()).to.be.within(280_000, 2_000_000);
  });

  it("does not fall when threads end, nor when the process does", async () => {
    const { pid, waitForLine, stop } = run(`
      import { Worker } from "node:worker_threads";
      const thread = new Worker(
        new URL("data:text/javascript," + encodeURIComponent(\`import { parentPort } from "node:worker_threads";
          ${worker} work(); parentPort.postMessage("over"); setInterval(() => {}, 1_000);\`)),
      );
      process.on("SIGUSR2", () => thread.terminate().then(() => console.log("ended")));
      thread.on("message", () => console.log("worked"));
      console.log("ready");`);
    await waitForLine(/ready/);
    const clock = new CpuClock([pid]);
    await waitForLine(/worked/);
    const worked = clock.spentUs();
    started.signal("SIGUSR2");
    await waitForLine(/ended/);
    const ended = clock.spentUs();
    await stop("SIGKILL");
    expect(worked).to.be.above(100_000);
    expect(ended).to.be.at.least(worked);
    expect(clock.spentUs()).to.be.at.least(ended);
  });

  it("counts what a process has started too, and each process apart", async () => {
    // It ends with the process that has started it.
    const child = `process.stdin.on("end", () => process.exit()).resume(); ${worker} work(); console.log("done");`;
    const { pid, waitForLine } = run(`
      import { spawn } from "node:child_process";
      spawn(process.execPath, ["--eval", ${JSON.stringify(child)}], { stdio: ["pipe", "inherit", "inherit"] });`);
    const clock = new CpuClock([pid, 2 ** 30]);
    await waitForLine(/done/);
    const [known, unknown] = clock.each();
    expect(known).to.be.above(250_000);
    expect(unknown).to.equal(0);
  });
});

describe("residentBytes", () => {
  it("tells what a process holds in memory", async () => {
    const started = startProcess(process.execPath, [
      "--eval",
      `process.on("SIGUSR2", () => { globalThis.kept = Buffer.alloc(100 * ${MB}, 1); console.log("filled"); });
      setInterval(() => {}, 1_000);
      console.log("ready");`,
    ]);
    try {
      await started.waitForLine(/ready/);
      const before = residentBytes(started.pid);
      started.signal("SIGUSR2");
      await started.waitForLine(/filled/);
      expect(residentBytes(started.pid) - before).to.be.within(95 * MB, 115 * MB);
    } finally {
      await started.stop("SIGKILL");
    }
  });

  it("throws when the process has ended", () => {
    expect(() => residentBytes(2 ** 30)).to.throw();
  });
});

describe("parseSockstat(text)", () => {
  it("reads the pages of TCP", () => {
    const text =
      "sockets: used 274\nTCP: inuse 240 orphan 0 tw 1115 alloc 240 mem 19\nUDP: inuse 0 mem 7\nFRAG: inuse 0 memory 0\n";
    expect(parseSockstat(text)).to.equal(19 * 4_096);
    expect(() => parseSockstat("UDP: inuse 0 mem 7\n")).to.throw("Linux does not tell");
  });
});
