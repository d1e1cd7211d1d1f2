/** What a Trainwire watcher does on whatever Socket.IO connection: subscribes, resumes where it stood, reads pages. */
import type { SubscribeAnswer } from "../../src/protocol/types.ts";
import type { OpenSocket, WatcherSocket } from "../../test/cluster/socket.ts";
import { nowUs } from "../clock.ts";
import type { WatchingClient, WatchOptions } from "../driver.ts";
import { jobOf } from "../event.ts";
import { benchToken } from "../token.ts";
import { watch } from "./watching.ts";

/** Its job may come later, seconds. */
const WAIT_SECONDS = 3_600;
const RETRY_MS = 500;
const EVENTS: ReadonlySet<string> = new Set(["log", "training_progress"]);

type Answer =
  | { ok: true; data: SubscribeAnswer }
  | { ok: false; error: { code: string; message: string; temporary?: boolean } };

interface Cursor {
  epoch: string;
  seq: number;
}

/** Where a job's feed stands: as its last event says, which is read only when it must be. */
type Place = Cursor | string;

export function watchHub(open: OpenSocket, options: WatchOptions): Promise<WatchingClient> {
  const { jobs, received, reconnect = false } = options;
  const places = new Map<string, Place>();
  const one = jobs.length === 1 ? (jobs[0] as string) : undefined;
  const take = (text: string) => {
    received(text, nowUs());
    if (reconnect) places.set(one ?? jobOf(text), text);
  };

  const subscribe = (
    socket: WatcherSocket,
    job: string,
    since: Cursor | undefined,
    done: () => void,
    failed: (why: string) => void,
  ) => {
    const request = { job_id: job, wait: WAIT_SECONDS, ...(since && { since }) };
    socket.emit("subscribe", request, (given) => {
      const answer = given as Answer;
      if (!answer.ok) {
        if (!answer.error.temporary) failed(`${answer.error.code}: ${answer.error.message}`);
        else setTimeout(() => socket.connected && subscribe(socket, job, since, done, failed), RETRY_MS);
        return;
      }
      const { epoch, seq, events, more, next } = answer.data;
      for (const event of events) take(JSON.stringify(event));
      if (reconnect) places.set(job, epoch === null ? { epoch: "", seq: 0 } : { epoch, seq });
      if (more) subscribe(socket, job, next as Cursor, done, failed);
      else done();
    });
  };

  return watch(open, options, {
    target: { token: benchToken("watcher") },
    connected(socket, ready, failed) {
      let left = jobs.length;
      const done = () => {
        if (--left === 0) ready();
      };
      for (const job of jobs) subscribe(socket, job, cursorOf(places.get(job)), done, failed);
    },
    event(name, text) {
      if (EVENTS.has(name)) take(text);
      return name === "closing" ? (JSON.parse(text) as { reason: string }).reason : undefined;
    },
  });
}

function cursorOf(place: Place | undefined): Cursor | undefined {
  if (typeof place !== "string") return place;
  const { epoch, seq } = JSON.parse(place) as Cursor;
  return { epoch, seq };
}
