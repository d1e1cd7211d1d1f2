/**
 * What grows with what: a hub's CPU as `a` for each event and `b` for each delivery, fitted over runs that differ in
 * watchers per job and in jobs. Each part keeps all its connections open and plays its runs in turn, round after round.
 * What a server spends on its connections while nothing happens is measured again and again, and the least taken off.
 */
import { startRedis } from "../test/support/redis.ts";
import { eventCost, fitCost, type RunCost } from "./fit.ts";
import { Generators } from "./generators.ts";
import { LoadedServer, type ServerLoad } from "./loaded-server.ts";
import type { Bench, Finding, Measure, Round } from "./measure.ts";
import { alternate } from "./rounds.ts";
import { type Stops, withStops } from "./stops.ts";
import type { ServerProcess, System } from "./system.ts";
import { type Apart, apart } from "./unwatched.ts";

const FEW_JOBS = 10;
const MANY_JOBS = 5_000;
const FEW_WATCHERS = 100;
const MANY_WATCHERS = 10_000;
const IDLE_SECONDS = 0.5;
const RUN_SECONDS = 0.5;
/**
 * Events a second, by watchers of the event's job; at most 40 000 deliveries. Where there is little to do, most of an
 * event is waking up and fetching code and data into the caches; `busy` keeps a hub busy for more than half of the time.
 */
const RATES = { one: 1_000, busy: 8_000, few: 200, fewOfMany: 400, many: 4 } as const;
/** V8 compiles what has run some thousand times. */
const WARM_SECONDS = 2;
/** Jobs that are made in a second. */
const CREATED = 1_000;
/** Of so many jobs each has one event in a run; the next run takes the next ones. */
const SLICE = 500;
const APART_SECONDS = 1;
/** What hubs do by the clock for each connection and feed would fall into one run and not into the next. */
const ENV = { TRAINWIRE_PING_INTERVAL_MS: "600000", TRAINWIRE_CHECK_INTERVAL_MS: "600000" };

const TARGETS = [
  {
    key: "scale",
    title: "hub CPU per delivery: 10 000 watchers of one job by 100 watchers of each of 100",
    target: 1.3,
    kind: "absolute",
  },
  {
    key: "scale_event",
    title: `hub CPU per event (deliveries apart), 10 jobs, ${RATES.busy} events a second, µs`,
    target: 1.5,
  },
  { key: "scale_event_calm", title: `the same, ${RATES.one} events a second, µs`, target: 1.5 },
  {
    key: "scale_jobs",
    title: "hub CPU per event: 5 000 jobs by 10 jobs",
    target: 1.3,
    kind: "absolute",
  },
  {
    key: "scale_apart",
    title: "share of a job's events of which a hub without watchers of it gets no byte",
    target: 1,
    kind: "absolute",
    higherIsBetter: true,
  },
] as const;

export const scale: Measure = {
  name: "scale",
  targets: TARGETS,
  notQuick: "it needs 15 000 connections and 5 000 jobs",
  run,
};

async function run(bench: Bench): Promise<Finding[]> {
  const events = await perEvent(bench);
  const deliveries = await perDelivery(bench);
  const jobs = await perJob(bench);
  const { name } = bench.ours;
  return [
    { key: "scale", rounds: deliveries.map((value) => ({ [name]: value })) },
    { key: "scale_event", rounds: events.busy },
    { key: "scale_event_calm", rounds: events.calm },
    { key: "scale_jobs", rounds: jobs.map((value) => ({ [name]: value })) },
    apartFinding(name, await apart(bench, APART_SECONDS)),
  ];
}

export function apartFinding(system: string, { events, watching, other }: Apart): Finding {
  const rounds = [{ [system]: Math.max(0, 1 - other / events) }];
  const why = "the counter did not see the events of the hub that has watchers";
  return { key: "scale_apart", rounds, ...(watching < events && { void: why }) };
}

/** By system: what an event costs by itself, often and seldom, from runs with one and with a hundred watchers of each job. */
function perEvent(bench: Bench): Promise<Record<"busy" | "calm", Round[]>> {
  return withStops(async (stops) => {
    const { ours, peers, references, alternations } = bench;
    const systems = [ours, ...peers.filter(({ name }) => references.includes(name))];
    const stage = await Stage.open(bench, 1, stops);
    const loads = new Map<string, readonly Load[]>();
    for (const system of systems) {
      const server = await stage.server(system);
      const one = await server.watch(jobsOf("one", FEW_JOBS), 1);
      const few = await server.watch(jobsOf("few", FEW_JOBS), FEW_WATCHERS);
      loads.set(system.name, [
        { server, ...one, perSecond: RATES.busy },
        { server, ...one, perSecond: RATES.one },
        { server, ...few, perSecond: RATES.few },
      ]);
    }
    const turn = async (name: string) => {
      await stage.idle();
      const [often, seldom, few] = (await stage.play(loads.get(name) ?? [])) as [RunCost, RunCost, RunCost];
      const [busy, calm] = [fitCost([often, few]), fitCost([seldom, few])];
      bench.say(
        `${name}: ${busy.perEvent.toFixed(0)} µs for an event, ${calm.perEvent.toFixed(0)} where they are few, and ${calm.perDelivery.toFixed(2)} for a delivery`,
      );
      return { busy: busy.perEvent, calm: calm.perEvent };
    };
    for (const each of loads.values()) await stage.warm(each);
    return await alternate([...loads.keys()], alternations, ["busy", "calm"], turn);
  });
}

