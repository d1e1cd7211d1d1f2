/** What a measure has started, and what ends it again. */

type Stop = () => unknown;

export class Stops {
  readonly #stops: Stop[] = [];

  add(stop: Stop): void {
    this.#stops.push(stop);
  }

  /** The last first. Each gets its turn, whatever becomes of the others; then the first failure is thrown. */
  async run(): Promise<void> {
    const failures: unknown[] = [];
    for (const stop of this.#stops.splice(0).reverse()) {
      try {
        await stop();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** Ends whatever the work has started, also when it fails; then its failure is the one that counts. */
export async function withStops<Result>(work: (stops: Stops) => Promise<Result>): Promise<Result> {
  const stops = new Stops();
  let result: Result;
  try {
    result = await work(stops);
  } catch (error) {
    await stops.run().catch(() => {});
    throw error;
  }
  await stops.run();
  return result;
}

/** Resolves when all of it is over; rejects only then, with the first failure. */
export async function settled<Value>(work: readonly Value[]): Promise<Array<Awaited<Value>>> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
