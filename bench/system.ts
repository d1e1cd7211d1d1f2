/** What is measured: a server in its processes, and how clients speak with it. */
import type { DriverName, Endpoint } from "./driver.ts";
import { type Stops, settled } from "./stops.ts";

export interface SystemOptions {
  /** Processes that share one Redis. Default: 1. */
  instances?: number;
  /** Of its Redis; started and ended by whoever measures. A system without one is given it all the same. */
  redisUrl: string;
  /** Beside what the system needs anyway, for Trainwire only (settings of the hub). */
  env?: NodeJS.ProcessEnv;
}

/** One process of a running system. */
export interface ServerProcess {
  readonly pid: number;
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
}

export interface RunningSystem {
  readonly system: System;
  readonly servers: readonly ServerProcess[];
  /**
   * Has every server collect its garbage twice and give back what it does not need. Resolves with the bytes of heap and
   * external memory that are in use then, of each server. Rejects where the system cannot (external ones).
   */
  collect(): Promise<readonly number[]>;
  /** Ends its processes, by their ids. */
  stop(): Promise<void>;
}

export interface System {
  /** As in the table and in results: `trainwire`, `ws`, `socket.io`, `socket.io-default`, … */
  readonly name: string;
  /** What it runs with, for the table's foot. */
  readonly description: string;
  /** What it does not do that Trainwire does: `history`, `order`, … Empty for Trainwire. */
  readonly lacks: readonly string[];
  /** How many processes it can join; 1 for what has no adapter. */
  readonly maxInstances: number;
  /** How the generator's clients speak with it. */
  readonly driver: DriverName;
  start(options: SystemOptions): Promise<RunningSystem>;
}

/** All of them, side by side. */
export function startAll(
  systems: readonly System[],
  options: SystemOptions,
  stops: Stops,
): Promise<RunningSystem[]> {
  const starts = systems.map(async (system) => {
    const running = await system.start(options);
    stops.add(() => running.stop());
    return running;
  });
  return settled(starts);
}

export function endpointsOf({ servers }: RunningSystem): Endpoint[] {
  return servers.map(({ url }) => ({ url }));
}
