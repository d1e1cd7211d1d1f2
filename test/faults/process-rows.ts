/** What goes wrong with hubs and with nginx: they die, are replaced, hang, stand still. Everybody comes through nginx. */
import { setTimeout as sleep } from "node:timers/promises";
import { percentiles } from "../cluster/figures.ts";
import { HubSignals } from "../cluster/hub-signals.ts";
import { HOME } from "../cluster/stage.ts";
import { Watcher } from "../cluster/watcher.ts";
import { allConnected, bringCrowd, crowded, isLong, lagOf } from "./crowd.ts";
import { becomes } from "./hub-state.ts";
import { figuresOf, JOBS, type Row, runScenario, type Scenario } from "./scenario.ts";

const LAG_BUDGET_MS = 500;
/** Far above what it takes. */
const LIMIT_MS = 60_000;

export const hubDies: Row = {
  number: 1,
  fault: "a hub is killed, and started again",
  people: "its watchers: reconnecting, then caught up; the others nothing",
  budget: { ms: 5_000, part: "p99", of: "recovered" },
  run: (context) =>
    runScenario(crowded(context), {
      nginx: true,
      inject: async (scenario) => {
        await bringCrowd(scenario);
        const { hubs, staying } = scenario.stage;
        const victim = scenario.stage.hub(scenario.random.int(0, hubs.length));
        const survivors = hubs.filter((hub) => hub !== victim);
        const others = staying.filter(({ instance }) => instance !== victim.name);
        const before = others.map(({ reconnects }) => reconnects);
        await Promise.all(survivors.map(({ url }) => lagOf(url, "p99"))); // counted from one look to the next
        scenario.mark({ hubs: [hubs.indexOf(victim)] });
        await victim.kill();
        await scenario.untilRecovered();
        const lags = await Promise.all(survivors.map(({ url }) => lagOf(url, "p99")));
        await victim.start();
        scenario.say(`${staying.length - others.length} of ${staying.length} watchers were on it`);
        scenario.say(`event loops of the others p99 ${lags.join(", ")} ms`);
        if (isLong(context) && Math.max(...lags) > LAG_BUDGET_MS)
          scenario.complain("I6", `the event loops of the other hubs were ${lags.join(", ")} ms late`);
        const moved = others.filter(({ reconnects }, i) => reconnects !== before[i]);
        if (moved.length > 0)
          scenario.complain("I6", `${moved.length} watchers of other hubs lost their connection`);
      },
    }),
};

const EXIT_BUDGET_MS = 30_000;
/** Beyond two attempts to connect with Socket.IO's back-off: there is always a hub that takes everybody. */
const OUTAGE_CEILING_MS = 10_000;
/** With fewer, how they are spread says nothing. */
const SPREAD_OVER = 15;

export const rollingRestart: Row = {
  number: 2,
  fault: "all hubs are restarted one after the other under load",
  people: "nothing, or a blip",
  run: (context) => {
    const drainMs = isLong(context) ? 6_000 : 1_500;
    return runScenario(crowded(context), {
      nginx: true,
      env: () => ({ TRAINWIRE_DRAIN_MS: String(drainMs) }),
      inject: async (scenario) => {
        await bringCrowd(scenario);
        const exits: number[] = [];
        for (const [i, hub] of scenario.stage.hubs.entries()) {
          await becomes(() => allConnected(scenario), LIMIT_MS);
          scenario.mark({ hubs: [i] });
          const leaving = scenario.stage.staying.filter(({ instance }) => instance === hub.name);
          const started = performance.now();
          await hub.stop();
          exits.push(Math.round(performance.now() - started));
          await hub.start();
          judgeSpread(scenario, hub.name, leaving, drainMs);
          await scenario.untilRecovered();
        }
        if (!(await becomes(() => allConnected(scenario), LIMIT_MS)))
          scenario.complain("I6", "not everybody has come back");
        scenario.mark();
        await scenario.untilRecovered();
        const outages = scenario.stage.staying.flatMap(({ recoveries }) => recoveries);
        scenario.say(`hubs ended after ${exits.join(", ")} ms; ${outages.length} connections lost`);
        scenario.say(`each caught up ${figuresOf(outages)} after it was lost`);
        if (Math.max(...outages) > OUTAGE_CEILING_MS)
          scenario.complain("I6", `somebody was away for ${Math.max(...outages)} ms`);
        if (Math.max(...exits) > EXIT_BUDGET_MS)
          scenario.complain("I6", `a hub ended after ${exits.join(", ")} ms`);
      },
    });
  },
};

