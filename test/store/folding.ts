/** Folds of a test's own, beside those that a store begins by itself: at any moment, and cut off at any command. */
import type { RedisLink } from "../../src/redis/link.ts";
import { Scripts } from "../../src/redis/scripts.ts";
import { STORE_SCRIPTS } from "../../src/store/redis-scripts.ts";
import { RedisSeries, type RedisSeriesOptions } from "../../src/store/redis-series.ts";
import { OPTIONS } from "./subject.ts";

export interface Folding {
  series: RedisSeries;
  /** So many commands more are sent; then the hub is gone. */
  dieAfter(commands: number): void;
}

export class Dead extends Error {}

export function folding(
  link: RedisLink,
  keys: RedisSeriesOptions["keys"],
  onError: RedisSeriesOptions["onError"] = () => {},
): Folding {
  let left = Number.POSITIVE_INFINITY;
  const sent = <R>(command: () => Promise<R>): Promise<R> =>
    left-- > 0 ? command() : Promise.reject(new Dead("the hub is gone"));
  const scripts = new Scripts(link, STORE_SCRIPTS);
  const series = new RedisSeries({
    ...{ keys, onError, maxPoints: OPTIONS.maxPoints },
    scripts: {
      call: (command) => sent(() => scripts.call(command)),
      run: (...args) => sent(() => scripts.run(...args)),
    },
  });
  return {
    series,
    dieAfter(commands) {
      left = commands;
    },
  };
}
