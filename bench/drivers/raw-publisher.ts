/** A publisher on a raw Socket.IO connection, which is opened once and never again. */
import { RawSocket } from "../../test/cluster/raw-socket.ts";
import type { SocketTarget } from "../../test/cluster/socket.ts";
import type { Endpoint, Outgoing, Publisher } from "../driver.ts";
import { Pending } from "./pending.ts";

const ONCE = { polling: false, reconnect: { delayMs: 1_000, delayMaxMs: 1_000 } } as const;

/** How a system takes publishes: with the verb `publish`. */
export interface PublishForm {
  target: Pick<SocketTarget, "token" | "namespace">;
  request(job: string, events: readonly Outgoing[]): object;
  /** What is wrong with the answer, if anything is. */
  faultOf(answer: unknown): string | undefined;
}

export async function rawPublisher(
  { url, localAddress }: Endpoint,
  { target, request, faultOf }: PublishForm,
): Promise<Publisher> {
  const pending = new Pending();
  const socket = await new Promise<RawSocket>((resolve, reject) => {
    const end = (why: string) => {
      pending.end(why);
      reject(new Error(why));
      opening.close();
    };
    const opening = new RawSocket(
      { url, ...target, ...ONCE },
      {
        connected: () => resolve(opening),
        disconnected: () => end("the publisher's connection is lost"),
        event() {},
        fault: end,
      },
      localAddress,
    );
  });
  return {
    publish: (job, events) =>
      pending.add((answered) =>
        socket.emit("publish", request(job, events), (answer) => answered(faultOf(answer))),
      ),
    close() {
      pending.end("closed");
      socket.close();
    },
  };
}
