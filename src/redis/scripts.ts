/** Commands and scripts on the server, and what their failures mean to who asked. */
import { HubError } from "../protocol/codes.ts";
import type { Redis, RedisLink } from "./link.ts";

export type Reply = string | number | null | Reply[];

export class Scripts<Name extends string> {
  readonly #redis: RedisLink;

  /** By name, with its text; a name belongs to one script of the link. */
  constructor(redis: RedisLink, scripts: Readonly<Record<Name, string>>) {
    this.#redis = redis;
    for (const [name, lua] of Object.entries<string>(scripts)) {
      redis.commands.defineCommand(commandOf(name), { lua });
    }
  }

  /** @throws HubError as `call`. */
  run(script: Name, keys: readonly string[], args: ReadonlyArray<string | number>): Promise<Reply> {
    return this.call((redis) => {
      const commands = redis as unknown as Record<string, (...args: unknown[]) => Promise<Reply>>;
      return (commands[commandOf(script)] as (...args: unknown[]) => Promise<Reply>).call(
        redis,
        keys.length,
        ...keys,
        ...args,
      );
    });
  }

  /** @throws HubError `unavailable` (unknown whether it ran) or `storage_full` (it did not). */
  async call<R>(command: (redis: Redis) => Promise<R>): Promise<R> {
    if (!this.#redis.ready) throw new HubError("unavailable", "The store is not connected.");
    try {
      return await command(this.#redis.commands);
    } catch (error) {
      throw hubError(error as Error);
    }
  }
}

function commandOf(script: string): string {
  return `trainwire_${script}`;
}

function hubError(error: Error): Error {
  if (error instanceof HubError) return error;
  if (/^(OOM|MISCONF)\b/.test(error.message))
    return new HubError("storage_full", undefined, { cause: error });
  const away = /^(READONLY|LOADING|CLUSTERDOWN|MASTERDOWN|MOVED|ASK|TRYAGAIN|NOREPLICAS|BUSY|UNBLOCKED)\b/;
  const cut =
    /Connection is closed|Stream isn't writeable|Command timed out|max retries|ECONN|EPIPE|ETIMEDOUT|Connection/;
  if (away.test(error.message) || cut.test(error.message)) {
    return new HubError("unavailable", undefined, { cause: error });
  }
  return error;
}
