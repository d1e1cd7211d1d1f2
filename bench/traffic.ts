/** A running system under the open load of a schedule: what its watchers have received, and what that cost. */
import type { Target } from "./driver.ts";
import {
  type Generators,
  type Group,
  type GroupFigures,
  generatorLimit,
  type ScheduleFigures,
} from "./generators.ts";
import { targetsOf } from "./lane.ts";
import { Neighbours } from "./neighbours.ts";
import type { ScheduleRequest, WatchRequest } from "./orders.ts";
import { CpuClock } from "./processes.ts";
import type { RunningSystem, System } from "./system.ts";

/** For what is still under way when nobody publishes any more. */
const ARRIVAL_LIMIT_MS = 5_000;
const US_PER_S = 1_000_000;
/** Cores of others. Above it their work is in the figures. */
const NEIGHBOURS_LIMIT = 0.2;
/** Each job's first events: rooms and channels are joined, and code runs that never ran before. */
const WARM = { perSecond: 20, pattern: "even", seconds: 0.5 } as const;

export interface TrafficOptions {
  generators: Generators;
  redisUrl: string;
  instances: number;
  jobs: readonly string[];
  watchersPerJob: number;
  /** Of the instances: where watchers are, and where trainers publish. */
  watchAt(instances: readonly Target[]): readonly Target[];
  publishAt(instances: readonly Target[]): readonly Target[];
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
  static async open(system: System, options: TrafficOptions): Promise<Traffic> {
    const { generators, redisUrl, instances, jobs, watchersPerJob } = options;
    const running = await system.start({ redisUrl, instances });
    try {
      const request: WatchRequest = {
        driver: system.driver,
        targets: options.watchAt(targetsOf(running)),
        watchers: jobs.length * watchersPerJob,
        jobs: { kind: "spread", jobs, perJob: watchersPerJob },
      };
      const traffic = new Traffic(running, await generators.watch(request), options);
      await traffic.play(WARM);
      return traffic;
    } catch (error) {
      await running.stop();
      throw error;
    }
  }

  /**
   * One load; again, when somebody else was on the machine: of so many attempts the least disturbed. What has gone wrong
   * in one of them is told in any case.
   */
  async playUndisturbed(load: Load, attempts: number): Promise<Played> {
    let best = await this.play(load);
    for (let i = 1; i < attempts && best.neighbours > NEIGHBOURS_LIMIT; i++) {
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
    const targets = publishAt(targetsOf(this.#running));
    const schedule = await generators.schedule({
      ...{ ...load, driver: system.driver, targets, jobs, after: this.#last },
    }).done;
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

  async stop(): Promise<void> {
    await this.#group.close();
    await this.#running.stop();
  }
}

function neighboursLimit(share: number): string | undefined {
  if (share <= NEIGHBOURS_LIMIT) return undefined;
  return `other programs took ${Math.round(share * 100)} % of a core`;
}

/** What is wrong with what has arrived; of Trainwire nothing may be. */
export function faultOf({ complete, watchers, schedule }: Played): string | undefined {
  const { lost, doubled, misordered, losses } = watchers;
  if (complete && lost + doubled + misordered + losses + schedule.refused === 0) return undefined;
  const counts = `${lost} lost, ${doubled} doubled, ${misordered} out of order, ${schedule.refused} refused`;
  return `${counts}, ${losses} connections lost${schedule.fault === undefined ? "" : `: ${schedule.fault}`}`;
}