/** By round: what a delivery costs to 10 000 watchers of one job, by what it costs to 100 of each of 100 jobs. */
function perDelivery(bench: Bench): Promise<number[]> {
  return withStops(async (stops) => {
    const stage = await Stage.open(bench, 2, stops);
    const server = await stage.server(bench.ours);
    bench.say(`${MANY_WATCHERS} watchers come`);
    const all = await server.watch(jobsOf("few", MANY_WATCHERS / FEW_WATCHERS), FEW_WATCHERS, ["many"]);
    const one = await server.watch(jobsOf("one", FEW_JOBS), 1);
    const loads: readonly Load[] = [
      { server, ...one, perSecond: RATES.one },
      { server, ...all, perSecond: RATES.fewOfMany },
      { server, ...all, jobs: ["many"], perJob: MANY_WATCHERS, perSecond: RATES.many },
    ];
    return await rounds(
      bench,
      stage,
      () => loads,
      ([single, few, many]) => {
        const [narrow, wide] = [few, many].map((each) => fitCost([single, each] as RunCost[]).perDelivery);
        const [b100, b10k] = [narrow as number, wide as number];
        bench.say(
          `a delivery costs ${b100.toFixed(2)} µs to 100 watchers of each job, ${b10k.toFixed(2)} to 10 000`,
        );
        return b10k / b100;
      },
    );
  });
}

/** By round: what an event costs where 5 000 jobs have a watcher each, by what it costs where 10 have. */
function perJob(bench: Bench): Promise<number[]> {
  return withStops(async (stops) => {
    const stage = await Stage.open(bench, 2, stops);
    const [small, large] = [await stage.server(bench.ours), await stage.server(bench.ours)];
    bench.say(`${MANY_JOBS} jobs with a watcher each`);
    const one = await small.watch(jobsOf("one", FEW_JOBS), 1);
    const few = await small.watch(jobsOf("few", FEW_JOBS), FEW_WATCHERS);
    const many = await large.watch(jobsOf("many", MANY_JOBS), 1);
    await large.cost({ ...many, perSecond: CREATED, seconds: MANY_JOBS / CREATED });
    const slices = Array.from({ length: MANY_JOBS / SLICE }, (_, i) =>
      many.jobs.slice(i * SLICE, (i + 1) * SLICE),
    );
    const loads = (round: number): readonly Load[] => [
      { server: small, ...one, perSecond: RATES.one },
      { server: small, ...few, perSecond: RATES.few },
      {
        ...{ server: large, ...many, perSecond: RATES.one },
        jobs: slices[round % slices.length] as readonly string[],
      },
    ];
    return await rounds(bench, stage, loads, ([single, hundred, spread]) => {
      const { perEvent: a, perDelivery: b } = fitCost([single, hundred] as RunCost[]);
      const grown = eventCost(spread as RunCost, b);
      bench.say(`an event costs ${a.toFixed(0)} µs with 10 jobs, ${grown.toFixed(0)} with 5 000`);
      return grown / a;
    });
  });
}

/** Plays all loads in each round, of which that for warming up is one. */
async function rounds(
  { alternations }: Bench,
  stage: Stage,
  loads: (round: number) => readonly Load[],
  conclude: (runs: readonly RunCost[]) => number,
): Promise<number[]> {
  await stage.warm(loads(0));
  const values: number[] = [];
  while (values.length < alternations) {
    await stage.idle();
    values.push(conclude(await stage.play(loads(values.length + 1))));
  }
  return values;
}

const jobsOf = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name}-${i}`);

interface Load extends Omit<ServerLoad, "seconds"> {
  server: LoadedServer;
}

/** Servers that stand ready at the same time. */
class Stage {
  readonly #generators: Generators;
  readonly #servers: LoadedServer[] = [];
  readonly #stops: Stops;

  private constructor(generators: Generators, stops: Stops) {
    this.#generators = generators;
    this.#stops = stops;
  }

  static async open({ say }: Bench, generators: number, stops: Stops): Promise<Stage> {
    const started = await Generators.start(generators, say);
    stops.add(() => started.stop());
    return new Stage(started, stops);
  }

  /** With a Redis of its own. */
  async server(system: System): Promise<LoadedServer> {
    const redis = await startRedis();
    this.#stops.add(() => redis.stop());
    const running = await system.start({ redisUrl: redis.url, env: ENV });
    this.#stops.add(() => running.stop());
    const server = new LoadedServer(system, running.servers[0] as ServerProcess, this.#generators);
    this.#servers.push(server);
    return server;
  }

  /** Each load once, and that of single watchers long enough. */
  async warm(loads: readonly Load[]): Promise<void> {
    await this.play(loads);
    const [{ server, ...first }] = loads as readonly [Load];
    await server.cost({ ...first, seconds: WARM_SECONDS });
  }

  async idle(): Promise<void> {
    await LoadedServer.idle(this.#servers, IDLE_SECONDS);
  }

  async play(loads: readonly Load[]): Promise<RunCost[]> {
    const runs: RunCost[] = [];
    for (const { server, ...load } of loads) runs.push(await server.cost({ ...load, seconds: RUN_SECONDS }));
    return runs;
  }
}
