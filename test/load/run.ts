/** The load: a whole cluster, thousands of watchers, one fault after the other, and what the promise says about it all. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Role, signToken } from "../../src/auth.ts";
import type { Complaint } from "../cluster/checker.ts";
import type { Sent } from "../cluster/history.ts";
import { buildHub, type HubBuild } from "../cluster/hub-process.ts";
import { HubSignals } from "../cluster/hub-signals.ts";
import { Trainer } from "../cluster/load.ts";
import { Random } from "../cluster/random.ts";
import { type BaseLine, differences, readBaseLine } from "./base-line.ts";
import { Cluster } from "./cluster.ts";
import { CpuMeter } from "./cpu.ts";
import { FAULTS, type Fault, GENTLE } from "./faults.ts";
import { GeneratorProcess } from "./generators.ts";
import type { GeneratorFigures, LoadTenant, Recoveries } from "./orders.ts";
import { readTenants } from "./read.ts";
import { loadLine, type Phase, phaseHead, phaseLine, timesOf, voidReasons } from "./report.ts";
import { judgeTrainers, sentNewest } from "./verdict.ts";

export interface LoadOptions {
  /** Raw watchers, and clients with socket.io-client. */
  watchers: number;
  clients: number;
  jobs: number;
  /** Events a second and job, half of them durable. */
  rate: number;
  /** Of load without a fault, in each round. */
  seconds: number;
  seed: number;
  /** Shows one line. */
  say: (line: string) => void;
}

export interface LoadResult {
  seed: number;
  phases: Phase[];
  complaints: Complaint[];
  /** Hub → bytes in use after the first and after the second of two like rounds. */
  memory: Record<string, { first: number; second: number }>;
  /** Why the run says nothing. */
  void: string[];
  seconds: number;
  /** Where the histories are, when there was something to complain about. */
  kept?: string;
}

const REPLICAS = 3;
const GENERATORS = 4;
const TENANTS = ["home", "foreign"] as const;
const TRAINERS_PER_TENANT = 3;
const SECRET = "a secret that only the load test knows of";
/** New connections a second, of all generators. */
const ARRIVALS = 500;
const RELEASE_MS = 1_000;
/** More than any run makes: trainers end by their signal. */
const ENDLESS = 100_000_000;
const LOOK_MS = 100;
const RECOVERY_LIMIT_MS = 60_000;
const SETTLE_LIMIT_MS = 60_000;
const LEAVE_LIMIT_MS = 60_000;
const PAUSE_MS = { least: 500, most: 2_000 } as const;
/** How much more memory may be in use after the second of two like rounds. */
const MEMORY_MARGIN = 0.1;

/** Everybody of one round. */
interface People {
  tenants: LoadTenant[];
  /** By tenant. */
  trainers: Trainer[][];
}

