/**
 * Rooms of the adapter. Built from checked ids only, and never 20 characters long: the sharded adapter takes a name of
 * that length for a socket's id.
 */
export function tenantRoom(tenantId: string): string {
  return notTwenty(`tenant:${tenantId}`);
}

export function jobRoom(tenantId: string, jobId: string): string {
  return notTwenty(`job:${tenantId}/${jobId}`);
}

/** Every job of a tenant, for those who follow `"*"`. */
export function allJobsRoom(tenantId: string): string {
  return notTwenty(`jobs:${tenantId}`);
}

function notTwenty(room: string): string {
  return room.length === 20 ? `${room}/` : room;
}
