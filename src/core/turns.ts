/** Who may work when. */
import { HubError } from "../protocol/codes.ts";

/** Work by key: what is asked for under a key is done one after the other, in that order. */
export class Turns {
  /** Key → the end of what is under way. */
  readonly #ends = new Map<string, Promise<unknown>>();
  #closed = false;

  /** The keys that have work under way. */
  get keys(): Iterable<string> {
    return this.#ends.keys();
  }

  /**
   * Does the work when what was asked for before has ended, however it did. Answers, or fails, as the work does.
   *
   * @throws HubError `unavailable` after `close`.
   */
  async take<R>(key: string, work: () => Promise<R>): Promise<R> {
    const before = this.#ends.get(key);
    const turn = (async () => {
      await before?.catch(() => {});
      if (this.#closed) throw new HubError("unavailable");
      return await work();
    })();
    this.#ends.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#ends.get(key) === turn) this.#ends.delete(key);
    }
  }

  /** What has not begun is not done any more. */
  close(): void {
    this.#closed = true;
  }
}

/** So many works at a time; the others wait, in order. */
export class Slots {
  #free: number;
  readonly #waiting: Array<() => void> = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take<R>(work: () => Promise<R>): Promise<R> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
