/** Publishes that are not answered yet: they fail when the connection goes. */
export class Pending {
  readonly #rejects = new Set<(error: Error) => void>();
  #ended: string | undefined;

  /** @param send sends it, and calls back when there is an answer: with nothing, or with what is wrong */
  add(send: (answered: (fault?: string) => void) => void): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(new Error(this.#ended));
    return new Promise((resolve, reject) => {
      this.#rejects.add(reject);
      send((fault) => {
        this.#rejects.delete(reject);
        if (fault === undefined) resolve();
        else reject(new Error(fault));
      });
    });
  }

  /** Nothing is answered any more. */
  end(why: string): void {
    this.#ended ??= why;
    for (const reject of this.#rejects) reject(new Error(why));
    this.#rejects.clear();
  }
}
