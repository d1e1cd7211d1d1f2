/** The table of faults: what `npm test` runs in short, and `npm run faults` at length. */
import { allReconnect, halfOpen, laptopSleeps } from "./client-rows.ts";
import { descriptorsRunOut, outputOverflows } from "./limit-rows.ts";
import { poisonedBus, subscriberDeaf, subscribersCut } from "./link-rows.ts";
import { hubDies, hubHangs, loopStalls, nginxReplaced, rollingRestart } from "./process-rows.ts";
import { redisHangs, redisIsFull, redisIsSlow, redisLosesData, redisRestarts } from "./redis-rows.ts";
import type { Row } from "./scenario.ts";
import { slowReaders } from "./slow-row.ts";

export const ROWS: readonly Row[] = [
  hubDies,
  rollingRestart,
  hubHangs,
  loopStalls,
  nginxReplaced,
  redisRestarts,
  redisLosesData,
  redisHangs,
  subscribersCut,
  subscriberDeaf,
  redisIsFull,
  redisIsSlow,
  outputOverflows,
  descriptorsRunOut,
  poisonedBus,
  slowReaders,
  halfOpen,
  laptopSleeps,
  allReconnect,
].sort((a, b) => a.number - b.number);

/** Faults that `npm run faults` does not inject, and where they are or why not. */
export const ELSEWHERE: ReadonlyArray<{ number: number; fault: string; why: string }> = [
  {
    number: 10,
    fault: "failover by Sentinel",
    why: "needs a replica and three sentinels, which no part of this project runs yet; promoted servers get another generation (test/store/redis-generation.test.ts)",
  },
  {
    number: 11,
    fault: "Redis Cluster, a slot moves under load",
    why: "needs three nodes; stores and bus run on a cluster of one node (test/store, test/bus, test/cluster)",
  },
  {
    number: 13,
    fault: "the disk is full",
    why: "needs a small file system of its own, which only root may mount; row 12 has the same refusal",
  },
  { number: 21, fault: "a trainer dies, comes back, starts twice", why: "test/cluster/jobs.test.ts" },
  { number: 22, fault: "clocks differ by an hour", why: "test/cluster/jobs.test.ts" },
  {
    number: 25,
    fault: "two versions of the hub side by side",
    why: "there is one version of the bus message so far; a hub reads the log for any other (test/bus)",
  },
];
