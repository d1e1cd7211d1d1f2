/** Sends lines of events to a hub: one call at a time, and each event again until it has an outcome. */
import { setTimeout as sleep } from "node:timers/promises";
// Not TrainwireTrainer: that sends in the background and does not say what became of each event.
import { Connection } from "../../client/connection.ts";
import type { TrainwireError } from "../../client/index.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Answer, AnswerError, PublishAnswer } from "../protocol/types.ts";
import type { Access } from "./access.ts";

/** An event and where it came from. */
export interface Line {
  /** In the input, from 1. */
  number: number;
  event: object;
  /** Of its JSON. */
  bytes: number;
}

export interface PublisherEvents {
  /** Why it takes longer; once. */
  trouble(message: string): void;
  /** The answer to one call, and what was sent with it. */
  answered(answer: PublishAnswer, lines: readonly Line[]): void;
  /** Refused for good. */
  refused(line: Line, error: AnswerError): void;
}

/** Half a message, for what the packet adds. */
export const CALL_BYTES = LIMITS.messageBytes / 2;
/** So long a hub may be away, or refuse for now, before the rest is given up. */
const PATIENCE_MS = 15_000;
const RETRY_MS = { first: 200, longest: 2_000 };

export class Publisher {
  readonly #connection: Connection;
  readonly #access: Access;
  readonly #on: PublisherEvents;
  /** Why there will be no connection. */
  #refusal: TrainwireError | undefined;
  /** Why nothing is stored now. */
  #trouble: string | undefined;
  #wake = () => {};

  constructor(access: Access, on: PublisherEvents) {
    this.#access = access;
    this.#on = on;
    const options = {
      ...access.connection,
      reconnectDelayMs: RETRY_MS.first,
      reconnectDelayMaxMs: RETRY_MS.longest,
      connectTimeoutMs: PATIENCE_MS,
    };
    this.#connection = new Connection("/trainer", options, {
      state: () => this.#wake(),
      event: () => {},
      error: (error) => {
        if (error.temporary) this.#later(error.message);
        else this.#refusal = error;
        this.#wake();
      },
    });
    this.#connection.open();
  }

  /**
   * Resolves when each of the lines has its outcome.
   *
   * @param lines at most `LIMITS.batchEvents`, and `CALL_BYTES` together.
   * @throws Error in one line when the hub refuses the connection, or for too long everything.
   */
  async publish(lines: readonly Line[]): Promise<void> {
    let left = lines;
    let deadline = Date.now() + PATIENCE_MS;
    for (let failures = 0; left.length > 0; failures++) {
      const answer = await this.#call(left, deadline);
      if (answer.ok) {
        this.#on.answered(answer.data, left);
        const later = this.#settle(answer.data, left);
        if (later.length < left.length) deadline = Date.now() + PATIENCE_MS;
        left = later;
      } else if (!answer.error.temporary) {
        return await this.#blame(left, answer.error);
      } else this.#later(answer.error.message);
      if (left.length > 0) await sleep(this.#connection.backoff(failures));
    }
  }

  close(): void {
    this.#connection.close();
  }

  #later(message: string): void {
    if (this.#trouble === undefined) this.#on.trouble(message);
    this.#trouble = message;
  }

  /** @returns the lines that may be stored when they are sent again. */
  #settle({ refused }: PublishAnswer, lines: readonly Line[]): Line[] {
    const later: Line[] = [];
    for (const { index, ...error } of refused) {
      const line = lines[index];
      if (!line) continue;
      if (!error.temporary) this.#on.refused(line, error);
      else {
        later.push(line);
        this.#later(error.message);
      }
    }
    return later;
  }

  /** A call that is refused whole may be so for one event in it, for instance one that is nested too deep. */
  async #blame(lines: readonly Line[], error: AnswerError): Promise<void> {
    if (error.code === "unauthorized" || error.code === "forbidden") throw this.#access.explain(error);
    const [first] = lines;
    if (first && lines.length === 1) {
      this.#on.refused(first, error);
      return;
    }
    const half = Math.ceil(lines.length / 2);
    await this.publish(lines.slice(0, half));
    await this.publish(lines.slice(half));
  }

  async #call(lines: readonly Line[], deadline: number): Promise<Answer<PublishAnswer>> {
    await this.#connected(deadline);
    const events = lines.map(({ event }) => event);
    return await new Promise((resolve) => this.#connection.request("publish", events, resolve));
  }

  async #connected(deadline: number): Promise<void> {
    for (;;) {
      if (this.#refusal) throw this.#access.explain(this.#refusal);
      const left = deadline - Date.now();
      if (left <= 0) {
        throw new Error(
          `Given up after ${PATIENCE_MS / 1_000} s with ${this.#access.connection.url}: ${this.#trouble ?? "no answer"}`,
        );
      }
      if (this.#connection.state === "connected") return;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
  }
}
