/**
 * What readers that stop do to the hub and to those who read. 200 events of 4 KB a second come to the hub, in turn to
 * jobs that have as many readers of both kinds: were all on one job, the good ones alone would take 400 MB a second,
 * more than two cores carry. A system that only knows what its kernel does not take learns nothing of a reader that
 * stops before some 4 MB: five jobs bring more than that to each within the minute.
 */
import { readMetrics, sumOf } from "../test/cluster/metrics.ts";
import { startRedis } from "../test/support/redis.ts";
import {
  Generators,
  type Group,
  type GroupFigures,
  generatorLimit,
  type ScheduleFigures,
} from "./generators.ts";
import { Histogram } from "./histogram.ts";
import type { Bench, Finding, Measure } from "./measure.ts";
import { Neighbours, neighboursLimit } from "./neighbours.ts";
import { socketBytes } from "./processes.ts";
import { type Stops, withStops } from "./stops.ts";
import type { RunningSystem, ServerProcess } from "./system.ts";

interface Size {
  /** Of each kind. */
  readers: number;
  jobs: number;
  /** Events of all jobs. */
  perSecond: number;
  seconds: number;
  /** Without those who stop: before them, and again after they are gone. */
  aloneSeconds: number;
  /** Each with other readers that stop. A p99 of a minute is a dozen moments: one round says little. */
  rounds: number;
  generators: number;
}

const SIZE: Size = {
  readers: 500,
  jobs: 5,
  perSecond: 200,
  seconds: 60,
  aloneSeconds: 15,
  rounds: 3,
  generators: 2,
};
const EVENT_BYTES = 4_096;
const MB = 1_048_576;
/** How often the hub is asked for its memory. */
const LOOK_MS = 500;
const SLOW_CLOSES = 'trainwire_closes_total{door="watcher",reason="slow"}';
/** Nobody goes because it does not answer pings: only because it does not read. */
const ENV = { TRAINWIRE_PING_TIMEOUT_MS: "600000" };

const TARGETS = [
  {
    key: "slow",
    title: "500 readers that stop beside as many good ones, 4 KB events: p99 of these by that when alone",
    target: 1.2,
    kind: "absolute",
  },
  {
    key: "slow_memory",
    title: "hub heap and external memory for each reader that stops, MB",
    target: 1.5,
    kind: "absolute",
  },
] as const;

export const slow: Measure = {
  name: "slow",
  targets: TARGETS,
  notQuick: "its p99 wants a minute beside them",
  run,
};

/** What the good ones have seen of a schedule, and the hub's memory meanwhile. */
interface Spell {
  readonly figures: GroupFigures;
  readonly schedule: ScheduleFigures;
  /** Bytes at most. */
  readonly memory: number;
  readonly sockets: number;
  /** Cores that others were busy with. */
  readonly neighbours: number;
}

/** What is judged of a round. */
export interface Outcome {
  stopped: number;
  closedAsSlow: number;
  /** Connections of good readers that ended. */
  losses: number;
  /** Events that good readers missed, had twice, or had in a wrong order. */
  wrong: number;
  /** µs. */
  aloneP99: number;
  p99: number;
  /** Bytes at most: without those who stop, and with them. */
  aloneMemory: number;
  memory: number;
  /** Why the figures say nothing of the hub, if so: the generators were the limit, or others on the machine. */
  limit: string | undefined;
}

function run(bench: Bench): Promise<Finding[]> {
  return withStops(async (stops) => {
    const stage = await Stage.open(bench, SIZE, stops);
    return findingsOf(bench.ours.name, await stage.judge(Math.min(SIZE.rounds, bench.alternations)));
  });
}

/** Rounds in which something else was the limit are left out, while there are others. */
export function findingsOf(system: string, outcomes: readonly Outcome[]): Finding[] {
  const fair = outcomes.filter(({ limit }) => limit === undefined);
  const judged = fair.length > 0 ? fair : outcomes;
  const why = outcomes.map(faultOf).find((fault) => fault !== undefined) ?? judged[0]?.limit;
  const finding = (key: string, of: (outcome: Outcome) => number): Finding => ({
    key,
    rounds: judged.map((outcome) => ({ [system]: of(outcome) })),
    ...(why !== undefined && { void: why }),
  });
  return [
    finding("slow", ({ p99, aloneP99 }) => p99 / aloneP99),
    finding(
      "slow_memory",
      ({ memory, aloneMemory, stopped }) => Math.max(0, memory - aloneMemory) / stopped / MB,
    ),
  ];
}

/** Why a round shows that the hub does not do what is asked, however fast it was. */
function faultOf({ stopped, closedAsSlow, losses, wrong }: Outcome): string | undefined {
  if (closedAsSlow !== stopped)
    return `${closedAsSlow} of ${stopped} who stopped reading were closed as slow`;
  if (losses > 0) return `${losses} good readers lost their connection`;
  if (wrong > 0) return `${wrong} events of good readers were lost, doubled or out of order`;
  return undefined;
}

class Stage {
  readonly #bench: Bench;
  readonly #size: Size;
  readonly #server: ServerProcess;
  readonly #generators: Generators;
  readonly #jobs: readonly string[];
  /** Number of each job's last event. */
  #last = 0;

  private constructor(bench: Bench, size: Size, system: RunningSystem, generators: Generators) {
    this.#bench = bench;
    this.#size = size;
    this.#server = system.servers[0] as ServerProcess;
    this.#generators = generators;
    this.#jobs = Array.from({ length: size.jobs }, (_, i) => `slow-${i}`);
  }

