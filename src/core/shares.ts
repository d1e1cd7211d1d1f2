/** What many ask for at once is done once for all of them. */
import { HubError } from "../protocol/codes.ts";

/** ms in which the same is read once. Long enough for hundreds who come back together, too short to be noticed. */
export const SHARE_MS = 50;

interface Share {
  /** What is to begin next, for those who wait for it. */
  next: Next | undefined;
  /** While it is set, the last one has begun less than that long ago. */
  rest: NodeJS.Timeout | undefined;
}

interface Next {
  work: () => Promise<unknown>;
  begins: Array<() => void>;
  promise: Promise<unknown>;
  resolve: (result: unknown) => void;
  reject: (error: unknown) => void;
}

/**
 * Work by key. It begins at once when none of that key has begun within so many ms, else when they are over; who asks
 * until then shares it. So each gets the result of a work that began after he had asked, as if it were his own.
 */
export class Shares {
  readonly ms: number;
  readonly #shares = new Map<string, Share>();

  /** With 0, only those who ask in the same moment share. */
  constructor(ms = SHARE_MS) {
    this.ms = ms;
  }

  /** The key stands for what the work does and answers. `onBegin` is called just before the work that is answered. */
  take<R>(key: string, work: () => Promise<R>, onBegin?: () => void): Promise<R> {
    let share = this.#shares.get(key);
    if (!share) {
      share = { next: undefined, rest: undefined };
      this.#shares.set(key, share);
    }
    if (!share.next) {
      share.next = nextOf(work);
      // Others wait for the same moment, and ask in the same turn.
      if (!share.rest) queueMicrotask(() => this.#begin(key, share));
    }
    if (onBegin) share.next.begins.push(onBegin);
    return share.next.promise as Promise<R>;
  }

  #begin(key: string, share: Share): void {
    const { next } = share;
    share.next = undefined;
    if (!next) return;
    if (this.ms === 0) this.#shares.delete(key);
    else share.rest = setTimeout(() => this.#rested(key, share), this.ms);
    for (const begin of next.begins) begin();
    next.work().then(next.resolve, next.reject);
  }

  #rested(key: string, share: Share): void {
    share.rest = undefined;
    if (share.next) this.#begin(key, share);
    else this.#shares.delete(key);
  }

  /** Who still waits gets nothing. */
  close(): void {
    for (const share of this.#shares.values()) {
      clearTimeout(share.rest);
      share.next?.reject(new HubError("unavailable"));
      share.next = undefined;
    }
    this.#shares.clear();
  }
}

function nextOf(work: () => Promise<unknown>): Next {
  const next: Partial<Next> = { work, begins: [] };
  next.promise = new Promise((resolve, reject) => Object.assign(next, { resolve, reject }));
  return next as Next;
}
