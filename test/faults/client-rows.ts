/** What goes wrong with clients and their networks: links that swallow everything, laptops that sleep, all back at once. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { HubSignals } from "../cluster/hub-signals.ts";
import { keepHistory } from "../cluster/keep.ts";
import { readMetrics, sumOf } from "../cluster/metrics.ts";
import { HOME, Stage, tokenOf } from "../cluster/stage.ts";
import { findSnapshot } from "../cluster/stored.ts";
import { judgeHub } from "../cluster/verdict.ts";
import { RawClient } from "../sockets/raw.ts";
import { client, line, lines, type TestClient } from "../support/hub.ts";
import { TcpProxy } from "../support/proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { allConnected, bringCrowd, crowded, isLong, lagOf } from "./crowd.ts";
import { becomes } from "./hub-state.ts";
import {
  type Context,
  figuresOf,
  JOBS,
  type Outcome,
  type Row,
  runScenario,
  type Scenario,
} from "./scenario.ts";
import { judgeSleeper, Sleeper } from "./sleeper.ts";

/** A stage without a scenario: hubs, and nobody on them. */
interface Bare {
  stage: Stage;
  /** Publishes to the first hub, past any proxy. */
  trainer: TestClient;
  outcome: Outcome;
  complain: (rule: Outcome["complaints"][number]["rule"], text: string) => void;
}

interface BareOptions {
  hubs: number;
  env: NodeJS.ProcessEnv;
}

async function onBareStage(
  { build, seed }: Context,
  { hubs, env }: BareOptions,
  body: (bare: Bare) => Promise<void>,
): Promise<Outcome> {
  const redis: RedisServer = await startRedis();
  const stage = new Stage({ redis, build, seed, hubs, jobs: [], env: () => env });
  const outcome: Outcome = {
    ...{ complaints: [], said: [], recovered: [], told: [] },
    keep: () => keepHistory(stage, outcome.complaints),
  };
  const complain: Bare["complain"] = (rule, text) => outcome.complaints.push({ rule, text });
  let trainer: TestClient | undefined;
  try {
    await stage.startHubs();
    trainer = client(stage.hub(0).url, tokenOf(HOME, "trainer"), "/trainer");
    await trainer.connected();
    await body({ stage, trainer, outcome, complain });
  } catch (error) {
    complain("I7", `the row failed: ${(error as Error).stack}`);
  } finally {
    trainer?.close();
    await stage.close();
    await redis.stop();
  }
  outcome.complaints.push(...stage.hubs.flatMap(judgeHub));
  return outcome;
}

const HALF_OPEN = 40;
const HALF_OPEN_JOB = "half-open";
/** Beyond ping interval and time-out: timers, and a busy machine. */
const SLACK_MS = 2_000;
/** Only against hanging. */
const LIMIT_MS = 15_000;
const MEMORY_MARGIN = 0.1;
/** Connections first. */
const HELD = ["trainwire_sessions", "trainwire_subscriptions", "trainwire_feeds", "trainwire_rooms"] as const;

export const halfOpen: Row = {
  number: 17,
  fault: "clients' links swallow everything and stay open",
  people: "they are gone after ping interval and time-out; what they held is free",
  run: async (context) => {
    const ping = isLong(context)
      ? { intervalMs: 10_000, timeoutMs: 8_000 }
      : { intervalMs: 800, timeoutMs: 700 };
    const signals = await HubSignals.create(context.build);
    const env = {
      ...signals.env,
      TRAINWIRE_PING_INTERVAL_MS: String(ping.intervalMs),
      TRAINWIRE_PING_TIMEOUT_MS: String(ping.timeoutMs),
    };
    try {
      return await onBareStage(context, { hubs: 1, env }, async (bare) => {
        const memory: number[] = [];
        // Three like rounds: what the first one warms up is no leak.
        for (let round = 0; round < 3; round++) {
          await loseClients(bare, ping.intervalMs + ping.timeoutMs);
          memory.push(await signals.memoryOf(bare.stage.hub(0).pid as number));
        }
        const [, second, third] = memory as [number, number, number];
        bare.outcome.said.push(
          `heap and external ${memory.map((bytes) => Math.round(bytes / 1_024)).join(", ")} KB`,
        );
        if (third > second * (1 + MEMORY_MARGIN))
          bare.complain("I5", `memory grew from ${second} to ${third} bytes`);
      });
    } finally {
      signals.remove();
    }
  },
};

