import { setTimeout as sleep } from "node:timers/promises";

/** Asks again and again until it is so, for what tells nobody when it becomes so. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(2);
}
