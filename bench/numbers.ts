/** What one watcher has received of one job: events have numbers without a gap, so that what is wrong shows. */

/** Missing numbers that are remembered; beyond, they only count. */
const REMEMBERED = 100_000;

export class Numbers {
  lost = 0;
  doubled = 0;
  misordered = 0;
  /** The highest so far. */
  #last: number;
  #missing: Set<number> | undefined;

  /** @param after number of the last event that was published before */
  constructor(after: number) {
    this.#last = after;
  }

  /** Whether it is new here. */
  note(n: number): boolean {
    if (n === this.#last + 1) this.#last = n;
    else if (n > this.#last) this.#pass(n);
    else if (this.#missing?.delete(n)) {
      this.lost--;
      this.misordered++;
    } else {
      this.doubled++;
      return false;
    }
    return true;
  }

  /** Numbers up to this one that have not come. */
  lostUpTo(n: number): number {
    return this.lost + Math.max(0, n - this.#last);
  }

  /** What is missing is forgotten. */
  reset(): void {
    this.lost = this.doubled = this.misordered = 0;
    this.#missing = undefined;
  }

  #pass(n: number): void {
    this.#missing ??= new Set();
    for (let passed = this.#last + 1; passed < n && this.#missing.size < REMEMBERED; passed++)
      this.#missing.add(passed);
    this.lost += n - this.#last - 1;
    this.#last = n;
  }
}
