/** Redis restarts, loses its data, hangs, is full, is slow. */
import { setTimeout as sleep } from "node:timers/promises";
import { memoryOf, watchReadiness } from "./hub-state.ts";
import { type Context, type Outcome, type Row, runScenario, type Scenario, together } from "./scenario.ts";

const KEEPS_ALL = ["--appendonly", "yes", "--appendfsync", "always"];
const MB = 1_024 * 1_024;

export const redisRestarts: Row = {
  number: 5,
  fault: "Redis restarts, with an append-only file",
  people: '"degraded", then live; connections stay',
  budget: { ms: 3_000, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      redis: { args: KEEPS_ALL },
      inject: async (scenario) => {
        const states = scenario.stage.hubs.map(watchReadiness);
        await scenario.redis.kill("SIGTERM");
        await scenario.expectRefusals("unavailable");
        for (const hub of scenario.stage.hubs) await scenario.expectState(hub, "200 degraded");
        await sleep(context.size.name === "long" ? 5_000 : 500);
        await scenario.redis.start();
        scenario.mark();
        for (const hub of scenario.stage.hubs) await scenario.expectState(hub, "200 ok");
        await scenario.untilRecovered();
        for (const [i, seen] of (await Promise.all(states.map((over) => over()))).entries()) {
          scenario.say(`hub-${i} was ${seen.join(", ")}`);
          const wrong = seen.filter((state) => !state.startsWith("200 "));
          if (wrong.length > 0)
            scenario.complain("I6", `hub-${i} said ${wrong.join(", ")} while Redis was away`);
        }
        scenario.expectNoReconnects();
      },
    }),
};

export const redisLosesData: Row = {
  number: 6,
  fault: "Redis loses its data: kill -9 without persistence; FLUSHALL; also on a quiet job",
  people: '"history was reset", then live',
  budget: { ms: 5_000, part: "max", of: "told" },
  run: async (context) =>
    together([
      await lose(context, "kill -9", async ({ redis }) => {
        await redis.kill("SIGKILL");
        await redis.start();
      }),
      await lose(context, "FLUSHALL", ({ stage }) => stage.redis.flushall()),
    ]),
};

function lose(
  context: Context,
  how: string,
  loss: (scenario: Scenario) => Promise<unknown>,
): Promise<Outcome> {
  return runScenario(context, {
    begun: true,
    quiet: true,
    inject: async (scenario) => {
      scenario.say(how);
      scenario.mark();
      await loss(scenario);
      await scenario.untilRecovered();
      scenario.expectNoReconnects();
    },
  });
}

export const redisHangs: Row = {
  number: 7,
  fault: "Redis hangs: SIGSTOP for 5 s, and for 60 s",
  people: '"degraded"; nothing twice',
  budget: { ms: 5_000, part: "max", of: "recovered" },
  run: async (context) => {
    const outcomes = [await hang(context, 5_000)];
    if (context.size.name === "long") outcomes.push(await hang(context, 60_000));
    return together(outcomes);
  },
};

function hang(context: Context, ms: number): Promise<Outcome> {
  return runScenario(context, {
    inject: async (scenario) => {
      const states = scenario.stage.hubs.map(watchReadiness);
      scenario.redis.pause();
      await sleep(ms);
      scenario.redis.resume();
      scenario.mark();
      await scenario.untilRecovered();
      for (const hub of scenario.stage.hubs) await scenario.expectState(hub, "200 ok");
      const seen = [...new Set((await Promise.all(states.map((over) => over()))).flat())];
      scenario.say(`hung for ${ms / 1_000} s; hubs were ${seen.join(", ")}`);
      const wrong = seen.filter((state) => !state.startsWith("200 "));
      if (wrong.length > 0) scenario.complain("I6", `hubs said ${wrong.join(", ")} while Redis hung`);
      scenario.expectNoReconnects();
    },
  });
}

const FULL_BYTES = 20 * MB;

export const redisIsFull: Row = {
  number: 12,
  fault: "Redis is full (maxmemory 20mb, noeviction)",
  people: "publishes refused `storage_full`; nothing unstored goes live; live again by itself",
  run: (context) =>
    runScenario(context, {
      redis: { args: ["--maxmemory", String(FULL_BYTES), "--maxmemory-policy", "noeviction"] },
      inject: async (scenario) => {
        const keys = await fill(scenario);
        await scenario.expectRefusals("storage_full");
        await sleep(context.size.name === "long" ? 10_000 : 1_000);
        await scenario.stage.redis.unlink(...keys);
        scenario.mark();
        await scenario.untilRecovered();
        scenario.expectNoReconnects();
      },
    }),
};

/** Somebody else's data, until nothing fits any more. */
async function fill({ stage: { redis } }: Scenario): Promise<string[]> {
  const keys: string[] = [];
  for (let bytes = MB; bytes >= 1_024; ) {
    const key = `ballast:${keys.length}`;
    try {
      await redis.set(key, "x".repeat(bytes));
      keys.push(key);
    } catch {
      bytes /= 2;
    }
  }
  return keys;
}

const DELAY_MS = 200;
/** What a hub may grow by while each of its commands takes longer. */
const GROWTH_BYTES = 100 * MB;
const OUTPUT_BYTES = 8 * MB;

export const redisIsSlow: Row = {
  number: 14,
  fault: `Redis is slow: everything takes ${DELAY_MS} ms longer`,
  people: "lag; order kept, buffers bounded",
  budget: { ms: 2_000, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      proxied: true,
      inject: async (scenario) => {
        const { hubs, redis } = scenario.stage;
        const before = hubs.map(memoryOf);
        for (const proxy of scenario.proxies) proxy.delay(DELAY_MS, "reply");
        scenario.mark();
        await scenario.untilRecovered();
        let output = 0;
        const end = Date.now() + (context.size.name === "long" ? 30_000 : 3_000);
        while (Date.now() < end) {
          const list = (await redis.client("LIST")) as string;
          for (const [, bytes] of list.matchAll(/ omem=(\d+)/g)) output = Math.max(output, Number(bytes));
          await sleep(100);
        }
        const grown = Math.max(...hubs.map((hub, i) => memoryOf(hub) - (before[i] as number)));
        for (const proxy of scenario.proxies) proxy.delay(0);
        scenario.say(`hubs grew by ${inMb(grown)}, at most ${inMb(output)} waited in Redis for one of them`);
        if (grown > GROWTH_BYTES) scenario.complain("I6", `a hub grew by ${inMb(grown)}`);
        if (output > OUTPUT_BYTES)
          scenario.complain("I6", `${inMb(output)} waited in Redis for one connection`);
        scenario.expectNoReconnects();
      },
    }),
};

function inMb(bytes: number): string {
  return `${(bytes / MB).toFixed(1)} MB`;
}
