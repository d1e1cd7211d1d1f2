/** A running system under the open load of a schedule: what its watchers have received, and what that cost. */
import { startRedis } from "../test/support/redis.ts";
import type { Endpoint } from "./driver.ts";
import {
  Generators,
  type Group,
  type GroupFigures,
  generatorLimit,
  type ScheduleFigures,
} from "./generators.ts";
import type { Bench } from "./measure.ts";
import { Neighbours, neighboursLimit } from "./neighbours.ts";
import type { ScheduleRequest, WatchRequest } from "./orders.ts";
import { CpuClock } from "./processes.ts";
import type { Stops } from "./stops.ts";
import { endpointsOf, type RunningSystem, type System, startAll } from "./system.ts";

/** For what is still under way when nobody publishes any more. */
const ARRIVAL_LIMIT_MS = 5_000;
const US_PER_S = 1_000_000;
/** Each job's first events: rooms and channels are joined, and code runs that never ran before. */
const FIRST = { perSecond: 40, pattern: "even", seconds: 0.25 } as const;

/** Of each system; who cannot be two is left out. */
const INSTANCES = 2;

export interface TrafficPlan {
  jobs: readonly string[];
  watchersPerJob: number;
  /** Of the instances: where watchers are, and where trainers publish. */
  watchAt(instances: readonly Endpoint[]): readonly Endpoint[];
  publishAt(instances: readonly Endpoint[]): readonly Endpoint[];
}

interface TrafficOptions extends TrafficPlan {
  generators: Generators;
}

export type Load = Pick<ScheduleRequest, "perSecond" | "pattern" | "seconds">;

/** What came of one load. */
export interface Played {
  /** Everybody has every event. */
  complete: boolean;
  watchers: GroupFigures;
  schedule: ScheduleFigures;
  /** Of all servers together, µs. */
  cpuUs: number;
  /** The busiest server's share of a core; above 1 where it still worked when the schedule was over. */
  busiest: number;
  /** Cores that others were busy with meanwhile. */
  neighbours: number;
  /** Why the figures say nothing: the generator was the limit, or somebody else was on the machine. */
  limit: string | undefined;
}

export class Traffic {
  readonly name: string;
  readonly #running: RunningSystem;
  readonly #group: Group;
  readonly #options: TrafficOptions;
  /** Number of each job's last event. */
  #last = 0;

  private constructor(running: RunningSystem, group: Group, options: TrafficOptions) {
    this.name = running.system.name;
    this.#running = running;
    this.#group = group;
    this.#options = options;
  }

  /** Resolves when everybody is there and has received something. */
  static async open(running: RunningSystem, options: TrafficOptions): Promise<Traffic> {
    const { generators, jobs, watchersPerJob, watchAt } = options;
    const request: WatchRequest = {
      driver: running.system.driver,
      targets: watchAt(endpointsOf(running)),
      watchers: jobs.length * watchersPerJob,
      jobs: { kind: "spread", jobs, perJob: watchersPerJob },
    };
    const traffic = new Traffic(running, await generators.watch(request), options);
    await traffic.play(FIRST);
    return traffic;
  }

  /**
   * One load; again, when somebody else was on the machine: of so many attempts the least disturbed. What has gone wrong
   * in one of them is told in any case.
   */
  async playUndisturbed(load: Load, attempts: number): Promise<Played> {
    let best = await this.play(load);
    for (let i = 1; i < attempts && neighboursLimit(best.neighbours) !== undefined; i++) {
      if (faultOf(best) !== undefined) return best;
      const next = await this.play(load);
      if (faultOf(next) !== undefined || next.neighbours < best.neighbours) best = next;
    }
    return best;
  }

