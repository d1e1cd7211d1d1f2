/** What a job is in the memory store: fields, attempts, status, products. The same rules as lua/job-rules.lua. */
import { LIMITS } from "../protocol/limits.ts";
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type { JobStatus, Liveness } from "../protocol/types.ts";
import { JOB_PROGRESS_KEYS } from "./reduce.ts";
import type { Entry, Stored } from "./store.ts";
import { fieldsOf } from "./wire.ts";

/** Percentages of a job that trains products: with the total known, and what they add when all are done. */
const ANALYSED = 20;
const TRAINED = 60;

export class MemoryJob {
  /** JSON text; a field that is taken away is not here. */
  readonly fields = new Map<string, string>();
  readonly deadlines = new Map<string, number>();
  /** ms since 1970. */
  expectedAt = 0;
  completed = 0;
  failed = 0;
  /** Products of the newest attempt. */
  readonly #products = new Map<string, { seq: number; failed: boolean }>();
  attempt = 1;
  #statusAttempt = 1;
  #total: number | undefined;
  #progress = 0;

  /** ms since 1970; 0: never. */
  get seenAt(): number {
    return Number(this.fields.get("seen") ?? 0);
  }

  /** These fields, '' for none. */
  pick(names: readonly string[]): Map<string, string> {
    return new Map(names.map((name) => [name, this.fields.get(name) ?? ""]));
  }

  get liveness(): Liveness | undefined {
    const json = this.fields.get("liveness");
    return json === undefined ? undefined : (JSON.parse(json) as Liveness);
  }

  get counts(): Array<[string, number]> {
    const counts: Array<[string, number]> = [
      ["products:completed", this.completed],
      ["products:failed", this.failed],
    ];
    return counts.filter(([, count]) => count > 0);
  }

  get ended(): boolean {
    return TERMINAL_STATUSES.has(this.#status ?? "");
  }

  get #status(): JobStatus | undefined {
    const json = this.fields.get("status");
    return json === undefined ? undefined : (JSON.parse(json) as JobStatus);
  }

