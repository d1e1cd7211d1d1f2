import type { Answer, RefreshAnswer } from "../src/protocol/types.ts";
import { messageOf, TrainwireError } from "./errors.ts";

/** What it needs of its connection. */
export interface RefreshOptions {
  /** A new token; rejects when there is none to get. */
  fetch(): Promise<string>;
  /** The token that the hub has. */
  current(): string;
  /** As `Connection.request`. */
  request(
    verb: "refresh",
    request: { token: string },
    answered: (answer: Answer<RefreshAnswer>) => void,
  ): void;
  /** Milliseconds before the next try. */
  backoff(failures: number): number;
  /** Milliseconds that `fetch` may take. */
  timeoutMs: number;
  /** The hub has taken this one. */
  taken(token: string): void;
  error(error: TrainwireError): void;
}

/** Between two tokens, ms: a hub whose warning is longer than its tokens' lives must not be hammered. */
const LEAST_MS = 500;

/**
 * Brings the hub a new token while the connection goes on. It never ends the connection: what it cannot mend the hub
 * does, and the reconnect begins with a fresh token.
 */
export class Refresh {
  readonly #options: RefreshOptions;
  /** Of the wait before a try, or of the try. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Rises with every try and its end; what belongs to an older one is ignored. */
  #try = 0;
  #failures = 0;
  /** When the hub has taken its present token. */
  #since = 0;
  /** How far the hub's clock is ahead, ms. */
  #ahead = 0;

  constructor(options: RefreshOptions) {
    this.#options = options;
  }

  /** A connection has begun. */
  welcome(serverTime: unknown): void {
    this.#since = Date.now();
    this.#ahead = msOf(serverTime, this.#since) - this.#since;
  }

  /** The token is about to end: fetches a new one, but not before half of its life here is over. */
  expiring(expiresAt: unknown): void {
    const now = Date.now();
    const age = now - this.#since;
    const left = msOf(expiresAt, now + this.#ahead) - this.#ahead - now;
    this.#failures = 0;
    this.#wait(Math.max((left - age) / 2, LEAST_MS - age, 0));
  }

  /** The connection has ended. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#try++;
  }

  #wait(ms: number): void {
    this.stop();
    this.#timer = setTimeout(() => this.#fetch(), ms);
  }

  #fetch(): void {
    this.stop();
    const mine = this.#try;
    const failed = (cause: unknown) => {
      if (mine !== this.#try) return;
      this.#again();
      const message = `No token: ${messageOf(cause)}`;
      this.#options.error(new TrainwireError("token_unavailable", message, { temporary: true, cause }));
    };
    const { timeoutMs } = this.#options;
    this.#timer = setTimeout(() => failed(new Error(`none within ${timeoutMs} ms.`)), timeoutMs);
    this.#options.fetch().then((token) => {
      if (mine === this.#try) this.#send(token);
    }, failed);
  }

  #send(token: string): void {
    this.stop();
    if (token === this.#options.current()) {
      const message = "`getToken` gave the token that is about to end.";
      this.#options.error(new TrainwireError("token_unavailable", message, { temporary: true }));
      return;
    }
    const mine = this.#try;
    this.#options.request("refresh", { token }, (answer) => {
      if (answer.ok) {
        this.#since = Date.now();
        this.#options.taken(token);
      }
      if (mine !== this.#try || answer.ok) return;
      if (answer.error.temporary) this.#again();
      // A hub that does not know the verb closes the connection when the token has ended, as it always did.
      else if (answer.error.code !== "unknown_verb") {
        const { code, message } = answer.error;
        this.#options.error(new TrainwireError(code, `No refresh: ${message}`, { temporary: true }));
      }
    });
  }

  #again(): void {
    this.#wait(this.#options.backoff(this.#failures++));
  }
}

/** Milliseconds since 1970 of what should be ISO 8601. */
function msOf(time: unknown, otherwise: number): number {
  const ms = typeof time === "string" ? Date.parse(time) : Number.NaN;
  return Number.isNaN(ms) ? otherwise : ms;
}
