import type {
  AnswerError,
  Closing,
  CommandAction,
  CommandAnswer,
  CommandRequest,
  DeliveredEvent,
  Draining,
  Gap,
  Position,
  PresenceAnswer,
  SeriesAnswer,
  SeriesRequest,
  Snapshot,
  SubscribeRequest,
  TenantSnapshot,
  Welcome,
} from "../src/protocol/types.ts";
import { isObject } from "./answer.ts";
import { Asks, randomId } from "./asks.ts";
import { Connection, type ConnectionOptions, type ConnectionState } from "./connection.ts";
import { TrainwireError } from "./errors.ts";
import { KEPT_LIMITS } from "./event-table.ts";
import { Link } from "./link.ts";
import { Listeners } from "./listeners.ts";
import { Subscription, type SubscriptionEvents, Watch } from "./subscription.ts";

/** How a watcher reaches the hub. */
export type ClientOptions = ConnectionOptions;

/** What to watch; see the properties. */
export type WatchRequest = Omit<SubscribeRequest, "next">;

/** More about a command. */
export interface CommandOptions {
  /** Free-form, at most 4 KB of JSON: for instance `{prompt: "a red fox"}` for `sample`. */
  args?: NonNullable<CommandRequest["args"]>;
  /**
   * Milliseconds that the trainer has to come and answer, this client's own wait for a connection included: 100 to
   * 3 600 000. Default 30 000.
   */
  timeoutMs?: number;
  /** The same id is carried out once, so that a command may be given again. Default: random. */
  commandId?: string;
  /** To every trainer of the job. Default: to the newest with the lowest rank. */
  all?: boolean;
}

/** How long a question may take. */
export interface AskOptions {
  /** Milliseconds, the wait for a connection included. Default 10 000. */
  timeoutMs?: number;
}

/** Which curves, and how fine. */
export type SeriesOptions = Omit<SeriesRequest, "job_id"> & AskOptions;

/** What a client tells. */
export interface ClientEvents {
  state: (state: ConnectionState, previous: ConnectionState) => void;
  /** Once per connection. */
  welcome: (welcome: Welcome) => void;
  /** The hub is about to end, and has told when it closes this connection. Only informs: another hub takes over then. */
  draining: (draining: Draining) => void;
  /** The connection, or the subscription to the job `job_id`, comes to its end. Only informs: the client acts on it itself. */
  closing: (closing: Closing) => void;
  /**
   * What no subscription's `error` took, and the connection's own errors: with `temporary` the client goes on trying,
   * without it the state is `closed`. Without any handler the first error is printed on the console.
   */
  error: (error: TrainwireError) => void;
}

