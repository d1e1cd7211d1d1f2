/**
 * Socket.IO's sharded Redis adapter: joins the instances, so that rooms reach sockets anywhere. Feed events do not ride
 * on it. Guarded, because as it is a malformed message or a lost link ends the process.
 */
import { createShardedAdapter } from "@socket.io/redis-adapter";
import type { Namespace } from "socket.io";
import { PacketType } from "socket.io-parser";
import type { Redis, RedisLink } from "../redis/link.ts";

export interface AdapterOptions {
  redis: RedisLink;
  channelPrefix: string;
  /** Told at most once a second, with how many there were since. */
  onError: (error: Error, times: number) => void;
}

export interface OpenAdapter {
  /** For `io.adapter`. */
  adapter: (namespace: Namespace) => unknown;
  /** Messages that were dropped, because nobody could read them. */
  readonly unreadable: number;
  close: () => void;
}

/** What the adapter calls that the compiler does not see. */
interface Inside {
  onMessage(message: Message, offset?: string): void;
  onRawMessage(message: Buffer, channel: Buffer): void;
  doPublish(message: unknown): Promise<string>;
  doPublishResponse(uid: string, response: unknown): Promise<void>;
  serverCount(): Promise<number>;
}

/** From another instance, or from whoever can write to Redis. */
interface Message {
  type?: unknown;
  data?: { packet?: Packet | null; opts?: Target | null } | null;
}
interface Target {
  rooms?: unknown;
  except?: unknown;
}
interface Packet {
  type?: unknown;
  data?: unknown;
}

/** `MessageType.BROADCAST` of the adapter. */
const BROADCAST = 3;
const TELL_MS = 1_000;

export async function openAdapter(options: AdapterOptions): Promise<OpenAdapter> {
  const { redis, channelPrefix } = options;
  let unreadable = 0;
  let errors = 0;
  let told = 0;
  let toldAt = Number.NEGATIVE_INFINITY;
  // Whoever floods the channels must not flood the log.
  const onError = (error: Error) => {
    errors++;
    const now = performance.now();
    if (now - toldAt < TELL_MS) return;
    options.onError(error, errors - told);
    told = errors;
    toldAt = now;
  };
  const subscriber = redis.subscriber();
  await subscriber.connect();
  const listening = listenSafely(subscriber, onError);
  // Two channels a namespace: with a channel per room, a message right after `join` can miss this instance.
  const create = createShardedAdapter(publishSafely(redis.commands), listening, {
    channelPrefix,
    subscriptionMode: "static",
  });
  return {
    // A function and not a method: Socket.IO calls it with `new`.
    adapter: function adapter(namespace: Namespace) {
      const adapter = create(namespace);
      guard(adapter as unknown as Inside, onError, (error) => {
        unreadable++;
        onError(error);
      });
      return adapter;
    },
    get unreadable() {
      return unreadable;
    },
    close: () => subscriber.disconnect(),
  };
}

/** Subscribes again after every reconnect, and never rejects: nobody in the adapter catches. */
function listenSafely(client: Redis, onError: (error: Error) => void) {
  const channels = new Set<string>();
  const subscribe = client.ssubscribe.bind(client) as (...channels: string[]) => Promise<unknown>;
  const unsubscribe = client.sunsubscribe.bind(client) as (...channels: string[]) => Promise<unknown>;
  client.on("ready", () => {
    for (const channel of channels) subscribe(channel).catch(onError);
  });
  return Object.assign(client, {
    async ssubscribe(channel: string) {
      channels.add(channel);
      if (client.status === "ready") await subscribe(channel).catch(onError);
    },
    async sunsubscribe(channel: string) {
      channels.delete(channel);
      if (client.status === "ready") await unsubscribe(channel).catch(onError);
    },
  });
}

function publishSafely(client: Redis) {
  return {
    spublish: (channel: string, message: string | Buffer) => client.spublish(channel, message),
    send_command(name: string, args: string[], done: (error: Error | null, reply?: unknown) => void) {
      client.call(name, ...args).then(
        (reply) => done(null, reply),
        (error: Error) => done(error),
      );
    },
  };
}

function guard(adapter: Inside, onError: (error: Error) => void, onUnreadable: (error: Error) => void): void {
  const { onMessage, onRawMessage, doPublish, doPublishResponse, serverCount } = adapter;
  adapter.onRawMessage = (message, channel) => {
    try {
      // Some of its cases answer by a promise that nobody holds.
      const done: unknown = onRawMessage.call(adapter, message, channel);
      if (done instanceof Promise) done.catch(onUnreadable);
    } catch (error) {
      onUnreadable(error as Error);
    }
  };
  adapter.onMessage = (message, offset) => {
    if (message.type === BROADCAST && !isEvent(message.data?.packet))
      throw new Error("a broadcast that is no event");
    // Without rooms it would mean everybody: one such message could disconnect all sockets.
    const target = message.data?.opts;
    if (target && !(Array.isArray(target.rooms) && Array.isArray(target.except)))
      throw new Error("a message to nobody knows whom");
    onMessage.call(adapter, message, offset);
  };
  adapter.doPublish = (message) =>
    doPublish.call(adapter, message).catch((error: Error) => {
      onError(error);
      return "";
    });
  adapter.doPublishResponse = (uid, response) =>
    doPublishResponse.call(adapter, uid, response).catch(onError);
  adapter.serverCount = () =>
    serverCount.call(adapter).catch((error: Error) => {
      onError(error);
      return 1;
    });
}

/** Anything else would reach the clients, and a client closes its connection at a packet it cannot read. */
function isEvent(packet: Packet | null | undefined): boolean {
  return (
    packet?.type === PacketType.EVENT && Array.isArray(packet.data) && typeof packet.data[0] === "string"
  );
}
