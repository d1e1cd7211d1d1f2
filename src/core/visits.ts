/** Who comes and goes by any door: a line of the log each, and a count. */
import type { Identity } from "../auth.ts";
import type { ErrorCode } from "../protocol/codes.ts";
import type { PartLog } from "./log.ts";
import { count, type Tally } from "./meter.ts";

export type Door = "watcher" | "trainer" | "heartbeat";

export interface Visit {
  door: Door;
  /** As in `welcome`. */
  clientId?: string;
  identity: Identity;
  /** `websocket` or `polling`. */
  transport: string;
  address: string;
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

  /** Somebody is in. Answers what tells that he has gone, and why: a `CloseReason`, or what the transport says. */
  begin({ door, clientId, identity, transport, address }: Visit): (reason: string) => void {
    count(this.opened, door);
    const { tenantId, subject, role } = identity;
    const who = {
      ...(clientId !== undefined && { client_id: clientId }),
      ...{ door, tenant_id: tenantId, subject, role, address },
    };
    this.#log.info({ ...who, transport }, "connected");
    const since = performance.now();
    return (reason) => {
      const name = reason.replaceAll(" ", "_");
      this.closed[door] ??= {};
      count(this.closed[door] as Tally<string>, name);
      const fields = { ...who, reason: name, seconds: Math.round((performance.now() - since) / 100) / 10 };
      if (WARNED.has(name)) this.#log.warn(fields, "disconnected");
      else this.#log.info(fields, "disconnected");
    };
  }

  /** Somebody was not let in. */
  refuse(code: ErrorCode, fields: { door?: Door; address: string }): void {
    count(this.refusals, code);
    if (OWN.has(code)) this.#log.info({ ...fields, code }, "handshake refused");
    else this.#log.warn({ ...fields, code }, "handshake refused");
  }
}
