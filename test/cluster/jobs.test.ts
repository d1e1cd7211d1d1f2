/** What a job means while trainers and hubs die: states, liveness and products are exact on every hub. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { io, type Socket } from "socket.io-client";
import { TrainwireClient } from "../../client/index.ts";
import { type Role, signToken } from "../../src/auth.ts";
import type {
  Answer,
  CommandUpdate,
  DeliveredEvent,
  EventType,
  PublishAnswer,
  PublishedEvent,
  Snapshot,
} from "../../src/protocol/types.ts";
import { tempFolder } from "../support/cleanup.ts";
import { until } from "../support/hub.ts";
import { startProcess } from "../support/process.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { buildHub, type HubBuild, HubProcess } from "./hub-process.ts";
import { Random } from "./random.ts";

const seed = Number(process.env.CLUSTER_SEED ?? Date.now() % 1_000_000);
const SECRET = "a secret that only the tests of the cluster know";
const TENANT = "demo";
const HOUR_MS = 3_600_000;
/** Only against hanging. */
const LIMIT_MS = 60_000;
const PROGRAM = fileURLToPath(new URL("trainer-program.ts", import.meta.url));
const CLOCK = new URL("clock.ts", import.meta.url).href;

const token = (role: Role) =>
  signToken(SECRET, { subject: `a ${role}`, tenantId: TENANT, role, ttlSeconds: 4 * 3_600 });

/** Of a job's events what they say, as every hub and the log must say it. */
interface Seen {
  seq: number;
  type: EventType;
  data: unknown;
  products: unknown;
}

