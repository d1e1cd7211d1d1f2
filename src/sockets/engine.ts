/** Engine.IO's `wsEngine`: ws's server, whose WebSockets are written to once a turn. */
import type { IncomingMessage } from "node:http";
import type { Socket as NetSocket } from "node:net";
import type { Duplex } from "node:stream";
import { type ServerOptions, type WebSocket, WebSocketServer } from "ws";
import type { Writers } from "./writer.ts";

type Upgraded = (webSocket: WebSocket, request: IncomingMessage) => void;

/** The class that Engine.IO makes its WebSocket server of. */
export function wsEngine(writers: Writers): new (options: ServerOptions) => WebSocketServer {
  return class extends WebSocketServer {
    override handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, upgraded: Upgraded): void {
      super.handleUpgrade(request, socket, head, (webSocket: WebSocket, from: IncomingMessage) => {
        writers.take(webSocket, socket as NetSocket);
        upgraded(webSocket, from);
      });
    }
  };
}
