/** The metrics of one hub, as Prometheus reads them. The only folder that imports prom-client. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Meter } from "../core/meter.ts";
import { HubError } from "../protocol/codes.ts";
import { refuse } from "../refusal.ts";
import { Durations, type Histograms } from "./durations.ts";
import { READINGS, type ReadName, type Sources, type Value } from "./readings.ts";
import { METRICS, type MetricName, type MetricRow } from "./table.ts";

export const METRICS_PATH = "/metrics";

/** A text and what it is. */
export interface Scrape {
  type: string;
  text: string;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #registered: ReadonlyMap<MetricName, Counter | Gauge | Histogram>;
  readonly #durations: Durations;

  constructor() {
    this.#registered = new Map(METRICS.map((row) => [row.name, register(row, this.#registry)]));
    this.#durations = new Durations({
      publish: this.#histogram("trainwire_publish_seconds"),
      append: this.#histogram("trainwire_append_seconds"),
      probe: this.#histogram("trainwire_probe_seconds"),
      storedToWritten: this.#histogram("trainwire_stored_to_written_seconds"),
      trainerToWritten: this.#histogram("trainwire_trainer_to_written_seconds"),
    } satisfies Histograms);
  }

  /** Where core and doors tell durations. */
  get meter(): Meter {
    return this.#durations;
  }

  /** All metrics, those of the process among them. */
  async scrape(from: Omit<Sources, "clockDifferences">): Promise<Scrape> {
    const sources = { ...from, clockDifferences: this.#durations.clockDifferences };
    for (const row of METRICS as readonly MetricRow[]) {
      const metric = this.#registered.get(row.name as MetricName);
      if (!metric || metric instanceof Histogram) continue;
      write(metric, row, READINGS[row.name as ReadName](sources));
    }
    const texts = await Promise.all([this.#registry.metrics(), ofProcess().metrics()]);
    return { type: this.#registry.contentType, text: texts.join("\n") };
  }

  #histogram(name: MetricName): { observe(value: number): void } {
    const histogram = this.#registered.get(name) as Histogram;
    return histogram;
  }
}

/** Answers requests on a port that has nothing but the metrics. */
export function metricsRoute(
  scrape: () => Promise<Scrape>,
  internal: (error: unknown, what: string) => HubError,
): (request: IncomingMessage, response: ServerResponse) => void {
  return ({ method, url = "" }, response) => {
    const isKnown = url.split("?", 1)[0] === METRICS_PATH && (method === "GET" || method === "HEAD");
    if (!isKnown) return refuse(response, new HubError("unknown_verb", "no such route"));
    scrape().then(
      ({ type, text }) => response.writeHead(200, { "Content-Type": type }).end(text),
      (error) => refuse(response, internal(error, "scrape failed")),
    );
  };
}

function register(row: MetricRow, registry: Registry): Counter | Gauge | Histogram {
  const { name, help, labels = {}, buckets = [] } = row;
  const options = { name, help, labelNames: Object.keys(labels), registers: [registry] };
  if (row.type === "histogram") return new Histogram({ ...options, buckets: [...buckets] });
  return row.type === "counter" ? new Counter(options) : new Gauge(options);
}

function write(metric: Counter | Gauge, { labels = {} }: MetricRow, values: readonly Value[]): void {
  metric.reset();
  // What has not occurred is 0: a rate sees the first time only so.
  for (const known of combinations(Object.entries(labels))) metric.inc(known, 0);
  for (const [own, value] of values) {
    if (metric instanceof Gauge) metric.set(own, value);
    else metric.inc(own, value);
  }
}

/** Of all labels whose values are listed; none if one of them is not. */
function combinations(
  labels: ReadonlyArray<readonly [string, readonly string[] | string]>,
): Array<Record<string, string>> {
  return labels.reduce<Array<Record<string, string>>>(
    (all, [label, values]) =>
      typeof values === "string"
        ? []
        : all.flatMap((one) => values.map((value) => ({ ...one, [label]: value }))),
    labels.length > 0 ? [{}] : [],
  );
}

let process: Registry | undefined;

/** One for all hubs of a process: its parts watch timers and garbage collection, and cannot be ended. */
function ofProcess(): Registry {
  if (!process) {
    process = new Registry();
    collectDefaultMetrics({ register: process });
  }
  return process;
}
