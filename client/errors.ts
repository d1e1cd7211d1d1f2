import type { AnswerError, PublishedEvent } from "../src/protocol/types.ts";

/**
 * Every error that this SDK reports. `code` is one of the hub's (the tables in PROTOCOL.md) or one of the SDK's own:
 *
 * | code | meaning |
 * |---|---|
 * | `connect_failed` | The hub could not be reached, or did not answer in time. |
 * | `connect_refused` | The hub refused the connection without a code. |
 * | `token_unavailable` | `getToken` failed or gave no token. |
 * | `disconnected` | The connection went away before the answer came. |
 * | `ack_timeout` | No answer within `ackTimeoutMs`. |
 * | `malformed_answer` | The hub's answer is not what PROTOCOL.md says. |
 * | `handler_failed` | A handler of the application threw; see `cause`. |
 * | `wait_expired` | The job of a subscription with `wait` has not begun in time. |
 * | `closed` | Closed by the application. |
 * | `buffer_full` | Trainer: events were dropped because the buffer was full. |
 * | `poison` | Trainer: an event was dropped because the connection broke each time it was sent. |
 */
export class TrainwireError extends Error {
  readonly code: string;
  /** Whether the SDK goes on trying by itself. */
  readonly temporary: boolean;
  /** Trainer: how many events it is about. */
  readonly events: number;
  /** Trainer: the event, or the first of them. */
  readonly event: PublishedEvent | undefined;

  constructor(
    code: string,
    message: string,
    options: { temporary?: boolean; cause?: unknown; events?: number; event?: PublishedEvent } = {},
  ) {
    super(message, options.cause !== undefined ? { cause: options.cause } : undefined);
    this.name = "TrainwireError";
    this.code = code;
    this.temporary = options.temporary ?? false;
    this.events = options.events ?? (options.event ? 1 : 0);
    this.event = options.event;
  }

  /** The error of an answer. */
  static from(error: AnswerError): TrainwireError {
    return new TrainwireError(error.code, error.message, { temporary: error.temporary });
  }
}

/** The message of anything that was thrown. Never throws itself. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? String(thrown.message) : String(thrown);
  } catch {
    return "unprintable error";
  }
}