/** Clients come, their links die, and events go on coming for them. */
async function loseClients({ stage, trainer, outcome, complain }: Bare, limitMs: number): Promise<void> {
  const hub = stage.hub(0);
  const held = async () => {
    const metrics = await readMetrics(hub.url);
    return HELD.map((name) => `${name} ${sumOf(metrics, name)}`);
  };
  const before = await held();
  const proxy = await TcpProxy.open(hub);
  await trainer.publish(line(HALF_OPEN_JOB));
  const clients = Array.from({ length: HALF_OPEN }, () => new RawClient(`http://127.0.0.1:${proxy.port}`));
  try {
    await Promise.all(clients.map((each) => subscribe(each)));
    proxy.swallow();
    const started = performance.now();
    const since = () => Math.round(performance.now() - started);
    let gone: number | undefined;
    let free: number | undefined;
    while (free === undefined && since() < limitMs * 2 + LIMIT_MS) {
      await trainer.publish(lines(HALF_OPEN_JOB, 5));
      await sleep(20);
      const now = await held();
      if (now[0] === before[0]) gone ??= since();
      if (now.join() === before.join()) free = since();
    }
    if (free === undefined) complain("I5", `it still has ${await held()}; before it had ${before}`);
    else outcome.said.push(`${HALF_OPEN} gone after ${gone} ms, all free after ${free}`);
    if (gone !== undefined && gone > limitMs + SLACK_MS)
      complain("I6", `they were gone after ${gone} ms only`);
    if (clients.some(({ closed }) => closed)) complain("I6", "a link did not stay open");
  } finally {
    for (const each of clients) each.close();
    await proxy.close();
  }
}

async function subscribe(each: RawClient): Promise<void> {
  await once(each.socket, "open");
  each.send(`0${JSON.stringify({ token: tokenOf(HOME, "watcher") })}`);
  await each.next(/"welcome"/);
  each.send(`20${JSON.stringify(["subscribe", { job_id: HALF_OPEN_JOB }])}`);
  const answer = await each.answer(0);
  if (answer !== "ok") throw new Error(`subscribe: ${answer}`);
}

/** What the hub keeps of a job in row 19, events and log lines each. */
const KEPT = 400;
const CALM = "calm";
const CHATTY = "chatty";
const FLOODED = "flooded";
/** Events, and values that come on top. */
const LARGEST_PAGE = 256 + 8;

export const laptopSleeps: Row = {
  number: 19,
  fault: "a laptop sleeps while its jobs go on, two of them beyond what is kept",
  people: "caught up, or a gap and a snapshot; in pages, no flood",
  run: (context) => {
    const env = {
      TRAINWIRE_MAX_EVENTS: String(KEPT),
      TRAINWIRE_MAX_LOG_LINES: String(KEPT),
      ...(!isLong(context) && { TRAINWIRE_PING_INTERVAL_MS: "600", TRAINWIRE_PING_TIMEOUT_MS: "600" }),
    };
    return onBareStage(context, { hubs: 2, env }, (bare) => sleepAndWake(bare, isLong(context) ? 60_000 : 0));
  },
};

async function sleepAndWake({ stage, trainer, outcome, complain }: Bare, least: number): Promise<void> {
  const jobs = [CALM, CHATTY, FLOODED];
  const [awakeAt, asleepAt] = [stage.hub(0), stage.hub(1)];
  const options = { tenantId: HOME.tenantId, token: tokenOf(HOME, "watcher"), jobs };
  const [awake, asleep] = [
    new Sleeper({ ...options, url: awakeAt.url }),
    new Sleeper({ ...options, url: asleepAt.url }),
  ];
  const values = (job_id: string, from: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({
      type: "validation_result" as const,
      job_id,
      data: { metrics: { step: from + i } },
    }));
  const head = async (job: string) => (await findSnapshot(stage.access(HOME, 0), job))?.seq ?? 0;
  const reached = async (sleeper: Sleeper) => {
    const { views } = await sleeper.look();
    const heads = await Promise.all(jobs.map(head));
    return jobs.every(
      (job, i) => (views.find(({ jobId }) => jobId === job)?.until ?? 0) >= (heads[i] as number),
    );
  };
  try {
    for (const job of jobs) await trainer.publish([...values(job, 0, 20), ...lines(job, 20)]);
    if (!(await becomes(async () => (await reached(awake)) && (await reached(asleep)))))
      complain("I1", "they have not come to the start");
    asleep.sleep();
    const started = performance.now();
    const connected = async () => sumOf(await readMetrics(asleepAt.url), "trainwire_subscriptions");
    if (!(await becomes(async () => (await connected()) === 0, 40_000)))
      complain("I5", "the hub keeps who sleeps");
    await trainer.publish([...values(CALM, 20, 100), ...lines(CALM, 200, 21)]);
    for (let i = 0; i < 4; i++) {
      await trainer.publish(lines(CHATTY, 500, 21 + i * 500));
      await trainer.publish([...values(FLOODED, 20 + i * 400, 400), ...lines(FLOODED, 100, 21 + i * 100)]);
    }
    await sleep(Math.max(0, least - (performance.now() - started)));
    asleep.wake();
    const woke = performance.now();
    if (!(await becomes(() => reached(asleep)))) complain("I1", "it has not caught up");
    outcome.said.push(`caught up ${Math.round(performance.now() - woke)} ms after it woke`);
    for (const job of jobs) await trainer.publish(lines(job, 5, 5_000));
    if (!(await becomes(async () => (await reached(asleep)) && (await reached(awake)))))
      complain("I1", "it does not hear what comes afterwards");
    await judgeBoth({ outcome, complain }, awake, asleep);
  } finally {
    await Promise.all([awake.stop(), asleep.stop()]);
  }
}

