/** The HTTP door. The only folder that imports koa. */
import cors from "@koa/cors";
import Router from "@koa/router";
import Koa, { type Context, type Next } from "koa";
import compress from "koa-compress";
import type { Auth, Identity } from "../auth.ts";
import type { Hub } from "../core/hub.ts";
import { originAllowed } from "../origin.ts";
import { HubError } from "../protocol/codes.ts";
import { jobRoutes } from "./jobs.ts";

export interface HttpOptions {
  hub: Hub;
  auth: Auth;
  corsOrigins: readonly string[];
  /** What `/api/v1/status` tells beside the hub's own. */
  status: () => object;
}

/** What `authenticate` leaves for the routes. */
export interface State {
  identity: Identity;
}

export function createApp(options: HttpOptions): Koa {
  const { hub, corsOrigins } = options;
  const app = new Koa();
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
  guarded.get("/api/v1/status", (ctx) => {
    ctx.body = statusOf(hub, options.status());
  });
  jobRoutes(guarded, hub);
  app.use(routes.routes());
  app.use(guarded.routes());
  // Told to the client above; what comes here is a connection that broke while an answer was written.
  app.silent = true;
  return app;
}

/** For probes; they carry no token and tell nothing. */
function openRoutes(routes: Router<State>, { hub }: HttpOptions): void {
  routes.get("/healthz", (ctx) => {
    ctx.body = { status: "ok" };
  });
  routes.get("/readyz", (ctx) => {
    ctx.body = { status: hub.ready ? "ok" : "degraded" };
  });
}

function statusOf(hub: Hub, rest: object): object {
  return {
    instance_id: hub.instanceId,
    uptime_seconds: Math.round((Date.now() - hub.startedAt) / 1_000),
    store: hub.ready ? "ready" : "unavailable",
    feeds: hub.feeds.size,
    subscriptions: hub.feeds.subscriptions,
    events: hub.counters,
    memory_bytes: process.memoryUsage().rss,
    ...rest,
  };
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
