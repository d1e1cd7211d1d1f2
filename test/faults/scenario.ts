/**
 * One fault, from the first hub to the verdict: real hubs on a Redis of their own, trainers that write down every
 * acknowledgement, watchers of all kinds on two tenants, something that goes wrong, and the checker over the histories.
 *
 * How to write a row of the fault suite:
 *
 *     export const row: Row = {
 *       number: 99,
 *       fault: "a hub is killed",
 *       people: "reconnecting, then caught up",
 *       budget: { ms: 5_000, part: "p99", of: "recovered" },
 *       run: (context) =>
 *         runScenario(context, {
 *           inject: async (scenario) => {
 *             scenario.mark({ hubs: [0] });              // recovery is counted from here, for these hubs' watchers
 *             await scenario.stage.hub(0).kill();
 *             await scenario.stage.hub(0).start();
 *           },
 *         }),
 *     };
 *
 * and put it into `rows.ts`: the tests run every row there in its short form, `npm run faults` in its long one.
 * `context.size` says how large: scale whatever the row does by it. `inject` is called in the middle of the load and
 * resolves when the fault is over; the load goes on until everybody marked has had an event that was stored later, and
 * `afterMs` longer. `mark` again measures again. What a row finds wrong by itself it says with `scenario.complain`, what
 * is worth printing with `scenario.say`. Everything else (loss, doubling, order, tenants, what is left behind, deaths of
 * processes, errors in their logs) is judged afterwards by the checker of `test/cluster`.
 *
 * A row that needs other clients or processes writes its own `run`; all it owes is an `Outcome`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Complaint } from "../cluster/checker.ts";
import { percentiles } from "../cluster/figures.ts";
import type { HubBuild, HubProcess } from "../cluster/hub-process.ts";
import { keepHistory } from "../cluster/keep.ts";
import { Random } from "../cluster/random.ts";
import { toldAt } from "../cluster/resets.ts";
import { FOREIGN, HOME, type Load, Stage, type StageOptions } from "../cluster/stage.ts";
import { judge } from "../cluster/verdict.ts";
import type { Watcher } from "../cluster/watcher.ts";
import { TcpProxy } from "../support/proxy.ts";
import { type RedisOptions, type RedisServer, startRedis } from "../support/redis.ts";
import { becomes, readiness } from "./hub-state.ts";

export interface Size {
  readonly name: "short" | "long";
  readonly hubs: number;
  /** Watchers on each hub. */
  readonly perHub: number;
  /** Events a second of the two trainers, half of them durable. */
  readonly perSecond: number;
  /** Load before the fault, and after everybody has recovered. */
  readonly beforeMs: number;
  readonly afterMs: number;
}
export const SHORT: Size = {
  ...{ name: "short", hubs: 2, perHub: 12, perSecond: 200, beforeMs: 1_000, afterMs: 1_000 },
};
export const LONG: Size = {
  ...{ name: "long", hubs: 3, perHub: 30, perSecond: 400, beforeMs: 5_000, afterMs: 5_000 },
};

export interface Context {
  build: HubBuild;
  seed: number;
  size: Size;
}

export interface Row {
  readonly number: number;
  /** What goes wrong. */
  readonly fault: string;
  /** What people see. */
  readonly people: string;
  /** Printed always, judged by the long command. */
  readonly budget?: Budget;
  run(context: Context): Promise<Outcome>;
}

export interface Budget {
  ms: number;
  part: "p50" | "p99" | "max";
  of: "recovered" | "told";
}

export interface Outcome {
  complaints: Complaint[];
  /** What was seen, in words. */
  said: string[];
  /** ms from a mark to the first durable event stored after it, of each marked watcher. */
  recovered: number[];
  /** ms from the first mark until a watcher was told that its feed begins anew. */
  told: number[];
  /** Writes down the histories; answers where. */
  keep: () => string;
}

export interface ScenarioOptions {
  redis?: RedisOptions;
  /** Instead of the size's. */
  hubs?: number;
  /** Everybody comes through nginx, `scenario.stage.nginx`, and may land on any hub. */
  nginx?: boolean;
  /** Each hub reaches Redis through a proxy of its own, `scenario.proxies`. */
  proxied?: boolean;
  env?: (hub: number) => NodeJS.ProcessEnv;
  /** One more job has events before the fault, and none after it. */
  quiet?: boolean;
  /** Redis loses its data: feeds begin anew, and everybody must be told. */
  begun?: boolean;
  /** A trainer whose hub is away goes on at the next one. Default: it waits. */
  trainersMove?: boolean;
  /** What is told of the watchers on each hub. */
  listen?: StageOptions["listen"];
  openFiles?: StageOptions["openFiles"];
  inject: (scenario: Scenario) => Promise<void>;
}

