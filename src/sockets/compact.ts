/**
 * Connections kept small: there are thousands, mostly idle, and what their handshake needed stays with Engine.IO and
 * Socket.IO as long as they do.
 */
import type { EventEmitter } from "node:events";
import type { Socket } from "socket.io";

/** What is left of a handshake. */
const FORGOTTEN = Object.freeze({
  ...{ headers: {}, query: {}, auth: {}, url: "", address: "" },
  ...{ time: "", issued: 0, xdomain: false, secure: false },
});

type Transport = Socket["conn"]["transport"];

/** `fetchSockets` would carry it, token included, through Redis in clear; and one for all takes no memory. */
export function forgetHandshake(socket: Socket): void {
  Object.assign(socket, { handshake: FORGOTTEN });
}

/** Forgets what Engine.IO listens for until a WebSocket has become a session's transport, and leaves there. */
export function settle(transport: Transport): void {
  // Told by transports that poll only.
  transport.removeAllListeners("headers");
  const socket = webSocketOf(transport);
  const early = socket?.listeners("error").find(({ name }) => name === "onUpgradeError");
  if (early) socket?.off("error", early as () => void);
  compactListeners(transport, socket);
}

/** When everybody listens who will: the lists have room for many more, a tenth of all that a connection takes. */
export function compact(socket: Socket): void {
  const { conn, client, fns } = socket as unknown as Inside;
  compactListeners(socket as unknown as EventEmitter, conn, conn.transport, webSocketOf(conn.transport));
  const { _callbacks: callbacks = {} } = client.decoder;
  for (const [name, list] of Object.entries(callbacks)) callbacks[name] = list.slice();
  if (fns) (socket as unknown as Inside).fns = fns.slice();
}

/** What is private there. Nothing of it is needed but for its size. */
interface Inside {
  conn: Socket["conn"];
  client: { decoder: { _callbacks?: Record<string, unknown[]> } };
  fns?: unknown[];
}

/** They are a hash table from the first one on; an object that is made with its names has a third of the size. */
function compactListeners(...emitters: ReadonlyArray<EventEmitter | undefined>): void {
  for (const emitter of emitters as ReadonlyArray<{ _events?: object } | undefined>) {
    if (emitter) emitter._events = Object.setPrototypeOf({ ...emitter._events }, null);
  }
}

function webSocketOf(transport: Transport): EventEmitter | undefined {
  return (transport as unknown as { socket?: EventEmitter }).socket;
}