  /** One load, until everything has arrived. */
  async play(load: Load): Promise<Played> {
    const { generators, jobs, publishAt } = this.#options;
    const { system, servers } = this.#running;
    await this.#group.reset();
    const neighbours = new Neighbours();
    const cpu = new CpuClock(servers.map(({ pid }) => pid));
    const targets = publishAt(endpointsOf(this.#running));
    const schedule = await generators.schedule({
      ...{ ...load, driver: system.driver, targets, jobs, after: this.#last },
    });
    const complete = await this.#group.waitFor(schedule.last - this.#last, ARRIVAL_LIMIT_MS);
    const spent = cpu.each();
    const others = neighbours.share();
    this.#last = schedule.last;
    const watchers = await this.#group.figures(this.#last);
    return {
      ...{ complete, watchers, schedule },
      cpuUs: spent.reduce((sum, us) => sum + us, 0),
      busiest: Math.max(...spent) / (load.seconds * US_PER_S),
      neighbours: others,
      limit: generatorLimit([...watchers.processes, schedule.process]) ?? neighboursLimit(others),
    };
  }

  /** Its clients go; the system stays. */
  async close(): Promise<void> {
    await this.#group.close();
  }
}

/** Plays each load so long in each system: V8 compiles what has run some thousand times. With 0, none. */
export async function warm(
  all: Iterable<Traffic>,
  loads: readonly Load[],
  seconds: number,
  bench: Bench,
): Promise<void> {
  if (seconds === 0) return;
  for (const traffic of all) {
    for (const load of loads) check(await traffic.play({ ...load, seconds }), traffic.name, bench);
  }
}

/** Name → each system on two instances, with its watchers, all of them on one Redis. */
export async function openTraffic(
  { ours, peers, say }: Bench,
  stops: Stops,
  { generators: count, ...plan }: TrafficPlan & { generators: number },
): Promise<Map<string, Traffic>> {
  const redis = await startRedis();
  stops.add(() => redis.stop());
  const generators = await Generators.start(count, say);
  stops.add(() => generators.stop());
  const systems = [ours, ...peers].filter(({ maxInstances }) => maxInstances >= INSTANCES);
  const all = new Map<string, Traffic>();
  for (const running of await startAll(systems, { redisUrl: redis.url, instances: INSTANCES }, stops)) {
    const traffic = await Traffic.open(running, { ...plan, generators });
    stops.add(() => traffic.close());
    all.set(traffic.name, traffic);
  }
  return all;
}

/** What is wrong with what has arrived; of Trainwire nothing may be. */
export function faultOf({ complete, watchers, schedule }: Played): string | undefined {
  const { lost, doubled, misordered, losses } = watchers;
  if (complete && lost + doubled + misordered + losses + schedule.refused === 0) return undefined;
  const counts = `${lost} lost, ${doubled} doubled, ${misordered} out of order, ${schedule.refused} refused`;
  return `${counts}, ${losses} connections lost${schedule.fault === undefined ? "" : `: ${schedule.fault}`}`;
}

/** A peer may lose what it does not promise to keep; it is said. */
export function check(played: Played, name: string, { ours, say }: Bench): void {
  const fault = faultOf(played);
  if (fault === undefined) return;
  if (name === ours.name) throw new Error(`${name}: ${fault}`);
  say(`${name}: ${fault}`);
}

/** How often the generator was the limit, or others were on the machine, at the turns of those that a ratio is made of. */
export class Limits {
  readonly #judged: readonly string[];
  /** By key: `undefined` for each turn without a limit. */
  readonly #turns = new Map<string, Array<string | undefined>>();

  constructor({ ours, references }: { ours: Pick<System, "name">; references: readonly string[] }) {
    this.#judged = [ours.name, ...references];
  }

  add(key: string, system: string, { limit }: Pick<Played, "limit">): void {
    if (!this.#judged.includes(system)) return;
    const turns = this.#turns.get(key);
    if (turns) turns.push(limit);
    else this.#turns.set(key, [limit]);
  }

  /** Why the figures say nothing: it was so in more than half of the turns. */
  reason(key: string): string | undefined {
    const turns = this.#turns.get(key) ?? [];
    const reasons = turns.filter((limit) => limit !== undefined);
    return reasons.length > turns.length / 2 ? reasons[0] : undefined;
  }
}
