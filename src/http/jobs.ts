/** Jobs over HTTP: list, create, snapshot, events, series. Answers hold the same shapes as on the sockets. */
import type Router from "@koa/router";
import type { RouterContext } from "@koa/router";
import { atLeast, type Identity } from "../auth.ts";
import type { Hub } from "../core/hub.ts";
import { HubError } from "../protocol/codes.ts";
import { EVENTS } from "../protocol/events.ts";
import { LIMITS } from "../protocol/limits.ts";
import type {
  CommandRequest,
  EventType,
  HeartbeatRequest,
  JobFields,
  SeriesAnswer,
  SeriesRequest,
  SubscribeRequest,
} from "../protocol/types.ts";
import { checkRequest } from "../protocol/validate.ts";
import type { State } from "./app.ts";
import { readEvents, readJson } from "./body.ts";

type Ctx = RouterContext<State>;

const JOBS = "/api/v1/tenants/:tenant_id/training/jobs";
const JOBS_PAGE = 100;

export function jobRoutes(router: Router<State>, hub: Hub): void {
  router.get(JOBS, async (ctx) => {
    const identity = reader(ctx);
    const limit = number(ctx, "limit", 1, JOBS_PAGE) ?? JOBS_PAGE;
    const before = one(ctx, "before");
    ctx.body = await hub.jobs.list(identity, { limit, ...(before !== undefined && { before }) });
  });
  router.post(JOBS, async (ctx) => {
    const identity = allowed(ctx, (role) => atLeast(role, "operator") || role === "trainer");
    const fields = object(await readJson(ctx)) as JobFields & { job_id?: string };
    const job = await hub.createJob(identity, fields);
    ctx.status = 201;
    ctx.body = { job, urls: urlsOf(identity.tenantId, job.job_id) };
  });
  router.get(`${JOBS}/:job_id`, async (ctx) => {
    const identity = reader(ctx);
    ctx.body = {
      job: await hub.jobs.snapshot(identity, jobId(ctx)),
      urls: urlsOf(identity.tenantId, jobId(ctx)),
    };
  });
  router.get(`${JOBS}/:job_id/events`, async (ctx) => {
    ctx.body = await hub.replays.page(
      reader(ctx),
      pageRequest(ctx),
      number(ctx, "limit", 1, LIMITS.pageEvents),
    );
  });
  router.post(`${JOBS}/:job_id/events`, async (ctx) => {
    const identity = allowed(ctx, (role) => role === "trainer" || role === "admin");
    const events = withJob(await readEvents(ctx), jobId(ctx));
    const answer = await hub.publish(identity, events);
    // The door speaks for the whole call: a refusal of everything is one, a temporary one asks to send again.
    const [first] = answer.refused;
    const none = answer.accepted + answer.duplicates === 0;
    if (first && none) ctx.status = new HubError(first.code as HubError["code"]).status;
    else if (first) ctx.status = 207;
    ctx.body = answer;
  });
  router.post(`${JOBS}/:job_id/commands`, async (ctx) => {
    const identity = allowed(ctx, (role) => atLeast(role, "operator"));
    const request = checkRequest<CommandRequest>("command", withJob(object(await readJson(ctx)), jobId(ctx)));
    const { id, outcome } = await hub.commands.request(identity, request);
    if (one(ctx, "wait") === "false") {
      ctx.status = 202;
      ctx.body = { job_id: jobId(ctx), command_id: id, state: "requested" };
    } else ctx.body = await outcome;
  });
  router.post(`${JOBS}/:job_id/heartbeat`, async (ctx) => {
    const identity = allowed(ctx, (role) => role === "trainer" || role === "admin");
    const body = withJob(object(await readJson(ctx, {})), jobId(ctx));
    ctx.body = await hub.liveness.heartbeat(identity, checkRequest<HeartbeatRequest>("heartbeat", body));
  });
  router.get(`${JOBS}/:job_id/presence`, async (ctx) => {
    ctx.body = await hub.presence.answer(reader(ctx), { job_id: jobId(ctx) });
  });
  router.get(`${JOBS}/:job_id/series`, async (ctx) => {
    ctx.body = await series(ctx, hub);
  });
}

