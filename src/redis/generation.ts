/**
 * Names what a server has kept. The name changes whenever acknowledged writes may have been lost: with a restart or a
 * failover, unless the server wrote every command to disk before it answered, and still does. It is kept on the server
 * itself, so that all hubs use the same one, and so that it goes when the data goes.
 */
import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";

/**
 * KEYS   1 the name (hash): `name`, `run` (the server process and history that it was last confirmed on), `always`
 *        (1 if that one wrote every command to disk)
 * ARGV   that process and history, 1 if this process writes every command to disk and has not been promoted, a new
 *        name, life (ms)
 * Returns the name
 */
const CONFIRM = `#!lua flags=allow-oom
local name, run, always = unpack(redis.call('HMGET', KEYS[1], 'name', 'run', 'always'))
local is_same, kept_all = run == ARGV[1], always == '1' and ARGV[2] == '1'
if not name or not (is_same or kept_all) then name = ARGV[3] end
redis.call('HSET', KEYS[1], 'name', name, 'run', ARGV[1], 'always', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return name`;

/** Renewed with every connection; a new name costs nothing but snapshots. */
const LIFE_MS = 365 * 86_400_000;

/** @throws Error when the server cannot be asked, or does not take writes. */
export async function confirmGeneration(redis: Redis, key: string): Promise<string> {
  const info = await redis.info("server", "replication", "persistence");
  // A process that was a replica for a while has another's data, and the name as it was in there; its history is another.
  const run = `${field(info, "run_id")} ${field(info, "master_replid")}`;
  const promoted = !/^0*$/.test(field(info, "master_replid2") ?? "");
  const durable = !promoted && field(info, "aof_enabled") === "1" && (await writesAlways(redis)) ? "1" : "0";
  const [name, knownRun, knownDurable] = await redis.hmget(key, "name", "run", "always");
  // Nothing to write: a server that is full, and takes no writes, is still the one that we know.
  if (name && knownRun === run && knownDurable === durable) {
    await redis.pexpire(key, LIFE_MS).catch(() => {});
    return name;
  }
  const made = randomBytes(9).toString("base64url");
  return (await redis.eval(CONFIRM, 1, key, run, durable, made, LIFE_MS)) as string;
}

async function writesAlways(redis: Redis): Promise<boolean> {
  try {
    const [, sync] = (await redis.config("GET", "appendfsync")) as string[];
    return sync === "always";
  } catch (error) {
    // Managed servers refuse CONFIG; then nothing is known, and a restart counts as a loss.
    if (/^(NOPERM|ERR unknown command)/.test((error as Error).message)) return false;
    throw error;
  }
}

/** A field of Redis' INFO. */
export function field(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1];
}
