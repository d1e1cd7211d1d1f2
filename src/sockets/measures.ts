/** What the metrics read of the Socket.IO door at the moment they are asked for. */
import type { Server } from "socket.io";
import type { Tally } from "../core/meter.ts";
import type { ErrorCode } from "../protocol/codes.ts";
import { type Connection, VIOLATIONS } from "./connection.ts";

export interface SocketsMeasures {
  /** Engine.IO's, whatever namespaces they have joined. */
  sessions: number;
  /** By namespace and transport. */
  connections: Array<{ door: "watcher" | "trainer"; transport: string; count: number }>;
  /** What waits for clients to read it: of all, and of the one that is furthest behind. */
  queue: { bytes: number; largest: number };
  /** Connections for which values are held back. */
  behind: number;
  /** Of watchers: those of a tenant, of a job, of `"*"`. */
  rooms: number;
  /** Verbs, by code; those that were bad requests. */
  refused: Tally<ErrorCode>;
  violations: number;
  /** To WebSockets. */
  writes: number;
  /** How long events wait at the moment to leave together. */
  flushWaitMs: number;
  /** Messages on the channels of Socket.IO's adapter that were dropped. */
  unreadable: number;
}

export function measure(
  io: Server,
  open: Iterable<Connection>,
  behind: number,
  refused: Tally<ErrorCode>,
): Omit<SocketsMeasures, "unreadable" | "writes" | "flushWaitMs"> {
  const connections: SocketsMeasures["connections"] = [];
  for (const door of ["watcher", "trainer"] as const) {
    for (const transport of ["websocket", "polling"]) connections.push({ door, transport, count: 0 });
  }
  const queue = { bytes: 0, largest: 0 };
  for (const { socket, outbox } of open) {
    const door = socket.nsp.name === "/" ? "watcher" : "trainer";
    const { name } = socket.conn.transport;
    const row = connections.find((each) => each.door === door && each.transport === name);
    if (row) row.count++;
    const { bytes } = outbox;
    queue.bytes += bytes;
    if (bytes > queue.largest) queue.largest = bytes;
  }
  const { rooms, sids } = io.of("/").adapter;
  const bad = Object.entries(refused).filter(([code]) => VIOLATIONS.has(code as ErrorCode));
  return {
    sessions: io.engine?.clientsCount ?? 0,
    connections,
    queue,
    behind,
    // Each socket has one of its own.
    rooms: Math.max(0, rooms.size - sids.size),
    refused: { ...refused },
    violations: bad.reduce((sum, [, times]) => sum + times, 0),
  };
}
