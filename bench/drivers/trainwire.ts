/** Trainwire over raw WebSockets: just enough of Engine.IO 4 and Socket.IO 5, and our verbs. */
import type { PublishAnswer } from "../../src/protocol/types.ts";
import { rawSocket } from "../../test/cluster/raw-socket.ts";
import type { Driver, Outgoing } from "../driver.ts";
import { eventOf } from "../event.ts";
import { benchToken } from "../token.ts";
import { watchHub } from "./hub-watcher.ts";
import { rawPublisher } from "./raw-publisher.ts";

type Answer = { ok: true; data: PublishAnswer } | { ok: false; error: { code: string; message: string } };

const driver: Driver = {
  watch: (options) => watchHub(rawSocket(options.localAddress), options),
  publisher: (target) =>
    rawPublisher(target, {
      target: { token: benchToken("trainer"), namespace: "/trainer" },
      request: (job, events) =>
        events.length === 1
          ? eventOf(job, events[0] as Outgoing)
          : events.map((event) => eventOf(job, event)),
      faultOf: (answer) => faultOf(answer as Answer),
    }),
};
export default driver;

function faultOf(answer: Answer): string | undefined {
  if (!answer.ok) return `${answer.error.code}: ${answer.error.message}`;
  const [first] = answer.data.refused;
  return first && `${first.code}: ${first.message}`;
}