/** The request of the verb `series`, as query parameters; of the same form. */
async function series(ctx: Ctx, hub: Hub): Promise<SeriesAnswer> {
  const identity = reader(ctx);
  const request: Record<string, string | number> = { job_id: jobId(ctx) };
  for (const name of ["metric", "product"] as const) {
    const text = one(ctx, name);
    if (text !== undefined) request[name] = text;
  }
  for (const name of ["rank", "from", "to", "points"] as const) {
    const value = number(ctx, name, 0, Number.MAX_SAFE_INTEGER);
    if (value !== undefined) request[name] = value;
  }
  return await hub.jobs.series(identity, checkRequest<SeriesRequest>("series", request));
}

function reader(ctx: Ctx): Identity {
  return allowed(ctx, (role) => atLeast(role, "watcher"));
}

/** @throws HubError: another tenant's jobs look like no jobs at all. */
function allowed(ctx: Ctx, mayDo: (role: Identity["role"]) => boolean): Identity {
  const { identity } = ctx.state;
  if (ctx.params.tenant_id !== identity.tenantId) throw new HubError("job_not_found");
  if (!mayDo(identity.role)) throw new HubError("forbidden", `not for the role ${identity.role}`);
  return identity;
}

function jobId(ctx: Ctx): string {
  return ctx.params.job_id as string;
}

/** `?since=<epoch>:<seq>&history=&types=a,b` */
function pageRequest(ctx: Ctx): SubscribeRequest {
  const since = one(ctx, "since");
  const types = one(ctx, "types")?.split(",");
  const history = number(ctx, "history", 0, LIMITS.history);
  if (types && !types.every((type): type is EventType => Object.hasOwn(EVENTS, type)))
    throw new HubError("unknown_type");
  if (since !== undefined && history !== undefined) {
    throw new HubError("invalid_request", "either since or history, not both");
  }
  return {
    job_id: jobId(ctx),
    ...(since !== undefined && { since: cursor(since) }),
    ...(history !== undefined && { history }),
    ...(types && { types: types as EventType[] }),
  };
}

function cursor(text: string) {
  const [, epoch, seq] = /^([^:]{1,64}):(\d{1,16})$/.exec(text) ?? [];
  const cursor = { epoch: epoch ?? "", seq: Number(seq) };
  if (!epoch || !Number.isSafeInteger(cursor.seq))
    throw new HubError("invalid_request", "since is <epoch>:<seq>");
  return cursor;
}

function one(ctx: Ctx, name: string): string | undefined {
  const value = ctx.query[name];
  if (Array.isArray(value)) throw new HubError("invalid_request", `${name} is given twice`);
  return value;
}

function number(ctx: Ctx, name: string, min: number, max: number): number | undefined {
  const text = one(ctx, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max || text.trim() === "") {
    throw new HubError("invalid_request", `${name} is a whole number from ${min} to ${max}`);
  }
  return value;
}

function object(body: unknown): object {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new HubError("invalid_request", "the body is an object");
  }
  return body;
}

/** The URL names the job; an event that names another one is refused by the core, as invalid. */
function withJob(body: unknown, jobId: string): unknown {
  if (Array.isArray(body)) return body.map((event) => withJob(event, jobId));
  if (typeof body !== "object" || body === null || body instanceof HubError) return body;
  const own = (body as { job_id?: unknown }).job_id;
  if (own !== undefined && own !== jobId) return { ...body, job_id: null };
  return { ...body, job_id: jobId };
}

/** Every door of a job. */
function urlsOf(tenantId: string, jobId: string): Record<string, string> {
  const job = `/api/v1/tenants/${tenantId}/training/jobs/${jobId}`;
  return {
    snapshot: job,
    events: `${job}/events`,
    series: `${job}/series`,
    presence: `${job}/presence`,
    commands: `${job}/commands`,
    heartbeat: `${job}/heartbeat`,
    socket_io: "/socket.io/",
  };
}
