import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { nowUs } from "../../bench/clock.ts";
import type { Outgoing } from "../../bench/driver.ts";
import { loadDriver } from "../../bench/drivers/load.ts";
import { Generators, type Group, generatorLimit } from "../../bench/generators.ts";
import { SECRET } from "../../bench/token.ts";
import { plainRedis } from "../support/hooks.ts";
import { startTestHub, type TestHub } from "../support/hub.ts";
import { freePort } from "../support/ports.ts";
import { startProcess } from "../support/process.ts";
import { TcpProxy } from "../support/proxy.ts";
import { until } from "../support/until.ts";
import { TOOK_US } from "./faulty-driver.ts";

const WATCHERS = 10;
/** Only against hanging. */
const LIMIT_MS = 20_000;
const local = (path: string) => fileURLToPath(new URL(path, import.meta.url));

function events(from: number, to: number): Outgoing[] {
  return Array.from({ length: to - from + 1 }, (_, i) => ({ n: from + i, sentUs: nowUs() }));
}

describe("generator", () => {
  let generators: Generators;
  const groups: Group[] = [];
  const lines: string[] = [];

  before(async () => {
    generators = await Generators.start(2, (line) => lines.push(line));
  });
  afterEach(async () => {
    for (const group of groups.splice(0)) await group.close();
  });
  after(() => generators.stop());

  const watch = async (request: Parameters<Generators["watch"]>[0]) => {
    const group = await generators.watch(request);
    groups.push(group);
    return group;
  };

  describe("with a hub", () => {
    let hub: TestHub;
    before(async () => {
      hub = await startTestHub({ redis: "plain", env: { JWT_SECRET: SECRET } });
    });
    after(() => hub.close());

    for (const driver of ["trainwire", "trainwire-client", "trainwire-sdk"] as const) {
      it(`${driver}: everybody has every event once and in order`, async () => {
        const job = `of-${driver}`;
        const group = await watch({
          ...{ driver, targets: [{ url: hub.url }], watchers: WATCHERS, jobs: { kind: "same", job } },
        });
        const publisher = await (await loadDriver(driver)).publisher({ url: hub.url });
        try {
          await publisher.publish(job, events(1, 1));
          await publisher.publish(job, events(2, 21));
          expect(await group.waitFor(21, LIMIT_MS)).to.equal(true);
          const figures = await group.figures(21);
          expect(figures).to.include({ watchers: WATCHERS, open: WATCHERS, received: 21 * WATCHERS });
          expect(figures).to.include({ lost: 0, doubled: 0, misordered: 0, losses: 0 });
          expect(figures.latency.count).to.equal(21 * WATCHERS);
          expect(figures.latency.percentile(50)).to.be.greaterThan(0);
          expect(figures.processes.map(({ name }) => name)).to.deep.equal(["generator 1", "generator 2"]);

          await group.reset();
          expect((await group.figures()).received).to.equal(0);
          expect(await group.waitFor(1, 1)).to.equal(false);
          await publisher.publish(job, events(22, 22));
          expect(await group.waitFor(1, LIMIT_MS)).to.equal(true);
        } finally {
          publisher.close();
        }
      });
    }

    it("a schedule sends what it should, and latency counts from the time that it wanted", async () => {
      const jobs = ["even-1", "even-2", "even-3"];
      const group = await watch({
        ...{ driver: "trainwire", targets: [{ url: hub.url }], watchers: 2 * jobs.length },
        jobs: { kind: "spread", jobs, perJob: 2 },
      });
      const schedule = await generators.schedule({
        ...{ driver: "trainwire", targets: [{ url: hub.url }], jobs, perSecond: 40, seconds: 0.5 },
        pattern: { burst: 10 },
      });
      expect(schedule).to.include({ sent: 60, acknowledged: 60, refused: 0, last: 20, overloaded: false });
      expect(await group.waitFor(20, LIMIT_MS)).to.equal(true);
      const { received, lost, latency } = await group.figures(schedule.last);
      expect({ received, lost }).to.deep.equal({ received: 20 * 6, lost: 0 });
      expect(latency.max).to.be.lessThan(LIMIT_MS * 1_000);
      // Nothing arrives before it is sent.
      expect(latency.percentile(100)).to.be.at.least(schedule.lateness.percentile(0));
    });

    it("a publisher in the generator, and watchers of several jobs", async () => {
      const jobs = ["several-1", "several-2"];
      const group = await watch({
        ...{ driver: "trainwire", targets: [{ url: hub.url }], watchers: 3 },
        jobs: { kind: "spread", jobs: jobs.slice(0, 1), perJob: 3, also: jobs.slice(1) },
      });
      const publisher = await generators.publisher({ driver: "trainwire", target: { url: hub.url } });
      for (const job of jobs) await publisher.publish(job, events(1, 5));
      expect(await group.waitFor(10, LIMIT_MS)).to.equal(true);
      expect(await group.figures(5)).to.include({ lost: 0, doubled: 0, misordered: 0, received: 30 });
      publisher.close();
    });

    it("who has stopped reading has nothing, and everything when it reads again", async () => {
      const job = "hung";
      const group = await watch({
        ...{
          driver: "trainwire",
          targets: [{ url: hub.url }],
          watchers: WATCHERS,
          jobs: { kind: "same", job },
        },
      });
      expect(await group.stopReading(0.4)).to.equal(4);
      const publisher = await (await loadDriver("trainwire")).publisher({ url: hub.url });
      await publisher.publish(job, events(1, 3));
      // The others have theirs.
      await until(async () => (await group.figures()).received === 6 * 3);
      expect((await group.figures(3)).lost).to.equal(4 * 3);
      await group.readAgain();
      expect(await group.waitFor(3, LIMIT_MS)).to.equal(true);
      publisher.close();
    });

    it("who comes back goes on where it stood; who does not has ended", async () => {
      const job = "torn";
      const proxy = await TcpProxy.open({ port: Number(new URL(hub.url).port) });
      const common = {
        driver: "trainwire",
        targets: [{ url: `http://127.0.0.1:${proxy.port}` }],
        watchers: 4,
      } as const;
      const back = await watch({ ...common, jobs: { kind: "same", job }, reconnect: true });
      const gone = await watch({ ...common, jobs: { kind: "same", job } });
      const publisher = await (await loadDriver("trainwire")).publisher({ url: hub.url });
      try {
        await publisher.publish(job, events(1, 2));
        expect(await back.waitFor(2, LIMIT_MS)).to.equal(true);
        expect(await gone.waitFor(2, LIMIT_MS)).to.equal(true);
        proxy.cut();
        await until(async () => (await gone.figures()).open === 0);
        await publisher.publish(job, events(3, 300));
        expect(await back.waitFor(300, LIMIT_MS)).to.equal(true);
        expect(await back.figures(300)).to.include({
          lost: 0,
          doubled: 0,
          misordered: 0,
          losses: 4,
          open: 4,
        });
        expect(await gone.ended()).to.deep.equal({ lost: 4 });
        expect((await gone.figures(300)).lost).to.equal(4 * 298);
      } finally {
        publisher.close();
        await proxy.close();
      }
    });
  });

  for (const [driver, program] of [
    ["socket.io", "socket-io-default.ts"],
    ["ws", "ws.ts"],
  ] as const) {
    it(`the peer ${program}: everybody has every event once and in order`, async () => {
      const port = await freePort();
      const server = startProcess(
        process.execPath,
        ["--import", "tsx", local(`../../bench/peers/${program}`)],
        { env: { PORT: String(port), REDIS_URL: (await plainRedis()).url } },
      );
      const target = { url: `http://127.0.0.1:${port}` };
      try {
        await server.waitForLine(/listening/, LIMIT_MS);
        const jobs = { kind: "same", job: `of-${program}` } as const;
        const group = await watch({ driver, targets: [target], watchers: WATCHERS, jobs });
        const publisher = await (await loadDriver(driver)).publisher(target);
        await publisher.publish(jobs.job, events(1, 20));
        expect(await group.waitFor(20, LIMIT_MS)).to.equal(true);
        expect(await group.figures(20)).to.include({ lost: 0, doubled: 0, misordered: 0 });
        publisher.close();
      } finally {
        await server.stop();
      }
    });
  }

  it("finds what is lost, doubled and out of order", async () => {
    const group = await watch({
      ...{ driver: local("faulty-driver.ts"), targets: [{ url: "none" }], watchers: 3 },
      jobs: { kind: "same", job: "planted" },
    });
    expect(await group.figures()).to.include({ lost: 3, doubled: 3, misordered: 3, received: 8 * 3 });
    const { lost, latency } = await group.figures(10);
    expect(lost).to.equal(6);
    expect(latency.percentile(99)).to.be.closeTo(TOOK_US, TOOK_US / 100);
  });

  it("says when it was itself the limit", () => {
    const process = { name: "generator 1", lagMs: 50, cpu: 0.5 };
    expect(generatorLimit([process])).to.equal(undefined);
    expect(generatorLimit([{ ...process, cpu: 0.9 }])).to.equal("generator 1 took 90 % of a core");
    expect(generatorLimit([{ ...process, lagMs: 51 }])).to.equal(
      "generator 1's event loop was 51.0 ms late (p99)",
    );
  });

  it("ends with its parent", async () => {
    const parent = startProcess(process.execPath, ["--import", "tsx", local("generator-parent.ts")]);
    const [, pids = ""] = await parent.waitForLine(/^pids (.*)$/, LIMIT_MS);
    await parent.stop("SIGKILL");
    for (const pid of pids.split(" ")) await until(() => !existsSync(`/proc/${pid}`));
  });
});
