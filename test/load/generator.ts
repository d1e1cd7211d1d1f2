/** A process full of watchers. It does what its parent asks, and judges itself what its watchers have seen. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { percentiles } from "../cluster/figures.ts";
import { Texts } from "../cluster/history.ts";
import { Watcher } from "../cluster/watcher.ts";
import { type CarryOut, serveOrders } from "../support/asked.ts";
import { membersOf } from "./crowd.ts";
import type { Crowd, GeneratorFigures, Judgement, Orders, Recoveries } from "./orders.ts";
import { readHeads, readTenants } from "./read.ts";
import { judgeWatchers } from "./verdict.ts";

const LAG_RESOLUTION_MS = 10;
const LOOK_MS = 200;
/** Pings under way at a time while the end is awaited. */
const PINGS = 200;
/** Of live deliveries one in so many is measured. */
const MEASURED = 16;

const lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
lag.enable();

let crowd: Crowd | undefined;
let texts = new Texts();
let watchers: Watcher[] = [];
let delays: number[] = [];
let delivered = 0;

const CARRY_OUT: CarryOut<Orders> = {
  join: joinAll,
  mark({ at }) {
    for (const watcher of watchers) watcher.mark(at);
    return null;
  },
  recoveries: ({ victims }) => recoveriesOf(victims),
  figures,
  settle: ({ limitMs }) => settle(limitMs),
  judge: judgeAll,
  leave() {
    for (const watcher of watchers) watcher.close();
    watchers = [];
    texts = new Texts();
    delays = [];
    return null;
  },
};

async function joinAll(given: Crowd): Promise<number> {
  crowd = given;
  const joined: Array<Promise<void>> = [];
  const pauseMs = 1_000 / given.perSecond;
  const started = performance.now();
  for (const member of membersOf(given)) {
    const onDelay = (ms: number) => {
      if (++delivered % MEASURED === 0) delays.push(ms);
    };
    // The tenant's feed, and what many watch at once, have delays of their own.
    const isPlain = member.jobId !== undefined && member.jobId !== "*";
    const watcher = new Watcher({ ...member, url: given.url, texts, ...(isPlain && { onDelay }) });
    watchers.push(watcher);
    joined.push(watcher.join());
    const ahead = joined.length * pauseMs - (performance.now() - started);
    if (ahead > 0) await sleep(ahead);
  }
  await Promise.all(joined);
  return watchers.length;
}

function recoveriesOf(victims: readonly string[] | "all"): Recoveries {
  const told: Recoveries = { affected: [], others: [], waiting: [], outages: [], lost: 0 };
  for (const { since, connected, options, recoveries: outages } of watchers) {
    if (!since) continue;
    told.outages.push(...outages.slice(since.outages));
    if (since.lost) told.lost++;
    // Some types, or the tenant's feed, may have nothing for long.
    const isMeasured = options.types === undefined && options.jobId !== undefined;
    if (!connected || (since.recovery === undefined && isMeasured)) told.waiting.push(options.name);
    else if (since.recovery !== undefined && isMeasured) {
      const hit = since.lost || victims === "all" || victims.includes(since.instance);
      (hit ? told.affected : told.others).push(since.recovery);
    }
  }
  return told;
}

function figures(): GeneratorFigures {
  const lagOf = (ns: number) => Math.max(0, Math.round(ns / 1e6 - LAG_RESOLUTION_MS));
  const answer: GeneratorFigures = {
    watchers: watchers.length,
    connected: watchers.filter(({ connected }) => connected).length,
    deliveries: watchers.reduce((sum, { deliveries }) => sum + deliveries, 0),
    reconnects: watchers.reduce((sum, { reconnects }) => sum + reconnects, 0),
    lag: { p99: lagOf(lag.percentile(99)), max: lagOf(lag.max) },
    delays: percentiles(delays),
    memoryBytes: process.memoryUsage().rss,
  };
  lag.reset();
  delays = [];
  return answer;
}

/** Until each watcher was told by its hub that it has all that there is. */
async function settle(limitMs: number): Promise<string[]> {
  const limit = Date.now() + limitMs;
  const heads = await readHeads(crowd as Crowd);
  let waiting = watchers;
  for (;;) {
    for (let i = 0; i < waiting.length; i += PINGS) {
      await Promise.all(waiting.slice(i, i + PINGS).map((watcher) => watcher.ping()));
    }
    waiting = waiting.filter((watcher) => !hasAll(watcher, heads));
    if (waiting.length === 0 || Date.now() > limit) return waiting.map(({ options }) => options.name);
    await sleep(LOOK_MS);
  }
}

function hasAll(watcher: Watcher, all: ReadonlyMap<string, ReadonlyMap<string, number>>): boolean {
  const { jobId, tenantId } = watcher.options;
  const heads = all.get(tenantId) as ReadonlyMap<string, number>;
  const wanted = jobId === "*" ? [...heads.keys()].filter((feed) => feed !== "") : [jobId ?? ""];
  return wanted.every((feed) => watcher.until(feed).seq >= (heads.get(feed) as number));
}

async function judgeAll({ newest, keepIn }: Orders["judge"]["request"]): Promise<Judgement> {
  const given = crowd as Crowd;
  const complaints = judgeWatchers(
    watchers,
    given.tenants,
    await readTenants([given.url], given.tenants),
    newest,
  );
  if (complaints.length === 0) return { complaints };
  const kept = mkdtempSync(join(keepIn, "generator-"));
  for (const [i, watcher] of watchers.entries()) {
    if (!complaints.some(({ text }) => text.startsWith(`${watcher.options.name} `))) continue;
    const views = watcher.views.map((view) => ({ ...view, types: view.types && [...view.types] }));
    writeFileSync(join(kept, `${i}.json`), JSON.stringify({ name: watcher.options.name, views }));
  }
  return { complaints, kept };
}

serveOrders(CARRY_OUT);
