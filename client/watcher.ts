import type {
  AnswerError,
  Closing,
  DeliveredEvent,
  Gap,
  Position,
  Snapshot,
  SubscribeRequest,
  TenantSnapshot,
  Welcome,
} from "../src/protocol/types.ts";
import { isObject } from "./answer.ts";
import { Connection, type ConnectionOptions, type ConnectionState } from "./connection.ts";
import { TrainwireError } from "./errors.ts";
import { Link } from "./link.ts";
import { Listeners } from "./listeners.ts";
import { Subscription, type SubscriptionEvents, Watch } from "./subscription.ts";

/** How a watcher reaches the hub. */
export type ClientOptions = ConnectionOptions;

/** What to watch; see the properties. */
export type WatchRequest = Omit<SubscribeRequest, "next">;

/** What a client tells. */
export interface ClientEvents {
  state: (state: ConnectionState, previous: ConnectionState) => void;
  /** Once per connection. */
  welcome: (welcome: Welcome) => void;
  /** The connection, or the subscription to the job `job_id`, comes to its end. Only informs: the client acts on it itself. */
  closing: (closing: Closing) => void;
  /**
   * What no subscription's `error` took, and the connection's own errors: with `temporary` the client goes on trying,
   * without it the state is `closed`. Without any handler the first error is printed on the console.
   */
  error: (error: TrainwireError) => void;
}

/** Subscriptions that are answered at a time: thousands of resumes in one lump would pass the hub's limit for slow watchers. */
const AT_A_TIME = 4;

/**
 * A watcher's connection to the hub. It reconnects by itself (exponential back-off with full jitter, to 30 s) and
 * resumes every subscription where it was.
 *
 * ```ts
 * const client = new TrainwireClient({ url: "https://hub.example.org", token }).connect();
 * client.subscribe({ job_id: "bert-7" }, { training_progress: (event) => console.log(event.data.loss) });
 * ```
 */
export class TrainwireClient {
  readonly #listeners = new Listeners<ClientEvents>();
  readonly #connection: Connection;
  readonly #links = new Map<string, Link>();
  /** Links that may have something to ask the hub, in turn. */
  readonly #waiting = new Set<Link>();
  #woken = false;
  #asking = 0;
  #welcome: Welcome | undefined;