/** A draining hub lets its clients go over the whole window, not all in one moment. */
function judgeSpread(scenario: Scenario, hub: string, leaving: readonly Watcher[], windowMs: number): void {
  const moments = leaving.flatMap(({ since }) => since?.lostAfter ?? []).sort((a, b) => a - b);
  if (moments.length < SPREAD_OVER) return;
  const slice = windowMs / 5;
  const most = Math.max(
    ...moments.map((from) => moments.filter((moment) => moment >= from && moment < from + slice).length),
  );
  scenario.say(
    `${hub}: ${moments.length} left from ${moments[0]} to ${moments.at(-1)} ms, at most ${most} in ${slice}`,
  );
  if (most > moments.length * 0.6)
    scenario.complain(
      "I6",
      `${hub}: ${most} of ${moments.length} clients had to leave within ${slice} ms of ${windowMs}`,
    );
}

const NEWCOMERS = 12;
const CONNECT_BUDGET_MS = 21_000;

export const hubHangs: Row = {
  number: 3,
  fault: "a hub hangs",
  people: "its watchers: a pause, or they move to another hub; who connects meanwhile waits at most 21 s",
  run: (context) =>
    runScenario(context, {
      nginx: true,
      inject: async (scenario) => {
        const index = scenario.random.int(0, scenario.stage.hubs.length);
        const hub = scenario.stage.hub(index);
        scenario.mark({ hubs: [index] });
        hub.pause();
        const started = performance.now();
        const waits: number[] = [];
        const joining = newcomers(scenario).map(async (watcher) => {
          await scenario.stage.join(watcher);
          waits.push(performance.now() - started);
        });
        try {
          await sleep(isLong(context) ? 60_000 : 5_000);
        } finally {
          hub.resume();
        }
        await Promise.all(joining);
        const [, , worst] = percentiles(waits) as [number, number, number];
        scenario.say(`new connections live after ${figuresOf(waits)}`);
        if (worst > CONNECT_BUDGET_MS) scenario.complain("I6", `a new connection took ${worst} ms`);
        await scenario.untilRecovered();
        await becomes(() => allConnected(scenario), LIMIT_MS);
        scenario.mark();
      },
    }),
};

function newcomers(scenario: Scenario): Watcher[] {
  return Array.from({ length: NEWCOMERS }, (_, i) => {
    const options = { name: `newcomer ${i}`, polling: i % 3 === 0, jobId: JOBS[i % JOBS.length] as string };
    return new Watcher(scenario.stage.watcherOptions(HOME, 0, options));
  });
}

export const loopStalls: Row = {
  number: 4,
  fault: "a hub's event loop stands still for 2 s, and for 10 s",
  people: "a pause; nobody is dropped, and the lag shows",
  run: async (context) => {
    const signals = await HubSignals.create(context.build);
    try {
      return await runScenario(context, {
        env: () => signals.env,
        inject: async (scenario) => {
          const hub = scenario.stage.hub(0);
          for (const ms of isLong(context) ? [2_000, 10_000] : [2_000]) {
            await lagOf(hub.url, "max");
            scenario.mark({ hubs: [0] });
            await signals.spin(hub.pid as number, ms);
            const lag = await lagOf(hub.url, "max");
            await scenario.untilRecovered();
            scenario.say(`stood still for ${ms} ms, the metric says ${lag}`);
            if (lag < ms * 0.9) scenario.complain("I6", `of ${ms} ms the lag metric shows ${lag}`);
          }
          scenario.expectNoReconnects();
        },
      });
    } finally {
      signals.remove();
    }
  },
};

export const nginxReplaced: Row = {
  number: 16,
  fault: "nginx is reloaded, and one of its workers is killed",
  people: "a blip for its clients; they go on where they were",
  run: (context) =>
    runScenario(context, {
      nginx: true,
      inject: async (scenario) => {
        const { nginx, staying } = scenario.stage;
        if (!nginx) throw new Error("the scenario has no nginx");
        const lost = () => staying.filter(({ since }) => since?.lost).length;
        scenario.mark();
        await nginx.reload();
        await becomes(() => allConnected(scenario), LIMIT_MS);
        scenario.say(`the reload cost ${lost()} of ${staying.length} watchers their connection`);
        scenario.mark();
        await nginx.killWorker(scenario.random.pick(nginx.workers));
        await becomes(() => allConnected(scenario), LIMIT_MS);
        await scenario.untilRecovered();
        scenario.say(`the killed worker ${lost()}`);
      },
    }),
};
