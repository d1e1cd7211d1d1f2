/** Who watches during the load. */
import type { EventType } from "../../src/protocol/types.ts";
import { rawSocket } from "../cluster/raw-socket.ts";
import { plainSocket } from "../cluster/socket.ts";
import type { WatcherOptions } from "../cluster/watcher.ts";
import type { Crowd, LoadTenant } from "./orders.ts";

export type Member = Omit<WatcherOptions, "url" | "texts" | "onDelay">;

/** Source addresses: each has 28 000 ports, and a limit of its own in nginx. */
const ADDRESSES = 100;
/** Socket.IO's own defaults. */
const RECONNECT = { delayMs: 1_000, delayMaxMs: 5_000 };
const TYPES: readonly EventType[] = ["log", "training_progress"];
/** Of each 20 clients one is on all jobs and two are on the tenant's feed. */
const KINDS = 20;

/** This generator's part: raw ones on one job each, clients of all kinds. */
export function membersOf({ tenants, raw, clients, part, of }: Crowd): Member[] {
  const places = tenants.flatMap((tenant) => tenant.jobs.map((jobId) => ({ tenant, jobId })));
  const members: Member[] = [];
  for (let i = part; i < raw; i += of) {
    const { tenant, jobId } = places[i % places.length] as (typeof places)[number];
    const open = rawSocket(`127.0.0.${2 + (i % ADDRESSES)}`);
    members.push({ ...common(tenant, `raw-${i} ${tenant.tenantId}`), jobId, open, polling: false });
  }
  for (let i = part; i < clients; i += of) {
    const { tenant, jobId } = places[i % places.length] as (typeof places)[number];
    // Counted in twos, so that the generators' parts are alike.
    const [transport, kind] = [Math.floor(i / of) % 3, Math.floor(i / of) % KINDS];
    members.push({
      ...common(tenant, `client-${i} ${tenant.tenantId}`),
      open: plainSocket,
      polling: transport === 0 ? "only" : transport === 1,
      ...(kind === 0 ? { jobId: "*" } : kind > 2 && { jobId }),
      ...(kind === 3 && { types: TYPES }),
    });
  }
  return members;
}

function common(
  { tenantId, token }: LoadTenant,
  name: string,
): Pick<Member, "name" | "tenantId" | "token" | "reconnect"> {
  return { name, tenantId, token, reconnect: RECONNECT };
}
