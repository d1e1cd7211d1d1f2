import { MemoryRegistry } from "../../src/store/memory-registry.ts";
import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { registrySuite } from "./registry.ts";
import { openRegistries } from "./registry-subject.ts";

registrySuite("memory", async () => {
  let now = 0;
  const registry = new MemoryRegistry({ instanceId: "hub-a", now: () => now });
  return {
    registry,
    pass: async (ms) => {
      now += ms;
    },
    close: async () => {},
  };
});
registrySuite("Redis", async () => openRegistries(await plainRedis()));
registrySuite("Redis with cluster-enabled", async () => openRegistries(await clusterRedis()));
