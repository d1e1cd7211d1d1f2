/** A closed loop: each job's next publish goes out when one is answered. Its parent says for how long, and how fast. */
import { setTimeout as sleep } from "node:timers/promises";
import { type CarryOut, serveOrders } from "../test/support/asked.ts";
import { nowUs } from "./clock.ts";
import type { DriverName, Endpoint, Outgoing, Publisher } from "./driver.ts";
import { loadDriver } from "./drivers/load.ts";

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

interface Line {
  job: string;
  publisher: Publisher;
  /** Number of its last event. */
  n: number;
}

const lines: Line[] = [];

const CARRY_OUT: CarryOut<FloodOrders> = {
  async open({ driver, target, jobs }) {
    const { publisher } = await loadDriver(driver);
    for (const job of jobs) lines.push({ job, publisher: await publisher(target), n: 0 });
    return null;
  },
  async flood(request) {
    const counts: FloodCounts = { acknowledged: 0, refused: 0 };
    const started = performance.now();
    const loops = lines.flatMap((line) =>
      Array.from({ length: request.window }, (_, i) => publish(i, line, request, { started, counts })),
    );
    await Promise.all(loops);
    return counts;
  },
};

/** The `place`th of a job's publishes that are under way, again and again. */
async function publish(
  place: number,
  line: Line,
  { batch, kind, window, seconds, perSecond }: FloodRequest,
  { started, counts }: { started: number; counts: FloodCounts },
): Promise<void> {
  const intervalMs = perSecond === undefined ? 0 : (lines.length * batch * 1_000) / perSecond;
  for (let due = started + place * intervalMs; ; due += window * intervalMs) {
    const ahead = due - performance.now();
    if (ahead > 1) await sleep(ahead);
    if (performance.now() >= started + seconds * 1_000) return;
    try {
      await line.publisher.publish(line.job, nextOf(line, batch, kind));
      counts.acknowledged += batch;
    } catch (error) {
      counts.refused += batch;
      counts.fault ??= (error as Error).message;
      return;
    }
  }
}

function nextOf(line: Line, count: number, kind: Outgoing["kind"]): Outgoing[] {
  const sentUs = nowUs();
  return Array.from({ length: count }, () => {
    const n = ++line.n;
    return { n, sentUs, id: `bench-${n}`, ...(kind && { kind }) };
  });
}

serveOrders(CARRY_OUT);
