/** What goes wrong between hubs and Redis while both are well. */
import { setTimeout as sleep } from "node:timers/promises";
import { readMetrics } from "../cluster/metrics.ts";
import type { Random } from "../cluster/random.ts";
import { KEY_PREFIX } from "../cluster/stage.ts";
import { hasSubscribed, type Link } from "../support/proxy.ts";
import { becomes, readiness, watchReadiness } from "./hub-state.ts";
import { type Row, runScenario } from "./scenario.ts";

const CUT_EVERY_MS = 2_000;

export const subscribersCut: Row = {
  number: 8,
  fault: "subscriber connections are cut every 2 s",
  people: "nothing",
  budget: { ms: 1_000, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      inject: async (scenario) => {
        let connections = 0;
        const times = context.size.name === "long" ? 15 : 3;
        for (let i = 0; i < times; i++) {
          const next = sleep(CUT_EVERY_MS);
          scenario.mark();
          connections += (await scenario.stage.redis.call("CLIENT", "KILL", "TYPE", "pubsub")) as number;
          await next;
          await scenario.untilRecovered();
        }
        scenario.say(`${connections} connections cut in ${times} goes`);
        const least = times * scenario.stage.hubs.length;
        if (connections < least) scenario.complain("I6", `only ${connections} connections were there to cut`);
        scenario.expectNoReconnects();
      },
    }),
};

const PROBE_MS = 1_000;

export const subscriberDeaf: Row = {
  number: 9,
  fault: "a hub's subscriber connection is silently dead",
  people: "nothing",
  budget: { ms: 2 * PROBE_MS, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      proxied: true,
      env: () => ({
        TRAINWIRE_PROBE_INTERVAL_MS: String(PROBE_MS),
        // The comparison with the store would heal it too, and hide that nobody has noticed.
        TRAINWIRE_CHECK_INTERVAL_MS: "60000",
      }),
      inject: async (scenario) => {
        const [hub] = scenario.stage.hubs;
        const [proxy] = scenario.proxies;
        if (!hub || !proxy) throw new Error("the scenario has no hub");
        const over = watchReadiness(hub);
        const links = proxy.swallow({ only: carriesEvents });
        scenario.mark({ hubs: [0] });
        if (links !== 1) scenario.complain("I6", `${links} connections carry events, not one`);
        await scenario.untilRecovered();
        await becomes(async () => (await readiness(hub)) === "200 ok");
        const states = await over();
        scenario.say(`it was ${states.join(", ")}`);
        if (!states.includes("503 deaf")) scenario.complain("I6", "it did not say that it was deaf");
        scenario.expectNoReconnects();
      },
    }),
};

/** The hub's subscriber for feeds; Socket.IO's adapter has one too. */
export function carriesEvents(link: Link): boolean {
  return hasSubscribed(link) && !link.opening.includes(`${KEY_PREFIX}:sockets`);
}

const PAUSE_MS = 20;

export const poisonedBus: Row = {
  number: 24,
  fault: "garbage on the channels of feeds, adapter and probe",
  people: "nothing",
  budget: { ms: 1_000, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      inject: async (scenario) => {
        const { redis } = scenario.stage;
        const channels = (await redis.call("PUBSUB", "SHARDCHANNELS", `${KEY_PREFIX}:*`)) as string[];
        let sent = 0;
        scenario.mark();
        for (let i = 0; i < (context.size.name === "long" ? 200 : 40); i++) {
          for (const channel of channels) {
            await redis.spublish(channel, garbage(scenario.random));
            sent++;
          }
          await sleep(PAUSE_MS);
        }
        await scenario.untilRecovered();
        scenario.mark();
        await scenario.untilRecovered();
        scenario.say(`${sent} messages on ${channels.length} channels`);
        const metrics = await readMetrics(scenario.stage.hub(0).url);
        for (const channel of ["feeds", "adapter"]) {
          const counted = metrics.get(`trainwire_unreadable_total{channel="${channel}"}`) ?? 0;
          scenario.say(`${counted} counted (${channel})`);
          if (counted === 0) scenario.complain("I6", `no message of ${channel} was counted as unreadable`);
        }
        for (const kind of [":{home}:job:", ":{home}:tenant:", ":sockets"]) {
          if (!channels.some((channel) => channel.includes(kind)))
            scenario.complain("I6", `nobody listens to a channel with ${kind}`);
        }
        scenario.expectNoReconnects();
      },
    }),
};

const EVENT = JSON.stringify({ feed: "job", job_id: "job-0", type: "log", data: { message: "forged" } });
const GARBAGE: ReadonlyArray<(random: Random) => Buffer> = [
  () => Buffer.alloc(0),
  (random) => Buffer.from(Array.from({ length: random.int(1, 400) }, () => random.int(0, 256))),
  () => Buffer.from("{}"),
  () => Buffer.from("null"),
  () => Buffer.from(JSON.stringify({ uid: "other", type: 3 })),
  () => Buffer.from(JSON.stringify({ uid: "other", nsp: "/", type: 3, data: { packet: null, opts: null } })),
  () => Buffer.from(JSON.stringify({ uid: "other", nsp: "/", type: 6, data: { opts: {}, close: true } })),
  () => Buffer.from(JSON.stringify({ uid: "other", nsp: "/", type: 8, data: { packet: 1, opts: 2 } })),
  () => Buffer.from("[".repeat(20_000)),
  () => Buffer.from(`1 no-such-epoch 7 d log job-0 \n${EVENT}`),
  (random) => Buffer.from(`1 e ${random.int(-5, 5)} d log job-0 \n${EVENT}`),
  () => Buffer.from(`2 e 7 d log job-0 \n${EVENT}`),
  () => Buffer.from("1 e 7 d log job-0 "),
  () => Buffer.from(`1 e NaN x\n${EVENT}\n1`),
  () => Buffer.from("\n\n\n\n"),
  () => Buffer.from(`\u0000\ud83d\n${"x".repeat(70_000)}`),
];

function garbage(random: Random): Buffer {
  return random.pick(GARBAGE)(random);
}
