/**
 * The curves of a job: every metric of every rank and product in at most `LIMITS.seriesBuckets` buckets, however long the
 * run is. Each bucket holds points that follow each other; when there is no room for another one, neighbours merge and
 * buckets become twice as wide. Pure: stores keep what this makes, and how often they fold changes nothing in it.
 */
import { LIMITS } from "../protocol/limits.ts";
import type { Series, SeriesAnswer, SeriesBucket, SeriesRequest } from "../protocol/types.ts";

/** So many raw points are folded. */
export const FOLD_FROM = 256;

export type SeriesFilter = Omit<SeriesRequest, "job_id">;

/** A metric point as stores keep it: `Patch.point` with its seq. */
export interface Point {
  seq: number;
  /** Absent: the first, or the newest that the series has seen. */
  attempt: number | undefined;
  step: number | undefined;
  rank: number;
  product: string | undefined;
  /** NaN for all that is no finite number. */
  values: ReadonlyArray<readonly [metric: string, value: number]>;
}

/** A bucket with what the wire does not show. */
export interface Bucket extends SeriesBucket {
  /** Begins a segment: another attempt, or steps that go back. */
  starts: boolean;
  /** Least and highest step; other than the first and the last one where segments were merged. */
  low: number | null;
  high: number | null;
}

/** Which series. Rank 0 and none are the same. */
export interface SeriesName {
  metric: string;
  rank: number;
  product: string | undefined;
}

/** What a curve is beside its buckets. */
export interface CurveState {
  /** Points of a bucket at most. */
  width: number;
  /** The last point that is in it. */
  seq: number;
  /** Of the segment: attempt and last step. */
  attempt: number;
  step: number | null;
  /** The newest attempt. */
  newest: number;
}

const EMPTY: CurveState = { width: 1, seq: 0, attempt: 1, step: null, newest: 1 };

/** @param text `Patch.point`. */
export function pointOf(seq: number, text: string): Point {
  const { attempt, step, rank, product, metrics } = JSON.parse(text) as {
    attempt?: number;
    step?: number;
    rank?: number;
    product?: string;
    metrics: Record<string, unknown>;
  };
  const values: Array<readonly [string, number]> = [];
  for (const metric of Object.keys(metrics)) {
    const number = numberOf(metrics[metric]);
    if (number !== undefined) values.push([metric, number]);
  }
  return { seq, attempt, step, rank: rank ?? 0, product, values };
}

/** `undefined` for what is no number at all. */
function numberOf(value: unknown): number | undefined {
  // Minus zero has no JSON.
  if (typeof value === "number") return Number.isFinite(value) ? value + 0 : Number.NaN;
  return value === "NaN" || value === "Infinity" || value === "-Infinity" ? Number.NaN : undefined;
}

export class Curve {
  readonly name: SeriesName;
  readonly state: CurveState;
  /** Buckets that come before `buckets` and were not loaded. */
  readonly skipped: number;
  buckets: Bucket[];
  /** The first bucket that has changed. */
  changedFrom: number;

  constructor(name: SeriesName, state: CurveState = EMPTY, buckets: Bucket[] = [], skipped = 0) {
    this.name = name;
    this.state = { ...state };
    this.buckets = buckets;
    this.skipped = skipped;
    this.changedFrom = this.length;
  }

  get length(): number {
    return this.skipped + this.buckets.length;
  }

  /** There is no room for it: only a curve that was loaded whole can be made narrower. */
  get overflows(): boolean {
    return this.length > LIMITS.seriesBuckets;
  }

  /** A point that is in it already changes nothing. */
  add({ seq, attempt, step }: Point, value: number): void {
    const { state } = this;
    if (seq <= state.seq) return;
    const own = attempt ?? state.newest;
    const before = this.buckets.at(-1);
    const goesBack = step !== undefined && state.step !== null && step < state.step;
    const starts = before === undefined || own !== state.attempt || goesBack;
    if (before && !starts && before.count < state.width) absorb(before, step, value);
    else this.buckets.push(bucketOf(own, step ?? null, value, starts));
    this.changedFrom = Math.min(this.changedFrom, this.length - 1);
    state.seq = seq;
    state.attempt = own;
    state.step = step ?? (starts ? null : state.step);
    state.newest = Math.max(state.newest, own);
    if (!this.overflows || this.skipped > 0) return;
    const { buckets, width } = fitted(this.buckets, state.width, LIMITS.seriesBuckets);
    this.buckets = buckets;
    this.changedFrom = 0;
    state.width = width;
  }
}

