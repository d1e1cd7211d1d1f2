import { Manager, type Socket } from "socket.io-client";
import type { Answer, Closing } from "../src/protocol/types.ts";
import { checked, failure, isAnswerError, isObject } from "./answer.ts";
import { randomId } from "./asks.ts";
import { backoff } from "./backoff.ts";
import { messageOf, TrainwireError } from "./errors.ts";
import { Refresh } from "./refresh.ts";

export type ConnectionState = "connecting" | "connected" | "reconnecting" | "closed";

/** How to reach the hub. Give either `token` or `getToken`. */
export interface ConnectionOptions {
  /** Of the hub or its load balancer, for instance `https://hub.example.org`. A path in it is no namespace; see `path`. */
  url: string;
  /** The JSON Web Token. When it expires the connection ends for good; `getToken` avoids that. */
  token?: string;
  /**
   * Called before every connect and reconnect, and when the token is about to end: the connection then goes on with the
   * new one. May be asynchronous. If it fails, it is called again after the back-off.
   */
  getToken?: () => string | Promise<string>;
  /** Socket.IO's path on the server. Default `/socket.io`. */
  path?: string;
  /** In the order to try. Default `["websocket", "polling"]`. */
  transports?: Array<"websocket" | "polling">;
  /**
   * Milliseconds of the first back-off step. Default 1 000. Each step doubles it; the wait is random between zero and
   * the step.
   */
  reconnectDelayMs?: number;
  /** Milliseconds of the longest back-off step. Default 30 000. */
  reconnectDelayMaxMs?: number;
  /** Milliseconds for one connect, the token included. Default 20 000. */
  connectTimeoutMs?: number;
  /** Milliseconds until a request without an answer is sent again. Default 10 000. */
  ackTimeoutMs?: number;
}

/** What a connection tells. None of them may throw. */
export interface ConnectionOwner {
  state(state: ConnectionState, previous: ConnectionState): void;
  /** Every Socket.IO event but Socket.IO's own; `answer` acknowledges it, if the hub waits for that. */
  event(name: string, argument: unknown, answer?: (answer: unknown) => void): void;
  /** `temporary`: it goes on trying. Otherwise the state is `closed` now. */
  error(error: TrainwireError): void;
}

/** A connection that lasted this long makes the back-off start over; a hub that closes at once must not be hammered. */
const STABLE_MS = 5_000;
/** The longest wait before reconnecting where the hub has asked this client to leave: it asks one after the other. */
const PLANNED_MS = 100;
/** After so many attempts in a row that have reached no hub, the load balancer is to choose another one. */
const MISSES = 2;

/**
 * One Socket.IO connection to one namespace that stays: tokens, reconnecting, requests with an answer. It reconnects by
 * itself instead of leaving that to Socket.IO, which has no full jitter and gives up after a refusal of a middleware or
 * a disconnect by the server, even where the hub's code says to come back.
 */
export class Connection {
  readonly #options: Required<Omit<ConnectionOptions, "token" | "getToken">>;
  readonly #getToken: () => string | Promise<string>;
  readonly #renewable: boolean;
  readonly #refresh: Refresh;
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  #state: ConnectionState = "closed";
  /** Rises with every attempt and its end; what belongs to an older one is ignored. */
  #attempt = 0;
  #failures = 0;
  /** Of the wait before an attempt, or of the attempt. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waiting = false;
  /** Attempts in a row that have reached no hub. */
  #misses = 0;
  #connectedAt = 0;
  #draining = false;
  #closing: Closing | undefined;
  #token = "";
  #expiredToken: string | undefined;

