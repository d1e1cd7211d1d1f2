/**
 * The curves of jobs on Redis. `append` only adds raw points to a list; when that is long, whoever has appended folds it
 * into buckets in the background, one series a call. A fold that ends in the middle neither loses nor doubles a point:
 * each series says up to which seq it is folded, and the list is shortened last.
 *
 * On Redis: the hash `series` has the names (`<slot>`: JSON, in the order in which the series began), the hash `buckets`
 * their states (`<slot>`: JSON), their buckets (`<slot>:<chunk>`: JSON) and what was dropped (`dropped`: JSON).
 */
import { setImmediate as othersTurn } from "node:timers/promises";
import type { JobName } from "../bus/bus.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { SeriesAnswer } from "../protocol/types.ts";
import type { Keys } from "../redis/keys.ts";
import type { Redis } from "../redis/link.ts";
import type { StoreScripts } from "./redis-scripts.ts";
import {
  answerOf,
  bucketsOf,
  Curve,
  type CurveState,
  Curves,
  FOLD_FROM,
  isWanted,
  keyOf,
  type Point,
  pointOf,
  type SeriesFilter,
  type SeriesName,
  textOf,
} from "./series.ts";

/**
 * Points of one round: of the largest ones that are 3 MB. Twice as many as make a job be folded, because more come while a
 * round waits for Redis.
 */
const FOLD_POINTS = 512;
/** Buckets of one field: a fold writes the last one, and all of them only when buckets become wider. */
const CHUNK = 64;
const CHUNKS = Array.from({ length: LIMITS.seriesBuckets / CHUNK }, (_, chunk) => chunk);
/** Series that are written at once: Redis does nothing else meanwhile. */
const TOGETHER = 8;
/** A job whose fold has failed is left alone for so long. */
const RETRY_MS = 1_000;
const DROPPED = "dropped";

export interface RedisSeriesOptions {
  keys: Keys;
  scripts: StoreScripts;
  /** The list is cut at so many raw points, folded or not. */
  maxPoints: number;
  onError: (error: Error) => void;
}

type JobKeys = ReturnType<Keys["job"]>;

/** A series as it lies on Redis. */
interface Stored {
  name: SeriesName;
  /** '' if it is gone. */
  state: string;
}

/** What a round of folding begins with. */
interface Round {
  epoch: string;
  /** Of the list's first point. */
  first: string;
  points: Point[];
  stored: Stored[];
  dropped: string;
  curves: Curves;
}

export class RedisSeries {
  readonly #options: RedisSeriesOptions;
  readonly #scripts: StoreScripts;
  /** Jobs that are being folded, or have just failed to be. */
  readonly #folding = new Set<string>();
  /** In the background, since the start. */
  readonly folds = { done: 0, failed: 0 };
  #closed = false;

  constructor(options: RedisSeriesOptions) {
    this.#options = options;
    this.#scripts = options.scripts;
  }

  /** Folds a job's raw points in the background when there are many. */
  grown(feed: JobName, length: number): void {
    const job = `${feed.tenantId}/${feed.jobId}`;
    if (this.#closed || length < this.#enough || this.#folding.has(job)) return;
    this.#folding.add(job);
    const forget = () => void this.#folding.delete(job);
    const done = () => {
      this.folds.done++;
      forget();
    };
    this.fold(feed).then(done, (error: Error) => {
      this.folds.failed++;
      setTimeout(forget, RETRY_MS).unref();
      if (!this.#closed) this.#options.onError(error);
    });
  }

  /** Atomic with the head: the raw points are read together with the buckets. `undefined` if there is no job. */
  async series(tenantId: string, jobId: string, wanted: SeriesFilter): Promise<SeriesAnswer | undefined> {
    const keys = this.#options.keys.job(tenantId, jobId);
    let known = await this.#scripts.call((redis) => redis.hgetall(keys.series));
    for (;;) {
      const slots = Object.keys(known).filter((slot) => isWanted(nameOf(known[slot] as string), wanted));
      const [meta, raw, names, dropped, ...series] = await this.#transaction((redis) => {
        const multi = redis.multi().hmget(keys.meta, "e", "n").lrange(keys.points, 0, -1);
        multi.hgetall(keys.series).hget(keys.buckets, DROPPED);
        for (const slot of slots)
          multi.hmget(keys.buckets, slot, ...CHUNKS.map((chunk) => `${slot}:${chunk}`));
        return multi;
      });
      const [epoch, head] = meta as [string | null, string];
      if (!epoch) return undefined;
      const now = names as Record<string, string>;
      const begun = Object.entries(now).filter(([slot, name]) => known[slot] !== name);
      known = now;
      // Asked for too late: it happens at most as often as there may be series.
      if (begun.some(([, name]) => isWanted(nameOf(name), wanted))) continue;
      const read = new Map(slots.map((slot, i) => [slot, series[i] as Array<string | null>]));
      const curves = new Curves([], droppedOf(dropped as string | null));
      for (const [slot, name] of inOrder(now)) {
        const [state = null, ...chunks] = read.get(slot) ?? [];
        curves.put(curveOf(nameOf(name), state ?? "", chunks, 0));
        // Others come between: all curves of a job together may be some megabytes.
        if (state) await othersTurn();
      }
      for (const point of pointsOf(raw as string[], Number(head))) curves.add(point);
      return answerOf({ job_id: jobId, epoch, seq: Number(head) }, curves, wanted);
    }
  }

