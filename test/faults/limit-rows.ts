/** What runs out: room for a subscriber's messages in Redis, a hub's file descriptors. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { HOME, KEY_PREFIX } from "../cluster/stage.ts";
import { Watcher } from "../cluster/watcher.ts";
import { becomes } from "./hub-state.ts";
import { carriesEvents } from "./link-rows.ts";
import { JOBS, type Row, runScenario } from "./scenario.ts";

const MB = 1_024 * 1_024;
const MESSAGES = 40;

export const outputOverflows: Row = {
  number: 15,
  fault: "a subscriber does not read, and its output buffer in Redis overflows",
  people: "nothing",
  budget: { ms: 3_000, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      proxied: true,
      redis: { args: ["--client-output-buffer-limit", "pubsub", "4mb", "1mb", "10"] },
      inject: async (scenario) => {
        const { redis } = scenario.stage;
        const [proxy] = scenario.proxies;
        if (!proxy) throw new Error("the scenario has no hub");
        const subscribers = async () =>
          ((await redis.client("LIST", "TYPE", "PUBSUB")) as string).trim().split("\n").length;
        const before = await subscribers();
        const held = proxy.hold({ direction: "reply", only: carriesEvents });
        if (held !== 1) scenario.complain("I6", `${held} connections carry events, not one`);
        scenario.mark({ hubs: [0] });
        const channel = `${KEY_PREFIX}:{${HOME.tenantId}}:job:${JOBS[0]}:live`;
        for (let i = 0; i < MESSAGES; i++) await redis.spublish(channel, "x".repeat(MB));
        const cut = await becomes(async () => (await subscribers()) < before);
        if (!cut) scenario.complain("I6", "Redis has not cut the connection: the fault was not there");
        proxy.release();
        await scenario.untilRecovered();
        scenario.say(`${MESSAGES} MB published while it did not read`);
        scenario.expectNoReconnects();
      },
    }),
};

/** Above what a hub with its watchers needs. */
const OPEN_FILES = 160;
const FLOOD = 200;

export const descriptorsRunOut: Row = {
  number: 23,
  fault: `a hub has no file descriptor left (ulimit -n ${OPEN_FILES})`,
  people: "who connects is refused until there is one; existing clients nothing",
  budget: { ms: 1_000, part: "max", of: "recovered" },
  run: (context) =>
    runScenario(context, {
      openFiles: (hub) => (hub === 0 ? OPEN_FILES : undefined),
      inject: async (scenario) => {
        const { stage } = scenario;
        const sockets: Socket[] = [];
        let refused = 0;
        for (let i = 0; i < FLOOD; i++) {
          const socket = connect(stage.hub(0).port, "127.0.0.1");
          socket.on("error", () => {}); // its `close` follows
          socket.on("close", () => {
            refused++;
          });
          sockets.push(socket);
        }
        const full = await becomes(() => refused > 0);
        if (!full) scenario.complain("I6", "all connections were taken: the fault was not there");
        scenario.mark();
        await sleep(context.size.name === "long" ? 5_000 : 1_000);
        await scenario.untilRecovered();
        scenario.expectNoReconnects();
        scenario.say(`${refused} of ${FLOOD} connections refused`);
        await Promise.all(
          sockets.filter(({ closed }) => !closed).map((socket) => once(socket.destroy(), "close")),
        );
        const late = new Watcher(stage.watcherOptions(HOME, 0, { name: "late", polling: false, jobId: "*" }));
        await stage.join(late);
      },
    }),
};