export const JOBS: readonly string[] = ["job-0", "job-1", "job-2", "job-3"];
export const QUIET = "quiet";
const FOREIGN_PER_SECOND = 20;
/** More than any scenario makes: it ends by its signal. */
const ENDLESS = 1_000_000;
const LOOK_MS = 10;
/** Only against hanging. */
const RECOVERY_LIMIT_MS = 30_000;
const STEP_LIMIT_MS = 45_000;
const FAULT_LIMIT_MS = { short: 60_000, long: 600_000 };

export class Scenario {
  readonly context: Context;
  readonly random: Random;
  readonly redis: RedisServer;
  /** By hub, with `proxied`. */
  readonly proxies: readonly TcpProxy[];
  readonly stage: Stage;
  readonly said: string[] = [];
  readonly complaints: Complaint[] = [];
  readonly #options: ScenarioOptions;
  readonly #recovered: number[] = [];
  #marked: Watcher[] = [];
  #firstMark = 0;

  constructor(context: Context, options: ScenarioOptions, redis: RedisServer, proxies: readonly TcpProxy[]) {
    this.context = context;
    this.#options = options;
    this.redis = redis;
    this.proxies = proxies;
    this.random = new Random(context.seed).fork();
    const { build, seed, size } = context;
    this.stage = new Stage({
      ...{ redis, build, seed, hubs: options.hubs ?? size.hubs, perHub: size.perHub },
      jobs: options.quiet ? [...JOBS, QUIET] : JOBS,
      ...(options.env && { env: options.env }),
      ...(options.listen && { listen: options.listen }),
      ...(options.openFiles && { openFiles: options.openFiles }),
      ...(options.nginx && { nginx: true }),
      ...(proxies.length > 0 && { redisUrl: (hub) => `redis://127.0.0.1:${proxies[hub]?.port}` }),
    });
  }

  /**
   * The fault is there, or is over: from now on is measured when the watchers (of these hubs; default: all) get the first
   * durable event that was stored later. Of watchers that stay, and want all events of jobs.
   */
  mark({ hubs }: { hubs?: readonly number[] } = {}): void {
    this.#collect();
    const now = Date.now();
    this.#firstMark ||= now;
    const names = hubs?.map((hub) => this.stage.hub(hub).name);
    this.#marked = this.stage.staying.filter(
      ({ options: { tenantId, types, jobId }, instance }) =>
        tenantId === HOME.tenantId &&
        types === undefined &&
        jobId !== undefined &&
        jobId !== QUIET &&
        (names?.includes(instance) ?? true),
    );
    for (const watcher of this.#marked) watcher.mark(now);
  }

  /** Everybody marked has had an event that was stored after the mark. */
  get recovered(): boolean {
    return this.#marked.every(({ since }) => since?.recovery !== undefined);
  }

  /** Resolves when `recovered`, or after half a minute. */
  async untilRecovered(): Promise<void> {
    const limit = Date.now() + RECOVERY_LIMIT_MS;
    while (!this.recovered && Date.now() < limit) await sleep(LOOK_MS);
  }

  /** Worth printing. */
  say(text: string): void {
    this.said.push(text);
  }

  complain(rule: Complaint["rule"], text: string): void {
    this.complaints.push({ rule, text });
  }

  /** Both trainers are told this code. */
  async expectRefusals(code: string): Promise<void> {
    const { trainers } = this.stage;
    const refused = await becomes(() => trainers.every(({ codes }) => codes.has(code)));
    const codes = new Set(trainers.flatMap((trainer) => [...trainer.codes.keys()]));
    this.say(`publishes were answered ${[...codes].join(", ") || "as ever"}`);
    if (!refused) this.complain("wire", `publishes were not refused ${code}`);
  }

  /** `/readyz` becomes so, as in `200 degraded`. */
  async expectState(hub: HubProcess, state: string): Promise<void> {
    let last = "";
    const is = await becomes(async () => {
      last = await readiness(hub).catch((error: Error) => error.message);
      return last === state;
    });
    if (!is) this.complain("I6", `${hub.name} is ${last}, not ${state}`);
  }

  /** Nobody has lost a connection so far. */
  expectNoReconnects(): void {
    const moved = this.stage.staying.filter(({ reconnects }) => reconnects > 0);
    if (moved.length > 0) this.complain("I6", `${moved.length} watchers have lost their connection`);
  }

  /** @throws Error when a step hangs. */
  async run(): Promise<void> {
    const { stage } = this;
    await within("hubs start", stage.startHubs());
    await within("watchers join", stage.joinAll());
    await this.#load();
    await within("everybody catches up", stage.settle());
    await within("the store is read", stage.readStored());
    await within("everybody leaves", stage.leave());
  }

