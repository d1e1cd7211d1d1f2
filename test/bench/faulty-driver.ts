/** A driver without a server: each watcher is handed ten events, of which some are lost, doubled, or out of order. */
import { nowUs } from "../../bench/clock.ts";
import type { Driver } from "../../bench/driver.ts";
import { eventOf } from "../../bench/event.ts";

/** 3 is lost, 5 comes twice, 8 overtakes 7, 10 is lost at the end. */
export const HANDED_OUT = [1, 2, 4, 5, 5, 6, 8, 7, 9];
/** What each event took. */
export const TOOK_US = 20_000;

const driver: Driver = {
  async watch({ jobs: [job = ""], received }) {
    for (const n of HANDED_OUT) {
      const at = nowUs();
      received(JSON.stringify(eventOf(job, { n, sentUs: at - TOOK_US })), at);
    }
    return { ended: undefined, stopReading() {}, readAgain() {}, close() {} };
  },
  async publisher() {
    return { publish: async () => {}, close() {} };
  },
};
export default driver;
