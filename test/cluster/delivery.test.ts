import { expect } from "chai";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { figuresOf } from "./figures.ts";
import { buildHub, type HubBuild } from "./hub-process.ts";
import { keepHistory } from "./keep.ts";
import { Run } from "./run.ts";
import { judge } from "./verdict.ts";

/** CLUSTER_SEED repeats a run's choices, CLUSTER_EVENTS makes it shorter or longer. */
const seed = Number(process.env.CLUSTER_SEED ?? Date.now() % 1_000_000);
const events = Number(process.env.CLUSTER_EVENTS ?? 20_000);
const PER_SECOND = 1_000;
/** Complaints in the failure's message; the kept history has all. */
const SHOWN = 20;

describe(`delivery by three hubs (CLUSTER_SEED=${seed})`, function () {
  // Only against hanging.
  this.timeout(300_000);
  let build: HubBuild;
  let redis: RedisServer | undefined;
  let run: Run | undefined;

  before(async () => {
    build = await buildHub();
  });
  afterEach(async () => {
    await run?.close();
    await redis?.stop();
    redis = run = undefined;
  });
  after(() => build?.remove());

  for (const cluster of [false, true]) {
    const server = cluster ? "a cluster-enabled Redis" : "a plain Redis";
    it(`is exact on ${server} with links cut every second and one hub killed`, async () => {
      redis = await startRedis({ cluster });
      run = new Run({ redis, build, seed, events, perSecond: PER_SECOND, trainersMove: cluster });
      await run.run();
      const complaints = judge(run.stage);
      console.log(`      ${figuresOf(run)}`);
      if (complaints.length > 0) {
        const lines = complaints.slice(0, SHOWN).map(({ rule, text }) => `${rule}: ${text}`);
        const kept = keepHistory(run.stage, complaints);
        throw new Error(
          `${complaints.length} complaints with CLUSTER_SEED=${seed}, history in ${kept}:\n${lines.join("\n")}`,
        );
      }
      const seconds = (events * 2) / PER_SECOND;
      expect(run.cuts.times, "how often subscribers were cut").to.be.at.least(Math.floor(seconds * 0.75));
      expect(run.cuts.connections).to.be.at.least(run.cuts.times * 2);
      expect(run.heals, "heals").to.be.above(run.cuts.times);
    });
  }
});
