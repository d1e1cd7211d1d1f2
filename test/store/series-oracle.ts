/** What the curves of a job must be, by looking at every single point. */
import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Num, Series, SeriesAnswer, SeriesBucket } from "../../src/protocol/types.ts";
import type { Random } from "../cluster/random.ts";

/** One progress event. */
export interface Told {
  step?: number;
  attempt?: number;
  rank?: number;
  product?: string;
  metrics: Record<string, Num>;
}

interface Value {
  step: number | null;
  attempt: number;
  value: number;
  segment: number;
}

const nameOf = ({ metric, rank = 0, product = "" }: { metric: string; rank?: number; product?: string }) =>
  `${metric} ${rank} ${product}`;

/** Every point of every series that is kept, and how many are not. */
export function truthOf(told: readonly Told[]): { series: Map<string, Value[]>; dropped: number } {
  const series = new Map<string, Value[]>();
  const now = new Map<string, { newest: number; attempt: number; step: number | null; segment: number }>();
  let dropped = 0;
  for (const { step = null, attempt, metrics, ...where } of told) {
    for (const [metric, num] of Object.entries(metrics)) {
      const name = nameOf({ metric, ...where });
      const values = series.get(name) ?? [];
      if (values.length === 0 && series.size === LIMITS.seriesMetrics) {
        dropped++;
        continue;
      }
      series.set(name, values);
      const at = now.get(name) ?? { newest: 1, attempt: 1, step: null, segment: 0 };
      const own = attempt ?? at.newest;
      const goesBack = step !== null && at.step !== null && step < at.step;
      if (values.length > 0 && (own !== at.attempt || goesBack)) {
        at.segment++;
        at.step = null;
      }
      now.set(name, { ...at, newest: Math.max(at.newest, own), attempt: own, step: step ?? at.step });
      values.push({ step, attempt: own, value: Number(num), segment: at.segment });
    }
  }
  return { series, dropped };
}

/** The answer to a request for everything. */
export function check(answer: SeriesAnswer | undefined, told: readonly Told[]): void {
  const truth = truthOf(told);
  expect(answer?.series.map(nameOf)).to.deep.equal([...truth.series.keys()]);
  expect(answer?.dropped, "dropped").to.equal(truth.dropped);
  for (const one of answer?.series ?? []) checkSeries(one, truth.series.get(nameOf(one)) as Value[]);
}

function checkSeries(series: Series, values: readonly Value[]): void {
  const { buckets } = series;
  const what = nameOf(series);
  expect(buckets.length, what).to.be.at.most(LIMITS.seriesBuckets);
  const segments = (values.at(-1)?.segment ?? 0) + 1;
  let from = 0;
  for (const [i, bucket] of buckets.entries()) {
    const own = values.slice(from, from + bucket.count);
    from += bucket.count;
    if (!same(bucket, summary(own))) expect(bucket, `${what}, bucket ${i}`).to.deep.equal(summary(own));
    // A look at each bucket must be cheap: only what is wrong is told by chai.
    if (segments <= LIMITS.seriesBuckets / 2 && own[0]?.segment !== own.at(-1)?.segment) {
      expect.fail(`${what}, bucket ${i}: of two segments`);
    }
  }
  expect(from, `${what}: points`).to.equal(values.length);
  if (values.length <= LIMITS.seriesBuckets) expect(buckets.length, what).to.equal(values.length);
  else if (segments <= LIMITS.seriesBuckets / 2)
    expect(buckets.length, what).to.be.at.least(LIMITS.seriesBuckets / 2);
}

function summary(values: readonly Value[]): SeriesBucket {
  const steps = values.flatMap(({ step }) => step ?? []);
  const finite = values.map(({ value }) => value).filter(Number.isFinite);
  return {
    attempt: values.at(-1)?.attempt as number,
    first_step: steps[0] ?? null,
    last_step: steps.at(-1) ?? null,
    min: finite.length > 0 ? finite.reduce((a, b) => Math.min(a, b)) : null,
    max: finite.length > 0 ? finite.reduce((a, b) => Math.max(a, b)) : null,
    last: finite.at(-1) ?? null,
    count: values.length,
    nan: values.length - finite.length,
  };
}

function same(a: SeriesBucket, b: SeriesBucket): boolean {
  return (Object.keys(b) as Array<keyof SeriesBucket>).every((key) => a[key] === b[key]);
}

/** A run with steps back, attempts, values that are none, and several series. */
export class Run {
  readonly told: Told[] = [];
  readonly #random: Random;
  readonly #restless: number;
  readonly #metrics: string[];
  #step = 0;
  #attempt = 1;

  /** @param restless How likely a point breaks the run. */
  constructor(random: Random, restless = random.pick([0, 0.001, 0.02, 0.7])) {
    this.#random = random;
    this.#restless = restless;
    this.#metrics = ["loss", "a b\n{}", "ü\u0001"].slice(0, random.int(1, 4));
  }

  next(): Told {
    const random = this.#random;
    if (random.chance(this.#restless)) this.#step = Math.max(0, this.#step - random.int(0, 300));
    if (random.chance(this.#restless / 2)) this.#attempt = Math.max(1, this.#attempt + random.int(-1, 3));
    this.#step += random.int(0, 3);
    const told: Told = {
      ...(!random.chance(0.05) && { step: this.#step }),
      // Without one a point is of the job's newest attempt, which a curve alone does not know.
      ...((this.#attempt > 1 || random.chance(0.5)) && { attempt: this.#attempt }),
      ...(random.chance(0.3) && { rank: random.int(0, 2) }),
      ...(random.chance(0.1) && { product: "p" }),
      metrics: Object.fromEntries(
        this.#metrics.filter(() => random.chance(0.8)).map((metric) => [metric, this.#value()]),
      ),
    };
    this.told.push(told);
    return told;
  }

  many(n: number): Told[] {
    return Array.from({ length: n }, () => this.next());
  }

  #value(): Num {
    const random = this.#random;
    if (random.chance(0.02)) return random.pick(["NaN", "Infinity", "-Infinity"]);
    return (random.next() - 0.5) * 10 ** random.int(-20, 20);
  }
}