  outcome(): Outcome {
    const { begun = false } = this.#options;
    const complaints = [...this.complaints, ...judge(this.stage, { begun })];
    const told = !begun
      ? []
      : this.stage.staying.flatMap(({ views }) =>
          views.flatMap((view) => {
            const at = toldAt(view, this.#firstMark);
            return at === undefined ? [] : [at - this.#firstMark];
          }),
        );
    return {
      ...{ complaints, said: this.said, recovered: this.#recovered, told },
      keep: () => keepHistory(this.stage, complaints),
    };
  }

  async #load(): Promise<void> {
    const { perSecond, beforeMs, afterMs } = this.context.size;
    const over = new AbortController();
    let quiet = this.#options.quiet === true;
    const load = (perSecondEach: number, keys: Load["keys"]): Load => ({
      ...{ durable: ENDLESS, progress: ENDLESS, perSecond: perSecondEach, keys, breaks: 0, end: over.signal },
      jobs: () => (quiet ? [...JOBS, QUIET] : JOBS),
    });
    const last = this.stage.hubs.length - 1;
    const at = (hub: number): [number, ...number[]] => (this.#options.trainersMove ? [hub, last] : [hub]);
    const trainers = [
      this.stage.trainer(HOME, at(0), load(perSecond / 2, [{}, { product: "north", rank: 0 }])),
      this.stage.trainer(
        HOME,
        at(1 % this.stage.hubs.length),
        load(perSecond / 2, [{ rank: 0 }, { rank: 1 }]),
      ),
      this.stage.trainer(FOREIGN, [last], { ...load(FOREIGN_PER_SECOND, [{}]), jobs: () => JOBS }),
    ];
    const publishing = Promise.all(trainers.map((trainer) => trainer.run()));
    // A trainer that fails ends the scenario, also while the fault is still there.
    await Promise.race([publishing, this.#faultAndRecovery(beforeMs, afterMs, () => (quiet = false))]);
    over.abort();
    await within("trainers publish the rest", publishing);
    await within("the load ends", this.stage.endLoad(JOBS));
  }

  async #faultAndRecovery(beforeMs: number, afterMs: number, onQuiet: () => void): Promise<void> {
    await sleep(beforeMs / 2);
    onQuiet();
    await sleep(beforeMs / 2);
    await within("the fault", this.#options.inject(this), FAULT_LIMIT_MS[this.context.size.name]);
    await this.untilRecovered();
    this.#collect();
    await sleep(afterMs);
  }

  #collect(): void {
    for (const { since, options } of this.#marked) {
      if (since?.recovery !== undefined) this.#recovered.push(since.recovery);
      else this.complain("I6", `${options.name} had no event that was stored after the fault`);
    }
    this.#marked = [];
  }
}

async function within<T>(what: string, work: Promise<T>, limitMs = STEP_LIMIT_MS): Promise<T> {
  const given = new AbortController();
  const late = sleep(limitMs, undefined, { signal: given.signal }).then(() => {
    throw new Error(`not over after ${limitMs / 1_000} s: ${what}`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    given.abort();
    late.catch(() => {}); // it was given up
  }
}

export async function runScenario(context: Context, options: ScenarioOptions): Promise<Outcome> {
  const redis = await startRedis(options.redis);
  const proxies: TcpProxy[] = [];
  let scenario: Scenario | undefined;
  try {
    const hubs = options.hubs ?? context.size.hubs;
    if (options.proxied) for (let i = 0; i < hubs; i++) proxies.push(await TcpProxy.open(redis));
    scenario = new Scenario(context, options, redis, proxies);
    await scenario.run();
  } catch (error) {
    if (!scenario) throw error;
    scenario.complain("I7", `the scenario failed: ${(error as Error).stack}`);
  } finally {
    await scenario?.stage.close();
    await Promise.all(proxies.map((proxy) => proxy.close()));
    await redis.stop();
  }
  return scenario.outcome();
}

/** Several scenarios of one row. */
export function together(outcomes: readonly Outcome[]): Outcome {
  return {
    complaints: outcomes.flatMap(({ complaints }) => complaints),
    said: outcomes.flatMap(({ said }) => said),
    recovered: outcomes.flatMap(({ recovered }) => recovered),
    told: outcomes.flatMap(({ told }) => told),
    keep: () =>
      outcomes
        .filter(({ complaints }) => complaints.length > 0)
        .map((outcome) => outcome.keep())
        .join(", "),
  };
}

/** `p50 / p99 / max ms`. */
export function figuresOf(values: readonly number[]): string {
  return values.length === 0 ? "–" : `${percentiles(values).join(" / ")} ms`;
}

/** What the budget is about, in ms; undefined when nothing was measured. */
export function measured({ part, of }: Budget, outcome: Outcome): number | undefined {
  if (outcome[of].length === 0) return undefined;
  const [p50, p99, max] = percentiles(outcome[of]) as [number, number, number];
  return { p50, p99, max }[part];
}
