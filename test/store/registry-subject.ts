/** Registries of several instances on one Redis. */
import { Redis } from "ioredis";
import { Keys } from "../../src/redis/keys.ts";
import { RedisLink } from "../../src/redis/link.ts";
import { RedisRegistry } from "../../src/store/redis-registry.ts";
import { freshPrefix } from "../support/hooks.ts";
import type { RegistrySubject } from "./registry.ts";

export interface RedisRegistries extends RegistrySubject {
  /** Another instance, by default with its own name. */
  another(name?: string): Promise<RedisRegistry>;
  readonly keys: Keys;
  readonly raw: Redis;
  /** Every key of the registry, in order. */
  allKeys(): Promise<string[]>;
  /** Makes an instance as silent as if it had not been heard of for so long. */
  silence(instanceId: string, ms: number): Promise<void>;
}

export async function openRegistries(
  server: { url: string },
  { instanceTimeoutMs = 60_000, renewMs = 3_600_000 } = {},
): Promise<RedisRegistries> {
  const prefix = freshPrefix();
  const keys = new Keys(prefix);
  const links: RedisLink[] = [];
  const raw = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  raw.on("error", () => {});
  let made = 0;
  const another = async (instanceId = `hub-${String.fromCharCode(97 + made)}`) => {
    made++;
    const link = await RedisLink.open({ url: server.url, timeoutMs: 5_000, generationKey: keys.generation });
    links.push(link);
    return new RedisRegistry({ redis: link, keys, instanceId, instanceTimeoutMs, renewMs });
  };
  const allKeys = async () => (await raw.keys(`${prefix}*`)).filter((key) => key !== keys.generation).sort();
  return {
    registry: await another(),
    ...{ another, keys, raw, allKeys },
    pass: async (ms) => {
      for (const key of (await allKeys()).filter((each) => each.endsWith(":watchers"))) {
        if (await raw.hexists(key, ":turn")) await raw.hincrby(key, ":turn", -ms);
      }
    },
    silence: async (instanceId, ms) => {
      for (const name of await raw.zrange(keys.instances, "0", "-1")) {
        if (name.startsWith(`${instanceId}.`)) await raw.zincrby(keys.instances, -ms, name);
      }
    },
    close: async () => {
      for (const link of links) link.close();
      raw.disconnect();
    },
  };
}
