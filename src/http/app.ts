/** The HTTP door. The only folder that imports koa. */
import cors from "@koa/cors";
import Router from "@koa/router";
import Koa, { type Context, type Next } from "koa";
import compress from "koa-compress";
import type { Auth, Identity } from "../auth.ts";
import type { Hub } from "../core/hub.ts";
import { NO_LOG, type PartLog } from "../core/log.ts";
import { count } from "../core/meter.ts";
import { originAllowed } from "../origin.ts";
import { HubError } from "../protocol/codes.ts";
import { jobRoutes } from "./jobs.ts";

export interface HttpOptions {
  hub: Hub;
  auth: Auth;
  corsOrigins: readonly string[];
  /** Default: requests are not logged. */
  log?: PartLog;
  /** What `/metrics` answers; absent: there is no such route here. */
  metrics?: () => Promise<{ type: string; text: string }>;
}

/** The second is where the first clients of all looked for it. */
const STATUS_PATHS = ["/api/v1/status", "/api/ws/status"];

/** What `authenticate` leaves for the routes. */
export interface State {
  identity: Identity;
}

export function createApp(options: HttpOptions): Koa {
  const { hub, corsOrigins } = options;
  const app = new Koa();
  app.use((ctx, next) => tell(ctx, next, options));
  app.use((ctx, next) => answerErrors(ctx, next, hub));
  app.use(cors({ origin: (ctx) => allowedOrigin(ctx, corsOrigins), keepHeadersOnError: true }));
  app.use(compress());
  const routes = new Router<State>();
  openRoutes(routes, options);
  const guarded = new Router<State>();
  guarded.use((ctx, next) => {
    ctx.state.identity = options.auth.verify(bearer(ctx));
    return next();
  });
  guarded.get(STATUS_PATHS, async (ctx) => {
    ctx.body = await hub.status.answer();
  });
  jobRoutes(guarded, hub);
  app.use(routes.routes());
  app.use(guarded.routes());
  // Told to the client above; what comes here is a connection that broke while an answer was written.
  app.silent = true;
  return app;
}

/** For probes and scrapers, which carry no token. What they are told names no tenant. */
function openRoutes(routes: Router<State>, { hub, metrics }: HttpOptions): void {
  routes.get("/healthz", (ctx) => {
    ctx.body = { status: "ok" };
  });
  routes.get("/readyz", (ctx) => {
    const { state } = hub;
    // All replicas are degraded at once: if that were an error, nobody would be left to go to.
    ctx.status = state === "ready" || state === "degraded" ? 200 : 503;
    ctx.body = { status: state === "ready" ? "ok" : state };
  });
  if (!metrics) return;
  routes.get("/metrics", async (ctx) => {
    const { type, text } = await metrics();
    ctx.set("Content-Type", type);
    ctx.body = text;
  });
}

/** Of a path in the log; its query, where tokens may stand, is not there at all. */
const PATH_LENGTH = 256;

async function tell(ctx: Context, next: Next, { hub, log = NO_LOG }: HttpOptions): Promise<void> {
  const startedAt = performance.now();
  await next();
  const { method, path, status } = ctx;
  count(hub.tallies.http, `${status}`);
  if (!log.isLevelEnabled("debug")) return;
  const ms = Math.round(performance.now() - startedAt);
  log.debug({ method, path: path.slice(0, PATH_LENGTH), status, ms }, "request");
}

async function answerErrors(ctx: Context, next: Next, hub: Hub): Promise<void> {
  try {
    await next();
    // The router answers OPTIONS and unknown methods with a status alone.
    if (ctx.status === 404 && ctx.body === undefined) throw new HubError("unknown_verb", "no such route");
  } catch (error) {
    const told = error instanceof HubError ? error : hub.internal(error, `${ctx.method} ${ctx.path} failed`);
    ctx.status = told.status;
    if (told.status === 401) ctx.set("WWW-Authenticate", "Bearer");
    if (told.temporary) ctx.set("Retry-After", "1");
    ctx.body = { ok: false, error: told.toJSON() };
  }
}

function bearer(ctx: Context): string | undefined {
  return /^Bearer +([^\s]+)$/i.exec(ctx.get("authorization"))?.[1];
}

/** '' sends no CORS header, so that the browser refuses. */
function allowedOrigin(ctx: Context, allowed: readonly string[]): string {
  const origin = ctx.get("origin");
  return origin && originAllowed(ctx.headers, allowed) ? origin : "";
}
