/** Hubs on one Redis and everybody on them: two tenants, watchers of all kinds, trainers; and what is left of it all. */
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { type Role, signToken } from "../../src/auth.ts";
import type { Cursor, Snapshot } from "../../src/protocol/types.ts";
import { NginxServer } from "../support/nginx.ts";
import type { RedisServer } from "../support/redis.ts";
import { comeAndGo } from "./churn.ts";
import { crowd, type Member } from "./crowd.ts";
import { type FeedLog, Texts } from "./history.ts";
import { type HubBuild, HubProcess } from "./hub-process.ts";
import { Trainer, type TrainerOptions } from "./load.ts";
import { Random } from "./random.ts";
import { type Access, findSnapshot, readJob, readStatus, readTenant } from "./stored.ts";
import { Watcher, type WatcherOptions } from "./watcher.ts";

export interface StageOptions {
  redis: RedisServer;
  build: HubBuild;
  seed: number;
  hubs: number;
  jobs: readonly string[];
  /** Watchers on each hub; 30 by default. */
  perHub?: number;
  /** Beside what all hubs get. */
  env?: (hub: number) => NodeJS.ProcessEnv;
  /** How many files and sockets this hub may have open. */
  openFiles?: (hub: number) => number | undefined;
  /** Where this hub finds Redis, if not directly. */
  redisUrl?: (hub: number) => string;
  /** Everybody comes through nginx, wherever that leads them. */
  nginx?: boolean;
  /** What is told of the watchers on this hub. */
  listen?: (hub: number) => Pick<WatcherOptions, "onDelay">;
}

export interface Tenant {
  tenantId: string;
  /** In every event. */
  marker: string;
}
export const HOME: Tenant = { tenantId: "home", marker: "mark-of-home" };
/** Uses the same job ids. */
export const FOREIGN: Tenant = { tenantId: "foreign", marker: "mark-of-foreign" };

export const KEY_PREFIX = "trainwire";
const SECRET = "a secret that only the tests of the cluster know";
const RELEASE_MS = 500;
const DRAIN_MS = 500;
const LOOK_MS = 50;
/** Only against hanging. */
const LIMIT_MS = 30_000;

/** What the hubs read in the end. */
export interface StoredTenant {
  /** By hub, then by job. */
  jobs: FeedLog[][];
  /** By hub. */
  tenant: FeedLog[];
  /** Of the jobs that there are. */
  snapshots: Snapshot[];
}

export type Load = Pick<TrainerOptions, "durable" | "progress" | "perSecond" | "keys" | "breaks" | "jobs"> &
  Pick<TrainerOptions, "end" | "large">;

export class Stage {
  readonly hubs: HubProcess[] = [];
  readonly trainers: Trainer[] = [];
  readonly foreignTrainers: Trainer[] = [];
  readonly watchers: Watcher[] = [];
  /** Those of them who are there to the end. */
  readonly staying: Watcher[] = [];
  readonly texts = new Texts();
  readonly stored = new Map<Tenant, StoredTenant>();
  /** Watchers that never came to the end. */
  readonly late: string[] = [];
  /** What is still there after everybody has left. */
  readonly left: string[] = [];
  readonly random: Random;
  /** For whatever is to be done to Redis. */
  readonly redis: Redis;
  /** In front of the hubs, with `nginx`. */
  nginx: NginxServer | undefined;
  readonly #options: StageOptions;
  readonly #end = new AbortController();
  /** Connections of idle hubs to Redis. */
  #baseLine = 0;
  readonly #visitors: Array<Promise<void>> = [];

