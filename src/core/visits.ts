/** Who comes and goes by any door: a line of the log each, and a count. */
import type { Identity } from "../auth.ts";
import type { ErrorCode } from "../protocol/codes.ts";
import type { PartLog } from "./log.ts";
import { count, type Tally } from "./meter.ts";

export type Door = "watcher" | "trainer" | "heartbeat";

/** A connection itself, so that nothing is kept beside it for as long as it stays. */
export interface Visit {
  readonly door: Door;
  /** As in `welcome`. */
  readonly clientId?: string;
  readonly identity: Pick<Identity, "tenantId" | "subject" | "role">;
  /** `websocket` or `polling`. */
  readonly transport: string;
  readonly address: string;
  /** When it began, ms by `performance.now()`. */
  readonly since: number;
}

/** Ends at which something could not be sent, or was not to be. */
const WARNED: ReadonlySet<string> = new Set(["transport_error", "slow", "too_many_violations"]);
/** Refusals that say something of this instance, not of who came. */
const OWN: ReadonlySet<ErrorCode> = new Set(["draining", "unavailable"]);

export class Visits {
  readonly opened: Tally<Door> = {};
  readonly closed: Partial<Record<Door, Tally<string>>> = {};
  readonly refusals: Tally<ErrorCode> = {};
  readonly #log: PartLog;

  constructor(log: PartLog) {
    this.#log = log;
  }

  /** Somebody is in. */
  begin(visit: Visit): void {
    count(this.opened, visit.door);
    this.#log.info({ ...whoOf(visit), transport: visit.transport }, "connected");
  }

  /** He has gone, and why: a `CloseReason`, or what the transport says. */
  end(visit: Visit, reason: string): void {
    const name = reason.replaceAll(" ", "_");
    this.closed[visit.door] ??= {};
    count(this.closed[visit.door] as Tally<string>, name);
    const seconds = Math.round((performance.now() - visit.since) / 100) / 10;
    const fields = { ...whoOf(visit), reason: name, seconds };
    if (WARNED.has(name)) this.#log.warn(fields, "disconnected");
    else this.#log.info(fields, "disconnected");
  }

  /** Somebody was not let in. */
  refuse(code: ErrorCode, fields: { door?: Door; address: string }): void {
    count(this.refusals, code);
    if (OWN.has(code)) this.#log.info({ ...fields, code }, "handshake refused");
    else this.#log.warn({ ...fields, code }, "handshake refused");
  }
}

function whoOf({ door, clientId, identity, address }: Visit): object {
  const { tenantId, subject, role } = identity;
  return {
    ...(clientId !== undefined && { client_id: clientId }),
    ...{ door, tenant_id: tenantId, subject, role, address },
  };
}