/** All curves of a job, in the order in which they began. */
export class Curves {
  readonly #curves = new Map<string, Curve>();
  /** Those of the rank and product that the last point was of, by metric. */
  #near = new Map<string, Curve>();
  #nearTo: Pick<SeriesName, "rank" | "product"> = { rank: 0, product: undefined };
  /** Points of series beyond the limit: how many, and up to which seq they are counted. */
  readonly dropped: { seq: number; count: number };

  constructor(curves: Iterable<Curve> = [], dropped = { seq: 0, count: 0 }) {
    for (const curve of curves) this.put(curve);
    this.dropped = { ...dropped };
  }

  [Symbol.iterator](): IterableIterator<Curve> {
    return this.#curves.values();
  }

  get size(): number {
    return this.#curves.size;
  }

  get(name: SeriesName): Curve | undefined {
    return this.#curves.get(keyOf(name));
  }

  /** Adds a curve, or takes the place of the one of this name. */
  put(curve: Curve): void {
    this.#curves.set(keyOf(curve.name), curve);
    this.#near.clear();
  }

  /** A point that was added before changes nothing. */
  add(point: Point): void {
    const { rank, product, seq } = point;
    if (rank !== this.#nearTo.rank || product !== this.#nearTo.product) {
      this.#nearTo = { rank, product };
      this.#near.clear();
    }
    let dropped = 0;
    for (const [metric, value] of point.values) {
      const curve = this.#near.get(metric) ?? this.#find({ metric, rank, product });
      if (curve) curve.add(point, value);
      else dropped++;
    }
    if (dropped > 0 && seq > this.dropped.seq) {
      this.dropped.seq = seq;
      this.dropped.count += dropped;
    }
  }

  /** Makes it, if there is room. */
  #find(name: SeriesName): Curve | undefined {
    let curve = this.get(name);
    if (!curve && this.size < LIMITS.seriesMetrics) {
      curve = new Curve(name);
      this.put(curve);
    }
    if (curve) this.#near.set(name.metric, curve);
    return curve;
  }
}

/** Tells series apart. */
export function keyOf({ metric, rank, product }: SeriesName): string {
  return `${rank}\u001f${product ?? ""}\u001f${metric}`;
}

export function isWanted({ metric, rank, product }: SeriesName, wanted: SeriesFilter): boolean {
  return (
    (wanted.metric === undefined || wanted.metric === metric) &&
    (wanted.rank === undefined || wanted.rank === rank) &&
    (wanted.product === undefined || wanted.product === product)
  );
}

/** What `series` answers of these curves. */
export function answerOf(
  job: Pick<SeriesAnswer, "job_id" | "epoch" | "seq">,
  curves: Curves,
  wanted: SeriesFilter,
): SeriesAnswer {
  const own = [...curves].filter(({ name }) => isWanted(name, wanted));
  const share = Math.floor(LIMITS.seriesAnswer / Math.max(1, own.length));
  const points = Math.min(wanted.points ?? LIMITS.seriesBuckets, share);
  const series = own.map((curve) => shown(curve, { ...wanted, points }));
  return {
    ...job,
    series: series.filter(({ buckets }) => buckets.length > 0),
    dropped: curves.dropped.count,
  };
}

function shown(
  { name, state, buckets }: Curve,
  { from, to, points }: SeriesFilter & { points: number },
): Series {
  const inRange =
    from === undefined && to === undefined
      ? buckets
      : buckets.filter(
          ({ low, high }) => low !== null && high !== null && high >= (from ?? low) && low <= (to ?? high),
        );
  const { metric, rank, product } = name;
  return {
    metric,
    ...(rank !== 0 && { rank }),
    ...(product !== undefined && { product }),
    buckets: fitted(inRange, state.width, points).buckets.map(
      ({ starts: _, low: __, high: ___, ...bucket }) => bucket,
    ),
  };
}

