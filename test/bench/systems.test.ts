import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { nowUs } from "../../bench/clock.ts";
import type { Driver } from "../../bench/driver.ts";
import { loadDriver } from "../../bench/drivers/load.ts";
import { jobOf } from "../../bench/event.ts";
import { residentBytes } from "../../bench/processes.ts";
import { compilePrograms, type Programs } from "../../bench/programs.ts";
import { StartedServer } from "../../bench/server-process.ts";
import type { RunningSystem, System } from "../../bench/system.ts";
import { externalPeer, peers, REFERENCES, trainwire } from "../../bench/systems.ts";
import { plainRedis } from "../support/hooks.ts";
import { until } from "../support/until.ts";

const NAMES = ["trainwire", "ws", "socket.io", "socket.io-default", "socket.io-sharded", "socket.io-streams"];
const PEER = fileURLToPath(new URL("../../bench/peers/ws.ts", import.meta.url));
const DRIVER = fileURLToPath(new URL("../../bench/drivers/ws.ts", import.meta.url));

describe("systems", () => {
  let programs: Programs;
  let running: RunningSystem | undefined;
  const closing: Array<{ close(): void }> = [];

  before(async () => {
    programs = await compilePrograms();
  });

  afterEach(async () => {
    for (const each of closing.splice(0)) each.close();
    await running?.stop();
    running = undefined;
  });

  after(() => programs.remove());

  const named = (name: string) =>
    [trainwire(programs), ...peers(programs)].find((system) => system.name === name) as System;

  async function watch(driver: Driver, url: string, jobs: string[]): Promise<string[]> {
    const texts: string[] = [];
    closing.push(await driver.watch({ url, jobs, received: (text) => texts.push(text) }));
    return texts;
  }

  /** What is published at one instance reaches the watchers of its job at another, and nobody else. */
  async function carries(system: System): Promise<void> {
    const instances = Math.min(2, system.maxInstances);
    running = await system.start({ instances, redisUrl: (await plainRedis()).url });
    expect(running.servers).to.have.length(instances);
    const [first, last] = [running.servers[0], running.servers.at(-1)].map((server) => server?.url as string);
    const driver = await loadDriver(system.driver);
    const [one, both] = [
      await watch(driver, first as string, ["one"]),
      await watch(driver, first as string, ["one", "two"]),
    ];
    const publisher = await driver.publisher({ url: last as string });
    closing.push(publisher);
    let n = 0;
    const publish = (job: string) => publisher.publish(job, [{ n: ++n, sentUs: nowUs() }]);
    // Adapters subscribe in the background: the first ones may pass by.
    await until(async () => {
      for (const job of ["one", "two"]) await publish(job);
      return one.length > 0 && both.some((text) => jobOf(text) === "two");
    });
    expect(new Set(one.map(jobOf))).to.deep.equal(new Set(["one"]));
    expect(new Set(both.map(jobOf))).to.deep.equal(new Set(["one", "two"]));
  }

  it("are what the table is made of", () => {
    const all = [trainwire(programs), ...peers(programs)];
    expect(all.map(({ name }) => name)).to.deep.equal(NAMES);
    expect(NAMES).to.include.members([...REFERENCES]);
    for (const { name, lacks } of all) expect(lacks.length === 0, name).to.equal(name === "trainwire");
  });

  for (const name of NAMES) {
    it(`${name} brings events to the watchers of their job, on any instance`, () => carries(named(name)));
  }

  it("collect their garbage when they are told to", async () => {
    for (const name of ["trainwire", "socket.io"]) {
      running = await named(name).start({ redisUrl: (await plainRedis()).url });
      const [bytes] = await running.collect();
      expect(bytes, name).to.be.within(2 ** 20, residentBytes(running.servers[0]?.pid as number));
      await running.stop();
      running = undefined;
    }
  });

  it("refuse more instances than they can join", async () => {
    const { url } = await plainRedis();
    const fault = await named("socket.io")
      .start({ instances: 2, redisUrl: url })
      .then(
        () => undefined,
        (error: Error) => error.message,
      );
    expect(fault).to.equal("socket.io joins 1 instances, not 2");
  });

  it("may come from outside, with a command and a driver", async () => {
    const command = `${process.execPath} --import tsx ${PEER}`;
    const system = await externalPeer({ name: "other", command, driver: DRIVER });
    expect([system.maxInstances, system.lacks]).to.deep.equal([1, ["unknown"]]);
    await carries(system);
    const fault = await running?.collect().catch((error: Error) => error.message);
    expect(fault).to.equal("other cannot be told to collect its garbage");
  });
});

describe("StartedServer", () => {
  const start = (program: string) =>
    StartedServer.start({ command: process.execPath, args: ["--eval", program], env: {} });
  const faultOf = (work: Promise<unknown>) =>
    work.then(
      () => undefined,
      (error: Error) => error.message,
    );

  it("says what a program said that does not listen", async () => {
    expect(await faultOf(start(`console.log("no such Redis")`))).to.match(/does not listen:\nno such Redis$/);
  });

  it("tells in the end of one that has ended by itself", async () => {
    const server = await start(`
      require("node:http").createServer((_, answer) => answer.end(() => process.exit(3))).listen(process.env.PORT);`);
    await faultOf(fetch(server.url));
    await server.exited;
    expect(await faultOf(server.stop())).to.match(/has ended by itself \(3\)/);
  });
});
