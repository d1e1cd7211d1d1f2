/**
 * Root hooks of every mocha run: the shared Redis servers, and what fails the run although every test passed
 * (a rejection nobody handled, something left behind, a process that cannot end).
 */
import { randomBytes } from "node:crypto";
import type { Context, RootHookObject } from "mocha";
import { notUndone } from "./cleanup.ts";
import { type RedisServer, startRedis } from "./redis.ts";

const shared: { plain?: Promise<RedisServer>; cluster?: Promise<RedisServer> } = {};

/** The Redis that the tests of this run share. Who stops, pauses or configures it starts his own instead. */
export function plainRedis(): Promise<RedisServer> {
  shared.plain ??= startRedis();
  return shared.plain;
}

/** The same as a cluster of one node. */
export function clusterRedis(): Promise<RedisServer> {
  shared.cluster ??= startRedis({ cluster: true });
  return shared.cluster;
}

let prefixes = 0;

/** A key prefix that no other test has, without braces. */
export function freshPrefix(): string {
  return `t${++prefixes}-${randomBytes(3).toString("hex")}:`;
}

/** How long the process may live on after the last test. */
const EXIT_LIMIT_MS = 10_000;

let current = "before the first test";
let over = false;
const seen = new Set<Promise<unknown>>();
const faults: string[] = [];

// mocha 12 drops unhandled rejections of the code under test without a word.
process.on("unhandledRejection", (reason, promise) => {
  if (seen.has(promise)) return; // mocha emits the event a second time
  seen.add(promise);
  const fault = `unhandled rejection during "${current}": ${reason instanceof Error ? reason.stack : String(reason)}`;
  console.error(fault);
  faults.push(fault);
  if (over) failAtExit();
});

/** Past the last hook: mocha sets the exit code when the process exits, so the last listener has the last word. */
function failAtExit(): void {
  process.on("exit", () => {
    process.exitCode = 1;
  });
}

// Nothing is left to do. Seen with Node 20 and a loader: taking the environment apart waits for ever, at full speed.
process.once("beforeExit", () => process.exit());

export const mochaHooks: RootHookObject = {
  beforeEach(this: Context) {
    current = this.currentTest?.fullTitle() ?? current;
  },
  async afterAll() {
    for (const server of await Promise.allSettled(Object.values(shared))) {
      if (server.status === "fulfilled") await server.value.stop();
    }
    await new Promise((resolve) => setImmediate(resolve)); // rejections of the last test
    faults.push(...notUndone().map((label) => `left behind: ${label}`));
    over = true;
    setTimeout(() => {
      console.error(
        `The tests are over but the process stays: ${process.getActiveResourcesInfo().join(", ")}`,
      );
      failAtExit();
      process.exit(1);
    }, EXIT_LIMIT_MS).unref();
    if (faults.length > 0) throw new Error(faults.join("\n"));
  },
};
