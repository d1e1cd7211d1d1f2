import type { Connection } from "./connection.ts";
import { TrainwireError } from "./errors.ts";

/** How long a question may take. */
export interface AskLimits {
  /** From the call on, the wait for a connection included. */
  timeoutMs: number;
  /** So much longer an answer may take that is already on its way. */
  graceMs: number;
}

/** There was no answer, or one that the next connection's hub will give. */
const ASK_AGAIN: ReadonlySet<string> = new Set(["disconnected", "draining"]);

type Asker = Pick<Connection, "state" | "request" | "renew">;

/**
 * Questions with one answer: they wait for the connection, and are asked again when it was lost before the answer came.
 * So each must be safe to ask twice.
 */
export class Asks {
  readonly #connection: Asker;
  readonly #open = new Set<Ask>();

  constructor(connection: Asker) {
    this.#connection = connection;
  }

  /**
   * `request` is told how many ms are left.
   *
   * @throws TrainwireError (as a rejection) with the hub's code, `disconnected` or `ack_timeout` when the time is over, or
   *   what `end` was called with.
   */
  ask<D>(verb: string, limits: AskLimits, request: (leftMs: number) => object): Promise<D> {
    return new Promise<D>((resolve, reject) => {
      const ask = new Ask(this.#connection, verb, limits, request, (outcome) => {
        this.#open.delete(ask);
        if (outcome instanceof TrainwireError) reject(outcome);
        else resolve(outcome as D);
      });
      this.#open.add(ask);
      ask.send();
    });
  }

  /** The connection is there. */
  connected(): void {
    for (const ask of [...this.#open]) ask.send();
  }

  /** There will be no answers. */
  end(error: TrainwireError): void {
    for (const ask of [...this.#open]) ask.settle(error);
  }
}

class Ask {
  readonly #connection: Asker;
  readonly #verb: string;
  readonly #graceMs: number;
  readonly #request: (leftMs: number) => object;
  readonly #settled: (outcome: unknown) => void;
  /** By `performance.now()`. */
  readonly #deadline: number;
  readonly #timer: ReturnType<typeof setTimeout>;
  #busy = false;
  #sent = false;
  #over = false;

  constructor(
    connection: Asker,
    verb: string,
    { timeoutMs, graceMs }: AskLimits,
    request: (leftMs: number) => object,
    settled: (outcome: unknown) => void,
  ) {
    this.#connection = connection;
    this.#verb = verb;
    this.#graceMs = graceMs;
    this.#request = request;
    this.#settled = settled;
    this.#deadline = performance.now() + timeoutMs;
    this.#timer = setTimeout(() => this.#late(), timeoutMs);
  }

  send(): void {
    if (this.#busy || this.#over || this.#connection.state !== "connected") return;
    const left = Math.max(1, Math.ceil(this.#deadline - performance.now()));
    this.#busy = true;
    this.#sent = true;
    this.#connection.request<unknown>(
      this.#verb,
      this.#request(left),
      (answer) => {
        this.#busy = false;
        if (this.#over) return;
        if (answer.ok) this.settle(answer.data);
        else if (answer.error.code === "token_expired")
          this.#connection.renew(TrainwireError.from(answer.error));
        else if (!ASK_AGAIN.has(answer.error.code)) this.settle(TrainwireError.from(answer.error));
        else if (performance.now() >= this.#deadline) this.#late();
      },
      left + this.#graceMs,
    );
  }

  settle(outcome: unknown): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#settled(outcome);
  }

  /** An answer on its way has its own time-out. */
  #late(): void {
    if (this.#busy) return;
    const what = this.#sent ? `The connection was lost before ${this.#verb} was answered` : "Not connected";
    this.settle(new TrainwireError("disconnected", `${what}, and the time is over.`, { temporary: true }));
  }
}

/** `[0-9a-f]{32}`, random. Not `crypto.randomUUID`: browsers have that on secure pages only. */
export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
