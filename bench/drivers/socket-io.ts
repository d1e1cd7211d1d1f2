/** The peers on Socket.IO over raw WebSockets: jobs in the query, `event` for each event, `publish {job, events}`. */
import { rawSocket } from "../../test/cluster/raw-socket.ts";
import { nowUs } from "../clock.ts";
import type { Driver } from "../driver.ts";
import { eventOf } from "../event.ts";
import { rawPublisher } from "./raw-publisher.ts";
import { watch } from "./watching.ts";

/** They ask for none. */
const token = "";

const driver: Driver = {
  watch(options) {
    const query = `jobs=${options.jobs.map(encodeURIComponent).join(",")}`;
    return watch(rawSocket(options.localAddress), options, {
      target: { token, query },
      connected: (_, ready) => ready(),
      event(name, text) {
        if (name === "event") options.received(text, nowUs());
        return undefined;
      },
    });
  },
  publisher: (target) =>
    rawPublisher(target, {
      target: { token },
      request: (job, events) => ({ job, events: events.map((event) => eventOf(job, event)) }),
      faultOf: () => undefined,
    }),
};
export default driver;
