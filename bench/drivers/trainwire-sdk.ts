/** Trainwire with our SDK: what a page and a training loop use. */
import { TrainwireClient, TrainwireTrainer } from "../../client/index.ts";
import type { Envelope } from "../../client/prepare.ts";
import type { EventMap, EventType } from "../../src/protocol/types.ts";
import { nowUs } from "../clock.ts";
import type { Driver, Endpoint, Outgoing, Publisher, WatchingClient, WatchOptions } from "../driver.ts";
import { eventOf } from "../event.ts";
import { benchToken } from "../token.ts";

const driver: Driver = { watch, publisher };
export default driver;

function watch({ url, jobs, received, lost, reconnect = false }: WatchOptions): Promise<WatchingClient> {
  const client = new TrainwireClient({ url, token: benchToken("watcher"), transports: ["websocket"] });
  let ended: string | undefined;
  const watching: WatchingClient = {
    get ended() {
      return ended;
    },
    stopReading() {
      throw new Error("this client cannot stop reading");
    },
    readAgain() {},
    close: () => client.close(),
  };
  return new Promise((resolve, reject) => {
    client.on("state", (state, previous) => {
      if (state === "connected") ended = undefined;
      if (previous !== "connected" || state === "closed") return;
      ended = "lost";
      lost?.();
      if (!reconnect) client.close();
    });
    client.on("error", (error) => {
      if (!error.temporary) reject(error);
    });
    const live = new Set<string>();
    for (const job of jobs) {
      client.subscribe(
        { job_id: job, wait: true },
        {
          event: (event) => received(JSON.stringify(event), nowUs()),
          live: () => {
            if (live.add(job).size === jobs.length) resolve(watching);
          },
        },
      );
    }
    client.connect();
  });
}

/** The SDK sends again by itself, and names its own events: ids are not passed on. */
async function publisher({ url }: Endpoint): Promise<Publisher> {
  const faults: string[] = [];
  const trainer = new TrainwireTrainer({
    ...{ url, token: benchToken("trainer"), transports: ["websocket"] },
    ...{ flushIntervalMs: 0, progressIntervalMs: 0, heartbeatIntervalMs: 0 },
    onError: (error) => void faults.push(error.message),
  });
  return {
    async publish(job, events) {
      for (const event of events) hand(trainer, job, event);
      if (!(await trainer.flush())) throw new Error("not acknowledged");
      if (faults.length > 0) throw new Error(faults[0]);
    },
    close: () => void trainer.close({ timeoutMs: 0 }),
  };
}

function hand(trainer: TrainwireTrainer, job: string, event: Outgoing): void {
  const { type, data } = eventOf(job, event) as { type: EventType; data: EventMap[EventType] };
  trainer.publish(type, data, { job_id: job } satisfies Envelope);
}
