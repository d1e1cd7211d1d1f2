/**
 * The end of an instance that others take over from: its connections leave one after the other, each at a moment of its
 * own, so that the others are not asked to take all of them at once.
 */
import type { Draining } from "../protocol/types.ts";
import type { Connection } from "./connection.ts";

/** How exactly a moment is kept: those who leave within it are closed together. */
const SLICE_MS = 20;
/** How long after its moment a connection may wait for verbs that are under way. */
const FINISH_MS = 5_000;

/** One transport, with what it has joined. */
interface Party {
  /** Its moment, by `performance.now()`. */
  readonly at: number;
  readonly members: Set<Connection>;
}

export class Drain {
  /** Resolves when nobody is connected any more, or everybody has been told to leave. */
  readonly over: Promise<void>;
  readonly #endsAt: number;
  readonly #connected: () => number;
  readonly #parties = new Map<object, Party>();
  readonly #timer: NodeJS.Timeout;
  #end: () => void = () => {};

  /** `connected`: transports, whether they have joined something or not. */
  constructor(windowMs: number, connected: () => number) {
    this.#endsAt = performance.now() + windowMs;
    this.#connected = connected;
    this.over = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#timer = setInterval(() => this.#slice(), SLICE_MS);
  }

  /** Tells a connection when it has to leave. */
  add(connection: Connection): void {
    const { socket } = connection;
    const now = performance.now();
    const party = this.#parties.get(socket.conn) ?? {
      at: now + Math.random() * Math.max(0, this.#endsAt - now),
      members: new Set(),
    };
    this.#parties.set(socket.conn, party);
    party.members.add(connection);
    socket.once("disconnect", () => {
      party.members.delete(connection);
      if (party.members.size === 0) this.#parties.delete(socket.conn);
    });
    const draining: Draining = { closes_in_ms: Math.max(0, Math.round(party.at - now)) };
    socket.emit("draining", draining);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#end();
  }

  #slice(): void {
    const now = performance.now();
    for (const [conn, { at, members }] of this.#parties) {
      if (at > now) continue;
      for (const member of members) member.leave();
      if (now < at + FINISH_MS && [...members].some(({ busy }) => busy)) continue;
      this.#parties.delete(conn);
      closeAll(members);
    }
    if (this.#connected() === 0 || (now >= this.#endsAt && this.#parties.size === 0)) this.close();
  }
}

/** Tells those who share a transport why, then closes it: after the first close the others would hear nothing. */
export function closeAll(members: Iterable<Connection>): void {
  const all = [...members];
  for (const member of all) member.farewell("shutdown");
  for (const { socket } of all) socket.conn.close();
}
