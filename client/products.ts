import type { EventMap, ProductCompleted } from "../src/protocol/types.ts";

/** Builds the event within the trainer's try: reading what the application has handed over may throw. */
type Publish = <T extends "job_updated" | "product_completed">(
  type: T,
  build: () => EventMap[T],
  product?: string,
) => void;

/**
 * The products that a job trains in parallel; made by `Run.products`. The hub counts each product once, whoever says it,
 * and works out the job's percentage: 20 when the total is known, then `20 + floor(done / total * 60)`, 100 when the job
 * is completed. A table of stages beside it agrees with that where the products' stage goes from 20 to 80.
 */
export class Products {
  /** How many there are in all. */
  readonly total: number;
  readonly #publish: Publish;
  /** Name → whether it failed. */
  readonly #told = new Map<string, boolean>();
  #failed = 0;

  /** Use `Run.products`. */
  constructor(total: number, publish: Publish) {
    this.total = total;
    this.#publish = publish;
    publish("job_updated", () => ({ products_total: total }));
  }

  /** Completed, as told by this object: other processes may have told of more. */
  get completed(): number {
    return this.#told.size - this.#failed;
  }

  /** Failed, as told by this object. */
  get failed(): number {
    return this.#failed;
  }

  /**
   * A product is done. Saying it again changes nothing; one that had failed may still complete.
   *
   * @param name 1 to 128 characters.
   * @param fields for instance `{duration_seconds: 12}`.
   */
  complete(name: string, fields: Pick<ProductCompleted, "message" | "duration_seconds"> = {}): void {
    if (this.#told.get(name) === false) return;
    this.#tell(name, false, () => ({ ...fields, total: this.total }));
  }

  /** A product is done without success. Changes nothing for one that was told before. */
  fail(name: string, message?: string): void {
    if (this.#told.has(name)) return;
    this.#tell(name, true, () => ({
      ...(message !== undefined && { message }),
      total: this.total,
      failed: true,
    }));
  }

  #tell(name: string, failed: boolean, data: () => ProductCompleted): void {
    if (failed) this.#failed += 1;
    else if (this.#told.get(name)) this.#failed -= 1;
    this.#told.set(name, failed);
    this.#publish("product_completed", data, name);
  }
}