const COMMAND_MS = 30_000;
const LEAST_COMMAND_MS = 100;
const ASK_MS = 10_000;
/** The trainer may answer in the last moment: its answer must not find that nobody waits. */
const COMMAND_GRACE_MS = 10_000;

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
  readonly #asks: Asks;
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
    this.#asks = new Asks(this.#connection);
  }

  /** `closed` before `connect()`, after `close()`, and after a refusal that another attempt cannot change. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** The hub's greeting on the newest connection: ids, role and the token's end as of then, limits. */
  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  /** Connects; while it waits to reconnect, tries at once. After a permanent error it takes the subscriptions up again. */
  connect(): this {
    this.#connection.open();
    return this;
  }

  /** Closes every subscription and the connection; what waits for an answer is rejected with `closed`. */
  close(): void {
    for (const link of this.#links.values()) {
      const watch = link.watch;
      link.watch = undefined;
      watch?.close();
      this.#wake(link);
    }
    this.#asks.end(new TrainwireError("closed", "The client was closed before the answer came."));
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

  /**
   * Tells a job's trainer to do something, and waits for its answer. Needs a token of role `operator` or `admin`. Waits for
   * the connection; when it is lost meanwhile, the command is sent again with the same id, which is carried out once.
   *
   * @param action what the trainer has announced (`snapshot.commands`); `custom` says more in `args`.
   * @returns what the trainer answered. The states in between are events of the job (`command_update`).
   * @throws TrainwireError (as a rejection) with the hub's code: `no_trainer`, `unsupported_command`, `job_ended`,
   *   `command_failed` (with the trainer's message), `command_timeout`, …; `disconnected` when there was no connection in
   *   time, `ack_timeout` when the hub did not answer 10 s after `timeoutMs`, `closed`.
   */
  command(jobId: string, action: CommandAction, options: CommandOptions = {}): Promise<CommandAnswer> {
    const { args, timeoutMs = COMMAND_MS, commandId = randomId(), all } = options;
    if (!(timeoutMs >= LEAST_COMMAND_MS && timeoutMs <= KEPT_LIMITS.commandTimeoutMs)) {
      return Promise.reject(
        new TrainwireError("invalid_request", "`timeoutMs` is a number from 100 to 3600000."),
      );
    }
    return this.#asks.ask("command", { timeoutMs, graceMs: COMMAND_GRACE_MS }, (leftMs) => ({
      job_id: jobId,
      action,
      command_id: commandId,
      timeout_ms: Math.max(LEAST_COMMAND_MS, leftMs),
      ...(args !== undefined && { args }),
      ...(all !== undefined && { all }),
    }));
  }

  /**
   * Who watches a job at the moment, on all instances. Changes come as `presence` events of the job.
   *
   * @throws TrainwireError (as a rejection) with the hub's code; `disconnected`, `ack_timeout`, `closed`.
   */
  presence(jobId: string, options: AskOptions = {}): Promise<PresenceAnswer> {
    return this.#asks.ask("presence", { timeoutMs: bounded(options.timeoutMs), graceMs: 0 }, () => ({
      job_id: jobId,
    }));
  }

  /**
   * The curves of a job's metrics over the whole run, in at most 1 024 buckets each. To go on live, append what `pointsOf`
   * gives of the progress events of a subscription, as far as its `seq` is higher than the answer's.
   *
   * @throws TrainwireError (as a rejection) with the hub's code; `disconnected`, `ack_timeout`, `closed`.
   */
  series(jobId: string, options: SeriesOptions = {}): Promise<SeriesAnswer> {
    const { timeoutMs, ...which } = options;
    return this.#asks.ask("series", { timeoutMs: bounded(timeoutMs), graceMs: 0 }, () => ({
      ...which,
      job_id: jobId,
    }));
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
    if (state === "connected") this.#asks.connected();
  }

  #error(error: TrainwireError): void {
    if (this.state === "closed") this.#asks.end(error);
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
    } else if (name === "draining") {
      this.#listeners.emit("draining", argument as unknown as Draining);
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
    if (closing.reason === "wait_expired") {
      this.#ended(closing.job_id, "wait_expired", `Job "${closing.job_id}" did not begin in time.`);
    } else if (closing.reason === "forbidden") {
      this.#ended(closing.job_id, "forbidden", `The new token does not allow job "${closing.job_id}".`);
    }
  }

  /** The hub has ended a subscription by itself. One that has not been answered yet is a later one. */
  #ended(jobId: string, code: string, message: string): void {
    const link = this.#links.get(jobId);
    const watch = link?.watch;
    if (!link || !watch?.follow.live) return;
    link.watch = undefined;
    watch.fail(new TrainwireError(code, message));
    this.#wake(link);
  }

  /** The subscriptions that something of a feed concerns: the hub sends it once per connection. */
  #watches({ feed, job_id }: { feed: "job" | "tenant"; job_id?: string | undefined }): Watch[] {
    const keys = feed === "tenant" ? [""] : job_id === undefined ? [] : [job_id, "*"];
    return keys.flatMap((key) => this.#links.get(key)?.watch ?? []);
  }
}

/** Longer than this, a timer ends at once. */
function bounded(timeoutMs: number = ASK_MS): number {
  return Number.isNaN(timeoutMs) ? ASK_MS : Math.min(Math.max(timeoutMs, 0), 2 ** 31 - 1);
}