  constructor(options: StageOptions) {
    this.#options = options;
    this.random = new Random(options.seed);
    this.redis = new Redis(options.redis.url, { maxRetriesPerRequest: null });
    this.redis.on("error", () => {}); // it may be away for a while
    setMaxListeners(0, this.#end.signal);
  }

  async startHubs(): Promise<void> {
    const { build, hubs, redis, env, redisUrl } = this.#options;
    const common = {
      JWT_SECRET: SECRET,
      LOG_LEVEL: "info",
      TRAINWIRE_KEY_PREFIX: KEY_PREFIX,
      TRAINWIRE_RELEASE_MS: String(RELEASE_MS),
      TRAINWIRE_DRAIN_MS: String(DRAIN_MS),
      // They would move heads after the last event that a trainer has sent, and with them what counts as seen to the end.
      TRAINWIRE_PRESENCE_INTERVAL_MS: "0",
      TRAINWIRE_STALE_MS: "600000",
      TRAINWIRE_LOST_MS: "900000",
    };
    for (let i = 0; i < hubs; i++) {
      const own = { ...common, REDIS_URL: redisUrl?.(i) ?? redis.url, ...env?.(i) };
      const openFiles = this.#options.openFiles?.(i);
      const limit = openFiles !== undefined && { openFiles };
      this.hubs.push(await HubProcess.create({ build, name: `hub-${i}`, env: own, ...limit }));
    }
    await Promise.all(this.hubs.map((hub) => hub.start()));
    if (this.#options.nginx) {
      const addresses = this.hubs.map(({ name, port }) => ({ name, address: `127.0.0.1:${port}` }));
      this.nginx = await NginxServer.start(addresses);
    }
    this.#baseLine = await this.#redisClients();
  }

  /** Everybody is there before the first event. */
  async joinAll(): Promise<void> {
    const { hubs, jobs, perHub } = this.#options;
    for (const member of crowd(hubs, jobs, perHub)) {
      const options = this.watcherOptions(HOME, member.hub, member.options);
      if (!member.comesAndGoes) this.staying.push(new Watcher(options));
      else {
        const visit = { random: this.random.fork(), end: this.#end.signal };
        const onWatcher = (watcher: Watcher) => void this.watchers.push(watcher);
        this.#visitors.push(comeAndGo(options, { ...visit, onWatcher }));
      }
    }
    for (const [i, jobId] of [undefined, "*"].entries()) {
      const options = { name: `foreign ${jobId ?? "tenant"}`, polling: false, ...(jobId && { jobId }) };
      this.staying.push(new Watcher(this.watcherOptions(FOREIGN, (i + 1) % hubs, options)));
    }
    this.watchers.push(...this.staying);
    await Promise.all(this.staying.map((watcher) => watcher.join()));
  }

  /** Of whoever else is to watch. */
  watcherOptions(tenant: Tenant, hub: number, options: Member["options"]): WatcherOptions {
    return {
      ...options,
      ...this.#options.listen?.(hub),
      url: this.#door(hub),
      token: tokenOf(tenant, "watcher"),
      tenantId: tenant.tenantId,
      texts: this.texts,
    };
  }

  /** One more who is there to the end. */
  async join(watcher: Watcher): Promise<void> {
    this.watchers.push(watcher);
    this.staying.push(watcher);
    await watcher.join();
  }

  #door(hub: number): string {
    return this.nginx?.url ?? this.hub(hub).url;
  }

  hub(i: number): HubProcess {
    return this.hubs[i] as HubProcess;
  }

  /** The first hub is its own; when that is lost it goes on to the next. */
  trainer(tenant: Tenant, hubs: readonly [number, ...number[]], load: Load): Trainer {
    const trainer = new Trainer({
      ...load,
      name: `${tenant.tenantId}-trainer-${hubs[0]}`,
      urls: this.nginx ? [this.nginx.url] : hubs.map((i) => this.hub(i).url),
      token: tokenOf(tenant, "trainer"),
      marker: tenant.marker,
      random: this.random.fork(),
    });
    (tenant === HOME ? this.trainers : this.foreignTrainers).push(trainer);
    return trainer;
  }

  /** Those who come and go do so no more; then the terminal status of jobs that nobody publishes to any more. */
  async endLoad(jobs: readonly string[]): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#visitors);
    await this.trainers[0]?.end(jobs);
    await this.foreignTrainers[0]?.end(jobs);
  }