  get #done(): number {
    return this.completed + this.failed;
  }

  /** Why the entry must not be stored, or that it is stored already. */
  refusal(entry: Entry, isNew: boolean): Stored | undefined {
    const asExpected = entry.onlyIf?.every(([field, json]) => (this.fields.get(field) ?? "") === json);
    if (entry.onlyIf && (isNew || !asExpected)) return { refused: "conflict" };
    if (this.#isIllegal(entry)) return { refused: "invalid_transition" };
    return this.#productRefusal(entry);
  }

  #isIllegal({ patch: { transition }, attempt = this.attempt }: Entry): boolean {
    const status = this.#status;
    if (!transition || status === undefined) return false;
    if (attempt < this.attempt) return true;
    if (attempt > this.#statusAttempt) return false;
    return !transition.from.includes(status);
  }

  #productRefusal({ patch, attempt = this.attempt }: Entry): Stored | undefined {
    const { product, productsTotal } = patch;
    if ((!product && !productsTotal) || attempt < this.attempt) return undefined;
    const isLater = attempt > this.attempt;
    let done = isLater ? 0 : this.#done;
    if (product) {
      const before = isLater ? undefined : this.#products.get(product.name);
      if (before && !(before.failed && !product.failed)) return { seq: before.seq, duplicate: true };
      if (!before && done >= LIMITS.conflationKeys) return { refused: "too_many_keys" };
      if (!before) done++;
    }
    const total = product?.total ?? productsTotal?.total ?? this.#total ?? done;
    return done > total ? { refused: "invalid_total" } : undefined;
  }

  /** The job's progress that is told before the entry. */
  before({ patch: { productsDone }, attempt = this.attempt }: Entry): Entry | undefined {
    if (!productsDone || this.#total === undefined || attempt !== this.attempt) return undefined;
    this.#setProgress(100);
    return this.#progressEntry(productsDone.head);
  }

  /** Takes what the entry says of the job; answers it as it is to be stored, at this position. */
  follow(entry: Entry, seq: number, now: number): Entry {
    const { patch, attempt, alive } = entry;
    if (attempt !== undefined && attempt > this.attempt) this.#begin(attempt);
    if (patch.productsDone) this.#setProgress(100);
    if (patch.transition) {
      this.#statusAttempt = attempt ?? this.attempt;
      this.fields.set("status", JSON.stringify(patch.transition.to));
      this.fields.set("status_attempt", String(this.#statusAttempt));
    }
    if (alive === false) this.fields.delete("liveness");
    else if (alive) this.see(now, true);
    for (const [field, json] of patch.set ?? []) {
      if (json === "") this.fields.delete(field);
      else this.fields.set(field, json);
    }
    for (const [what, ms] of patch.deadlines ?? []) {
      if (ms === null) this.deadlines.delete(what);
      else this.deadlines.set(what, now + ms);
    }
    return patch.product ? this.#count(entry, patch.product, seq) : entry;
  }

  /** The job's progress that is told after the entry. */
  after({ patch: { product, productsTotal }, attempt = this.attempt }: Entry): Entry | undefined {
    if (attempt < this.attempt) return undefined;
    if (productsTotal) {
      this.#setTotal(productsTotal.total);
      if (productsTotal.head !== undefined) this.#advance(productsTotal.total);
    }
    const head = product?.head ?? productsTotal?.head;
    if (head === undefined || this.#total === undefined || this.ended) return undefined;
    return this.#progressEntry(head);
  }

  /** A sign of life. `begins`: a job without liveness has one from now on. */
  see(now: number, begins: boolean): void {
    this.fields.set("seen", String(now));
    if (!begins || this.ended || this.fields.has("liveness")) return;
    this.fields.set("liveness", '"live"');
    this.deadlines.set("liveness", now);
  }

  /** No sign of life is missed for so long. */
  expect(now: number, ms: number): void {
    this.expectedAt = now + ms;
    // The deadline may lie where an earlier expectation has put it.
    if (this.deadlines.has("liveness")) this.deadlines.set("liveness", now);
  }

  #begin(attempt: number): void {
    this.attempt = attempt;
    this.fields.set("attempt", String(attempt));
    this.completed = 0;
    this.failed = 0;
    this.#products.clear();
    this.#progress = 0;
    this.fields.delete("products_progress");
    // What a trainer expected in an attempt before is no longer so.
    this.expectedAt = 0;
  }

  #count(entry: Entry, product: NonNullable<Entry["patch"]["product"]>, seq: number): Entry {
    if ((entry.attempt ?? this.attempt) < this.attempt) return entry;
    const { name, failed, total } = product;
    if (this.#products.has(name)) this.failed--;
    this.#products.set(name, { seq, failed });
    if (failed) this.failed++;
    else this.completed++;
    if (total !== undefined) this.#setTotal(total);
    if (this.#total !== undefined) this.#advance(this.#total);
    const counts = {
      completed: this.completed,
      failed: this.failed,
      total: this.#total,
      progress: this.#progress,
    };
    return { ...entry, head: `${entry.head},"products":${JSON.stringify(counts)}` };
  }

  /** Where a job that has ended has come to, it stays. */
  #advance(total: number): void {
    if (!this.ended) this.#setProgress(ANALYSED + Math.floor((this.#done * TRAINED) / Math.max(total, 1)));
  }

  #setTotal(total: number): void {
    this.#total = total;
    this.fields.set("products_total", String(total));
  }

  #setProgress(progress: number): void {
    this.#progress = progress;
    this.fields.set("products_progress", String(progress));
  }

  #progressEntry(head: string): Entry {
    const data = { current: this.#done, progress: this.#progress, total: this.#total };
    return {
      type: "training_progress",
      durable: false,
      stream: "events",
      tenantFeed: "merged",
      head,
      data: JSON.stringify(data),
      patch: { merge: { key: JOB_PROGRESS_KEYS[0], fields: fieldsOf(data) } },
    };
  }
}
