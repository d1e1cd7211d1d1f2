/** The SDK against the hub itself, in this process with the memory store. */
import { expect } from "chai";
import {
  type Snapshot,
  type Subscription,
  TrainwireClient,
  type TrainwireError,
  TrainwireTrainer,
} from "../../client/index.ts";
import { signToken } from "../../src/auth.ts";
import { loadConfig } from "../../src/config.ts";
import { createLog } from "../../src/log.ts";
import { type RunningHub, startHub } from "../../src/server.ts";
import { until } from "../support/until.ts";
import { Cutter, FAST, heard, record } from "./support.ts";

const SECRET = "a secret of the SDK's tests, long enough";

describe("the SDK on a hub", () => {
  let hub: RunningHub;
  let cutter: Cutter;
  let trainer: TrainwireTrainer;
  let client: TrainwireClient;
  const errors: string[] = [];

  const token = (role: "watcher" | "trainer", seconds = 60) =>
    signToken(SECRET, { tenantId: "acme", role, subject: role, ttlSeconds: seconds });

  before(async () => {
    hub = await startHub(
      loadConfig({ PORT: "0", JWT_SECRET: SECRET }),
      createLog({ levels: { level: "silent", modules: {} } }),
    );
  });
  after(() => hub.close());
  beforeEach(async () => {
    cutter = await Cutter.before(hub.url);
    errors.length = 0;
    trainer = new TrainwireTrainer({
      url: cutter.url,
      token: token("trainer"),
      ...FAST,
      flushIntervalMs: 1,
      onError: ({ code, message }) => errors.push(`${code}: ${message}`),
    });
    client = new TrainwireClient({ url: cutter.url, token: token("watcher"), ...FAST }).connect();
    client.on("error", ({ code, message }) => errors.push(`${code}: ${message}`));
  });
  afterEach(async () => {
    client.close();
    await trainer.close({ timeoutMs: 0 });
    await cutter.stop();
  });

  it("brings a whole run from the trainer to the watcher", async () => {
    const waiting = client.subscribe({ job_id: "run", wait: true });
    const told = record(waiting);
    await waiting.ready;
    const run = trainer.run("run", { name: "A run", kind: "test" });
    run.status("running");
    run.progress({ step: 1, loss: Number.NaN });
    run.log("line");
    run.stats({ host: "h", cpu_percent: 1 });
    run.validation({ metrics: { accuracy: 0.5 } });
    run.productCompleted("p");
    run.finish({ final_loss: 0.25 });
    expect(await trainer.flush()).to.equal(true);
    await told.until("training_status run:8");
    expect([...told]).to.deep.equal([
      "live",
      "job_created run:1",
      "training_status run:2",
      "training_progress run:3",
      "log run:4",
      "system_stats run:5",
      "validation_result run:6",
      "product_completed run:7",
      "training_status run:8",
    ]);
    expect(trainer.stats).to.deep.include({ published: 8, stored: 8, refused: 0 });
    // A second trainer of the same job.
    trainer.run("run", { name: "again" }).log("more");
    expect(await trainer.flush()).to.equal(true);
    expect(errors).to.deep.equal([]);
  });

  it("begins with the snapshot and the history in pages, and goes on after a cut without a hole", async () => {
    const run = trainer.run("long");
    for (let i = 1; i <= 600; i++) run.log(`${i}`);
    await trainer.flush();
    const subscription = client.subscribe({ job_id: "long", history: 1_000 });
    const seen: string[] = [];
    const until = (message: string) =>
      new Promise<void>((resolve) => {
        subscription.on("log", ({ data }) => data.message === message && resolve());
      });
    subscription.on("log", ({ data }) => seen.push(data.message));
    const snapshot = await heard<Snapshot>(subscription, "snapshot");
    expect(snapshot.counts.log).to.equal(600);
    await subscription.ready;
    for (let round = 1; round <= 3; round++) {
      const last = until(`${round}-300`);
      for (let i = 1; i <= 300; i++) {
        run.log(`${round}-${i}`);
        if (i === 150) cutter.cut();
      }
      await last;
    }
    const wanted = [
      ...Array.from({ length: 600 }, (_, i) => `${i + 1}`),
      ...[1, 2, 3].flatMap((round) => Array.from({ length: 300 }, (_, i) => `${round}-${i + 1}`)),
    ];
    expect(seen).to.deep.equal(wanted);
  });

  it("follows all jobs, new ones too, beside the tenant's feed and one job", async () => {
    trainer.run("first", { name: "first" });
    await trainer.flush();
    const all = client.subscribe({ job_id: "*", types: ["log", "job_created"] });
    const one = client.subscribe({ job_id: "first", types: ["log"] });
    const tenant = client.subscribe({ types: ["job_created"] });
    const [allTold, oneTold, tenantTold] = [texts(all), texts(one), texts(tenant)];
    await Promise.all([all.ready, one.ready, tenant.ready]);
    trainer.run("first").log("1");
    trainer.run("second", { name: "second" }).log("1");
    await until(() => allTold.includes("second 1") && tenantTold.includes("second created"));
    cutter.cut();
    trainer.run("first").log("2");
    trainer.run("second").log("2");
    await until(() => [...allTold, ...oneTold].filter((text) => text.endsWith(" 2")).length === 3);
    const of = (told: string[], job: string) => told.filter((text) => text.startsWith(job));
    expect(of(allTold, "first")).to.deep.equal(["first 1", "first 2"]);
    expect(of(allTold, "second")).to.deep.equal(["second created", "second 1", "second 2"]);
    expect(oneTold).to.deep.equal(["first 1", "first 2"]);
    expect(of(tenantTold, "second")).to.deep.equal(["second created"]);
    expect(errors).to.deep.equal([]);
  });

  it("is told what it may not do", async () => {
    const missing = client.subscribe({ job_id: "nowhere" });
    expect(await missing.ready.catch(({ code }: TrainwireError) => code)).to.equal("job_not_found");
    const intruder = new TrainwireClient({ url: hub.url, token: token("trainer"), ...FAST });
    const refused = heard<TrainwireError>(intruder, "error");
    intruder.connect();
    expect((await refused).code).to.equal("forbidden");
    expect(intruder.state).to.equal("closed");
    const stranger = new TrainwireClient({ url: hub.url, token: "no token", ...FAST });
    const unknown = heard<TrainwireError>(stranger, "error");
    stranger.connect();
    expect((await unknown).code).to.equal("unauthorized");
  });

  it("goes on with a new token when the old one ends", async () => {
    let made = 0;
    const getToken = () => token("watcher", made++ === 0 ? 2 : 60);
    const states: string[] = [];
    const short = new TrainwireClient({ url: hub.url, getToken, ...FAST });
    short.on("state", (state) => states.push(state));
    const subscription = short.connect().subscribe({ job_id: "soon", wait: true });
    await subscription.ready;
    const end = Date.parse(short.welcome?.expires_at ?? "");
    await until(() => made === 2 && Date.now() > end);
    const line = heard(subscription, "log");
    trainer.run("soon").log("after the first token's end");
    await line;
    expect(states).to.deep.equal(["connecting", "connected"]);
    short.close();
  });

  it("loses nothing when the hub is put down and another takes its port", async () => {
    const run = trainer.run("moved");
    run.log("before");
    await trainer.flush();
    const subscription = client.subscribe({ job_id: "moved", history: 10 });
    const told = record(subscription);
    await subscription.ready;
    const { port } = new URL(hub.url);
    await hub.close();
    run.log("while away");
    hub = await startHub(
      loadConfig({ PORT: port, JWT_SECRET: SECRET }),
      createLog({ levels: { level: "silent", modules: {} } }),
    );
    expect(await trainer.flush()).to.equal(true);
    run.log("after");
    await trainer.flush();
    // The memory store has forgotten everything: the watcher is told, by a gap or because the job is gone.
    await new Promise<void>((resolve) => {
      const check = () => {
        if (told.some((text) => text.startsWith("gap reset") || text === "error job_not_found")) resolve();
        else setImmediate(check);
      };
      check();
    });
    expect(trainer.stats).to.deep.include({ stored: 3, dropped: 0, refused: 0 });
  });
});

/** Log lines and new jobs, in order. */
function texts(subscription: Pick<Subscription, "on">): string[] {
  const told: string[] = [];
  subscription.on("log", ({ job_id, data }) => told.push(`${job_id} ${data.message}`));
  subscription.on("job_created", ({ job_id }) => told.push(`${job_id} created`));
  return told;
}
