import { openMemory, openRedis } from "../store/subject.ts";
import { clusterRedis, plainRedis } from "../support/hooks.ts";
import { busSuite } from "./suite.ts";

busSuite("memory", openMemory);
busSuite("Redis", async (options) => openRedis(await plainRedis(), options));
busSuite("Redis with cluster-enabled", async (options) => openRedis(await clusterRedis(), options));
