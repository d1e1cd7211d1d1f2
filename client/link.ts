import type { Answer, SubscribeAllAnswer, SubscribeAnswer } from "../src/protocol/types.ts";
import type { Connection } from "./connection.ts";
import { messageOf, TrainwireError } from "./errors.ts";
import type { Watch } from "./subscription.ts";

/**
 * What this connection holds at the hub for one feed, made to follow what the application wants: one request at a time,
 * until the wanted subscription is joined, or the unwanted one is gone. So a close and a new subscribe in the same turn
 * cannot overtake each other.
 */
export class Link {
  /** `""` is the tenant's feed, `"*"` all jobs, else the job. */
  readonly key: string;
  readonly #connection: Connection;
  readonly #wake: (link: Link) => void;
  /** The subscription that is wanted. */
  watch: Watch | undefined;
  /** The one that the hub has answered to the last page. */
  #joined: Watch | undefined;
  /** Whether the hub may hold a subscription. */
  #held = false;
  #busy = false;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(key: string, connection: Connection, wake: (link: Link) => void) {
    this.key = key;
    this.#connection = connection;
    this.#wake = wake;
  }

  /** Whether there is something to ask the hub now. */
  get due(): boolean {
    if (this.#busy || this.#timer !== undefined) return false;
    return this.watch ? this.#joined !== this.watch : this.#held;
  }

  /** Nobody wants it and the hub does not hold it. */
  get idle(): boolean {
    return !this.watch && !this.#held && !this.#busy;
  }

  /** Sends what is due; `done` when it was answered. */
  send(done: () => void): void {
    const watch = this.watch;
    this.#busy = true;
    const answered = (): void => {
      this.#busy = false;
      done();
    };
    if (watch) {
      this.#connection.request<SubscribeAnswer | SubscribeAllAnswer>(
        "subscribe",
        watch.follow.request(),
        (answer) => {
          if (this.#connection.state === "connected") this.#subscribed(watch, answer);
          answered();
        },
      );
    } else {
      const request = this.key === "" ? {} : { job_id: this.key };
      this.#connection.request<object>("unsubscribe", request, (answer) => {
        if (this.#connection.state === "connected") this.#unsubscribed(answer);
        answered();
      });
    }
  }

  /** The connection is gone, and with it everything that the hub held. */
  lost(): void {
    this.#quiet();
    this.#joined = undefined;
    this.#held = false;
    this.watch?.follow.detach();
  }

  #subscribed(watch: Watch, answer: Answer<SubscribeAnswer | SubscribeAllAnswer>): void {
    if (answer.ok || answer.error.temporary) this.#held = true;
    if (watch !== this.watch) return;
    if (!answer.ok) {
      const { error } = answer;
      if (error.code === "token_expired") {
        this.#connection.renew(TrainwireError.from(error));
        return;
      }
      if (error.temporary || watch.follow.restart(error)) {
        this.#retry();
        return;
      }
      this.watch = undefined;
      watch.fail(TrainwireError.from(error));
      return;
    }
    let next: "live" | "more" | "again";
    try {
      next = watch.follow.answer(answer.data);
    } catch (cause) {
      const error = new TrainwireError("malformed_answer", messageOf(cause), { temporary: true, cause });
      watch.listeners.emit("error", error);
      this.#retry();
      return;
    }
    if (next === "again") {
      this.#retry();
      return;
    }
    this.#quiet();
    // A handler of the answer may have closed it.
    if (next === "more" || watch !== this.watch) return;
    this.#joined = watch;
    watch.live();
  }

  #unsubscribed(answer: Answer<object>): void {
    if (!answer.ok && answer.error.temporary) {
      this.#retry();
      return;
    }
    this.#quiet();
    this.#held = false;
    this.#joined = undefined;
  }

  #retry(): void {
    if (this.#connection.state !== "connected") return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#wake(this);
      },
      this.#connection.backoff(this.#failures++),
    );
  }

  #quiet(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#failures = 0;
  }
}
