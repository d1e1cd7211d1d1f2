/** So many works at a time: one after the other as they come, or by turns of tenants and clients. */

/** So many works at a time; the others wait, in order. */
export class Slots {
  #free: number;
  #waiting: Array<() => void> | undefined;

  constructor(count: number) {
    this.#free = count;
  }

  async take<R>(work: () => Promise<R>): Promise<R> {
    if (this.#free > 0) this.#free--;
    else {
      this.#waiting ??= [];
      const waiting = this.#waiting;
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting?.shift();
      if (this.#waiting?.length === 0) this.#waiting = undefined;
      if (next) next();
      else this.#free++;
    }
  }
}

/**
 * So many works at a time. The others wait, and go by turns: one of each tenant, and of a tenant's one of each that
 * asks. So whoever has much to ask waits for himself, and not others for him.
 */
export class FairSlots {
  #free: number;
  /** Tenant → who asks → what of his waits; who is next stands first in each. */
  readonly #waiting = new Map<string, Map<object, Array<() => void>>>();
  #count = 0;

  constructor(count: number) {
    this.#free = count;
  }

  /** Works that wait. */
  get waiting(): number {
    return this.#count;
  }

  async take<R>(tenantId: string, asker: object, work: () => Promise<R>): Promise<R> {
    if (this.#free > 0) this.#free--;
    else await this.#wait(tenantId, asker);
    try {
      return await work();
    } finally {
      if (this.#count > 0) this.#next();
      else this.#free++;
    }
  }

  #wait(tenantId: string, asker: object): Promise<void> {
    return new Promise((resolve) => {
      let askers = this.#waiting.get(tenantId);
      if (!askers) {
        askers = new Map();
        this.#waiting.set(tenantId, askers);
      }
      const own = askers.get(asker);
      if (own) own.push(resolve);
      else askers.set(asker, [resolve]);
      this.#count++;
    });
  }

  #next(): void {
    const [tenantId, askers] = firstOf(this.#waiting);
    const [asker, own] = firstOf(askers);
    const resume = own.shift() as () => void;
    // Whose turn it was stands last.
    askers.delete(asker);
    if (own.length > 0) askers.set(asker, own);
    this.#waiting.delete(tenantId);
    if (askers.size > 0) this.#waiting.set(tenantId, askers);
    this.#count--;
    resume();
  }
}

function firstOf<K, V>(map: ReadonlyMap<K, V>): [K, V] {
  return map.entries().next().value as [K, V];
}