  /** Begins no more folds; one that is under way ends after its round, or with the connection. */
  close(): void {
    this.#closed = true;
  }

  get #enough(): number {
    return Math.min(FOLD_FROM, Math.ceil(this.#options.maxPoints / 2));
  }

  /** Until there are few raw points. Whom another hub is ahead of leaves the rest to it. */
  async fold({ tenantId, jobId }: JobName): Promise<void> {
    const keys = this.#options.keys.job(tenantId, jobId);
    for (let left = this.#enough; left >= this.#enough && !this.#closed; ) left = await this.#foldSome(keys);
  }

  /** Answers how many raw points are left; none when another hub folds them. */
  async #foldSome(keys: JobKeys): Promise<number> {
    const round = await this.#begin(keys);
    if (!round) return 0;
    const { epoch, first, points, stored, curves } = round;
    for (const point of points) curves.add(point);
    await this.#widen(keys, round);
    if (!(await this.#writeAll(keys, epoch, [...curves], stored))) return 0;
    if (!(await this.#writeDropped(keys, round))) return 0;
    return Number(
      await this.#scripts.run("shorten", [keys.meta, keys.points], [epoch, first, String(points.length)]),
    );
  }

  /** Raw points, and the curves that they belong to: their last buckets. */
  async #begin(keys: JobKeys): Promise<Round | undefined> {
    const [meta, raw, names] = await this.#transaction((redis) =>
      redis
        .multi()
        .hmget(keys.meta, "e", "n")
        .lrange(keys.points, 0, FOLD_POINTS - 1)
        .hgetall(keys.series),
    );
    const [epoch, head] = meta as [string | null, string];
    const points = pointsOf(raw as string[], Number(head));
    const [first] = points;
    if (!epoch || !first) return undefined;
    const known = inOrder(names as Record<string, string>);
    const slots = known.map(([slot]) => slot);
    // Later than the points: what others have folded of them meanwhile is skipped, and their list is not shortened twice.
    const [dropped = null, ...states] = await this.#scripts.call((redis) =>
      redis.hmget(keys.buckets, DROPPED, ...slots),
    );
    const stored = known.map(([, name], i) => ({ name: nameOf(name), state: states[i] ?? "" }));
    const curves = new Curves(await this.#ends(keys, stored, points), droppedOf(dropped));
    return { epoch, first: String(first.seq), points, stored, dropped: dropped ?? "", curves };
  }

  /** Of each series its last chunk, if there are points of it. */
  async #ends(keys: JobKeys, stored: readonly Stored[], points: readonly Point[]): Promise<Curve[]> {
    const touched = touchedBy(points);
    const last = stored.map(({ state }) => Math.max(0, Math.ceil(lengthOf(state) / CHUNK) - 1));
    const wanted = stored.flatMap(({ name, state }, slot) =>
      state !== "" && touched.has(keyOf(name)) ? [slot] : [],
    );
    const texts =
      wanted.length === 0
        ? []
        : await this.#scripts.call((redis) =>
            redis.hmget(keys.buckets, ...wanted.map((slot) => `${slot}:${last[slot]}`)),
          );
    const ends = new Map(wanted.map((slot, i) => [slot, texts[i] ?? null]));
    return stored.map(({ name, state }, slot) =>
      ends.has(slot)
        ? curveOf(name, state, [ends.get(slot) ?? null], last[slot] as number)
        : new Curve(name, undefined, [], lengthOf(state)),
    );
  }

  /** Curves that have no room for the points are read whole, and folded again. */
  async #widen(keys: JobKeys, { curves, stored, points }: Round): Promise<void> {
    let widened = false;
    for (const [slot, curve] of [...curves].entries()) {
      const { name, state } = stored[slot] ?? { name: curve.name, state: "" };
      if (!curve.overflows) continue;
      const chunks = await this.#scripts.call((redis) =>
        redis.hmget(keys.buckets, ...CHUNKS.map((chunk) => `${slot}:${chunk}`)),
      );
      curves.put(curveOf(name, state, chunks, 0));
      widened = true;
    }
    // The others have these points already.
    if (widened) for (const point of points) curves.add(point);
  }

  /** Answers whether nobody else has written any. */
  async #writeAll(keys: JobKeys, epoch: string, all: Curve[], stored: readonly Stored[]): Promise<boolean> {
    for (let slot = 0; slot < all.length; ) {
      // New ones in order, so that the slots that are taken are always those of the series that began first.
      const some = slot < stored.length ? Math.min(TOGETHER, stored.length - slot) : 1;
      const written = await Promise.all(
        all
          .slice(slot, slot + some)
          .map((curve, i) =>
            this.#write(keys, epoch, String(slot + i), curve, stored[slot + i]?.state ?? ""),
          ),
      );
      if (written.includes(false)) return false;
      slot += some;
    }
    return true;
  }

  /** Answers whether nobody else has written it. */
  async #write(keys: JobKeys, epoch: string, slot: string, curve: Curve, before: string): Promise<boolean> {
    if (curve.changedFrom === curve.length) return true;
    const { metric, rank, product } = curve.name;
    const name = JSON.stringify({ metric, rank, product });
    const state = JSON.stringify({ ...curve.state, length: curve.length });
    const args = [epoch, slot, name, before, slot, state];
    for (let chunk = Math.floor(curve.changedFrom / CHUNK); chunk * CHUNK < curve.length; chunk++) {
      const from = chunk * CHUNK - curve.skipped;
      args.push(`${slot}:${chunk}`, textOf(curve.buckets.slice(from, from + CHUNK)));
    }
    return (await this.#scripts.run("fold", [keys.meta, keys.series, keys.buckets], args)) === 1;
  }

  async #writeDropped(keys: JobKeys, { epoch, curves, dropped: before }: Round): Promise<boolean> {
    const { dropped } = curves;
    if (dropped.seq === droppedOf(before).seq) return true;
    const args = [epoch, DROPPED, "", before, DROPPED, JSON.stringify(dropped)];
    return (await this.#scripts.run("fold", [keys.meta, keys.series, keys.buckets], args)) === 1;
  }

  async #transaction(commands: (redis: Redis) => ReturnType<Redis["multi"]>): Promise<unknown[]> {
    return await this.#scripts.call(async (redis) => {
      const replies = (await commands(redis).exec()) ?? [];
      return replies.map(([error, value]) => {
        if (error) throw error;
        return value;
      });
    });
  }
}

