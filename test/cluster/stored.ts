/** Reads what is stored, through a hub, as anybody could. */
import { io } from "socket.io-client";
import type {
  Answer,
  Cursor,
  DeliveredEvent,
  Gap,
  Snapshot,
  SubscribeAnswer,
  SubscribeRequest,
} from "../../src/protocol/types.ts";
import { type FeedLog, toldOf } from "./history.ts";

export interface Access {
  url: string;
  tenantId: string;
  /** Of a watcher. */
  token: string;
}

export async function readSnapshot(access: Access, jobId: string): Promise<Snapshot> {
  return (await get<{ job: Snapshot }>(access, pathOf(access, jobId))).job;
}

/** The part of `/api/v1/status` that the runs look at. */
export interface HubStatus {
  feeds: number;
  subscriptions: number;
  events: { heals: number; gaps: number };
  connections: { connections: number; watchers: number; trainers: number };
}

export async function readStatus(access: Access): Promise<HubStatus> {
  return await get<HubStatus>(access, "/api/v1/status");
}

/** All durable events of a job, by HTTP pages. */
export async function readJob(access: Access, jobId: string): Promise<FeedLog> {
  const { epoch } = await readSnapshot(access, jobId);
  return await readPages(jobId, { epoch, seq: 0 }, (since) =>
    get<SubscribeAnswer>(access, `${pathOf(access, jobId)}/events?since=${since.epoch}:${since.seq}`),
  );
}

/** All durable events of the tenant's own feed, by the pages of a subscription. */
export async function readTenant({ url, token }: Access): Promise<FeedLog> {
  const socket = io(url, { auth: { token }, transports: ["websocket"], forceNew: true });
  const subscribe = async (request: SubscribeRequest): Promise<SubscribeAnswer> => {
    const answer = (await socket
      .timeout(10_000)
      .emitWithAck("subscribe", request)) as Answer<SubscribeAnswer>;
    if (!answer.ok) throw new Error(`the tenant's feed: ${answer.error.code}`);
    return answer.data;
  };
  try {
    const { epoch } = await subscribe({});
    if (epoch === null) return { feed: "tenant", jobId: "", epoch: "", seq: 0, events: [] };
    return await readPages("", { epoch, seq: 0 }, (since) => subscribe({ since }));
  } finally {
    socket.disconnect();
  }
}

async function readPages(
  jobId: string,
  start: Cursor,
  read: (since: Cursor) => Promise<SubscribeAnswer>,
): Promise<FeedLog> {
  const log: FeedLog = {
    feed: jobId === "" ? "tenant" : "job",
    jobId,
    epoch: start.epoch,
    seq: 0,
    events: [],
  };
  for (let since: Cursor | undefined = start; since; ) {
    const page: SubscribeAnswer = await read(since);
    const gap = page.events.find((item): item is Gap => item.type === "gap");
    if (gap || !page.recovered)
      throw new Error(`${jobId || "the tenant's feed"} is not whole: ${JSON.stringify(gap)}`);
    for (const event of page.events as DeliveredEvent[]) {
      const told = toldOf(JSON.stringify(event), event);
      if (told.durable) log.events.push(told);
    }
    log.seq = page.seq;
    since = page.more ? page.next : undefined;
  }
  return log;
}

function pathOf({ tenantId }: Access, jobId: string): string {
  return `/api/v1/tenants/${tenantId}/training/jobs/${jobId}`;
}

async function get<Body>({ url, token }: Access, path: string): Promise<Body> {
  const response = await fetch(url + path, {
    headers: { authorization: `Bearer ${token}` },
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Body;
}
