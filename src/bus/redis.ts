/**
 * The bus over Redis sharded pub/sub: one channel per feed, subscribed only while somebody here watches it.
 *
 * A message is pairs of lines, `<version> <epoch> <seq> <class> <type> <job> <key>` and the event's JSON; the scripts
 * of the store write it (lua/common.lua).
 */
import { randomBytes } from "node:crypto";
import type { EventType } from "../protocol/types.ts";
import type { Keys } from "../redis/keys.ts";
import type { Redis, RedisLink } from "../redis/link.ts";
import { Scripts } from "../redis/scripts.ts";
import type { Bus, FeedEvent, FeedHandler, FeedName } from "./bus.ts";

/** The version of the bus message that this hub writes and reads. */
const VERSION = "1";
const RETRY_MS = 100;
/** Probes that may be on their way; of more, the oldest count as lost. */
const PROBES = 32;

export interface RedisBusOptions {
  redis: RedisLink;
  keys: Keys;
  /** Names the channel of probes, for whoever looks at the server. */
  instanceId: string;
  /** A refused subscription, or a handler that threw. */
  onError: (error: Error) => void;
}

export class RedisBus implements Bus {
  unreadable = 0;
  heardAt = 0;
  readonly #client: Redis;
  readonly #keys: Keys;
  readonly #handlers = new Map<string, FeedHandler>();
  readonly #onError: (error: Error) => void;
  readonly #commands: Scripts<never>;
  /** Another one in every process: nobody else's probe is taken for ours. */
  readonly #probeChannel: string;
  /** Whom to tell, by number. */
  readonly #probes = new Map<number, () => void>();
  #probesSent = 0;
  #closed = false;

  private constructor({ redis, keys, instanceId, onError }: RedisBusOptions) {
    this.#client = redis.subscriber();
    this.#commands = new Scripts(redis, {});
    this.#keys = keys;
    this.#probeChannel = keys.probe(`${instanceId}.${randomBytes(6).toString("hex")}`);
    this.#onError = onError;
    this.#client.on("smessage", (channel: string, message: string) => this.#receive(channel, message));
    this.#client.on("close", () => {
      for (const handler of this.#handlers.values()) this.#guard(() => handler.unsubscribed());
    });
    this.#client.on("ready", () => {
      void this.#awaitProbes();
      for (const channel of this.#handlers.keys()) this.#subscribe(channel);
    });
  }

  /** Resolves when probes can come back, or the connection has gone again. */
  static async open(options: RedisBusOptions): Promise<RedisBus> {
    const bus = new RedisBus(options);
    await bus.#client.connect();
    const gone = new Promise<void>((resolve) => bus.#client.once("close", resolve));
    await Promise.race([bus.#awaitProbes(), gone]);
    return bus;
  }

  get held(): number {
    return this.#handlers.size;
  }

  hold(feed: FeedName, handler: FeedHandler): void {
    const channel = this.#keys.channel(feed);
    this.#handlers.set(channel, handler);
    this.#subscribe(channel);
  }

  release(feed: FeedName): void {
    const channel = this.#keys.channel(feed);
    if (!this.#handlers.delete(channel) || this.#client.status !== "ready") return;
    this.#client.sunsubscribe(channel).catch((error: Error) => this.#refused(error));
  }

  async probe(onSent?: () => void): Promise<void> {
    const number = ++this.#probesSent;
    const back = new Promise<void>((resolve) => this.#probes.set(number, resolve));
    this.#probes.delete(number - PROBES);
    try {
      await this.#commands.call((redis) => redis.spublish(this.#probeChannel, String(number)));
    } catch (error) {
      this.#probes.delete(number);
      throw error;
    }
    onSent?.();
    await back;
  }

  /** Without a farewell, which a silent peer would not answer. One that is being made already is as good as a new one. */
  reconnect(): void {
    if (this.#client.status === "ready") this.#client.stream.destroy();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#handlers.clear();
    this.#probes.clear();
    this.#client.disconnect();
  }

  /** Tried again until it is in force, as with every feed. Resolves with the first try, whatever came of it. */
  async #awaitProbes(): Promise<void> {
    if (this.#closed || this.#client.status !== "ready") return;
    try {
      await this.#client.ssubscribe(this.#probeChannel);
    } catch (error) {
      this.#refused(error as Error);
      setTimeout(() => void this.#awaitProbes(), RETRY_MS).unref();
    }
  }

  /** While the link is down nothing happens: `ready` comes for all channels. */
  #subscribe(channel: string): void {
    const handler = this.#handlers.get(channel);
    if (!handler || this.#client.status !== "ready") return;
    this.#client.ssubscribe(channel).then(
      () => {
        if (this.#handlers.get(channel) === handler) this.#guard(() => handler.subscribed());
      },
      (error: Error) => {
        this.#refused(error);
        setTimeout(() => this.#subscribe(channel), RETRY_MS).unref();
      },
    );
  }

  /** That the link has gone is no refusal; its owner is told elsewhere. */
  #refused(error: Error): void {
    if (error.name === "ReplyError") this.#onError(error);
  }

  #receive(channel: string, message: string): void {
    this.heardAt = performance.now();
    if (channel === this.#probeChannel) this.#back(Number(message));
    const handler = this.#handlers.get(channel);
    if (!handler) return;
    const events = parse(message);
    if (!events) this.unreadable++;
    this.#guard(() => (events ? handler.events(events) : handler.unreadable()));
  }

  #back(number: number): void {
    this.#probes.get(number)?.();
    this.#probes.delete(number);
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#onError(error as Error);
    }
  }
}

/** `undefined` for what this version cannot read. */
export function parse(message: string): FeedEvent[] | undefined {
  const lines = message.split("\n");
  if (lines.length % 2 !== 0) return undefined;
  const events: FeedEvent[] = [];
  for (let i = 0; i < lines.length; i += 2) {
    const [version, epoch, seqText, kind, type, job, ...key] = (lines[i] as string).split(" ");
    const seq = Number(seqText);
    const wire = lines[i + 1] as string;
    if (version !== VERSION || !epoch || !(Number.isSafeInteger(seq) && seq > 0) || !wire.startsWith("{")) {
      return undefined;
    }
    if ((kind !== "d" && kind !== "c") || !type || job === undefined) return undefined;
    events.push({
      epoch,
      seq,
      type: type as EventType,
      durable: kind === "d",
      jobId: job,
      key: key.join(" "),
      wire,
    });
  }
  return events;
}
