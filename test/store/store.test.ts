import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { openMemory, openRedis } from "./subject.ts";
import { storeSuite } from "./suite.ts";

storeSuite("memory", openMemory);
storeSuite("Redis", async (options) => openRedis(await plainRedis(), options));
storeSuite("Redis with cluster-enabled", async (options) => openRedis(await clusterRedis(), options));