/** Keys of the series that there are points of. Most points have the metrics of the one before. */
function touchedBy(points: readonly Point[]): Set<string> {
  const touched = new Set<string>();
  let last: Point | undefined;
  for (const point of points) {
    const { rank, product, values } = point;
    const isNear = last && last.rank === rank && last.product === product;
    for (const [i, [metric]] of values.entries()) {
      if (!isNear || last?.values[i]?.[0] !== metric) touched.add(keyOf({ metric, rank, product }));
    }
    last = point;
  }
  return touched;
}

/** Slots and names, in the order in which the series began. */
function inOrder(names: Record<string, string>): Array<[slot: string, name: string]> {
  return Object.entries(names).sort(([a], [b]) => Number(a) - Number(b));
}

function nameOf(json: string): SeriesName {
  const { metric, rank, product } = JSON.parse(json) as Omit<SeriesName, "product"> & { product?: string };
  return { metric, rank, product };
}

function lengthOf(state: string): number {
  return state === "" ? 0 : (JSON.parse(state) as { length: number }).length;
}

function droppedOf(json: string | null): { seq: number; count: number } {
  return json ? (JSON.parse(json) as { seq: number; count: number }) : { seq: 0, count: 0 };
}

/** `chunks` from the one with this number on. What is lost of them takes the curve along: it begins anew. */
function curveOf(name: SeriesName, json: string, chunks: ReadonlyArray<string | null>, from: number): Curve {
  if (json === "") return new Curve(name);
  const { length, ...state } = JSON.parse(json) as CurveState & { length: number };
  const skipped = from * CHUNK;
  // Behind them there may be some of when the curve had more buckets.
  const needed = chunks.slice(0, Math.ceil((length - skipped) / CHUNK));
  const buckets = needed.flatMap((text) => (text === null ? [] : bucketsOf(text)));
  if (buckets.length !== length - skipped)
    return new Curve(name, { ...new Curve(name).state, seq: state.seq });
  return new Curve(name, state, buckets, skipped);
}

/** Raw points up to the head; what is above was left by a script that broke. */
function pointsOf(raw: readonly string[], head: number): Point[] {
  return raw.flatMap((text) => {
    const space = text.indexOf(" ");
    const seq = Number(text.slice(0, space));
    return seq > head ? [] : [pointOf(seq, text.slice(space + 1))];
  });
}
