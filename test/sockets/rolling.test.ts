/** All hubs are restarted one after the other behind nginx, while trainers publish and watchers watch. */
import { expect } from "chai";
import { io, type Socket } from "socket.io-client";
import { TrainwireClient, TrainwireTrainer } from "../../client/index.ts";
import type { Answer, Cursor, DeliveredEvent, SubscribeAnswer } from "../../src/protocol/types.ts";
import { freshPrefix } from "../support/hooks.ts";
import { startTestHub, type TestHub, token, until } from "../support/hub.ts";
import { NginxServer } from "../support/nginx.ts";
import { freePort } from "../support/ports.ts";
import { POLLING } from "./new-session.ts";

const WINDOW_MS = 600;
const NAMES = ["hub-a", "hub-b", "hub-c"];
const SOON = { reconnectDelayMs: 20, reconnectDelayMaxMs: 100 };
type Transport = "websocket" | "polling";
const TRANSPORTS: Transport[][] = [["websocket"], ["polling"], ["polling", "websocket"]];

/** What PROTOCOL.md tells a client to do, and nothing else: subscribe from the cursor on every connection. */
class PlainWatcher {
  readonly seen: number[] = [];
  /** Subscribed for the first time. */
  readonly ready: Promise<void>;
  readonly #socket: Socket;
  #subscribed: () => void = () => {};
  /** The beginning of a job that is still to come. */
  #cursor: Cursor = { epoch: "", seq: 0 };

  constructor(url: string, transports: Transport[]) {
    this.ready = new Promise((resolve) => {
      this.#subscribed = resolve;
    });
    this.#socket = io(url, {
      auth: { token: token("watcher") },
      transports,
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 100,
    });
    this.#socket.on("welcome", () => this.#subscribe());
    this.#socket.on("log", (event: DeliveredEvent) => this.#take(event));
  }

  close(): void {
    this.#socket.disconnect();
  }

  #subscribe(): void {
    const request = { job_id: "job", since: this.#cursor, wait: true };
    this.#socket.emit("subscribe", request, (answer: Answer<SubscribeAnswer>) => {
      if (!answer.ok) {
        // The next connection asks again.
        expect(answer.error.temporary).to.equal(true);
        return;
      }
      const { recovered, events, epoch, seq, more } = answer.data;
      expect(recovered).to.equal(true);
      for (const event of events) if (event.type === "log") this.#take(event);
      if (epoch !== null) this.#cursor = { epoch, seq };
      if (more) this.#subscribe();
      this.#subscribed();
    });
  }

  #take({ epoch, seq, data }: DeliveredEvent): void {
    if (epoch) this.#cursor = { epoch, seq };
    this.seen.push(Number((data as { message: string }).message));
  }
}

describe("sockets: a rolling restart", () => {
  let hubs: TestHub[] = [];
  let nginx: NginxServer | undefined;
  const watchers: Array<{ seen: number[]; ready: Promise<unknown>; close(): void }> = [];
  const trainers: TrainwireTrainer[] = [];
  afterEach(async () => {
    for (const watcher of watchers.splice(0)) watcher.close();
    for (const trainer of trainers.splice(0)) await trainer.close({ timeoutMs: 0 });
    await nginx?.stop();
    await Promise.all(hubs.map((hub) => hub.close()));
  });

  it("loses and doubles nothing, with the SDK or without", async () => {
    const prefix = freshPrefix();
    const ports = await Promise.all(NAMES.map(() => freePort()));
    const start = (i: number) =>
      startTestHub({
        redis: "plain",
        prefix,
        env: {
          PORT: String(ports[i]),
          TRAINWIRE_INSTANCE_ID: NAMES[i] as string,
          TRAINWIRE_DRAIN_MS: String(WINDOW_MS),
        },
      });
    hubs = await Promise.all(NAMES.map((_, i) => start(i)));
    nginx = await NginxServer.start(NAMES.map((name, i) => ({ name, address: `127.0.0.1:${ports[i]}` })));
    const { url } = nginx;
    for (const transports of TRANSPORTS) {
      watchers.push(
        new PlainWatcher(url, transports),
        new PlainWatcher(url, transports),
        bySdk(url, transports),
      );
      trainers.push(trainerOf(url, transports));
    }
    await Promise.all(watchers.map(({ ready }) => ready));
    const runs = trainers.map((trainer) => trainer.run("job"));
    let published = 0;
    const publishing = setInterval(() => {
      for (const run of runs) run.log(String(++published));
    }, 10);
    try {
      for (const [i, hub] of hubs.entries()) {
        await hub.drain();
        await hub.close();
        const next = await start(i);
        hubs[i] = next;
        // nginx leaves it out for a while, as it has refused, and then tries it with one request, whosever it is.
        await until(`${NAMES[i]} is given sessions again`, async () => {
          await newSession(url);
          return next.io.engine.clientsCount > 0;
        });
        const now = published;
        await until("events go on", () => watchers.every(({ seen }) => seen.some((n) => n > now)));
      }
    } finally {
      clearInterval(publishing);
    }
    for (const trainer of trainers) expect(await trainer.flush()).to.equal(true);
    await until("everybody has all", () => watchers.every(({ seen }) => seen.length >= published));
    const [first = []] = watchers.map(({ seen }) => seen);
    const sorted = [...first].sort((a, b) => a - b);
    expect(sorted).to.deep.equal(Array.from({ length: published }, (_, i) => i + 1));
    // One order for all.
    for (const { seen } of watchers) expect(seen).to.deep.equal(first);
    expect(trainers.map(({ stats }) => stats.dropped)).to.deep.equal(trainers.map(() => 0));
  });
});

/** On the hub that nginx chooses; none when nginx answers by itself. */
async function newSession(url: string): Promise<void> {
  await (await fetch(`${url}${POLLING}`)).text();
}

/** A watcher by the SDK, and the numbers that it was told; a gap is none. */
function bySdk(url: string, transports: Transport[]) {
  const seen: number[] = [];
  const client = new TrainwireClient({ url, token: token("watcher"), transports, ...SOON });
  client.on("error", ({ temporary }) => expect(temporary).to.equal(true)).connect();
  const { ready } = client.subscribe(
    { job_id: "job", wait: true },
    { log: ({ data }) => void seen.push(Number(data.message)), gap: () => void seen.push(Number.NaN) },
  );
  return { seen, ready, close: () => client.close() };
}

function trainerOf(url: string, transports: Transport[]): TrainwireTrainer {
  return new TrainwireTrainer({
    url,
    token: token("trainer"),
    transports,
    ...SOON,
    flushIntervalMs: 5,
    onError: ({ temporary }) => expect(temporary).to.equal(true),
  });
}
