/** Browser origins: on HTTP, on the polling handshake, and on WebSockets, which CORS does not cover. */
import { once } from "node:events";
import { expect } from "chai";
import WebSocket from "ws";
import { client, line, startTestHub, type TestHub, token } from "../support/hub.ts";
import { JOBS, request } from "./request.ts";

const GOOD = "https://dash.example";
const ALSO = "http://localhost:5173";
const BAD = [
  "https://evil.example",
  "https://dash.example.evil.example",
  "http://dash.example",
  "null",
  "https://dash.example:8443",
  "https://dash.example/",
  "garbage",
  "HTTPS://DASH.EXAMPLE",
  "",
];
const HANDSHAKE = "/socket.io/?EIO=4&transport=polling";

describe("http: origins", () => {
  let hub: TestHub;
  before(async () => {
    hub = await startTestHub({ env: { CORS_ORIGINS: `${GOOD},${ALSO}` } });
    await hub.publish(line("run"));
  });
  after(() => hub.close());

  const own = () => hub.url;
  const http = (origin: string, path = JOBS, role: "admin" | null = "admin") =>
    request(hub, path, { role, headers: { origin } });

  it("HTTP: an allowed origin is named, also on refusals", async () => {
    for (const origin of [GOOD, ALSO, own()]) {
      for (const [path, role] of [
        [JOBS, "admin"],
        [JOBS, null],
        [`${JOBS}/missing`, "admin"],
        ["/no", null],
      ] as const) {
        const reply = await http(origin, path, role);
        expect(reply.headers.get("access-control-allow-origin"), path).to.equal(origin);
        expect(reply.headers.get("vary"), path).to.match(/origin/i);
      }
    }
  });

  it("HTTP: another origin gets no permission, and no wildcard", async () => {
    for (const origin of BAD) {
      const reply = await http(origin);
      expect(reply.headers.get("access-control-allow-origin"), origin).to.equal(null);
      expect(reply.headers.get("access-control-allow-credentials")).to.equal(null);
      expect(reply.headers.get("vary")).to.match(/origin/i);
    }
  });

  it("HTTP: preflights", async () => {
    const preflight = (origin: string) =>
      request(hub, JOBS, {
        role: null,
        method: "OPTIONS",
        headers: {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,content-type",
        },
      });
    const good = await preflight(GOOD);
    expect(good.status).to.equal(204);
    expect(good.headers.get("access-control-allow-origin")).to.equal(GOOD);
    expect(good.headers.get("access-control-allow-methods")).to.include("POST");
    expect(good.headers.get("access-control-allow-headers")).to.match(/authorization/i);
    const bad = await preflight(BAD[0] as string);
    expect(bad.headers.get("access-control-allow-origin")).to.equal(null);
  });

  it("polling handshake: allowed origins connect and are named, others are refused", async () => {
    for (const origin of [GOOD, ALSO]) {
      const reply = await http(origin, HANDSHAKE, null);
      expect(reply.status).to.equal(200);
      expect(reply.headers.get("access-control-allow-origin")).to.equal(origin);
    }
    expect((await http(own(), HANDSHAKE, null)).status).to.equal(200);
    expect((await request(hub, HANDSHAKE, { role: null })).status).to.equal(200);
    for (const origin of BAD.filter(Boolean)) {
      const reply = await http(origin, HANDSHAKE, null);
      expect(reply.status, origin).to.equal(403);
      expect(reply.text).to.include("origin_not_allowed");
      expect(reply.headers.get("access-control-allow-origin")).to.equal(null);
      expect(reply.text).to.not.include("sid");
    }
  });

  const upgrade = async (origin: string | undefined, query = "EIO=4&transport=websocket") => {
    const url = `${hub.url.replace("http", "ws")}/socket.io/?${query}`;
    const socket = new WebSocket(url, { ...(origin !== undefined && { headers: { origin } }) });
    const outcome = await Promise.race([
      once(socket, "open").then(() => "open"),
      once(socket, "unexpected-response").then(([, reply]) => reply.statusCode as number),
      once(socket, "error").then(() => "error"),
    ]);
    socket.on("error", () => {});
    socket.terminate();
    return outcome;
  };

  it("trap 27: WebSocket: allowed origins and none connect, others are refused", async () => {
    for (const origin of [GOOD, ALSO, own(), undefined]) expect(await upgrade(origin)).to.equal("open");
    for (const origin of BAD.filter(Boolean)) expect(await upgrade(origin), origin).to.equal(403);
  });

  it("WebSocket upgrade of a polling session: another origin is refused there too", async () => {
    const opened = await http(GOOD, HANDSHAKE, null);
    const { sid } = JSON.parse(opened.text.slice(1)) as { sid: string };
    const query = `EIO=4&transport=websocket&sid=${sid}`;
    expect(await upgrade("https://evil.example", query)).to.equal(403);
    // The session itself lives on.
    expect(await upgrade(GOOD, query)).to.equal("open");
  });

  it("a poll of a session from another origin is refused", async () => {
    const opened = await http(GOOD, HANDSHAKE, null);
    const { sid } = JSON.parse(opened.text.slice(1)) as { sid: string };
    const posted = await request(hub, `${HANDSHAKE}&sid=${sid}`, {
      role: null,
      body: "3",
      headers: { origin: "https://evil.example", "content-type": "text/plain" },
    });
    expect(posted.status).to.equal(403);
    expect(posted.headers.get("access-control-allow-origin")).to.not.be.oneOf(["*", "https://evil.example"]);
  });

  it("* allows every origin, without credentials", async () => {
    const all = await startTestHub({ env: { CORS_ORIGINS: "*" } });
    try {
      for (const path of [JOBS, HANDSHAKE]) {
        const reply = await request(all, path, { role: "admin", headers: { origin: "https://any.example" } });
        expect(reply.status).to.equal(200);
        expect(reply.headers.get("access-control-allow-origin")).to.be.oneOf(["*", "https://any.example"]);
        expect(reply.headers.get("access-control-allow-credentials")).to.equal(null);
      }
      const watcher = client(all.url, token("watcher"), "/", {
        extraHeaders: { origin: "https://any.example" },
      });
      await watcher.connected();
      watcher.close();
    } finally {
      await all.close();
    }
  });
});
