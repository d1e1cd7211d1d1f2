/** Folds of a test's own, beside those that a store begins by itself: at any moment, and cut off at any command. */
import type { Redis } from "ioredis";
import { RedisSeries, type RedisSeriesOptions } from "../../src/store/redis-series.ts";
import { OPTIONS } from "./subject.ts";

export interface Folding {
  series: RedisSeries;
  /** So many commands more are sent; then the hub is gone. */
  dieAfter(commands: number): void;
}

export class Dead extends Error {}

/** @param redis A connection on which a store has defined its scripts. */
export function folding(
  redis: Redis,
  keys: RedisSeriesOptions["keys"],
  onError: RedisSeriesOptions["onError"] = () => {},
): Folding {
  let left = Number.POSITIVE_INFINITY;
  const sent = <R>(command: () => Promise<R>): Promise<R> =>
    left-- > 0 ? command() : Promise.reject(new Dead("the hub is gone"));
  const series = new RedisSeries({
    ...{ keys, onError, maxPoints: OPTIONS.maxPoints },
    call: (command) => sent(() => command(redis)),
    run: (script, names, args) =>
      sent(() => {
        const scripts = redis as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
        return scripts[`trainwire_${script}`]?.(names.length, ...names, ...args) as Promise<unknown>;
      }),
  });
  return {
    series,
    dieAfter(commands) {
      left = commands;
    },
  };
}
