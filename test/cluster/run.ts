/** One run: three hubs on one Redis, two trainers on the same jobs, 90 watchers, and faults all the while. */
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { type Role, signToken } from "../../src/auth.ts";
import type { Snapshot } from "../../src/protocol/types.ts";
import type { RedisServer } from "../support/redis.ts";
import { comeAndGo } from "./churn.ts";
import { crowd, type Member } from "./crowd.ts";
import { crash, cutSubscribers } from "./faults.ts";
import { type FeedLog, Texts } from "./history.ts";
import { type HubBuild, HubProcess } from "./hub-process.ts";
import { Trainer } from "./load.ts";
import { Random } from "./random.ts";
import { type Access, readJob, readSnapshot, readStatus, readTenant } from "./stored.ts";
import { Watcher, type WatcherOptions } from "./watcher.ts";

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

interface Tenant {
  tenantId: string;
  /** In every event. */
  marker: string;
}
export const HOME: Tenant = { tenantId: "home", marker: "mark-of-home" };
/** Uses the same job ids. */
export const FOREIGN: Tenant = { tenantId: "foreign", marker: "mark-of-foreign" };
export const JOBS: readonly string[] = ["job-0", "job-1", "job-2", "job-3", "job-4", "job-5"];
/** The other two begin after a third of the run. */
const FIRST_JOBS = JOBS.slice(0, 4);

const HUBS = 3;
const SECRET = "a secret that only the tests of the cluster know";
const KEY_PREFIX = "trainwire";
const RELEASE_MS = 500;
const CUT_EVERY_MS = 1_000;
const DOWN_MS = 2_000;
/** Part of the trainers' calls whose connection breaks meanwhile. */
const BREAKS = 0.02;
const FOREIGN_PER_SECOND = 20;
const LOOK_MS = 50;
/** Only against hanging. */
const LIMIT_MS = 30_000;

/** What the hubs read in the end. */
export interface StoredTenant {
  /** By hub, then by job. */
  jobs: FeedLog[][];
  /** By hub. */
  tenant: FeedLog[];
  /** Of the jobs. */
  snapshots: Snapshot[];
}

export class Run {
  readonly hubs: HubProcess[] = [];
  readonly trainers: Trainer[] = [];
  readonly foreignTrainers: Trainer[] = [];
  readonly watchers: Watcher[] = [];
  readonly texts = new Texts();
  readonly stored = new Map<Tenant, StoredTenant>();
  /** Watchers that never came to the end. */
  readonly late: string[] = [];
  /** What is still there after everybody has left. */
  readonly left: string[] = [];
  /** How often subscribers were cut, and how many connections that were. */
  cuts = { times: 0, connections: 0 };
  heals = 0;
  gaps = 0;
  seconds = { load: 0, total: 0 };
  /** ms of live deliveries on hubs that were not killed. */
  readonly delays: number[] = [];
  readonly #options: RunOptions;
  readonly #random: Random;
  readonly #redis: Redis;
  readonly #end = new AbortController();
  /** Index of the hub that will be killed: one that has a trainer. */
  readonly #victim: number;
  /** Connections of idle hubs to Redis. */
  #baseLine = 0;
  readonly #visitors: Array<Promise<void>> = [];

  constructor(options: RunOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#victim = this.#random.int(0, 2);
    this.#redis = new Redis(options.redis.url);
    setMaxListeners(0, this.#end.signal);
  }

  async run(): Promise<void> {
    const started = performance.now();
    try {
      await this.#startHubs();
      const staying = await this.#joinAll();
      await this.#load();
      await this.#settle(staying);
      await this.#readStored();
      await this.#leave();
    } finally {
      await this.close();
    }
    this.seconds.total = (performance.now() - started) / 1_000;
  }

  /** Ends everything at once, also a run that hangs. */
  async close(): Promise<void> {
    this.#end.abort();
    this.#closeClients();
    this.#redis.disconnect();
    await Promise.all(this.hubs.map((hub) => hub.stop()));
  }

  #closeClients(): void {
    for (const client of [...this.watchers, ...this.trainers, ...this.foreignTrainers]) client.close();
  }

