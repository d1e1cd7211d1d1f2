import { messageOf, TrainwireError } from "./errors.ts";

/** Event name → handler. Every map has `error`. */
export type Handlers<E> = { [K in keyof E]: (...args: never[]) => void } & {
  error: (error: TrainwireError) => void;
};

type AnyHandler = (...args: unknown[]) => unknown;

/**
 * Typed handlers by event name. Not socket.io's own emitter, because there a handler that throws keeps the later ones
 * from being called and ends the process: here it is an `error` of code `handler_failed`, for promises too.
 */
export class Listeners<E extends Handlers<E>> {
  /** Copied on write, so that a handler may add and remove handlers. */
  readonly #handlers = new Map<keyof E, readonly AnyHandler[]>();
  readonly #unheard: (error: TrainwireError) => void;
  #told = false;

  /** `unheard` gets errors that no `error` handler took; by default the first of them is printed. */
  constructor(unheard?: (error: TrainwireError) => void) {
    this.#unheard = unheard ?? ((error) => this.#print(error));
  }

  on<K extends keyof E>(name: K, handler: E[K]): void {
    this.#handlers.set(name, [...(this.#handlers.get(name) ?? []), handler as unknown as AnyHandler]);
  }

  off<K extends keyof E>(name: K, handler?: E[K]): void {
    const left = handler
      ? (this.#handlers.get(name) ?? []).filter((other) => other !== (handler as unknown))
      : [];
    if (left.length > 0) this.#handlers.set(name, left);
    else this.#handlers.delete(name);
  }

  clear(): void {
    this.#handlers.clear();
  }

  emit<K extends keyof E>(name: K, ...args: Parameters<E[K]>): void {
    const handlers = this.#handlers.get(name);
    if (!handlers) {
      if (name === "error") this.#unheard(args[0] as unknown as TrainwireError);
      return;
    }
    for (const handler of handlers) {
      try {
        const result = handler(...args);
        if (result instanceof Promise) result.catch((cause: unknown) => this.#threw(name, cause));
      } catch (cause) {
        this.#threw(name, cause);
      }
    }
  }

  #threw(name: keyof E, cause: unknown): void {
    const error = new TrainwireError(
      "handler_failed",
      `A handler of "${String(name)}" threw: ${messageOf(cause)}`,
      {
        cause,
      },
    );
    if (name === "error") this.#print(error);
    else this.emit("error", ...([error] as unknown as Parameters<E["error"]>));
  }

  /** Once: an error that repeats with every event would bury the console. */
  #print(error: TrainwireError): void {
    if (this.#told) return;
    this.#told = true;
    console.error(error);
  }
}