  /**
   * Does not connect yet.
   *
   * @throws Error when `url` is missing, or not exactly one of `token` and `getToken` is given.
   */
  constructor(options: ClientOptions) {
    this.#connection = new Connection("/", options, {
      state: (state, previous) => this.#state(state, previous),
      event: (name, argument) => this.#event(name, argument),
      error: (error) => this.#error(error),
    });
  }

  /** `closed` before `connect()`, after `close()`, and after a refusal that another attempt cannot change. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** The hub's greeting on the newest connection: ids, role, the token's end, limits. */
  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  /** Connects; while it waits to reconnect, tries at once. After a permanent error it takes the subscriptions up again. */
  connect(): this {
    this.#connection.open();
    return this;
  }

  /** Closes every subscription and the connection. */
  close(): void {
    for (const link of this.#links.values()) {
      const watch = link.watch;
      link.watch = undefined;
      watch?.close();
      this.#wake(link);
    }
    this.#connection.close();
  }

  /** Adds a handler. What it throws becomes an `error` of code `handler_failed`. */
  on<K extends keyof ClientEvents>(name: K, handler: ClientEvents[K]): this {
    this.#listeners.on(name, handler);
    return this;
  }

  /** Removes a handler, or all of this name. */
  off<K extends keyof ClientEvents>(name: K, handler?: ClientEvents[K]): this {
    this.#listeners.off(name, handler);
    return this;
  }

  /**
   * Watches a job, all jobs (`job_id: "*"`), or the tenant's own feed (no `job_id`); these go together on one client.
   * May be called before `connect()`. Handlers may be given here or added with `on` in the same turn.
   *
   * @throws Error when this client watches the same feed already: the hub keeps one subscription per connection and feed.
   */
  subscribe(
    request: WatchRequest & { job_id: string },
    handlers?: Partial<SubscriptionEvents<Snapshot>>,
  ): Subscription<Snapshot>;
  subscribe(
    request: WatchRequest & { job_id?: undefined },
    handlers?: Partial<SubscriptionEvents<TenantSnapshot>>,
  ): Subscription<TenantSnapshot>;
  subscribe(request: WatchRequest, handlers?: Partial<SubscriptionEvents>): Subscription;
  subscribe(request: WatchRequest, handlers: object = {}): Subscription {
    const key = request.job_id ?? "";
    const link = this.#links.get(key) ?? new Link(key, this.#connection, (woken) => this.#wake(woken));
    if (link.watch) {
      const feed = key === "" ? "the tenant's feed" : key === "*" ? "all jobs" : `job "${key}"`;
      throw new Error(
        `This client watches ${feed} already: add handlers to that subscription, or close it first.`,
      );
    }
    const watch = new Watch(request, (error) => this.#listeners.emit("error", error));
    for (const [name, handler] of Object.entries(handlers)) {
      if (handler !== undefined) watch.listeners.on(name as "event", handler);
    }
    link.watch = watch;
    this.#links.set(key, link);
    this.#wake(link);
    return new Subscription(request, watch, () => {
      if (watch.closed) return;
      watch.close();
      link.watch = undefined;
      this.#wake(link);
    });
  }

  /** At the end of the turn, so that a close and a new subscription to the same feed are one request. */
  #wake(link: Link): void {
    this.#waiting.add(link);
    if (this.#woken) return;
    this.#woken = true;
    queueMicrotask(() => {
      this.#woken = false;
      this.#ask();
    });
  }

  /** Lets the links that wait ask the hub, a few at a time. */
  #ask(): void {
    for (const link of this.#waiting) {
      if (this.#asking >= AT_A_TIME) return;
      if (link.due && this.state !== "connected") continue;
      this.#waiting.delete(link);
      if (link.idle) this.#forget(link);
      if (!link.due) continue;
      this.#asking += 1;
      link.send(() => {
        this.#asking -= 1;
        this.#wake(link);
      });
    }
  }

  #forget(link: Link): void {
    if (this.#links.get(link.key) === link) this.#links.delete(link.key);
  }

  #state(state: ConnectionState, previous: ConnectionState): void {
    if (previous === "connected") for (const link of this.#links.values()) link.lost();
    this.#listeners.emit("state", state, previous);
    for (const link of this.#links.values()) this.#wake(link);
  }

  #error(error: TrainwireError): void {
    if (!error.temporary) for (const link of this.#links.values()) link.watch?.unready(error);
    this.#listeners.emit("error", error);
  }

  #event(name: string, argument: unknown): void {
    if (!isObject(argument)) return;
    if (name === "welcome") {
      this.#welcome = argument as unknown as Welcome;
      this.#listeners.emit("welcome", this.#welcome);
    } else if (name === "gap") {
      const gap = argument as unknown as Gap;
      for (const watch of this.#watches(gap)) watch.follow.gap(gap);
    } else if (name === "position") {
      const position = argument as unknown as Position;
      for (const watch of this.#watches(position)) watch.follow.position(position);
    } else if (name === "closing") {
      this.#closing(argument as unknown as Closing);
    } else if (name === "refused") {
      const { error } = argument as { error?: AnswerError };
      if (error) this.#listeners.emit("error", TrainwireError.from(error));
    } else if (typeof argument.seq === "number" && typeof argument.type === "string") {
      // Types that this SDK does not know yet go to the handlers of `event`.
      const event = argument as unknown as DeliveredEvent;
      for (const watch of this.#watches(event)) watch.follow.event(event);
    }
  }

  #closing(closing: Closing): void {
    this.#listeners.emit("closing", closing);
    if (closing.job_id === undefined) return;
    for (const watch of this.#watches({ feed: "job", job_id: closing.job_id })) {
      watch.listeners.emit("closing", closing);
    }
    if (closing.reason === "wait_expired") this.#expire(closing.job_id);
  }

  /** The hub has ended a subscription by itself. One that has not been answered yet is a later one. */
  #expire(jobId: string): void {
    const link = this.#links.get(jobId);
    const watch = link?.watch;
    if (!link || !watch?.follow.live) return;
    link.watch = undefined;
    watch.fail(new TrainwireError("wait_expired", `Job "${jobId}" did not begin in time.`));
    this.#wake(link);
  }

  /** The subscriptions that something of a feed concerns: the hub sends it once per connection. */
  #watches({ feed, job_id }: { feed: "job" | "tenant"; job_id?: string | undefined }): Watch[] {
    const keys = feed === "tenant" ? [""] : job_id === undefined ? [] : [job_id, "*"];
    return keys.flatMap((key) => this.#links.get(key)?.watch ?? []);
  }
}
