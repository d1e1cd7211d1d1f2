/** What the instances are and do, for operators: this one at the moment, the others as they have last reported. */
import type { InstanceState, InstanceStatus, StatusAnswer, StatusNumbers } from "../protocol/types.ts";
import type { Registry } from "../store/registry.ts";
import { VERSION } from "../version.ts";

export interface StatusOptions {
  registry: Pick<Registry, "reports">;
  instanceId: string;
  state: () => InstanceState;
  /** Of this moment. */
  numbers: () => Omit<StatusNumbers, "rates">;
  /** What nobody foresaw. */
  onError: (error: unknown, what: string) => void;
}

/** How long an answer waits for what the others have reported; without it, it is of this instance alone. */
const WAIT_MS = 500;
/** Rates over less than that would say nothing. */
const RATE_MS = 500;

const NOTHING: StatusNumbers = {
  feeds: 0,
  subscriptions: 0,
  connections: { connections: 0, watchers: 0, trainers: 0, heartbeats: 0 },
  events: { published: 0, duplicates: 0, refused: 0, delivered: 0, heals: 0, gaps: 0 },
  rates: { published: 0, delivered: 0 },
  memory_bytes: 0,
};

export class Status {
  readonly #options: StatusOptions;
  readonly #startedAt = performance.now();
  #rates = NOTHING.rates;
  /** The last beat, and what had been counted by then. */
  #before = { at: this.#startedAt, published: 0, delivered: 0 };

  constructor(options: StatusOptions) {
    this.#options = options;
  }

  /** At each beat: what this instance tells the others. JSON. */
  report(): string {
    const { published, delivered } = this.#options.numbers().events;
    const at = performance.now();
    const seconds = (at - this.#before.at) / 1_000;
    if (seconds * 1_000 >= RATE_MS) {
      const rate = (count: number) => Math.round((count / seconds) * 10) / 10;
      this.#rates = {
        published: rate(published - this.#before.published),
        delivered: rate(delivered - this.#before.delivered),
      };
      this.#before = { at, published, delivered };
    }
    return JSON.stringify(this.#own());
  }

  /** Of all instances. While Redis is away of this one alone, without an error and without a long wait. */
  async answer(): Promise<StatusAnswer> {
    const others = await this.#others();
    const own = this.#own();
    const instances = [own, ...others].sort((a, b) => (a.instance_id < b.instance_id ? -1 : 1));
    return { instance_id: own.instance_id, ...sumOf(instances), instances };
  }

  #own(): InstanceStatus {
    const { instanceId, state, numbers } = this.#options;
    return {
      instance_id: instanceId,
      version: VERSION,
      state: state(),
      uptime_seconds: Math.round((performance.now() - this.#startedAt) / 1_000),
      reported_at: new Date().toISOString(),
      ...sumOf([{ ...numbers(), rates: this.#rates }]),
    };
  }

  async #others(): Promise<InstanceStatus[]> {
    const { registry, instanceId, onError } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string[]>((resolve) => {
      timer = setTimeout(() => resolve([]), WAIT_MS);
    });
    const told = registry.reports().catch((error: unknown) => {
      onError(error, "reading reports failed");
      return [];
    });
    const reports = await Promise.race([told, late]);
    clearTimeout(timer);
    return reports.flatMap(statusOf).filter(({ instance_id }) => instance_id !== instanceId);
  }
}

/** A report as an instance of any version has written it; nothing of what cannot be read. */
function statusOf(text: string): InstanceStatus[] {
  const report = parsed(text) as Partial<InstanceStatus> | null | undefined;
  const { instance_id, version, state, uptime_seconds, reported_at } = report ?? {};
  if (typeof instance_id !== "string" || typeof state !== "string") return [];
  return [
    {
      instance_id,
      version: String(version),
      state,
      uptime_seconds: Number(uptime_seconds),
      reported_at: String(reported_at),
      ...sumOf([report]),
    },
  ];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Numbers by name, and groups of such. */
interface Numbers {
  [name: string]: number | Numbers;
}

/** Of what is there: another version may not count everything. */
function sumOf(all: readonly unknown[]): StatusNumbers {
  return added(NOTHING as unknown as Numbers, all) as unknown as StatusNumbers;
}

function added(form: Numbers, all: readonly unknown[]): Numbers {
  const sums: Numbers = {};
  for (const [name, zero] of Object.entries(form)) {
    const values = all.map((one) => (one as Record<string, unknown> | null | undefined)?.[name]);
    const sum = () =>
      values.reduce<number>((sum, value) => sum + (Number.isFinite(value) ? Number(value) : 0), 0);
    // Rates have tenths; their sums as well, and no digits behind.
    sums[name] = typeof zero === "object" ? added(zero, values) : Math.round(sum() * 10) / 10;
  }
  return sums;
}

let lastResidentBytes = 0;

/** Resident memory of this process; as last known when no file descriptor is left to ask the system with. */
export function residentBytes(): number {
  try {
    lastResidentBytes = process.memoryUsage.rss();
  } catch {
    // The figure before is good enough.
  }
  return lastResidentBytes;
}