async function judgeBoth(
  { outcome, complain }: Pick<Bare, "outcome" | "complain">,
  awake: Sleeper,
  asleep: Sleeper,
): Promise<void> {
  const [all, { views, faults, reconnects }] = [await awake.look(), await asleep.look()];
  for (const text of [...all.faults, ...faults]) complain("wire", text);
  if (reconnects < 1) complain("I6", "it never lost its connection");
  for (const view of views) {
    // Who was awake has seen everything, also what is trimmed by now.
    const whole = all.views.find(({ jobId }) => jobId === view.jobId)?.entries ?? [];
    const seen = judgeSleeper(
      view,
      whole.filter((entry) => entry.kind === "event"),
    );
    outcome.complaints.push(...seen.complaints);
    outcome.said.push(
      `${view.jobId}: ${seen.pages} pages, at most ${seen.largest} in one, told to miss ${seen.missed}`,
    );
    if (seen.largest > LARGEST_PAGE) complain("I6", `${view.jobId}: a page of ${seen.largest} events`);
    if (seen.missed > 0 !== (view.jobId !== CALM))
      complain("I1", `${view.jobId}: told to miss ${seen.missed}`);
  }
}

const BEHIND = 100;

export const allReconnect: Row = {
  number: 20,
  fault: "all transports are cut in one moment, and everybody comes back 100 events behind",
  people: "reconnecting, then caught up; staggered",
  budget: { ms: 5_000, part: "p99", of: "recovered" },
  run: async (context) => {
    const proxies: TcpProxy[] = [];
    try {
      return await runScenario(crowded(context), { inject: (scenario) => cutAll(scenario, proxies) });
    } finally {
      await Promise.all(proxies.map((proxy) => proxy.close()));
    }
  },
};

/** Of the crowd, which comes through proxies; the others show what else is going on. */
async function cutAll(scenario: Scenario, proxies: TcpProxy[]): Promise<void> {
  const { stage } = scenario;
  for (const hub of stage.hubs) proxies.push(await TcpProxy.open(hub));
  const crowds = await Promise.all(
    proxies.map(({ port }) => bringCrowd(scenario, `http://127.0.0.1:${port}`, proxies.length)),
  );
  const crowd = crowds.flat();
  for (const proxy of proxies) proxy.cut({ refuse: true });
  await becomes(() => crowd.every(({ connected }) => !connected));
  await fallBehind(scenario);
  const calls = await scriptCalls(scenario);
  await Promise.all(stage.hubs.map(({ url }) => lagOf(url, "p99")));
  scenario.mark();
  for (const proxy of proxies) proxy.accept();
  await scenario.untilRecovered();
  await becomes(() => allConnected(scenario));
  const scripts = (await scriptCalls(scenario)) - calls;
  const lags = await Promise.all(stage.hubs.map(({ url }) => lagOf(url, "p99")));
  const outages = crowd.flatMap(({ recoveries }) => recoveries);
  scenario.say(
    `${crowd.length} came back, ${figuresOf(outages)} after the cut, Redis ran ${scripts} scripts meanwhile`,
  );
  scenario.say(`event loops p99 ${lags.join(", ")} ms`);
  scenario.mark();
  await scenario.untilRecovered();
}

/** The long form's load is slow, and clients that are kept out for long try only every few seconds. */
async function burst({ stage }: Scenario): Promise<void> {
  const load = {
    durable: BEHIND * JOBS.length * 1.2,
    progress: 0,
    perSecond: 1_000,
    keys: [{ rank: 7 }],
    breaks: 0,
  };
  await stage.trainer(HOME, [stage.hubs.length - 1], { ...load, jobs: () => JOBS }).run();
}

/** Until each job has so many more events. */
async function fallBehind(scenario: Scenario): Promise<void> {
  const { stage } = scenario;
  const heads = () =>
    Promise.all(JOBS.map(async (job) => (await findSnapshot(stage.access(HOME, 0), job))?.seq ?? 0));
  const before = await heads();
  if (isLong(scenario.context)) await burst(scenario);
  await becomes(async () => (await heads()).every((seq, i) => seq >= (before[i] as number) + BEHIND), 60_000);
}

/** Scripts that Redis has run so far. */
async function scriptCalls({ stage }: Scenario): Promise<number> {
  const stats = await stage.redis.info("commandstats");
  const calls = [...stats.matchAll(/^cmdstat_(?:evalsha|evalsha_ro|fcall|fcall_ro):calls=(\d+)/gm)];
  return calls.reduce((sum, [, count]) => sum + Number(count), 0);
}
