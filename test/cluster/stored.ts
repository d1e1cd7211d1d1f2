/** Reads what is stored, through a hub, as anybody could. */
import { io } from "socket.io-client";
import type {
  Answer,
  Cursor,
  DeliveredEvent,
  Gap,
  InstanceStatus,
  Snapshot,
  StatusAnswer,
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

/** `undefined` when there is no such job. */
export async function findSnapshot(access: Access, jobId: string): Promise<Snapshot | undefined> {
  return (await find<{ job: Snapshot }>(access, pathOf(access, jobId)))?.job;
}

/** What the hub that is asked says of itself. */
export async function readStatus(access: Access): Promise<InstanceStatus> {
  const { instance_id, instances } = await get<StatusAnswer>(access, "/api/v1/status");
  return instances.find((each) => each.instance_id === instance_id) as InstanceStatus;
}

/** All durable events of a job, by HTTP pages; none of a job that is not there. */
export async function readJob(access: Access, jobId: string): Promise<FeedLog> {
  const snapshot = await findSnapshot(access, jobId);
  if (!snapshot) return { feed: "job", jobId, epoch: "", seq: 0, events: [] };
  const { epoch } = snapshot;
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

async function get<Body>(access: Access, path: string): Promise<Body> {
  const body = await find<Body>(access, path);
  if (body === undefined) throw new Error(`${path}: not found`);
  return body;
}

async function find<Body>({ url, token }: Access, path: string): Promise<Body | undefined> {
  const response = await fetch(url + path, {
    headers: { authorization: `Bearer ${token}` },
  });
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Body;
}
