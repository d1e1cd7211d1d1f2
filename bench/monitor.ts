/** What Redis is asked while something happens. */
import type { Redis } from "ioredis";
import { LogReads } from "./log-reads.ts";

export class Monitor {
  readonly #client: Redis;
  readonly #redis: Redis;
  readonly #reads = new LogReads();
  #ended = "";
  #onEnd: (() => void) | undefined;

  private constructor(client: Redis, redis: Redis) {
    this.#client = client;
    this.#redis = redis;
    client.on("monitor", (time: string, words: string[], source: string) => {
      if (this.#ended !== "" && words[1] === this.#ended) this.#onEnd?.();
      else this.#reads.add(Number(time), words, source);
    });
  }

  /** From now on; `stop` it. */
  static async start(redis: Redis): Promise<Monitor> {
    return new Monitor(await redis.monitor(), redis);
  }

  /** Job → when its log was read, ms. All that Redis was asked before this call is counted. */
  async stop(): Promise<ReadonlyMap<string, readonly number[]>> {
    this.#ended = `the end, ${process.hrtime.bigint()}`;
    try {
      const seen = new Promise<void>((resolve) => {
        this.#onEnd = resolve;
      });
      await this.#redis.echo(this.#ended);
      await seen;
    } finally {
      this.#client.disconnect();
    }
    return this.#reads.times();
  }
}