  /** @throws Error when `url` is missing, or not exactly one of `token` and `getToken` is given. */
  constructor(namespace: "/" | "/trainer", options: ConnectionOptions, owner: ConnectionOwner) {
    if (typeof options?.url !== "string" || options.url === "") throw new Error("`url` is missing.");
    if ((options.token === undefined) === (options.getToken === undefined)) {
      throw new Error("Give either `token` or `getToken`.");
    }
    const { token, getToken } = options;
    this.#options = {
      url: options.url,
      path: options.path ?? "/socket.io",
      transports: options.transports ?? ["websocket", "polling"],
      reconnectDelayMs: options.reconnectDelayMs ?? 1_000,
      reconnectDelayMaxMs: options.reconnectDelayMaxMs ?? 30_000,
      connectTimeoutMs: options.connectTimeoutMs ?? 20_000,
      ackTimeoutMs: options.ackTimeoutMs ?? 10_000,
    };
    this.#renewable = getToken !== undefined;
    this.#getToken = getToken ?? (() => token ?? "");
    this.#owner = owner;
    this.#refresh = new Refresh({
      fetch: () => this.#fetchToken(),
      current: () => this.#token,
      request: (verb, request, answered) => this.request(verb, request, answered),
      backoff: (failures) => this.backoff(failures),
      timeoutMs: this.#options.connectTimeoutMs,
      taken: (token) => {
        this.#token = token;
      },
      error: (error) => owner.error(error),
    });
    // A manager of its own: Socket.IO would share one between clients of the same URL, and with it their fate.
    const manager = new Manager(options.url, {
      path: this.#options.path,
      transports: this.#options.transports,
      tryAllTransports: true,
      reconnection: false,
      autoConnect: false,
      timeout: this.#options.connectTimeoutMs,
      query: newRoute(),
    });
    this.#socket = manager.socket(namespace);
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("connect_error", (error) => this.#refused(error));
    this.#socket.on("disconnect", (reason) => this.#disconnected(reason));
    this.#socket.onAny((name: string, ...args: unknown[]) => this.#event(name, args[0], args.at(-1)));
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Milliseconds to wait before trying again after so many failures. */
  backoff(failures: number): number {
    return backoff(failures, this.#options.reconnectDelayMs, this.#options.reconnectDelayMaxMs);
  }

  /** Connects. While it waits to reconnect: tries at once. */
  open(): void {
    if (this.#state === "closed") {
      this.#failures = 0;
      this.#expiredToken = undefined;
      const previous = this.#enter("connecting");
      this.#try();
      this.#tell(previous);
    } else if (this.#waiting) this.#try();
  }

  close(): void {
    this.#end();
    const previous = this.#enter("closed");
    this.#socket.disconnect();
    this.#tell(previous);
  }

  /**
   * Sends a verb. `answered` is called exactly once, within the acknowledgement: events that follow it in the same turn
   * come after. A lost connection or a time-out is an answer too (`disconnected`, `ack_timeout`, both temporary).
   * `timeoutMs`: for what takes the hub longer than `ackTimeoutMs`.
   */
  request<D>(
    verb: string,
    request: unknown,
    answered: (answer: Answer<D>) => void,
    timeoutMs: number = this.#options.ackTimeoutMs,
  ): void {
    if (this.#state !== "connected") {
      answered(failure("disconnected", "Not connected.", true));
      return;
    }
    let sent = true;
    const acknowledged = (error: Error | null, answer: unknown): void => {
      if (!sent) return;
      if (!error) answered(checked<D>(answer));
      else if (this.#state === "connected") answered(failure("ack_timeout", `No answer to ${verb}.`, true));
      else answered(failure("disconnected", `Disconnected before ${verb} was answered.`, true));
    };
    try {
      this.#socket.timeout(timeoutMs).emit(verb, request, acknowledged);
    } catch (error) {
      // What JSON has no form for. The packet does not leave, but its time-out would still come.
      sent = false;
      answered(failure("invalid_request", messageOf(error), false));
    }
  }

  /** Connects anew with a new token, because the hub says that this one has ended. Ends for good if there is none to get. */
  renew(error: TrainwireError): void {
    if (this.#state === "closed") return;
    this.#expiredToken = this.#token;
    this.#failed(error, this.#renewable);
  }

  #try(): void {
    const attempt = this.#end();
    this.#closing = undefined;
    this.#draining = false;
    const { connectTimeoutMs } = this.#options;
    this.#timer = setTimeout(
      () => this.#missed(`Not connected within ${connectTimeoutMs} ms.`),
      connectTimeoutMs,
    );
    void this.#fetchToken().then(
      (token) => {
        if (attempt !== this.#attempt) return;
        if (token === this.#expiredToken) {
          return this.#failed(
            new TrainwireError("token_expired", "`getToken` gave the token that has expired."),
            false,
          );
        }
        this.#token = token;
        this.#socket.auth = { token };
        this.#socket.connect();
      },
      (cause: unknown) => {
        if (attempt !== this.#attempt) return;
        const message = `No token: ${messageOf(cause)}`;
        this.#failed(new TrainwireError("token_unavailable", message, { temporary: true, cause }), true);
      },
    );
  }

  async #fetchToken(): Promise<string> {
    const token = await this.#getToken();
    if (typeof token !== "string" || token === "")
      throw new TypeError("a token is a string that is not empty.");
    return token;
  }

  #connected(): void {
    this.#end();
    this.#connectedAt = Date.now();
    this.#misses = 0;
    this.#expiredToken = undefined;
    this.#tell(this.#enter("connected"));
  }

  #refused(error: Error & { data?: unknown }): void {
    if (this.#state === "connected") return;
    // Still active: the transport failed. Not active: the hub answered, and Socket.IO would not come back.
    if (this.#socket.active) {
      this.#missed(`Cannot connect to ${this.#options.url}: ${error.message}`, error);
      return;
    }
    this.#misses = 0;
    const refusal = isAnswerError(error.data)
      ? TrainwireError.from(error.data)
      : new TrainwireError("connect_refused", error.message);
    if (refusal.code === "token_expired") this.renew(refusal);
    else this.#failed(refusal, refusal.temporary);
  }

  #disconnected(reason: string): void {
    // What Socket.IO kept for later would be sent on the next connection, before anybody has subscribed there.
    this.#socket.sendBuffer.length = 0;
    if (this.#state !== "connected") return;
    if (Date.now() - this.#connectedAt >= STABLE_MS) this.#failures = 0;
    const closing = this.#closing;
    const expired = closing?.reason === "token_expired";
    if (!closing || (closing.reconnect && !expired)) {
      this.#retry(this.#draining && closing?.reason === "shutdown");
      return;
    }
    const error = new TrainwireError(
      closing.reason,
      closing.message ?? `The hub closed the connection: ${reason}.`,
    );
    // Whatever `reconnect` says: to come back with the token that has ended is of no use.
    if (expired) this.renew(error);
    else this.#failed(error, false);
  }

  #event(name: string, argument: unknown, ack: unknown): void {
    if (this.#state !== "connected") return;
    if (name === "closing" && isObject(argument) && argument.job_id === undefined) {
      this.#closing = argument as unknown as Closing;
    }
    if (name === "draining") this.#draining = true;
    if (name === "welcome" && isObject(argument)) this.#refresh.welcome(argument.server_time);
    if (name === "token_expiring" && isObject(argument) && this.#renewable) {
      this.#refresh.expiring(argument.expires_at);
    }
    this.#owner.event(name, argument, isAck(ack) ? this.#answering(ack) : undefined);
  }

  /** Acknowledgements are numbered per connection: on a later one the same number belongs to another event. */
  #answering(ack: Ack): Ack {
    const attempt = this.#attempt;
    return (answer) => {
      if (attempt === this.#attempt && this.#state === "connected") ack(answer);
    };
  }

  /** No hub was reached, or none that answers. */
  #missed(message: string, cause?: Error): void {
    if (++this.#misses >= MISSES) {
      this.#misses = 0;
      this.#socket.io.opts.query = newRoute();
    }
    this.#failed(new TrainwireError("connect_failed", message, { temporary: true, cause }), true);
  }

  #failed(error: TrainwireError, again: boolean): void {
    if (again) this.#retry();
    else this.close();
    this.#owner.error(again ? temporary(error) : error);
  }

  /** `planned`: the hub has chosen the moment, so this is no failure to wait longer after. */
  #retry(planned = false): void {
    this.#end();
    const previous = this.#enter("reconnecting");
    this.#waiting = true;
    const wait = planned ? Math.random() * PLANNED_MS : this.backoff(this.#failures++);
    this.#timer = setTimeout(() => this.#try(), wait);
    this.#socket.disconnect();
    this.#tell(previous);
  }

  /** Ends the attempt or the wait that is under way. */
  #end(): number {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting = false;
    return ++this.#attempt;
  }

  /** The state changes before Socket.IO is told to disconnect, so that its own events find the new one. */
  #enter(state: ConnectionState): ConnectionState {
    const previous = this.#state;
    this.#state = state;
    if (state !== "connected") this.#refresh.stop();
    return previous;
  }

  #tell(previous: ConnectionState): void {
    if (this.#state !== previous) this.#owner.state(this.#state, previous);
  }
}

/** What a load balancer may choose the hub by: the same for all transports of an attempt, and for the next attempt. */
function newRoute(): { route: string } {
  return { route: randomId() };
}

type Ack = (answer: unknown) => void;

function isAck(value: unknown): value is Ack {
  return typeof value === "function";
}

function temporary(error: TrainwireError): TrainwireError {
  if (error.temporary) return error;
  return new TrainwireError(error.code, error.message, { temporary: true, cause: error.cause });
}