describe(`jobs on three hubs (CLUSTER_SEED=${seed})`, function () {
  this.timeout(LIMIT_MS * 2);
  let build: HubBuild;
  let redis: RedisServer;
  let hubs: HubProcess[] = [];
  const ends: Array<() => unknown> = [];

  before(async () => {
    build = await buildHub();
    redis = await startRedis();
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    for (const hub of hubs) await hub.stop();
    for (const { name, deaths } of hubs) expect(deaths, `${name} ended by itself`).to.deep.equal([]);
    hubs = [];
  });
  after(async () => {
    await redis?.stop();
    build?.remove();
  });

  async function start(
    prefix: string,
    env: NodeJS.ProcessEnv = {},
    third: NodeJS.ProcessEnv = {},
  ): Promise<void> {
    const common = { ...process.env, JWT_SECRET: SECRET, REDIS_URL: redis.url, TRAINWIRE_KEY_PREFIX: prefix };
    hubs = await Promise.all(
      ["hub-1", "hub-2", "hub-3"].map((name, i) =>
        HubProcess.create({
          build,
          name,
          env: { ...common, LOG_LEVEL: "warn", ...env, ...(i === 2 && third) },
        }),
      ),
    );
    await Promise.all(hubs.map((hub) => hub.start()));
  }
  const hubAt = (i: number) => hubs[i] as HubProcess;

  /** A watcher by the SDK, which goes on by position wherever it was; what it sees of the job, in order. */
  function watch(hub: HubProcess, job: string): Seen[] {
    const seen: Seen[] = [];
    const client = new TrainwireClient({ url: hub.url, token: token("watcher"), reconnectDelayMaxMs: 300 });
    client.on("error", () => {}); // its hub may be gone for a while
    const take = ({ seq, type, data, products }: DeliveredEvent) => seen.push({ seq, type, data, products });
    client.subscribe({ job_id: job, wait: true, since: { epoch: "", seq: 0 } }, { event: take });
    client.connect();
    ends.push(() => client.close());
    return seen;
  }

  function connect(hub: HubProcess): Socket {
    const socket = io(`${hub.url}/trainer`, {
      ...{ auth: { token: token("trainer") }, transports: ["websocket"], forceNew: true },
      ...{ reconnectionDelay: 50, reconnectionDelayMax: 200 },
    });
    ends.push(() => socket.disconnect());
    return socket;
  }

  const publish = async (socket: Socket, events: object): Promise<PublishAnswer> => {
    const answer: Answer<PublishAnswer> = await socket.timeout(LIMIT_MS).emitWithAck("publish", events);
    if (!answer.ok) throw new Error(answer.error.code);
    return answer.data;
  };

  async function snapshot(hub: HubProcess, job: string): Promise<Snapshot> {
    const response = await fetch(`${hub.url}/api/v1/tenants/${TENANT}/training/jobs/${job}`, {
      headers: { authorization: `Bearer ${token("watcher")}` },
    });
    return ((await response.json()) as { job: Snapshot }).job;
  }
  /** The demo's trainer, on the first hub. */
  async function startDemo() {
    // Of its checkpoints: who is killed does not tidy up.
    const temporary = tempFolder("demo");
    const demo = startProcess(process.execPath, [build.main, "demo", "--url", hubAt(0).url], {
      env: { ...process.env, JWT_SECRET: SECRET, TMPDIR: temporary.path },
    });
    ends.push(async () => {
      await demo.stop("SIGKILL");
      temporary.remove();
    });
    let job: string | undefined;
    await until(
      "the demo's job",
      async () => {
        const response = await fetch(`${hubAt(1).url}/api/v1/tenants/${TENANT}/training/jobs`, {
          headers: { authorization: `Bearer ${token("watcher")}` },
        });
        job = ((await response.json()) as { jobs: Array<{ job_id: string }> }).jobs[0]?.job_id;
        return job !== undefined;
      },
      LIMIT_MS,
    );
    return { demo, job: job as string };
  }
  const of = (seen: Seen[], type: EventType) => seen.filter((one) => one.type === type);

  it("20 senders of the same products, with resends and a hub killed: each product counts once, for everybody", async () => {
    const TOTAL = 100;
    const random = new Random(seed);
    await start("products");
    const watchers = hubs.flatMap((hub) => [watch(hub, "forecast"), watch(hub, "forecast")]);
    const products = Array.from({ length: TOTAL }, (_, i) => `product-${i}`);
    const counts = { accepted: 0, duplicates: 0, lost: 0 };

    /** Sends every product once and half of them twice, at whatever hub answers. */
    async function send(first: number): Promise<void> {
      let at = first;
      let socket = connect(hubAt(at));
      for (const product of random.shuffled([...products, ...products.slice(0, TOTAL / 2)])) {
        const event = { type: "product_completed", job_id: "forecast", product, data: { total: TOTAL } };
        for (;;) {
          try {
            const answer: Answer<PublishAnswer> = await socket.timeout(500).emitWithAck("publish", event);
            if (!answer.ok) throw new Error(answer.error.code);
            const { accepted, duplicates, refused } = answer.data;
            if (refused.some(({ temporary }) => temporary)) throw new Error("temporary");
            expect(refused).to.deep.equal([]);
            counts.accepted += accepted;
            counts.duplicates += duplicates;
            break;
          } catch (error) {
            if (!(error instanceof Error) || error.name === "AssertionError") throw error;
            // Lost on the way there or back: the same again, at another hub.
            counts.lost++;
            socket.disconnect();
            at = (at + 1) % hubs.length;
            socket = connect(hubAt(at));
          }
        }
      }
    }
    const sending = Promise.all(Array.from({ length: 20 }, (_, i) => send(i % 3)));
    await until(
      "a third is done",
      () => of(watchers[0] as Seen[], "product_completed").length >= TOTAL / 3,
      LIMIT_MS,
    );
    await hubAt(1).kill();
    await sleep(300);
    await hubAt(1).start();
    await sending;

    const told = products.map((_, i) => ({
      completed: i + 1,
      failed: 0,
      total: TOTAL,
      progress: 20 + Math.floor(((i + 1) / TOTAL) * 60),
    }));
    for (const [i, seen] of watchers.entries()) {
      await until(`watcher ${i}`, () => of(seen, "product_completed").length >= TOTAL, LIMIT_MS);
      expect(
        of(seen, "product_completed").map((one) => one.products),
        `watcher ${i}`,
      ).to.deep.equal(told);
    }
    for (const hub of hubs) {
      expect((await snapshot(hub, "forecast")).products).to.deep.equal(told.at(-1));
    }
    // Of what was lost on the way some had been stored, so both are bounds.
    expect(counts.accepted).to.be.at.most(TOTAL);
    expect(counts.accepted + counts.lost).to.be.at.least(TOTAL);
    expect(counts.duplicates).to.be.at.least(19 * TOTAL);
    console.log(`      ${JSON.stringify(counts)}`);
  });

  it("row 21: a trainer dies, comes back, starts twice: stale, live, and the older one is fenced", async () => {
    await start("trainers", { TRAINWIRE_STALE_MS: "800", TRAINWIRE_LOST_MS: "60000" });
    const seen = watch(hubAt(2), "run");
    const states = () => of(seen, "job_liveness").map(({ data }) => (data as { liveness: string }).liveness);
    const acked: Array<{ incarnation: number; n: number }> = [];
    const fenced: number[] = [];

    function train(incarnation: number, hub: HubProcess) {
      const args = [
        "--import",
        "tsx",
        PROGRAM,
        hub.url,
        token("trainer"),
        "run",
        "trainer-a",
        String(incarnation),
      ];
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      const exited = new Promise((resolve) => child.once("close", resolve));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const { n, refused } = JSON.parse(line) as { n: number; refused?: string };
        if (refused === "producer_fenced") fenced.push(incarnation);
        else if (refused === undefined) acked.push({ incarnation, n });
        else throw new Error(refused);
      });
      ends.push(async () => {
        child.kill("SIGKILL");
        await exited;
      });
      return { kill: () => child.kill("SIGKILL"), exited };
    }
    const count = (incarnation: number) => acked.filter((one) => one.incarnation === incarnation).length;

    const first = train(1, hubAt(0));
    await until("events of the first", () => count(1) >= 30, LIMIT_MS);
    first.kill();
    await until("stale", () => states().join() === "stale", LIMIT_MS);
    const second = train(2, hubAt(1));
    await until("live", () => states().join() === "stale,live", LIMIT_MS);
    await until("events of the second", () => count(2) >= 30, LIMIT_MS);
    // It starts twice: from its first event on the second one is the older.
    train(3, hubAt(0));
    await second.exited;
    const last = count(3);
    await until("events of the third", () => count(3) >= last + 30, LIMIT_MS);
    expect(fenced).to.deep.equal([2]);
    expect(states()).to.deep.equal(["stale", "live"]);

    await until(
      "all that was acknowledged",
      () => {
        const messages = new Set(of(seen, "log").map(({ data }) => (data as { message: string }).message));
        return acked.every(({ incarnation, n }) => messages.has(`${incarnation}/${n}`));
      },
      LIMIT_MS,
    );
    const messages = of(seen, "log").map(({ data }) => (data as { message: string }).message);
    expect(new Set(messages).size, "nothing twice").to.equal(messages.length);
    const incarnations = messages.map((message) => Number(message.split("/")[0]));
    expect(incarnations, "none of an older one after a newer one").to.deep.equal([...incarnations].sort());
  });

  it("row 22: one hub's clock is wrong by an hour: nobody notices", async () => {
    await start(
      "clocks",
      { TRAINWIRE_STALE_MS: "2000", TRAINWIRE_LOST_MS: "60000" },
      { NODE_OPTIONS: `--import tsx --import ${CLOCK}`, CLOCK_SHIFT_MS: String(HOUR_MS) },
    );
    const watchers = hubs.map((hub) => watch(hub, "run"));
    const trainers = hubs.map((hub) => connect(hub));
    const { data } = await (trainers[2] as Socket).timeout(LIMIT_MS).emitWithAck("ping", {});
    expect(Date.parse(data.server_time) - Date.now(), "its clock is wrong").to.be.above(HOUR_MS / 2);
    const step = (n: number): PublishedEvent<"sample_generated"> => ({
      ...{ type: "sample_generated", job_id: "run", data: { step: n }, id: `step-${n}` },
    });
    await publish(trainers[0] as Socket, {
      type: "training_status",
      job_id: "run",
      data: { status: "running" },
    });
    for (let n = 1; n <= 60; n++) {
      await publish(trainers[n % 3] as Socket, [step(n), step(n)]);
      await sleep(50);
    }
    const statuses = ["paused", "running", "completed"] as const;
    for (const [i, status] of statuses.entries()) {
      await publish(trainers[2 - i] as Socket, { type: "training_status", job_id: "run", data: { status } });
    }
    for (const seen of watchers) {
      await until("the end", () => of(seen, "training_status").length === 4, LIMIT_MS);
      const durable = seen.filter(({ type }) => type !== "presence");
      expect(durable).to.have.length(65);
      expect(durable).to.deep.equal((watchers[0] as Seen[]).filter(({ type }) => type !== "presence"));
      const seqs = seen.map(({ seq }) => seq);
      expect(seqs).to.deep.equal([...new Set(seqs)].sort((a, b) => a - b));
      expect(of(seen, "sample_generated").map(({ data }) => (data as { step: number }).step)).to.deep.equal(
        Array.from({ length: 60 }, (_, i) => i + 1),
      );
      expect(of(seen, "job_liveness"), "three seconds of work, and a hub an hour ahead").to.deep.equal([]);
    }
    const [one, ...others] = await Promise.all(hubs.map((hub) => snapshot(hub, "run")));
    for (const other of others) expect(other).to.deep.equal(one);
  });

  it("a terminal on one hub commands the demo on another, and a third sees the states", async () => {
    await start("commands");
    const { job } = await startDemo();
    const seen = watch(hubAt(2), job);
    const statuses = () => of(seen, "training_status").map(({ data }) => (data as { status: string }).status);
    const states = (action: string) =>
      of(seen, "command_update").flatMap(({ data }) => {
        const update = data as CommandUpdate;
        return update.action === action ? [update.state] : [];
      });
    const hasSteps = ({ data }: Seen) => ((data as { step?: number }).step ?? 0) > 0;
    await until("its training", () => of(seen, "training_progress").some(hasSteps), LIMIT_MS);

    for (const action of ["pause", "sample", "resume", "stop"] as const) {
      const samples = of(seen, "sample_generated").length;
      const args = [build.main, "command", job, action, "--url", hubAt(1).url, "--timeout", "20"];
      const terminal = startProcess(process.execPath, args, { env: { ...process.env, JWT_SECRET: SECRET } });
      const { code } = await terminal.exited;
      expect(code, terminal.output.join("\n")).to.equal(0);
      expect(terminal.output.join("\n")).to.match(/requested[\s\S]*applied/);
      await until(`${action} on the third hub`, () => states(action).at(-1) === "applied", LIMIT_MS);
      expect(states(action)).to.deep.equal(["requested", "delivered", "applied"]);
      if (action === "sample") {
        await until(
          "a sample, also of a paused job",
          () => of(seen, "sample_generated").length > samples,
          LIMIT_MS,
        );
        expect(statuses().at(-1)).to.equal("paused");
      }
    }
    await until("the end", () => statuses().at(-1) === "cancelled", LIMIT_MS);
    const [, ...rest] = statuses().slice(statuses().indexOf("running"));
    expect(rest).to.deep.equal(["paused", "running", "stopping", "cancelled"]);
  });

  it("kill -9 of the demo trainer: stale, then lost, in their times; live with the next event", async () => {
    const STALE_MS = 1_500;
    const LOST_MS = 3_500;
    await start("demo", { TRAINWIRE_STALE_MS: String(STALE_MS), TRAINWIRE_LOST_MS: String(LOST_MS) });
    const { demo, job } = await startDemo();
    const seen = watch(hubAt(2), job);
    const states = () => of(seen, "job_liveness").map(({ data }) => (data as { liveness: string }).liveness);
    await until("its training", () => of(seen, "training_progress").length >= 5, LIMIT_MS);
    await demo.stop("SIGKILL");
    const dead = Date.now();
    await until("stale", () => states().join() === "stale", LIMIT_MS);
    const stale = Date.now() - dead;
    await until("lost", () => states().join() === "stale,lost", LIMIT_MS);
    const lost = Date.now() - dead;
    console.log(`      stale after ${stale} ms, lost after ${lost} ms`);
    // Not before their time; how soon after it is judged by whoever reads the figures.
    expect(stale).to.be.above(STALE_MS - 500);
    expect(lost).to.be.above(LOST_MS - 500);
    await publish(connect(hubAt(1)), { type: "log", job_id: job, data: { message: "still here" } });
    await until("live", () => states().join() === "stale,lost,live", LIMIT_MS);
  });
});
