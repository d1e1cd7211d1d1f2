/** One running system with its watchers and a trainer, for measures in which all of them stand ready at once. */
import type { Publisher, Target } from "./driver.ts";
import type { Generators, Group } from "./generators.ts";
import type { WatchRequest } from "./orders.ts";
import { CpuClock } from "./processes.ts";
import type { RunningSystem, System, SystemOptions } from "./system.ts";

export class Lane {
  readonly running: RunningSystem;
  readonly group: Group;
  readonly publisher: Publisher;

  private constructor(running: RunningSystem, group: Group, publisher: Publisher) {
    this.running = running;
    this.group = group;
    this.publisher = publisher;
  }

  /** Resolves when everybody is connected; the trainer is at the first of the servers. */
  static async open(
    system: System,
    generators: Generators,
    options: SystemOptions,
    watch: Pick<WatchRequest, "watchers" | "jobs">,
  ): Promise<Lane> {
    const running = await system.start(options);
    try {
      const targets = targetsOf(running);
      const { driver } = system;
      const group = await generators.watch({ ...watch, driver, targets });
      const publisher = await generators.publisher({ driver, target: targets[0] as Target });
      return new Lane(running, group, publisher);
    } catch (error) {
      await running.stop();
      throw error;
    }
  }

  get name(): string {
    return this.running.system.name;
  }

  /** Of its servers, from now on. */
  cpu(): CpuClock {
    return new CpuClock(this.running.servers.map(({ pid }) => pid));
  }

  /** Its watchers go with the generators' end. */
  stop(): Promise<void> {
    return this.running.stop();
  }
}

export function targetsOf({ servers }: RunningSystem): Target[] {
  return servers.map(({ url }) => ({ url }));
}

/** Each in turn: a start that competes with another's is no slower, but connections would be. */
export async function openLanes(
  systems: readonly System[],
  open: (system: System) => Promise<Lane>,
): Promise<Lane[]> {
  const lanes: Lane[] = [];
  try {
    for (const system of systems) lanes.push(await open(system));
    return lanes;
  } catch (error) {
    await stopLanes(lanes);
    throw error;
  }
}

/** All of them, also when one has ended before its time; throws then. */
export async function stopLanes(lanes: readonly Lane[]): Promise<void> {
  const stops = await Promise.allSettled(lanes.map((lane) => lane.stop()));
  for (const each of stops) if (each.status === "rejected") throw each.reason;
}
