/** Which upgrade request goes where. What nobody takes is refused at once instead of hanging. */
import { type IncomingMessage, type Server, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { HubError } from "../protocol/codes.ts";

export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

export interface UpgradeOptions {
  /** Paths whose upgrades somebody else answers. */
  others: (path: string) => boolean;
  /** By exact path. What they throw is the refusal. */
  routes: ReadonlyMap<string, Upgrade>;
  /** Logs what nobody foresaw. */
  internal: (error: unknown, what: string) => HubError;
}

/** Takes the upgrades of a server from now on. */
export function routeUpgrades(server: Server, { others, routes, internal }: UpgradeOptions): void {
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (others(path)) return;
    try {
      const upgrade = routes.get(path);
      if (!upgrade) throw new HubError("unknown_verb", "no such route");
      upgrade(request, socket, head);
    } catch (error) {
      refuse(socket, error instanceof HubError ? error : internal(error, "upgrade failed"));
    }
  });
}

/** Answers as the HTTP door would, and ends the connection. */
export function refuse(socket: Duplex, error: HubError): void {
  const body = JSON.stringify({ ok: false, error: error.toJSON() });
  const headers = [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
    "Connection: close",
    "Content-Type: application/json; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(error.status === 401 ? ["WWW-Authenticate: Bearer"] : []),
    ...(error.temporary ? ["Retry-After: 1"] : []),
  ];
  // Node listens no more once it has handed the socket over: a reset would end the process.
  socket.on("error", () => {});
  // A client that keeps its own half open must not keep the connection.
  socket.once("finish", () => socket.destroy());
  socket.end(`${headers.join("\r\n")}\r\n\r\n${body}`);
}
