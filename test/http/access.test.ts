/** Who may call what: tokens, tenants, roles. */
import { expect } from "chai";
import { createAuth, signToken } from "../../src/auth.ts";
import { createApp } from "../../src/http/app.ts";
import { line, SECRET, startTestHub, TENANT, type TestHub, token } from "../support/hub.ts";
import { expectError, JOBS, request } from "./request.ts";

/** What the router is asked for: @koa/router hangs itself on its middleware. */
interface Routed {
  router?: { stack: Array<{ path: string | RegExp; methods: string[] }> };
}

const OPEN = ["/healthz", "/readyz", "/metrics"];

describe("http: access", () => {
  let hub: TestHub;
  let routes: Array<{ method: string; path: string }>;
  before(async () => {
    hub = await startTestHub();
    await hub.publish(line("run"));
    const options = {
      hub: hub.hub,
      auth: createAuth({ secret: SECRET }),
      corsOrigins: [],
      metrics: async () => ({ type: "text/plain", text: "" }),
    };
    routes = createApp(options)
      .middleware.flatMap((each) => (each as Routed).router?.stack ?? [])
      // Layers without a method are middleware.
      .flatMap(({ path, methods }) => methods.map((method) => ({ method, path: String(path) })));
  });
  after(() => hub.close());

  const filled = (path: string, tenant = TENANT, job = "run") =>
    path.replace(":tenant_id", tenant).replace(":job_id", job);
  const guarded = () => routes.filter(({ path }) => !OPEN.includes(path));
  const ofJobs = () =>
    guarded().filter(({ path }) => path.includes(":tenant_id") && path.includes(":job_id"));
  const body = (method: string) => (method === "POST" ? { body: {} } : {});

  it("the walk sees every route of the protocol", () => {
    const jobs = JOBS.replace(TENANT, ":tenant_id");
    expect(
      routes.filter(({ method }) => method !== "HEAD").map(({ method, path }) => `${method} ${path}`),
    ).to.include.members([
      ...[
        "GET /healthz",
        "GET /readyz",
        "GET /api/v1/status",
        "GET /api/ws/status",
        `GET ${jobs}`,
        `POST ${jobs}`,
      ],
      ...[`GET ${jobs}/:job_id`, `GET ${jobs}/:job_id/events`, `POST ${jobs}/:job_id/events`],
      `GET ${jobs}/:job_id/series`,
    ]);
  });

  it("trap 28: every route but the probes answers 401 without a token", async () => {
    expect(guarded()).to.have.length.above(7);
    for (const { method, path } of guarded()) {
      const reply = await request(hub, filled(path), { role: null, method, ...body(method) });
      expect(reply.status, `${method} ${path}`).to.equal(401);
      expect(reply.headers.get("www-authenticate"), `${method} ${path}`).to.equal("Bearer");
      if (method !== "HEAD") expectError(reply, "unauthorized");
    }
    for (const { method, path } of routes.filter(({ path }) => OPEN.includes(path))) {
      expect((await request(hub, path, { role: null, method })).status, path).to.equal(200);
    }
  });

  it("an ended token is token_expired, another one unauthorized, and neither is repeated", async () => {
    const ended = await request(hub, JOBS, { role: "admin", ttl: -1 });
    expectError(ended, "token_expired");
    expect(ended.headers.get("www-authenticate")).to.equal("Bearer");
    const good = token("admin");
    const claims = { subject: "x", tenantId: TENANT, role: "admin", ttlSeconds: 60 } as const;
    for (const authorization of [
      ...["Bearer", "Bearer ", "Bearer x", `Basic ${good}`, good, `Bearer ${good} x`, `Bearer ${good}x`],
      `Bearer ${signToken("another-secret-0123456789-abcdef", claims)}`,
      `Bearer ${"x".repeat(9_000)}`,
    ]) {
      const reply = await request(hub, JOBS, { role: null, headers: { authorization } });
      expectError(reply, "unauthorized");
      expect(reply.text).to.not.include(good);
    }
    // The scheme's name has no case.
    expect(
      (await request(hub, JOBS, { role: null, headers: { authorization: `bearer ${good}` } })).status,
    ).to.equal(200);
  });

  it("takes a token from nowhere but the header", async () => {
    const given = token("admin");
    expectError(
      await request(hub, `${JOBS}?token=${given}&access_token=${given}`, { role: null }),
      "unauthorized",
    );
    expectError(
      await request(hub, JOBS, { role: null, headers: { cookie: `token=${given}` } }),
      "unauthorized",
    );
  });

  it("another tenant's job answers byte for byte as a missing one", async () => {
    await hub.publish(line("theirs"), { tenant: "globex" });
    for (const { method, path } of ofJobs()) {
      const role = method === "POST" ? "trainer" : "watcher";
      const ask = (tenant: string, job: string) =>
        request(hub, filled(path, tenant, job), { role, method, ...body(method) });
      const foreign = await ask("globex", "theirs");
      expect(foreign.status, `${method} ${path}`).to.equal(404);
      if (method === "HEAD") continue;
      expectError(foreign, "job_not_found");
      // To publish makes a missing job of one's own, so there is none to compare with.
      const missing = method === "POST" ? await ask("globex", "missing") : await ask(TENANT, "missing");
      expect(foreign.text).to.equal(missing.text);
      expect(foreign.status).to.equal(missing.status);
      expect((await ask("initech", "theirs")).text).to.equal(missing.text);
    }
  });

  it("another tenant's list and its creation are 404 too, whatever the role", async () => {
    const theirs = JOBS.replace(TENANT, "globex");
    for (const role of ["watcher", "trainer", "admin"] as const) {
      expectError(await request(hub, theirs, { role }), "job_not_found");
      expectError(await request(hub, theirs, { role, body: { job_id: "intruder" } }), "job_not_found");
    }
    const list = await request(hub, theirs, { role: "watcher", tenant: "globex" });
    expect(list.json.jobs.map(({ job_id }: { job_id: string }) => job_id)).to.not.include("intruder");
  });

  it("lets each role do what the protocol says, and answers 403 otherwise", async () => {
    const reads = [JOBS, `${JOBS}/run`, `${JOBS}/run/events`, `${JOBS}/run/series`];
    for (const path of reads) {
      for (const role of ["watcher", "operator", "admin"] as const)
        expect((await request(hub, path, { role })).status, `${role} ${path}`).to.equal(200);
      expectError(await request(hub, path, { role: "trainer" }), "forbidden");
    }
    for (const role of ["operator", "admin", "trainer"] as const)
      expect((await request(hub, JOBS, { role, body: {} })).status, role).to.equal(201);
    expectError(await request(hub, JOBS, { role: "watcher", body: {} }), "forbidden");
    const publish = (role: "watcher" | "operator" | "admin" | "trainer") =>
      request(hub, `${JOBS}/run/events`, { role, body: { type: "log", data: { message: "m" } } });
    for (const role of ["admin", "trainer"] as const)
      expect((await publish(role)).status, role).to.equal(200);
    for (const role of ["watcher", "operator"] as const) expectError(await publish(role), "forbidden");
    for (const role of ["watcher", "operator", "admin", "trainer"] as const)
      expect((await request(hub, "/api/v1/status", { role })).status, role).to.equal(200);
  });

  it("a job outside the allow-list answers as a missing one", async () => {
    const jobs = ["mine-*"];
    for (const path of ["", "/events", "/series"]) {
      const hidden = await request(hub, `${JOBS}/run${path}`, { role: "watcher", jobs });
      const missing = await request(hub, `${JOBS}/mine-missing${path}`, { role: "watcher", jobs });
      expectError(hidden, "job_not_found");
      expect(hidden.text).to.equal(missing.text);
    }
    const published = await request(hub, `${JOBS}/run/events`, {
      role: "trainer",
      jobs,
      body: line("run", "no"),
    });
    expect(published.status).to.equal(404);
    expect(published.json.refused[0].code).to.equal("job_not_found");
    expectError(
      await request(hub, JOBS, { role: "trainer", jobs, body: { job_id: "other" } }),
      "job_not_found",
    );
  });

  it("unknown routes and methods are answered as JSON, 404", async () => {
    for (const [method, path] of [
      ["GET", "/"],
      ["GET", "/api/v2/status"],
      ["GET", `${JOBS}/run/nothing`],
      ["GET", `${JOBS}/run/events/more`],
      ["DELETE", `${JOBS}/run`],
      ["PUT", JOBS],
      ["PATCH", `${JOBS}/run/events`],
      ["POST", "/healthz"],
      ["GET", "//healthz"],
      ["GET", "/api/v1/tenants//training/jobs"],
    ] as const) {
      for (const role of ["admin", null] as const)
        expectError(await request(hub, path, { role, method }), "unknown_verb");
    }
  });

  it("odd paths are refused, not faults of the hub", async () => {
    for (const id of [
      "%ZZ",
      "%",
      "%00",
      "a%2Fb",
      "..%2F..",
      "{x}",
      "%F0%9F%92%A9",
      "a".repeat(5_000),
      "a b",
    ]) {
      const reply = await request(hub, `${JOBS}/${id}`);
      expect(reply.status, id).to.be.oneOf([400, 404]);
      expect(reply.json?.ok, id).to.equal(false);
    }
    expect(hub.log.filter((one) => one.includes('"level":"error"'))).to.deep.equal([]);
  });
});
