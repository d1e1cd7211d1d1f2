/** What is asked of the process that publishes as fast as it is answered. */
import type { DriverName, Endpoint, Outgoing } from "./driver.ts";

export interface FloodRequest {
  kind: Outgoing["kind"];
  /** Events in one publish. */
  batch: number;
  /** Publishes of each job that are not answered yet. */
  window: number;
  seconds: number;
  /** Events of all jobs at most. Default: as many as are answered. */
  perSecond?: number;
}

export interface FloodCounts {
  /** Events whose publish was acknowledged. */
  acknowledged: number;
  refused: number;
  /** Of the first refusal. */
  fault?: string;
}

export interface FloodOrders {
  /** A connection for each job. */
  open: { request: { driver: DriverName; target: Endpoint; jobs: readonly string[] }; answer: null };
  /** Resolves when it is over and everything is answered. */
  flood: { request: FloodRequest; answer: FloodCounts };
}
