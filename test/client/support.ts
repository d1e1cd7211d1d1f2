import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { type ClientOptions, type Subscription, TrainwireClient } from "../../client/index.ts";
import type { ScriptedHub } from "./scripted-hub.ts";

/** Reconnects at once, as far as that is possible. */
export const FAST = { reconnectDelayMs: 2, reconnectDelayMaxMs: 10 } as const;

/** A client of this hub that is connecting. */
export function watch(hub: ScriptedHub, options: Partial<ClientOptions> = {}): TrainwireClient {
  const how = options.getToken ? {} : { token: "t" };
  return new TrainwireClient({ url: hub.url, ...how, ...FAST, ...options }).connect();
}

/** What `name` is called with the next time. */
export function heard<T>(
  source: { on(name: never, handler: never): unknown; off(name: never, handler: never): unknown },
  name: string,
): Promise<T> {
  return new Promise((resolve) => {
    const handler = (value: T) => {
      source.off(name as never, handler as never);
      resolve(value);
    };
    source.on(name as never, handler as never);
  });
}

/** What a subscription told, in order. */
export interface Recording extends Array<string> {
  /** Fulfilled when this was told. */
  until(text: string): Promise<void>;
}

/** Everything that a subscription tells, as short texts in order. */
export function record(subscription: Pick<Subscription, "on">): Recording {
  const told: string[] = [];
  const waiting = new Map<string, () => void>();
  const note = (text: string) => {
    told.push(text);
    waiting.get(text)?.();
  };
  subscription
    .on("event", ({ job_id, seq, type }) => note(`${type} ${job_id ?? "tenant"}:${seq}`))
    .on("snapshot", (snapshot) =>
      note("seq" in snapshot ? `snapshot ${snapshot.job_id}:${snapshot.seq}` : "snapshot"),
    )
    .on("gap", ({ reason, epoch, seq }) => note(`gap ${reason} ${epoch}:${seq}`))
    .on("live", () => note("live"))
    .on("closing", ({ reason }) => note(`closing ${reason}`))
    .on("error", ({ code }) => note(`error ${code}`));
  const until = (text: string) =>
    new Promise<void>((resolve) => {
      if (told.includes(text)) resolve();
      else waiting.set(text, resolve);
    });
  return Object.assign(told, { until });
}

/** A TCP proxy in front of a hub, whose connections can be cut as a network cuts them. */
export class Cutter {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async before(url: string): Promise<Cutter> {
    const port = Number(new URL(url).port);
    const server = createServer();
    const cutter = new Cutter(server);
    server.on("connection", (near) => {
      const far = connect(port, "127.0.0.1");
      for (const [socket, other] of [[near, far] as const, [far, near] as const]) {
        cutter.#sockets.add(socket);
        socket.setNoDelay(true).pipe(other);
        socket.on("error", () => {});
        socket.on("close", () => {
          cutter.#sockets.delete(socket);
          other.destroy();
        });
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return cutter;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }
}
