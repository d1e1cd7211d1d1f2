/** The implementations that the suites are held against, opened the same way. */
import { Redis } from "ioredis";
import type { Bus } from "../../src/bus/bus.ts";
import { MemoryBus } from "../../src/bus/memory.ts";
import { RedisBus } from "../../src/bus/redis.ts";
import { Keys } from "../../src/redis/keys.ts";
import { RedisLink } from "../../src/redis/link.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { RedisStore } from "../../src/store/redis.ts";
import type { Store, StoreOptions } from "../../src/store/store.ts";
import { freshPrefix } from "../support/hooks.ts";

export interface Client {
  store: Store;
  bus: Bus;
}

export interface Subject extends Client {
  /** A second client of the same data; where there can be only one, the first. */
  second(): Promise<Client>;
  /** Lets so much time go by for lives and throttles. */
  pass(ms: number): Promise<void>;
  /** What the bus was told of, for instance handlers that threw. */
  readonly errors: readonly Error[];
  close(): Promise<void>;
}

export type Open = (options?: Partial<StoreOptions>) => Promise<Subject>;

export const OPTIONS: StoreOptions = {
  maxEvents: 5_000,
  maxLogLines: 5_000,
  maxFeedBytes: 16_777_216,
  maxPoints: 2_048,
  maxJobs: 10_000,
  ttlFinished: 86_400,
  ttlSilent: 604_800,
};

export async function openMemory(options: Partial<StoreOptions> = {}): Promise<Subject> {
  const errors: Error[] = [];
  const bus = new MemoryBus({ onError: (error) => errors.push(error) });
  let skipped = 0;
  const store = new MemoryStore({ ...OPTIONS, ...options, bus, now: () => Date.now() + skipped });
  return {
    store,
    bus,
    errors,
    second: async () => ({ store, bus }),
    async pass(ms) {
      skipped += ms;
    },
    async close() {
      await store.close();
      await bus.close();
    },
  };
}

export interface RedisClient extends Client {
  link: RedisLink;
}

export interface RedisSubject extends Subject {
  second(): Promise<RedisClient>;
  readonly link: RedisLink;
  readonly keys: Keys;
  readonly prefix: string;
  /** For what the test itself does to the keys. */
  readonly raw: Redis;
  /** Every key of the store, in order. */
  allKeys(): Promise<string[]>;
}

export interface RedisSubjectOptions extends Partial<StoreOptions> {
  prefix?: string;
  timeoutMs?: number;
  /** Where the test itself connects, if the store does so through a proxy. */
  direct?: { url: string };
  /** Stands between store and link. */
  wrap?: (link: RedisLink) => RedisLink;
}

export async function openRedis(
  server: { url: string },
  {
    prefix = freshPrefix(),
    timeoutMs = 5_000,
    direct = server,
    wrap = (link) => link,
    ...options
  }: RedisSubjectOptions = {},
): Promise<RedisSubject> {
  const keys = new Keys(prefix);
  const errors: Error[] = [];
  const links: RedisLink[] = [];
  const client = async () => {
    const link = await RedisLink.open({ url: server.url, timeoutMs, generationKey: keys.generation });
    links.push(link);
    const bus = await RedisBus.open({
      redis: link,
      keys,
      instanceId: "hub-a",
      onError: (error) => errors.push(error),
    });
    return { link, bus, store: new RedisStore({ ...OPTIONS, ...options, redis: wrap(link), keys }) };
  };
  const raw = new Redis(direct.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  raw.on("error", () => {}); // the server of some tests goes away
  const first = await client();
  // Those of tenants: the others are not the store's alone, and not in one slot.
  const allKeys = async () => (await raw.keys(`${prefix}*`)).filter((key) => key.includes("{")).sort();
  return {
    ...first,
    ...{ keys, prefix, raw, errors, allKeys },
    second: client,
    pass: async (ms) => {
      for (const key of await allKeys()) await age(raw, key, ms);
    },
    close: async () => {
      for (const link of links) link.close();
      raw.disconnect();
    },
  };
}

/** Moves everything that a key remembers of the clock so far into the past. */
async function age(raw: Redis, key: string, ms: number): Promise<void> {
  if (key.endsWith(":meta")) {
    for (const field of ["x", "f", "field:seen", "expect"]) {
      if (await raw.hexists(key, field)) await raw.hincrby(key, field, -ms);
    }
  }
  if (key.endsWith(":deadlines")) {
    for (const member of await raw.zrange(key, "0", "-1")) await raw.zincrby(key, -ms, member);
  }
  const expires = await raw.pexpiretime(key);
  if (expires > 0) await raw.pexpireat(key, expires - ms);
}
