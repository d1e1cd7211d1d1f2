/**
 * Appends of one feed that come close together share a call of the store: while one is under way, the next ones gather,
 * and go in one call when it has ended. A lone append does not wait. Each still gets an answer of its own, as if it had
 * been alone, and they keep their order.
 */
import type { FeedName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import { resultOf } from "../store/page.ts";
import type { AppendResult, Entry, Store } from "../store/store.ts";

/** Entries of one call of the store, where several appends share it: for as long the store does nothing else. */
const SHARED_ENTRIES = 128;
/** Characters of their texts. */
const SHARED_LENGTH = 262_144;

interface Append {
  readonly entries: readonly Entry[];
  readonly created: (() => Entry) | undefined;
  readonly length: number;
  /** When it was asked for, by `performance.now()`. */
  readonly since: number;
  resolve(result: AppendResult): void;
  reject(error: unknown): void;
}

export class Appends {
  readonly #store: Pick<Store, "append">;
  /** Of each feed that has a call under way: what waits for its end. */
  readonly #waiting = new Map<string, Append[]>();
  readonly #isStale: (since: number) => boolean;

  /** `isStale`: whether what was asked for at a moment is too late to be carried out. */
  constructor(store: Pick<Store, "append">, isStale: (since: number) => boolean = () => false) {
    this.#store = store;
    this.#isStale = isStale;
  }

  /**
   * As `Store.append`, of which it is one atomic step, perhaps together with others. When the store fails, everything that
   * already waits behind it fails alike: none of that overtakes what is to be sent again, and nobody waits twice as long.
   */
  append(feed: FeedName, entries: readonly Entry[], created?: () => Entry): Promise<AppendResult> {
    return new Promise((resolve, reject) => {
      const since = performance.now();
      const append = { entries, created, length: lengthOf(entries), since, resolve, reject };
      const key = `${feed.tenantId}/${feed.jobId ?? ""}`;
      const waiting = this.#waiting.get(key);
      if (waiting) {
        waiting.push(append);
        return;
      }
      const begun = [append];
      this.#waiting.set(key, begun);
      // Others of the same turn come along.
      queueMicrotask(() => void this.#run(key, feed, begun));
    });
  }

  async #run(key: string, feed: FeedName, waiting: Append[]): Promise<void> {
    while (waiting.length > 0) {
      const group = this.#fresh(waiting.splice(0, countOf(waiting)));
      if (group.length === 0) continue;
      try {
        const [first] = group;
        const entries = group.length === 1 ? first?.entries : group.flatMap((append) => append.entries);
        share(await this.#store.append(feed, entries ?? [], first?.created?.()), group);
      } catch (error) {
        for (const { reject } of [...group, ...waiting.splice(0)]) reject(error);
      }
    }
    this.#waiting.delete(key);
  }

  /** The process may have stood still since they were asked for, and their senders have gone elsewhere. */
  #fresh(appends: readonly Append[]): Append[] {
    const fresh: Append[] = [];
    for (const append of appends) {
      if (this.#isStale(append.since)) append.reject(new HubError("unavailable"));
      else fresh.push(append);
    }
    return fresh;
  }
}

/** How many of the first ones go in one call; one always does. */
function countOf(waiting: readonly Append[]): number {
  let entries = 0;
  let length = 0;
  for (const [i, append] of waiting.entries()) {
    entries += append.entries.length;
    length += append.length;
    if (i > 0 && (entries > SHARED_ENTRIES || length > SHARED_LENGTH)) return i;
  }
  return waiting.length;
}

/** Tells each what became of its own entries. */
function share(result: AppendResult, group: readonly Append[]): void {
  const { stored, position, wakes } = result;
  if (group.length === 1) {
    group[0]?.resolve(result);
    return;
  }
  let at = 0;
  for (const { entries, resolve } of group) {
    const own = resultOf(position?.epoch ?? "", stored.slice(at, at + entries.length));
    // Told once, to whom it may concern: it is of the feed.
    resolve(wakes && at === 0 ? { ...own, wakes } : own);
    at += entries.length;
  }
}

function lengthOf(entries: readonly Entry[]): number {
  let length = 0;
  for (const { head, data } of entries) length += head.length + data.length;
  return length;
}
