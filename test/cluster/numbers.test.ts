import { expect } from "chai";
import type {
  DeliveredEvent,
  Num,
  PublishedEvent,
  SeriesAnswer,
  Snapshot,
} from "../../src/protocol/types.ts";
import { clusterRedis, freshPrefix, plainRedis } from "../support/hooks.ts";
import { startTestHub, TENANT, type TestClient, type TestHub } from "../support/hub.ts";

/** What Lua's cjson, its `..`, 32-bit floats or whole-number types would change. */
const NUMBERS: Readonly<Record<string, Num>> = {
  nan: "NaN",
  infinity: "Infinity",
  below: "-Infinity",
  large: 1e20,
  float_max: 3.4e38,
  past_safe: 9_007_199_254_740_994,
  smallest: 5e-324,
  largest: Number.MAX_VALUE,
  long: 0.1 + 0.2,
  negative: -1e-7,
};
const PROGRESS = { loss: 1e20, smooth_loss: "NaN", learning_rate: 5e-324, metrics: { ...NUMBERS } } as const;
const JOB = "numbers";

/** The same as other languages write it. */
const RAW = `{"type":"training_progress","data":{"loss":1e20,"smooth_loss":"NaN","learning_rate":5E-324,"metrics":{
  "nan":"NaN","infinity":"Infinity","below":"-Infinity","large":1.0e+20,"float_max":3.4E38,
  "past_safe":9007199254740994.0,"smallest":5e-324,"largest":1.7976931348623157e308,
  "long":0.30000000000000004,"negative":-0.0000001}}}`;

describe("numbers from one hub to another", () => {
  for (const [kind, server] of Object.entries({ plain: plainRedis, cluster: clusterRedis })) {
    describe(`on Redis (${kind})`, () => {
      let here: TestHub;
      let there: TestHub;
      let trainer: TestClient;
      let watcher: TestClient;

      beforeEach(async () => {
        const options = { redis: { url: (await server()).url }, prefix: freshPrefix() };
        here = await startTestHub(options);
        there = await startTestHub(options);
        trainer = await here.trainer();
        watcher = await there.watcher();
        await watcher.subscribe({ job_id: JOB, wait: true });
      });
      afterEach(async () => {
        await here?.close();
        await there?.close();
      });

      it("come unchanged to a watcher, in conflatable and in durable events", async () => {
        await trainer.publish([progress(), validation()]);
        const live = await watcher.next<DeliveredEvent>("training_progress");
        const durable = await watcher.next<DeliveredEvent>("validation_result");
        expect(live.data).to.deep.equal(PROGRESS);
        expect(durable.data).to.deep.equal({ metrics: NUMBERS });
      });

      it("come unchanged from other spellings over HTTP", async () => {
        const answer = await fetch(`${here.url}${path()}/events`, {
          method: "POST",
          headers: { authorization: `Bearer ${here.token("trainer")}`, "content-type": "application/json" },
          body: RAW,
        });
        expect(answer.status).to.equal(200);
        const live = await watcher.next<DeliveredEvent>("training_progress");
        expect(live.data).to.deep.equal(PROGRESS);
      });

      it("are unchanged in the snapshot, the pages and the series", async () => {
        await trainer.publish([progress(), validation()]);
        await watcher.next("validation_result");
        const { job } = await get<{ job: Snapshot }>(path());
        expect(job.newest.map(({ data }) => data)).to.deep.equal([PROGRESS]);
        expect(job.latest.validation_result?.data).to.deep.equal({ metrics: NUMBERS });

        const page = await get<{ events: DeliveredEvent[] }>(`${path()}/events?since=${job.epoch}:1`);
        expect(page.events.map(({ data }) => data)).to.deep.equal([PROGRESS, { metrics: NUMBERS }]);

        const { series } = await get<SeriesAnswer>(`${path()}/series`);
        const { metrics: own, ...fields } = PROGRESS;
        const values = series.map(({ metric, buckets }) => [metric, buckets[0]?.last, buckets[0]?.nan]);
        expect(values).to.have.deep.members(
          Object.entries<Num>({ ...own, ...fields }).map(([metric, value]) =>
            typeof value === "number" ? [metric, value, 0] : [metric, null, 1],
          ),
        );
      });

      async function get<Body>(route: string): Promise<Body> {
        const headers = { authorization: `Bearer ${there.token("watcher")}` };
        return (await (await fetch(there.url + route, { headers })).json()) as Body;
      }
    });
  }
});

function path(): string {
  return `/api/v1/tenants/${TENANT}/training/jobs/${JOB}`;
}

function progress(): PublishedEvent<"training_progress"> {
  return { type: "training_progress", job_id: JOB, data: PROGRESS };
}

function validation(): PublishedEvent<"validation_result"> {
  return { type: "validation_result", job_id: JOB, data: { metrics: { ...NUMBERS } } };
}