export class LoadRun {
  readonly #options: LoadOptions;
  readonly #random: Random;
  readonly #result: LoadResult;
  readonly #generators: GeneratorProcess[] = [];
  readonly #keepIn: string;
  #build: HubBuild | undefined;
  #signals: HubSignals | undefined;
  #cluster: Cluster | undefined;
  #cpu: CpuMeter | undefined;
  #trainers: Trainer[] = [];
  #baseLine: BaseLine = new Map();
  readonly #sent: Sent[] = [];

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#result = { seed: options.seed, phases: [], complaints: [], memory: {}, void: [], seconds: 0 };
    this.#keepIn = mkdtempSync(join(process.env.CLUSTER_HISTORY ?? tmpdir(), "trainwire-load-"));
  }

  /** All of it. `close` afterwards, whatever has become of it. */
  async run(): Promise<LoadResult> {
    const started = performance.now();
    try {
      await this.#start();
      await this.#rounds();
    } catch (error) {
      this.#complain("I7", `the run failed: ${(error as Error).stack}`);
    }
    await this.#cluster?.stop();
    for (const text of this.#cluster?.faults ?? []) this.#complain("I7", text);
    this.#result.void = voidReasons(this.#result.phases);
    this.#result.seconds = Math.round((performance.now() - started) / 1_000);
    if (this.#result.complaints.length > 0) this.#result.kept = this.#keep();
    return this.#result;
  }

  async #rounds(): Promise<void> {
    this.#options.say(phaseHead());
    await this.#round("faults", this.#random.shuffled(FAULTS));
    // Two like rounds with the same processes, so that what grows shows.
    await this.#round("first", GENTLE);
    const first = await this.#memory();
    await this.#round("second", GENTLE);
    this.#compare(first, await this.#memory());
  }

  /** Folder of what is kept of the run, should anything be wrong. */
  get keptIn(): string {
    return this.#keepIn;
  }

  /** Ends everything that it has started. */
  async close(): Promise<void> {
    this.#cpu?.stop();
    for (const trainer of this.#trainers) trainer.close();
    await Promise.all(this.#generators.map((generator) => generator.stop()));
    await this.#cluster?.stop();
    this.#signals?.remove();
    this.#build?.remove();
  }

  async #start(): Promise<void> {
    const { say } = this.#options;
    say("building and starting the cluster");
    this.#build = await buildHub();
    this.#signals = await HubSignals.create(this.#build);
    const env = {
      ...this.#signals.env,
      JWT_SECRET: SECRET,
      LOG_LEVEL: "info,sockets=warn,http=warn",
      TRAINWIRE_RELEASE_MS: String(RELEASE_MS),
    };
    const cluster = await Cluster.start({ build: this.#build, replicas: REPLICAS, env });
    this.#cluster = cluster;
    for (let i = 0; i < GENERATORS; i++) this.#generators.push(new GeneratorProcess(`generator ${i + 1}`));
    this.#baseLine = await readBaseLine(cluster);
    this.#cpu = new CpuMeter(() => {
      const all = cluster.processes();
      for (const { pid, name } of this.#generators) all.set(pid, name);
      return all.set(process.pid, "trainers");
    });
  }

  async #round(round: string, faults: readonly Fault[]): Promise<void> {
    const { say, seconds } = this.#options;
    const people = this.#people(round);
    say(`round ${round}: ${await this.#join(people)} watchers are there`);
    const over = new AbortController();
    const publishing = Promise.all(this.#publish(people, over.signal));
    // A trainer that fails ends the round at once.
    await Promise.race([publishing, this.#suffer(round, faults, seconds * 1_000)]);
    over.abort();
    await publishing;
    await Promise.all(people.trainers.flat().map((trainer) => trainer.end([...trainer.newest.keys()])));
    await this.#judge(round, people);
    await this.#leave(round);
  }

  async #suffer(round: string, faults: readonly Fault[], quietMs: number): Promise<void> {
    await this.#phase(round, {
      name: "no fault",
      inject: async () => {
        await sleep(quietMs);
        return [];
      },
    });
    for (const fault of faults) {
      await sleep(this.#random.int(PAUSE_MS.least, PAUSE_MS.most));
      await this.#phase(round, fault);
    }
  }

  /** Own tenants in every round: what one leaves behind in Redis is not the next one's. */
  #people(round: string): People {
    const { jobs } = this.#options;
    const tenants = TENANTS.map((name, i): LoadTenant => {
      const count = i === 0 ? Math.ceil((jobs * 2) / 3) : Math.floor(jobs / 3);
      const tenantId = `${name}-${round}`;
      return {
        ...{ tenantId, marker: `mark-of-${tenantId}`, token: token(tenantId, "watcher") },
        jobs: Array.from({ length: count }, (_, job) => `job-${job}`),
      };
    });
    return { tenants, trainers: [] };
  }

  async #join({ tenants }: People): Promise<number> {
    const { watchers: raw, clients } = this.#options;
    const { url } = this.#cluster as Cluster;
    const counts = await Promise.all(
      this.#generators.map((generator, part) =>
        generator.ask("join", {
          ...{ url, tenants, raw, clients, part, of: GENERATORS, perSecond: ARRIVALS / GENERATORS },
        }),
      ),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  #publish({ tenants, trainers }: People, end: AbortSignal): Array<Promise<void>> {
    const { rate } = this.#options;
    const { url } = this.#cluster as Cluster;
    for (const { tenantId, marker, jobs } of tenants) {
      const own: Trainer[] = [];
      for (let i = 0; i < TRAINERS_PER_TENANT; i++) {
        const share = jobs.filter((_, job) => job % TRAINERS_PER_TENANT === i);
        if (share.length === 0) continue;
        const trainer = new Trainer({
          ...{
            name: `${tenantId}-trainer-${i}`,
            urls: [url],
            token: token(tenantId, "trainer"),
            marker,
            end,
          },
          ...{ durable: ENDLESS, progress: ENDLESS, perSecond: rate * share.length, steady: true, breaks: 0 },
          ...{ random: this.#random.fork(), jobs: () => share, keys: [{}] },
        });
        own.push(trainer);
      }
      trainers.push(own);
    }
    this.#trainers = trainers.flat();
    return this.#trainers.map((trainer) => trainer.run());
  }

  /** One fault, until everybody has recovered from it. */
  async #phase(round: string, { name, inject }: Fault): Promise<void> {
    const cluster = this.#cluster as Cluster;
    const cpu = this.#cpu as CpuMeter;
    await this.#figures();
    cpu.take();
    const before = await this.#figures();
    const started = performance.now();
    await this.#mark();
    const victims = await inject(cluster, this.#random);
    const recoveries = await this.#recovered(victims);
    const seconds = (performance.now() - started) / 1_000;
    const after = await this.#figures();
    const all = <Value>(of: (each: Recoveries) => readonly Value[]) => recoveries.flatMap(of);
    const deliveries = total(after, "deliveries") - total(before, "deliveries");
    const [p50 = 0, p99 = 0, max = 0] = worst(after.map(({ delays }) => delays));
    const phase: Phase = {
      ...{ round, name, seconds, lost: recoveries.reduce((sum, { lost }) => sum + lost, 0) },
      affected: timesOf(all(({ affected }) => affected)),
      others: timesOf(all(({ others }) => others)),
      outages: timesOf(all(({ outages }) => outages)),
      waiting: all(({ waiting }) => waiting),
      delays: { count: deliveries, p50, p99, max },
      deliveriesPerSecond: deliveries / seconds,
      cpu: cpu.take(),
      lag: {
        p99: Math.max(...after.map(({ lag }) => lag.p99)),
        max: Math.max(...after.map(({ lag }) => lag.max)),
      },
    };
    this.#result.phases.push(phase);
    this.#options.say(phaseLine(phase));
    this.#options.say(loadLine(phase));
    if (phase.waiting.length > 0) {
      const names = phase.waiting.slice(0, 5).join(", ");
      this.#complain(
        "I6",
        `${round}, ${name}: ${phase.waiting.length} watchers have not recovered: ${names}`,
      );
    }
    // Everything is as before: all get what is stored from now on.
    await this.#mark();
    await this.#recovered([]);
  }

  async #mark(): Promise<void> {
    const at = Date.now();
    await Promise.all(this.#generators.map((generator) => generator.ask("mark", { at })));
  }

  #figures(): Promise<GeneratorFigures[]> {
    return Promise.all(this.#generators.map((generator) => generator.ask("figures", null)));
  }

  async #recovered(victims: readonly string[] | "all"): Promise<Recoveries[]> {
    const limit = Date.now() + RECOVERY_LIMIT_MS;
    for (;;) {
      const told = await Promise.all(
        this.#generators.map((generator) => generator.ask("recoveries", { victims })),
      );
      if (told.every(({ waiting }) => waiting.length === 0) || Date.now() > limit) return told;
      await sleep(LOOK_MS);
    }
  }

  async #judge(round: string, { tenants, trainers }: People): Promise<void> {
    const cluster = this.#cluster as Cluster;
    const late = await Promise.all(
      this.#generators.map((generator) => generator.ask("settle", { limitMs: SETTLE_LIMIT_MS })),
    );
    for (const name of late.flat()) this.#complain("I1", `${round}: ${name} has not caught up`);
    const stored = await readTenants(
      cluster.hubs.map((hub) => cluster.urlOf(hub)),
      tenants,
    );
    this.#sent.push(...trainers.flat().flatMap(({ sent }) => sent));
    for (const [i, tenant] of stored.entries()) {
      this.#result.complaints.push(...judgeTrainers(tenant, trainers[i] ?? []));
    }
    const order = { newest: sentNewest(trainers), keepIn: this.#keepIn };
    const judged = await Promise.all(this.#generators.map((generator) => generator.ask("judge", order)));
    for (const { complaints } of judged) this.#result.complaints.push(...complaints);
    const events = stored.reduce(
      (sum, { jobs }) => sum + (jobs[0] ?? []).reduce((all, log) => all + log.events.length, 0),
      0,
    );
    this.#options.say(
      `round ${round}: ${events} durable events judged, ${this.#result.complaints.length} complaints so far`,
    );
  }

  /** Everybody goes; what hubs and Redis hold has to go too. */
  async #leave(round: string): Promise<void> {
    const cluster = this.#cluster as Cluster;
    for (const trainer of this.#trainers) trainer.close();
    this.#trainers = [];
    await Promise.all(this.#generators.map((generator) => generator.ask("leave", null)));
    const started = performance.now();
    let left: string[];
    do {
      await sleep(LOOK_MS);
      left = differences(this.#baseLine, await readBaseLine(cluster));
    } while (left.length > 0 && performance.now() - started < LEAVE_LIMIT_MS);
    for (const text of left) this.#complain("I5", `${round}: ${text}`);
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    if (left.length === 0)
      this.#options.say(`round ${round}: back to the base line ${seconds} s after all had left`);
  }

  async #memory(): Promise<Map<string, number>> {
    const cluster = this.#cluster as Cluster;
    const used = new Map<string, number>();
    for (const hub of cluster.hubs) {
      used.set(hub, await (this.#signals as HubSignals).memoryOf(cluster.pidOf(hub)));
    }
    return used;
  }

  #compare(first: ReadonlyMap<string, number>, second: ReadonlyMap<string, number>): void {
    for (const [hub, bytes] of first) {
      const later = second.get(hub) as number;
      this.#result.memory[hub] = { first: bytes, second: later };
      this.#options.say(`memory of ${hub}: ${megabytes(bytes)} MB, a like round later ${megabytes(later)}`);
      if (later > bytes * (1 + MEMORY_MARGIN))
        this.#complain("I5", `${hub} uses ${megabytes(later)} MB after ${megabytes(bytes)}`);
    }
  }

  #complain(rule: Complaint["rule"], text: string): void {
    this.#result.complaints.push({ rule, text });
  }

  #keep(): string {
    const write = (name: string, lines: readonly string[]) =>
      writeFileSync(join(this.#keepIn, name), lines.map((line) => `${line}\n`).join(""));
    write(
      "complaints.ndjson",
      this.#result.complaints.map((complaint) => JSON.stringify(complaint)),
    );
    write(
      "phases.ndjson",
      this.#result.phases.map((phase) => JSON.stringify(phase)),
    );
    write(
      "sent.ndjson",
      this.#sent.map((one) => JSON.stringify(one)),
    );
    write("cluster.log", this.#cluster?.output ?? []);
    return this.#keepIn;
  }
}

function token(tenantId: string, role: Role): string {
  return signToken(SECRET, { subject: `${tenantId}-${role}`, tenantId, role, ttlSeconds: 3_600 });
}

function total(figures: readonly GeneratorFigures[], what: "deliveries"): number {
  return figures.reduce((sum, each) => sum + each[what], 0);
}

/** Of several triples the largest of each place. */
function worst(triples: ReadonlyArray<readonly number[]>): number[] {
  return [0, 1, 2].map((place) => Math.max(...triples.map((triple) => triple[place] ?? 0)));
}

function megabytes(bytes: number): string {
  return (bytes / 1_048_576).toFixed(1);
}
