/** The parent's side of the load generator: processes full of watchers, and one that publishes by a schedule. */
import { fileURLToPath } from "node:url";
import { AskedProcess } from "../test/support/asked.ts";
import type { Outgoing, Publisher } from "./driver.ts";
import { Histogram } from "./histogram.ts";
import type {
  Counts,
  Orders,
  PartFigures,
  ProcessFigures,
  PublisherRequest,
  ScheduleCounts,
  ScheduleRequest,
  WatchRequest,
} from "./orders.ts";

const PROGRAM = fileURLToPath(new URL("generator.ts", import.meta.url));
/** Only against hanging. */
const ANSWER_LIMIT_MS = 30_000;
const WATCH_LIMIT_MS = 120_000;
/** What a schedule may take beyond its time: the last acknowledgements. */
const SCHEDULE_MARGIN_MS = 20_000;
/** Above these a generator is itself what limits the figures. */
const LAG_LIMIT_MS = 50;
const CPU_LIMIT = 0.9;

export interface GroupFigures extends Counts {
  /** From the moment in which the schedule wanted it sent, µs: what waited behind a slow one counts as waiting. */
  latency: Histogram;
  processes: ProcessFigures[];
}

export interface ScheduleFigures extends ScheduleCounts {
  /** How late the generator itself sent, µs. */
  lateness: Histogram;
  process: ProcessFigures;
}

type Generator = AskedProcess<Orders>;

/** `stop` it in any case. Ends by itself with this process. */
export class Generators {
  readonly #watching: readonly Generator[];
  readonly #say: (line: string) => void;
  #publishing: Generator | undefined;
  #groups = 0;

  private constructor(watching: readonly Generator[], say: (line: string) => void) {
    this.#watching = watching;
    this.#say = say;
  }

  /** So many processes for watchers; the one that publishes comes when it is needed. */
  static async start(count: number, say: (line: string) => void = () => {}): Promise<Generators> {
    const all = Array.from({ length: count }, (_, i) => generator(`generator ${i + 1}`, say));
    const generators = new Generators(all, say);
    try {
      await Promise.all(all.map((each) => each.ask("process", null, ANSWER_LIMIT_MS)));
    } catch (error) {
      await generators.stop();
      throw error;
    }
    return generators;
  }

  /** Name → pid. */
  get pids(): ReadonlyMap<string, number> {
    const all = [...this.#watching, ...(this.#publishing ? [this.#publishing] : [])];
    return new Map(all.map(({ name, pid }) => [name, pid]));
  }

  /** Resolves when all watchers are there. */
  async watch(request: WatchRequest): Promise<Group> {
    const group = new Group(++this.#groups, this.#watching, request.watchers);
    await group.open(request);
    return group;
  }

  /** A publisher that lives in the publishing process. */
  async publisher(request: PublisherRequest): Promise<Publisher> {
    const child = this.#publisherProcess();
    const publisher = await child.ask("publisher", request, ANSWER_LIMIT_MS);
    return {
      publish: async (job: string, events: readonly Outgoing[]) => {
        await child.ask("publish", { publisher, job, events }, ANSWER_LIMIT_MS);
      },
      close: () => void child.ask("closePublisher", { publisher }, ANSWER_LIMIT_MS).catch(() => {}),
    };
  }

  /**
   * Publishes at the times of a schedule, whether or not what was sent before is acknowledged. Resolves when it is over
   * and everything is acknowledged, or a limit of time is over.
   */
  async schedule(request: ScheduleRequest): Promise<ScheduleFigures> {
    const limit = request.seconds * 1_000 + SCHEDULE_MARGIN_MS;
    const { lateness, ...counts } = await this.#publisherProcess().ask("schedule", request, limit);
    return { ...counts, lateness: Histogram.parse(lateness) };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#watching.map((each) => each.stop()));
    await this.#publishing?.stop();
    this.#publishing = undefined;
  }

  #publisherProcess(): Generator {
    this.#publishing ??= generator("publisher", this.#say);
    return this.#publishing;
  }
}

/** Watchers that were opened together, spread over the processes. */
export class Group {
  readonly watchers: number;
  readonly #id: number;
  readonly #generators: readonly Generator[];

