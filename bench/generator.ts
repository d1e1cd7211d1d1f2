/** A generator's process: watchers, publishers and schedules, as its parent asks for them. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type CarryOut, sayToParent, serveOrders } from "../test/support/asked.ts";
import { Crowd } from "./crowd.ts";
import type { Publisher } from "./driver.ts";
import { loadDriver } from "./drivers/load.ts";
import type { Orders, ProcessFigures } from "./orders.ts";
import { Schedule } from "./schedule.ts";

const LAG_RESOLUTION_MS = 10;

const lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
lag.enable();
let cpu = process.cpuUsage();
let since = performance.now();

const crowds = new Map<number, Crowd>();
const publishers = new Map<number, Publisher>();
let numbers = 0;

const CARRY_OUT: CarryOut<Orders> = {
  async watch(request) {
    const driver = await loadDriver(request.driver);
    const crowd = new Crowd(request);
    crowds.set(request.group, crowd);
    const there = await crowd.open(driver, sayToParent);
    resetProcess();
    return there;
  },
  waitFor: ({ group, events, limitMs }) => crowdOf(group).waitFor(events, limitMs),
  figures: ({ group, upTo }) => crowdOf(group).figures(upTo),
  lasts: ({ group, sinceUs }) => crowdOf(group).lasts(sinceUs),
  process: processFigures,
  reset({ group }) {
    crowdOf(group).reset();
    resetProcess();
    return null;
  },
  stopReading: ({ group, percent }) => crowdOf(group).stopReading(percent),
  readAgain({ group }) {
    crowdOf(group).readAgain();
    return null;
  },
  ended: ({ group }) => crowdOf(group).ended(),
  close({ group }) {
    crowds.get(group)?.close();
    crowds.delete(group);
    return null;
  },
  async publisher({ driver, target }) {
    const number = ++numbers;
    publishers.set(number, await (await loadDriver(driver)).publisher(target));
    return number;
  },
  async publish({ publisher, job, events }) {
    await publishers.get(publisher)?.publish(job, events);
    return null;
  },
  closePublisher({ publisher }) {
    publishers.get(publisher)?.close();
    publishers.delete(publisher);
    return null;
  },
  async schedule(request) {
    const driver = await loadDriver(request.driver);
    resetProcess();
    const counts = await new Schedule(request).run(driver);
    return { ...counts, process: processFigures() };
  },
};

function crowdOf(group: number): Crowd {
  const crowd = crowds.get(group);
  if (!crowd) throw new Error(`there is no group ${group}`);
  return crowd;
}

function processFigures(): ProcessFigures {
  const { user, system } = process.cpuUsage(cpu);
  return {
    name: process.argv[2] ?? "generator",
    lagMs: Math.max(0, lag.percentile(99) / 1e6 - LAG_RESOLUTION_MS),
    cpu: (user + system) / 1_000 / (performance.now() - since),
  };
}

function resetProcess(): void {
  lag.reset();
  cpu = process.cpuUsage();
  since = performance.now();
}

serveOrders(CARRY_OUT);