  async #startHubs(): Promise<void> {
    const env = {
      REDIS_URL: this.#options.redis.url,
      JWT_SECRET: SECRET,
      LOG_LEVEL: "info",
      TRAINWIRE_KEY_PREFIX: KEY_PREFIX,
      TRAINWIRE_RELEASE_MS: String(RELEASE_MS),
      // It would move heads after the last event that a trainer has sent, and with them what counts as seen to the end.
      TRAINWIRE_PRESENCE_INTERVAL_MS: "0",
    };
    for (let i = 0; i < HUBS; i++) {
      this.hubs.push(await HubProcess.create({ build: this.#options.build, name: `hub-${i}`, env }));
    }
    await Promise.all(this.hubs.map((hub) => hub.start()));
    this.#baseLine = await this.#redisClients();
  }

  /** Everybody is there before the first event; answers who stays to the end. */
  async #joinAll(): Promise<Watcher[]> {
    const staying: Watcher[] = [];
    for (const member of crowd(HUBS, JOBS)) {
      const options = this.#watcherOptions(HOME, member.hub, member.options);
      if (!member.comesAndGoes) staying.push(new Watcher(options));
      else {
        const visit = { random: this.#random.fork(), end: this.#end.signal };
        const onWatcher = (watcher: Watcher) => void this.watchers.push(watcher);
        this.#visitors.push(comeAndGo(options, { ...visit, onWatcher }));
      }
    }
    for (const [i, jobId] of [undefined, "*"].entries()) {
      const options = { name: `foreign ${jobId ?? "tenant"}`, polling: false, ...(jobId && { jobId }) };
      staying.push(new Watcher(this.#watcherOptions(FOREIGN, i + 1, options)));
    }
    this.watchers.push(...staying);
    await Promise.all(staying.map((watcher) => watcher.join()));
    return staying;
  }

  #watcherOptions(tenant: Tenant, hub: number, options: Member["options"]): WatcherOptions {
    return {
      ...options,
      url: (this.hubs[hub] as HubProcess).url,
      token: token(tenant, "watcher"),
      tenantId: tenant.tenantId,
      texts: this.texts,
      ...(hub !== this.#victim && { onDelay: (ms: number) => this.delays.push(ms) }),
    };
  }

  async #load(): Promise<void> {
    const started = performance.now();
    const { events, perSecond } = this.#options;
    const duration = (events * 2) / perSecond;
    const share = { durable: events / 2, progress: events / 2, perSecond: perSecond / 2 };
    const foreign = Math.round(duration * FOREIGN_PER_SECOND) / 2;
    this.trainers.push(
      this.#trainer(HOME, 0, { ...share, keys: [{}, { product: "north", rank: 0 }] }),
      this.#trainer(HOME, 1, { ...share, keys: [{ rank: 0 }, { rank: 1 }] }),
    );
    this.foreignTrainers.push(
      this.#trainer(FOREIGN, 2, {
        ...{ durable: foreign, progress: foreign, perSecond: FOREIGN_PER_SECOND, keys: [{}] },
      }),
    );
    const over = new AbortController();
    const publishing = [...this.trainers, ...this.foreignTrainers].map((trainer) => trainer.run());
    const crashing = sleep((duration / 2) * 1_000).then(() => this.#crash());
    [this.cuts] = await Promise.all([
      cutSubscribers(this.#redis, { everyMs: CUT_EVERY_MS, end: over.signal }),
      Promise.all([...publishing, crashing]).finally(() => over.abort()),
    ]);
    this.seconds.load = (performance.now() - started) / 1_000;
    this.#end.abort();
    await Promise.all(this.#visitors);
    await this.trainers[0]?.end(JOBS);
    await this.foreignTrainers[0]?.end(JOBS);
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
    const urls = [hub, ...(this.#options.trainersMove ? [2] : [])].map(
      (i) => (this.hubs[i] as HubProcess).url,
    );
    return new Trainer({
      ...load,
      name: `${tenant.tenantId}-trainer-${hub}`,
      urls,
      token: token(tenant, "trainer"),
      marker: tenant.marker,
      random: this.#random.fork(),
      breaks: BREAKS,
      jobs: (part) => (part < 1 / 3 ? FIRST_JOBS : JOBS),
    });
  }

  async #crash(): Promise<void> {
    const hub = this.hubs[this.#victim] as HubProcess;
    await this.#count(this.#victim);
    await crash(hub, this.trainers[this.#victim] as Trainer, DOWN_MS);
  }

  /** Adds what a hub has counted since it started. */
  async #count(hub: number): Promise<void> {
    const { events } = await readStatus(this.#access(HOME, hub));
    this.heals += events.heals;
    this.gaps += events.gaps;
  }

  /** Until every hub has said to every watcher that everything is delivered. */
  async #settle(staying: readonly Watcher[]): Promise<void> {
    const limit = Date.now() + LIMIT_MS;
    for (const tenant of [HOME, FOREIGN]) {
      const heads = new Map([["", (await readTenant(this.#access(tenant, 2))).seq]]);
      for (const jobId of JOBS) heads.set(jobId, (await readSnapshot(this.#access(tenant, 2), jobId)).seq);
      const waiting = new Set(staying.filter(({ options }) => options.tenantId === tenant.tenantId));
      while (waiting.size > 0 && Date.now() < limit) {
        await Promise.all([...waiting].map((watcher) => watcher.ping()));
        for (const watcher of waiting) if (hasAll(watcher, heads)) waiting.delete(watcher);
        if (waiting.size > 0) await sleep(LOOK_MS);
      }
      for (const { options } of waiting) this.late.push(`${options.name} has not caught up`);
    }
  }

  async #readStored(): Promise<void> {
    for (const tenant of [HOME, FOREIGN]) {
      const stored: StoredTenant = { jobs: [], tenant: [], snapshots: [] };
      for (const hub of this.hubs.keys()) {
        const access = this.#access(tenant, hub);
        stored.jobs.push(await Promise.all(JOBS.map((jobId) => readJob(access, jobId))));
        stored.tenant.push(await readTenant(access));
        stored.snapshots.push(...(await Promise.all(JOBS.map((jobId) => readSnapshot(access, jobId)))));
      }
      this.stored.set(tenant, stored);
    }
  }

  /** Everybody goes; what hubs and Redis hold has to go too. */
  async #leave(): Promise<void> {
    for (const hub of this.hubs.keys()) await this.#count(hub);
    this.#closeClients();
    const limit = Date.now() + LIMIT_MS;
    let left: string[];
    do {
      await sleep(LOOK_MS);
      left = await this.#stillThere();
    } while (left.length > 0 && Date.now() < limit);
    this.left.push(...left);
  }

  async #stillThere(): Promise<string[]> {
    const left: string[] = [];
    for (const [i, hub] of this.hubs.entries()) {
      const { feeds, subscriptions, connections } = await readStatus(this.#access(HOME, i));
      const counts = { feeds, subscriptions, ...connections, refused: 0 };
      for (const [what, count] of Object.entries(counts)) {
        if (count !== 0) left.push(`${hub.name} still has ${count} ${what}`);
      }
    }
    const clients = await this.#redisClients();
    if (clients !== this.#baseLine) left.push(`Redis has ${clients} clients and had ${this.#baseLine}`);
    const channels = (await this.#redis.call("PUBSUB", "SHARDCHANNELS")) as string[];
    const own = channels.filter((channel) => !channel.startsWith(`${KEY_PREFIX}:sockets`));
    return [...left, ...own.map((channel) => `Redis still has the channel ${channel}`)];
  }

  async #redisClients(): Promise<number> {
    const list = (await this.#redis.client("LIST")) as string;
    return list.split("\n").filter((line) => line.includes(" name=trainwire-")).length;
  }

  #access(tenant: Tenant, hub: number): Access {
    const { url } = this.hubs[hub] as HubProcess;
    return { url, tenantId: tenant.tenantId, token: token(tenant, "watcher") };
  }
}

function hasAll(watcher: Watcher, heads: ReadonlyMap<string, number>): boolean {
  const { jobId } = watcher.options;
  const wanted = jobId === "*" ? JOBS : [jobId ?? ""];
  return wanted.every((feed) => watcher.until(feed) >= (heads.get(feed) as number));
}

function token({ tenantId }: Tenant, role: Role): string {
  return signToken(SECRET, { subject: `${tenantId}-${role}`, tenantId, role, ttlSeconds: 3_600 });
}