  /** Until every hub has said to every watcher that everything is delivered, or after `limitMs`. */
  async settle(limitMs = LIMIT_MS): Promise<void> {
    const limit = Date.now() + limitMs;
    const last = this.hubs.length - 1;
    for (const watcher of this.staying) watcher.stay();
    for (const tenant of [HOME, FOREIGN]) {
      const access = this.access(tenant, last);
      const heads = new Map<string, Cursor | undefined>([["", await readTenant(access)]]);
      for (const jobId of this.#options.jobs) heads.set(jobId, await findSnapshot(access, jobId));
      const own = this.staying.filter(({ options }) => options.tenantId === tenant.tenantId);
      const waiting = new Set(own);
      while (waiting.size > 0 && Date.now() < limit) {
        await Promise.all([...waiting].map((watcher) => watcher.ping()));
        for (const watcher of waiting) if (hasAll(watcher, heads)) waiting.delete(watcher);
        if (waiting.size > 0) await sleep(LOOK_MS);
      }
      for (const { options } of waiting) this.late.push(`${options.name} has not caught up`);
    }
  }

  async readStored(): Promise<void> {
    const { jobs } = this.#options;
    for (const tenant of [HOME, FOREIGN]) {
      const stored: StoredTenant = { jobs: [], tenant: [], snapshots: [] };
      for (const hub of this.hubs.keys()) {
        const access = this.access(tenant, hub);
        stored.jobs.push(await Promise.all(jobs.map((jobId) => readJob(access, jobId))));
        stored.tenant.push(await readTenant(access));
        const snapshots = await Promise.all(jobs.map((jobId) => findSnapshot(access, jobId)));
        stored.snapshots.push(...snapshots.filter((snapshot) => snapshot !== undefined));
      }
      this.stored.set(tenant, stored);
    }
  }

  /** Everybody goes; what hubs and Redis hold has to go too. */
  async leave(): Promise<void> {
    this.#closeClients();
    const limit = Date.now() + LIMIT_MS;
    let left: string[];
    do {
      await sleep(LOOK_MS);
      left = await this.#stillThere();
    } while (left.length > 0 && Date.now() < limit);
    this.left.push(...left);
  }

  /** Ends everything at once, also a run that hangs. */
  async close(): Promise<void> {
    this.#end.abort();
    this.#closeClients();
    this.redis.disconnect();
    await this.nginx?.stop();
    await Promise.all(this.hubs.map((hub) => hub.stop()));
  }

  access(tenant: Tenant, hub: number): Access {
    return { url: this.hub(hub).url, tenantId: tenant.tenantId, token: tokenOf(tenant, "watcher") };
  }

  #closeClients(): void {
    for (const client of [...this.watchers, ...this.trainers, ...this.foreignTrainers]) client.close();
  }

  async #stillThere(): Promise<string[]> {
    const left: string[] = [];
    for (const [i, hub] of this.hubs.entries()) {
      const { feeds, subscriptions, connections } = await readStatus(this.access(HOME, i));
      const counts = { feeds, subscriptions, ...connections, refused: 0 };
      for (const [what, count] of Object.entries(counts)) {
        if (count !== 0) left.push(`${hub.name} still has ${count} ${what}`);
      }
    }
    const clients = await this.#redisClients();
    if (clients !== this.#baseLine) left.push(`Redis has ${clients} clients and had ${this.#baseLine}`);
    const channels = (await this.redis.call("PUBSUB", "SHARDCHANNELS", `${KEY_PREFIX}:{*`)) as string[];
    return [...left, ...channels.map((channel) => `Redis still has the channel ${channel}`)];
  }

  async #redisClients(): Promise<number> {
    const list = (await this.redis.client("LIST")) as string;
    return list.split("\n").filter((line) => line.includes(" name=trainwire-")).length;
  }
}

function hasAll(watcher: Watcher, heads: ReadonlyMap<string, Cursor | undefined>): boolean {
  const { jobId } = watcher.options;
  const wanted = jobId === "*" ? [...heads.keys()].filter((feed) => feed !== "") : [jobId ?? ""];
  return wanted.every((feed) => {
    const head = heads.get(feed);
    if (!head || head.epoch === "") return watcher.knowsNothing(feed);
    const { epoch, seq } = watcher.until(feed);
    return epoch === head.epoch && seq >= head.seq;
  });
}

export function tokenOf({ tenantId }: Tenant, role: Role): string {
  return signToken(SECRET, { subject: `${tenantId}-${role}`, tenantId, role, ttlSeconds: 3_600 });
}