  static async open(bench: Bench, size: Size, stops: Stops): Promise<Stage> {
    const redis = await startRedis();
    stops.add(() => redis.stop());
    const system = await bench.ours.start({ redisUrl: redis.url, env: ENV });
    stops.add(() => system.stop());
    const generators = await Generators.start(size.generators, bench.say);
    stops.add(() => generators.stop());
    return new Stage(bench, size, system, generators);
  }

  async judge(rounds: number): Promise<Outcome[]> {
    const { aloneSeconds } = this.#size;
    const good = await this.#readers();
    // The first events compile the hub's code, and grow its heap.
    await this.#spell(good, aloneSeconds / 3);
    const outcomes: Outcome[] = [];
    let before = await this.#spell(good, aloneSeconds);
    this.#bench.say(`the good ones alone: ${lineOf(before)}`);
    while (outcomes.length < rounds) {
      const beside = await this.#beside(good);
      const after = await this.#spell(good, aloneSeconds);
      this.#bench.say(`${outcomes.length + 1} of ${rounds}: alone again: ${lineOf(after)}`);
      outcomes.push(this.#outcome(before, beside, after));
      before = after;
    }
    return outcomes;
  }

  /** A spell beside as many who stop, and how many of them were closed as slow. */
  async #beside(good: Group): Promise<Spell & { closedAsSlow: number }> {
    const { say } = this.#bench;
    const before = await this.#slowCloses();
    const bad = await this.#readers();
    const stopped = await bad.stopReading(1);
    const spell = await this.#spell(good, this.#size.seconds);
    const closedAsSlow = (await this.#slowCloses()) - before;
    say(`${closedAsSlow} of ${stopped} who stopped were closed as slow; beside them: ${lineOf(spell)}`);
    say(`kernel socket memory: at most ${mb(spell.sockets)} MB`);
    await bad.close();
    return { ...spell, closedAsSlow };
  }

  #outcome(before: Spell, beside: Spell & { closedAsSlow: number }, after: Spell): Outcome {
    const spells = [before, beside, after];
    const sum = (of: (figures: GroupFigures) => number) =>
      spells.reduce((total, { figures }) => total + of(figures), 0);
    return {
      ...{ stopped: this.#size.readers, closedAsSlow: beside.closedAsSlow },
      losses: sum((figures) => figures.losses),
      wrong: sum(({ lost, doubled, misordered }) => lost + doubled + misordered),
      aloneP99: Histogram.merged([before, after].map(({ figures }) => figures.latency)).percentile(99),
      p99: beside.figures.latency.percentile(99),
      ...{ aloneMemory: before.memory, memory: beside.memory },
      limit:
        generatorLimit(spells.flatMap(({ figures, schedule }) => [...figures.processes, schedule.process])) ??
        neighboursLimit(Math.max(...spells.map(({ neighbours }) => neighbours))),
    };
  }

  async #slowCloses(): Promise<number> {
    return sumOf(await readMetrics(this.#server.url), SLOW_CLOSES);
  }

  #readers(): Promise<Group> {
    const { readers, jobs } = this.#size;
    return this.#generators.watch({
      ...{ driver: this.#bench.ours.driver, targets: [{ url: this.#server.url }], watchers: readers },
      jobs: { kind: "spread", jobs: this.#jobs, perJob: readers / jobs },
      after: this.#last,
    });
  }

  async #spell(good: Group, seconds: number): Promise<Spell> {
    await good.reset();
    const memory = new MemoryWatch(this.#server.url);
    const others = new Neighbours();
    try {
      const { driver } = this.#bench.ours;
      const schedule = await this.#generators.schedule({
        ...{ driver, targets: [{ url: this.#server.url }], jobs: this.#jobs, after: this.#last },
        ...{ perSecond: this.#size.perSecond / this.#jobs.length, pattern: "even", seconds },
        bytes: EVENT_BYTES,
      });
      this.#last = schedule.last;
      const each = Math.round(schedule.sent / this.#jobs.length);
      await good.waitFor(each, 5_000);
      const figures = await good.figures(this.#last);
      return { figures, schedule, ...(await memory.stop()), neighbours: others.share() };
    } catch (error) {
      await memory.stop();
      throw error;
    }
  }
}

/** The most that a hub, and the kernel for its sockets, held while this was looking. */
class MemoryWatch {
  readonly #url: string;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> = Promise.resolve();
  #memory = 0;
  #sockets = 0;

  constructor(url: string) {
    this.#url = url;
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(() => this.#look());
      // Whoever stops hears of it.
      this.#looking.catch(() => {});
    }, LOOK_MS);
  }

  async stop(): Promise<{ memory: number; sockets: number }> {
    clearInterval(this.#timer);
    await this.#looking;
    await this.#look();
    return { memory: this.#memory, sockets: this.#sockets };
  }

  async #look(): Promise<void> {
    this.#sockets = Math.max(this.#sockets, socketBytes());
    const metrics = await readMetrics(this.#url);
    const used =
      sumOf(metrics, "nodejs_heap_size_used_bytes") + sumOf(metrics, "nodejs_external_memory_bytes");
    this.#memory = Math.max(this.#memory, used);
  }
}

function lineOf({ figures, memory }: Spell): string {
  const { latency, received } = figures;
  const [p50, p99] = [50, 99].map((share) => (latency.percentile(share) / 1_000).toFixed(2));
  return `${received} events after ${p50} ms (p50), ${p99} ms (p99), hub at most ${mb(memory)} MB`;
}

function mb(bytes: number): string {
  return (bytes / MB).toFixed(0);
}
