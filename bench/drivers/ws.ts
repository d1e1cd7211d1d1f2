/** The peer on plain WebSockets: bench/peers/ws.ts says what is sent. It does not come back. */
import WebSocket from "ws";
import { nowUs } from "../clock.ts";
import type { Driver, Endpoint, WatchingClient } from "../driver.ts";
import { eventOf } from "../event.ts";
import { Pending } from "./pending.ts";

const READY = '{"ready":true}';

const driver: Driver = {
  watch(options) {
    const socket = open(options, `/?jobs=${options.jobs.map(encodeURIComponent).join(",")}`);
    let [ended, closed]: [string | undefined, boolean] = [undefined, false];
    const client: WatchingClient = {
      get ended() {
        return ended;
      },
      stopReading: () => socket.pause(),
      readAgain: () => socket.resume(),
      close() {
        closed = true;
        socket.terminate();
      },
    };
    return new Promise((resolve, reject) => {
      socket.on("message", (data) => {
        const text = String(data);
        if (text === READY) resolve(client);
        else options.received(text, nowUs());
      });
      socket.on("close", () => {
        reject(new Error("lost"));
        if (closed) return;
        ended = "lost";
        options.lost?.();
      });
    });
  },

  async publisher(target) {
    const pending = new Pending();
    const answers = new Map<number, (fault?: string) => void>();
    const socket = open(target, "/");
    await new Promise<void>((resolve, reject) => {
      socket.on("close", () => {
        pending.end("the publisher's connection is lost");
        reject(new Error("lost"));
      });
      socket.on("message", (data) => {
        const { published } = JSON.parse(String(data)) as { published?: number };
        if (published === undefined) resolve();
        else {
          answers.get(published)?.();
          answers.delete(published);
        }
      });
    });
    let next = 0;
    return {
      publish: (job, events) =>
        pending.add((answered) => {
          const id = ++next;
          answers.set(id, answered);
          socket.send(
            JSON.stringify({ publish: { job, events: events.map((event) => eventOf(job, event)) }, id }),
          );
        }),
      close() {
        pending.end("closed");
        socket.terminate();
      },
    };
  },
};
export default driver;

function open({ url, localAddress }: Endpoint, path: string): WebSocket {
  const socket = new WebSocket(url.replace("http", "ws") + path, {
    perMessageDeflate: false,
    skipUTF8Validation: true,
    ...(localAddress !== undefined && { localAddress }),
  });
  socket.on("error", () => {}); // its `close` follows
  return socket;
}
