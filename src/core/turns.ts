/** Work of one key after the other. */
import { HubError } from "../protocol/codes.ts";

/** What is asked for under a key is done in that order. */
export class Turns {
  /** Key → the end of what is under way. Not there while nothing is: most connections are idle most of the time. */
  #ends: Map<string, Promise<unknown>> | undefined;
  #closed = false;

  /** The keys that have work under way. */
  get keys(): Iterable<string> {
    return this.#ends?.keys() ?? [];
  }

  /**
   * Does the work when what was asked for before has ended, however it did. Answers, or fails, as the work does.
   *
   * @throws HubError `unavailable` after `close`.
   */
  async take<R>(key: string, work: () => Promise<R>): Promise<R> {
    this.#ends ??= new Map();
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
      if (this.#ends?.get(key) === turn) this.#ends.delete(key);
      if (this.#ends?.size === 0) this.#ends = undefined;
    }
  }

  /** What has not begun is not done any more. */
  close(): void {
    this.#closed = true;
  }
}
