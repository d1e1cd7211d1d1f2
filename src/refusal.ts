/** How a request is refused before a door has taken it: as the HTTP door would answer, also where an upgrade was asked. */
import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { HubError } from "./protocol/codes.ts";

/** Answers a request. */
export function refuse(response: ServerResponse, error: HubError): void {
  const { status, headers, body } = answerOf(error);
  response.writeHead(status, headers).end(body);
}

/** Answers a request for an upgrade, and ends the connection. */
export function refuseUpgrade(socket: Duplex, error: HubError): void {
  const { status, headers, body } = answerOf(error);
  const lines = Object.entries({ Connection: "close", ...headers }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  // Node listens no more once it has handed the socket over: a reset would end the process.
  socket.on("error", () => {});
  // A client that keeps its own half open must not keep the connection.
  socket.once("finish", () => socket.destroy());
  socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, "", body].join("\r\n"));
}

function answerOf(error: HubError): { status: number; headers: Record<string, string>; body: string } {
  const body = JSON.stringify({ ok: false, error: error.toJSON() });
  const headers = {
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": String(Buffer.byteLength(body)),
    ...(error.status === 401 && { "WWW-Authenticate": "Bearer" }),
    ...(error.temporary && { "Retry-After": "1" }),
  };
  return { status: error.status, headers, body };
}
