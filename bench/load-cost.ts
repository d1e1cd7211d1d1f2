/** What a server's CPU spends on events and deliveries, without what it spends when nothing happens. */
import { setTimeout as sleep } from "node:timers/promises";
import type { RunCost } from "./fit.ts";
import type { Generators, Group, GroupFigures } from "./generators.ts";
import { CpuClock } from "./processes.ts";
import type { ServerProcess, System } from "./system.ts";

const LOOK_MS = 20;
/** For the last deliveries. */
const ARRIVE_MS = 5_000;

export interface ServerLoad {
  /** Everybody who watches one of the jobs. */
  group: Group;
  /** Each has had as many events as the others. */
  jobs: readonly string[];
  /** Of each job. */
  watchers: number;
  /** Events a second of all jobs together, one a publish. */
  perSecond: number;
  seconds: number;
}

export class LoadedServer {
  readonly #system: System;
  readonly #url: string;
  readonly #clock: CpuClock;
  readonly #generators: Generators;
  /** Job → number of its last event. */
  readonly #last = new Map<string, number>();
  /** µs of CPU for each µs in which nothing happens. */
  #idle = 0;

  constructor(system: System, { url, pid }: ServerProcess, generators: Generators) {
    this.#system = system;
    this.#url = url;
    this.#clock = new CpuClock([pid]);
    this.#generators = generators;
  }

  /** So many on each of the jobs, all together `watchers`; everybody on `also` besides. */
  watch(watchers: number, jobs: readonly string[], also: readonly string[] = []): Promise<Group> {
    const perJob = watchers / jobs.length;
    return this.#generators.watch({
      ...{ driver: this.#system.driver, targets: [{ url: this.#url }], watchers },
      jobs: { kind: "spread", jobs, perJob, also },
    });
  }

  /** What the load has cost. Throws when not all of it has arrived: then it is not known what was paid for. */
  async cost({ group, jobs, watchers, perSecond, seconds }: ServerLoad): Promise<RunCost> {
    const [first] = jobs as [string];
    await group.reset();
    const before = this.#clock.spentUs();
    const started = performance.now();
    const { sent, acknowledged, last, fault } = await this.#generators.schedule({
      ...{ driver: this.#system.driver, targets: [{ url: this.#url }], jobs, seconds },
      ...{ perSecond: perSecond / jobs.length, pattern: "even", after: this.#last.get(first) ?? 0 },
    });
    for (const job of jobs) this.#last.set(job, last);
    const deliveries = sent * watchers;
    const { received } = await arrived(group, deliveries);
    const us = (performance.now() - started) * 1_000;
    const costUs = this.#clock.spentUs() - before - this.#idle * us;
    if (acknowledged !== sent || received !== deliveries) {
      const what = `${acknowledged} of ${sent} events acknowledged, ${received} of ${deliveries} deliveries`;
      throw new Error(`${this.#system.name}: ${what}${fault === undefined ? "" : ` (${fault})`}`);
    }
    return { events: sent, deliveries, costUs };
  }

  /** Learns what each server spends while nothing happens, of all at the same time. */
  static async idle(servers: readonly LoadedServer[], seconds: number): Promise<void> {
    const before = servers.map((server) => server.#clock.spentUs());
    const started = performance.now();
    await sleep(seconds * 1_000);
    const us = (performance.now() - started) * 1_000;
    for (const [i, server] of servers.entries()) {
      server.#idle = (server.#clock.spentUs() - (before[i] as number)) / us;
    }
  }
}

async function arrived(group: Group, deliveries: number): Promise<GroupFigures> {
  const limit = performance.now() + ARRIVE_MS;
  for (;;) {
    const figures = await group.figures();
    if (figures.received >= deliveries || performance.now() > limit) return figures;
    await sleep(LOOK_MS);
  }
}
