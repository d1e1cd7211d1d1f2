import type {
  Closing,
  Cursor,
  DeliveredEvent,
  EventType,
  Gap,
  Snapshot,
  SubscribeRequest,
  TenantSnapshot,
} from "../src/protocol/types.ts";
import { TrainwireError } from "./errors.ts";
import { type Follow, follow } from "./follow.ts";
import { Listeners } from "./listeners.ts";

type AnySnapshot = Snapshot | TenantSnapshot;

type EventHandlers = { [T in EventType]: (event: DeliveredEvent<T>) => void };

/** What a subscription tells. Every event type is an event of its own; `event` gets all of them. */
export interface SubscriptionEvents<S extends AnySnapshot = AnySnapshot> extends EventHandlers {
  /** Every event of every type, after the handlers of its own type. */
  event: (event: DeliveredEvent) => void;
  /** The state to begin with, or to begin again with after a `gap`: replace what you have. With `job_id: "*"` one per job. */
  snapshot: (snapshot: S) => void;
  /**
   * Events that this subscription will not get. After `reset` and `overflow`, and wherever `snapshot` is set, a
   * `snapshot` follows or the feed is gone (`epoch: null`). An answer that could not recover is told as a gap too.
   */
  gap: (gap: Gap) => void;
  /** The past is delivered, from here on events come as they happen. Again after every reconnect. */
  live: () => void;
  /** The hub ends something about the job of this subscription. Only informs. */
  closing: (closing: Closing) => void;
  /**
   * The hub refused the subscription for good, or the job it waited for did not come in time (`wait_expired`): it is
   * closed then. Or a handler threw. Without a handler here it goes to the client's `error`.
   */
  error: (error: TrainwireError) => void;
}

export type SubscriptionState = "pending" | "live" | "closed";

/** The inside of a subscription: what the client and the link use. */
export class Watch {
  readonly listeners: Listeners<SubscriptionEvents>;
  readonly follow: Follow;
  readonly ready: Promise<void>;
  #resolve!: () => void;
  #reject!: (error: TrainwireError) => void;
  closed = false;

  constructor(request: SubscribeRequest, unheard: (error: TrainwireError) => void) {
    this.listeners = new Listeners(unheard);
    const types = request.types && new Set<string>(request.types);
    this.follow = follow(request, {
      event: (event) => {
        // The connection may hold another subscription that wants more of the same job.
        if (types && !types.has(event.type)) return;
        this.listeners.emit(event.type, ...([event] as Parameters<SubscriptionEvents[EventType]>));
        this.listeners.emit("event", event);
      },
      gap: (gap) => {
        if (!types || concerns(types, gap)) this.listeners.emit("gap", gap);
      },
      snapshot: (snapshot) => this.listeners.emit("snapshot", snapshot),
    });
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever does not wait for it must not be ended by it.
    this.ready.catch(() => {});
  }

  live(): void {
    this.#resolve();
    this.listeners.emit("live");
  }

  /** Not live any time soon; the subscription stays. */
  unready(error: TrainwireError): void {
    this.#reject(error);
  }

  fail(error: TrainwireError): void {
    this.#reject(error);
    this.listeners.emit("error", error);
    this.close();
  }

  close(): void {
    this.closed = true;
    this.#reject(new TrainwireError("closed", "The subscription was closed."));
    this.listeners.clear();
    this.follow.detach();
  }
}

/** Whether a gap can have swallowed something of these types. */
function concerns(types: ReadonlySet<string>, { stream }: Gap): boolean {
  if (stream === undefined) return true;
  return stream === "log" ? types.has("log") : types.size > 1 || !types.has("log");
}

/**
 * A subscription to one job, to all jobs, or to the tenant's feed; made by `TrainwireClient.subscribe`. It survives
 * reconnects: every durable event comes once and in order, or a `gap` says what is missing.
 */
export class Subscription<S extends AnySnapshot = AnySnapshot> {
  /** What was asked for. */
  readonly request: Readonly<SubscribeRequest>;
  /**
   * Fulfilled when it is live for the first time. Rejected with a `TrainwireError` when the hub refuses it, when it is
   * closed before, or when the client's connection ends for good (the subscription then stays for the next `connect()`).
   */
  readonly ready: Promise<void>;
  readonly #watch: Watch;
  readonly #close: () => void;

  /** Use `TrainwireClient.subscribe`. */
  constructor(request: SubscribeRequest, watch: Watch, close: () => void) {
    this.request = request;
    this.ready = watch.ready;
    this.#watch = watch;
    this.#close = close;
  }

  /** `pending` until it is live, and again while the connection is gone. */
  get state(): SubscriptionState {
    if (this.#watch.closed) return "closed";
    return this.#watch.follow.live ? "live" : "pending";
  }

  /** Everything up to here was delivered. Keep it and give it as `since` to go on later. Undefined with `job_id: "*"`. */
  get cursor(): Cursor | undefined {
    return this.#watch.follow.cursor;
  }

  /** With `job_id: "*"`: the cursors by job id (the 1 000 that moved last). Give it as `since` to go on later. */
  get cursors(): Record<string, Cursor> {
    return this.#watch.follow.cursors;
  }

  /** Adds a handler. What it throws, or a promise it returns rejects with, becomes an `error` of code `handler_failed`. */
  on<K extends keyof SubscriptionEvents<S>>(name: K, handler: SubscriptionEvents<S>[K]): this {
    this.#watch.listeners.on(name, handler as SubscriptionEvents[K]);
    return this;
  }

  /** Removes a handler, or all of this name. */
  off<K extends keyof SubscriptionEvents<S>>(name: K, handler?: SubscriptionEvents<S>[K]): this {
    this.#watch.listeners.off(name, handler as SubscriptionEvents[K] | undefined);
    return this;
  }

  /** Unsubscribes. No handler is called any more. The same feed may be subscribed to again at once. */
  close(): void {
    this.#close();
  }
}
