/** One run: three hubs on one Redis, two trainers on the same jobs, 90 watchers, and faults all the while. */
import { setTimeout as sleep } from "node:timers/promises";
import type { RedisServer } from "../support/redis.ts";
import { crash, cutSubscribers } from "./faults.ts";
import type { HubBuild } from "./hub-process.ts";
import type { Trainer } from "./load.ts";
import { Random } from "./random.ts";
import { FOREIGN, HOME, Stage, type Tenant } from "./stage.ts";
import { readStatus } from "./stored.ts";

export interface RunOptions {
  redis: RedisServer;
  build: HubBuild;
  seed: number;
  /** Durable events, and as many of progress. */
  events: number;
  /** Of both together. */
  perSecond: number;
  /** When its hub is killed, a trainer goes on at another one instead of waiting. */
  trainersMove: boolean;
}

const JOBS: readonly string[] = ["job-0", "job-1", "job-2", "job-3", "job-4", "job-5"];
/** The other two begin after a third of the run. */
const FIRST_JOBS = JOBS.slice(0, 4);

const HUBS = 3;
const CUT_EVERY_MS = 1_000;
const DOWN_MS = 2_000;
/** Part of the trainers' calls whose connection breaks meanwhile. */
const BREAKS = 0.02;
const FOREIGN_PER_SECOND = 20;

export class Run {
  readonly stage: Stage;
  /** How often subscribers were cut, and how many connections that were. */
  cuts = { times: 0, connections: 0 };
  heals = 0;
  gaps = 0;
  seconds = { load: 0, total: 0 };
  /** ms of live deliveries on hubs that were not killed. */
  readonly delays: number[] = [];
  readonly #options: RunOptions;
  /** Index of the hub that will be killed: one that has a trainer. */
  readonly #victim: number;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#victim = new Random(options.seed).int(0, 2);
    const onDelay = (ms: number) => void this.delays.push(ms);
    const { redis, build, seed } = options;
    this.stage = new Stage({
      ...{ redis, build, seed, hubs: HUBS, jobs: JOBS },
      listen: (hub) => (hub === this.#victim ? {} : { onDelay }),
    });
  }

  async run(): Promise<void> {
    const started = performance.now();
    const { stage } = this;
    try {
      await stage.startHubs();
      await stage.joinAll();
      await this.#load();
      await stage.settle();
      await stage.readStored();
      for (const hub of stage.hubs.keys()) await this.#count(hub);
      await stage.leave();
    } finally {
      await this.close();
    }
    this.seconds.total = (performance.now() - started) / 1_000;
  }

  /** Ends everything at once, also a run that hangs. */
  close(): Promise<void> {
    return this.stage.close();
  }

  async #load(): Promise<void> {
    const started = performance.now();
    const { events, perSecond } = this.#options;
    const duration = (events * 2) / perSecond;
    const share = { durable: events / 2, progress: events / 2, perSecond: perSecond / 2 };
    const foreign = Math.round(duration * FOREIGN_PER_SECOND) / 2;
    const perForeign = { durable: foreign, progress: foreign, perSecond: FOREIGN_PER_SECOND, keys: [{}] };
    const trainers = [
      this.#trainer(HOME, 0, { ...share, keys: [{}, { product: "north", rank: 0 }] }),
      this.#trainer(HOME, 1, { ...share, keys: [{ rank: 0 }, { rank: 1 }] }),
      this.#trainer(FOREIGN, 2, perForeign),
    ];
    const over = new AbortController();
    const publishing = trainers.map((trainer) => trainer.run());
    const crashing = sleep((duration / 2) * 1_000).then(() => this.#crash());
    [this.cuts] = await Promise.all([
      cutSubscribers(this.stage.redis, { everyMs: CUT_EVERY_MS, end: over.signal }),
      Promise.all([...publishing, crashing]).finally(() => over.abort()),
    ]);
    this.seconds.load = (performance.now() - started) / 1_000;
    await this.stage.endLoad(JOBS);
  }

  #trainer(
    tenant: Tenant,
    hub: number,
    load: {
      durable: number;
      progress: number;
      perSecond: number;
      keys: ReadonlyArray<{ product?: string; rank?: number }>;
    },
  ): Trainer {
    const jobs = (part: number) => (part < 1 / 3 ? FIRST_JOBS : JOBS);
    const hubs: [number, ...number[]] = this.#options.trainersMove ? [hub, 2] : [hub];
    return this.stage.trainer(tenant, hubs, { ...load, breaks: BREAKS, jobs });
  }

  async #crash(): Promise<void> {
    await this.#count(this.#victim);
    await crash(this.stage.hub(this.#victim), this.stage.trainers[this.#victim] as Trainer, DOWN_MS);
  }

  /** Adds what a hub has counted since it started. */
  async #count(hub: number): Promise<void> {
    const { events } = await readStatus(this.stage.access(HOME, hub));
    this.heals += events.heals;
    this.gaps += events.gaps;
  }
}
