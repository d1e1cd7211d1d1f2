/** What a server's CPU spends on events and deliveries, without what it spends when nothing happens. */
import { setTimeout as sleep } from "node:timers/promises";
import type { RunCost } from "./fit.ts";
import type { Generators, Group, GroupFigures } from "./generators.ts";
import { CpuClock } from "./processes.ts";
import type { ServerProcess, System } from "./system.ts";

const LOOK_MS = 20;
/** For the last deliveries. */
const ARRIVE_MS = 5_000;

/** Who watches what. */
export interface Watched {
  /** Everybody who watches one of the jobs. */
  group: Group;
  /** Each has had as many events as the others. */
  jobs: readonly string[];
  /** Watchers of each. */
  perJob: number;
}

export interface ServerLoad extends Watched {
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
  /** µs of CPU for each µs in which nothing happens: the least that was seen, when no garbage was collected. */
  #idle: number | undefined;

  constructor(system: System, { url, pid }: ServerProcess, generators: Generators) {
    this.#system = system;
    this.#url = url;
    this.#clock = new CpuClock([pid]);
    this.#generators = generators;
  }

  /** So many on each of the jobs; everybody on `also` besides. */
  async watch(jobs: readonly string[], perJob: number, also: readonly string[] = []): Promise<Watched> {
    const group = await this.#generators.watch({
      ...{ driver: this.#system.driver, targets: [{ url: this.#url }], watchers: jobs.length * perJob },
      jobs: { kind: "spread", jobs, perJob, also },
    });
    return { group, jobs, perJob };
  }

  /** What the load has cost. Throws when not all of it has arrived: then it is not known what was paid for. */
  async cost({ group, jobs, perJob, perSecond, seconds }: ServerLoad): Promise<RunCost> {
    const [first] = jobs as [string];
    await group.reset();
    const before = this.#clock.spentUs();
    const started = performance.now();
    const { sent, acknowledged, last, fault } = await this.#generators.schedule({
      ...{ driver: this.#system.driver, targets: [{ url: this.#url }], jobs, seconds },
      ...{ perSecond: perSecond / jobs.length, pattern: "even", after: this.#last.get(first) ?? 0 },
    });
    for (const job of jobs) this.#last.set(job, last);
    const deliveries = sent * perJob;
    const { received } = await arrived(group, deliveries);
    const us = (performance.now() - started) * 1_000;
    const costUs = this.#clock.spentUs() - before - (this.#idle ?? 0) * us;
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
      const idle = (server.#clock.spentUs() - (before[i] as number)) / us;
      server.#idle = Math.min(server.#idle ?? idle, idle);
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