  constructor(id: number, generators: readonly Generator[], watchers: number) {
    this.#id = id;
    this.#generators = generators;
    this.watchers = watchers;
  }

  async open(request: WatchRequest): Promise<void> {
    const of = this.#generators.length;
    await this.#all((each, part) =>
      each.ask("watch", { ...request, group: this.#id, part, of }, WATCH_LIMIT_MS),
    );
  }

  /**
   * Whether each watcher has received so many events since the last reset: `true` as soon as it is so, `false` when the
   * limit is over. The processes count, and tell once.
   */
  async waitFor(events: number, limitMs: number): Promise<boolean> {
    const reached = await this.#all((each) =>
      each.ask("waitFor", { group: this.#id, events, limitMs }, limitMs + ANSWER_LIMIT_MS),
    );
    return sum(reached) === this.watchers;
  }

  /** @param upTo number of each job's last event that must have come; what is missing below it is lost */
  async figures(upTo?: number): Promise<GroupFigures> {
    const parts = await this.#all((each) =>
      each.ask("figures", { group: this.#id, ...(upTo !== undefined && { upTo }) }, ANSWER_LIMIT_MS),
    );
    const processes = await this.#all((each) => each.ask("process", null, ANSWER_LIMIT_MS));
    const total = (name: keyof Counts) => sum(parts.map((part: PartFigures) => part[name]));
    return {
      ...{ watchers: total("watchers"), open: total("open"), received: total("received") },
      ...{ lost: total("lost"), doubled: total("doubled"), misordered: total("misordered") },
      ...{ losses: total("losses"), processes },
      latency: Histogram.merged(parts.map(({ latency }) => Histogram.parse(latency))),
    };
  }

  /** How long after this moment (nowUs) each watcher received its last event, µs. Who got none is not in it. */
  async lasts(sinceUs: number): Promise<Histogram> {
    const parts = await this.#all((each) => each.ask("lasts", { group: this.#id, sinceUs }, ANSWER_LIMIT_MS));
    return Histogram.merged(parts.map((text) => Histogram.parse(text)));
  }

  /** Counts, latencies and the processes' own figures begin anew. */
  async reset(): Promise<void> {
    await this.#all((each) => each.ask("reset", { group: this.#id }, ANSWER_LIMIT_MS));
  }

  /** So large a part of them (0 to 1) stops reading, as clients that hang; answers how many these are. */
  async stopReading(share: number): Promise<number> {
    const percent = share * 100;
    return sum(
      await this.#all((each) => each.ask("stopReading", { group: this.#id, percent }, ANSWER_LIMIT_MS)),
    );
  }

  /** They read again, and see that they were closed. */
  async readAgain(): Promise<void> {
    await this.#all((each) => each.ask("readAgain", { group: this.#id }, ANSWER_LIMIT_MS));
  }

  /** Why connections have ended (`slow` where the protocol tells, `lost`) → how many. */
  async ended(): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const part of await this.#all((each) => each.ask("ended", { group: this.#id }, ANSWER_LIMIT_MS)))
      for (const [why, count] of Object.entries(part)) counts[why] = (counts[why] ?? 0) + count;
    return counts;
  }

  async close(): Promise<void> {
    await this.#all((each) => each.ask("close", { group: this.#id }, ANSWER_LIMIT_MS));
  }

  #all<Answer>(ask: (generator: Generator, part: number) => Promise<Answer>): Promise<Answer[]> {
    return Promise.all(this.#generators.map(ask));
  }
}

/** Why the generator itself was the limit, in which case the figures say nothing of the server; `undefined`: it was not. */
export function generatorLimit(processes: readonly ProcessFigures[]): string | undefined {
  for (const each of processes) {
    if (each.cpu >= CPU_LIMIT) return `${each.name} took ${Math.round(each.cpu * 100)} % of a core`;
    if (each.lagMs > LAG_LIMIT_MS)
      return `${each.name}'s event loop was ${each.lagMs.toFixed(1)} ms late (p99)`;
  }
  return undefined;
}

function generator(name: string, say: (line: string) => void): Generator {
  return new AskedProcess<Orders>(name, PROGRAM, { say: (line) => say(`${name}: ${line}`) });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