function bucketOf(attempt: number, step: number | null, value: number, starts: boolean): Bucket {
  const finite = Number.isNaN(value) ? null : value;
  return {
    attempt,
    first_step: step,
    last_step: step,
    min: finite,
    max: finite,
    last: finite,
    count: 1,
    nan: finite === null ? 1 : 0,
    starts,
    low: step,
    high: step,
  };
}

/** One more point of the same segment: steps do not go back. */
function absorb(bucket: Bucket, step: number | undefined, value: number): void {
  bucket.count++;
  if (Number.isNaN(value)) bucket.nan++;
  else {
    bucket.min = Math.min(bucket.min ?? value, value);
    bucket.max = Math.max(bucket.max ?? value, value);
    bucket.last = value;
  }
  if (step === undefined) return;
  bucket.first_step ??= step;
  bucket.last_step = step;
  bucket.low = Math.min(bucket.low ?? step, step);
  bucket.high = Math.max(bucket.high ?? step, step);
}

function joined(a: Bucket, b: Bucket): Bucket {
  return {
    attempt: b.attempt,
    first_step: a.first_step ?? b.first_step,
    last_step: b.last_step ?? a.last_step,
    min: either(Math.min, a.min, b.min),
    max: either(Math.max, a.max, b.max),
    last: b.last ?? a.last,
    count: a.count + b.count,
    nan: a.nan + b.nan,
    starts: a.starts,
    low: either(Math.min, a.low, b.low),
    high: either(Math.max, a.high, b.high),
  };
}

function either(choose: (a: number, b: number) => number, a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : choose(a, b);
}

/** Neighbours merged as far as `width` points fit into one bucket. */
function merged(buckets: readonly Bucket[], width: number, acrossSegments: boolean): Bucket[] {
  const result: Bucket[] = [];
  for (const bucket of buckets) {
    const before = result.at(-1);
    if (before && (acrossSegments || !bucket.starts) && before.count + bucket.count <= width) {
      result[result.length - 1] = joined(before, bucket);
    } else result.push(bucket);
  }
  return result;
}

/** What a merge must leave at most to be worth it: one that frees little is soon followed by the next. */
const WORTH = 7 / 8;

/**
 * At most so many buckets: wider ones, as long as that makes room; then segments that are shorter than a bucket merge with
 * their neighbours.
 */
function fitted(all: readonly Bucket[], width: number, limit: number): { buckets: Bucket[]; width: number } {
  let buckets = [...all];
  let wide = width;
  while (buckets.length > limit) {
    const enough = buckets.length * WORTH;
    const within = merged(buckets, wide * 2, false);
    const across = within.length > enough ? merged(buckets, wide, true) : undefined;
    if (across && across.length <= enough) buckets = across;
    else {
      wide *= 2;
      buckets = across ? merged(within, wide, true) : within;
    }
  }
  return { buckets, width: wide };
}

/** A bucket in a chunk. `low` and `high` are there only where segments were merged. */
type Row = [
  starts: 0 | 1,
  attempt: number,
  first_step: number | null,
  last_step: number | null,
  min: number | null,
  max: number | null,
  last: number | null,
  count: number,
  nan: number,
  low?: number | null,
  high?: number | null,
];

/** Buckets as JSON text, which `bucketsOf` reads. */
export function textOf(buckets: readonly Bucket[]): string {
  return JSON.stringify(buckets.map(rowOf));
}

function rowOf(bucket: Bucket): Row {
  const { attempt, first_step, last_step, min, max, last, count, nan, low, high } = bucket;
  const row: Row = [bucket.starts ? 1 : 0, attempt, first_step, last_step, min, max, last, count, nan];
  if (low !== first_step || high !== last_step) row.push(low, high);
  return row;
}

export function bucketsOf(text: string): Bucket[] {
  return (JSON.parse(text) as Row[]).map((row) => {
    const [starts, attempt, first_step, last_step, min, max, last, count, nan, low, high] = row;
    return {
      attempt,
      first_step,
      last_step,
      min,
      max,
      last,
      count,
      nan,
      starts: starts === 1,
      low: low === undefined ? first_step : low,
      high: high === undefined ? last_step : high,
    };
  });
}
