/** nginx.conf: where requests go, what is passed over, and what is written down. */
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { hubsConf, LEFT_OUT_MS, listenConf } from "../../src/cluster/nginx.ts";
import { findPrograms } from "../../src/cluster/programs.ts";
import { loadConfig } from "../../src/config.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import { tempFolder } from "../support/cleanup.ts";
import { until } from "../support/until.ts";
import { ask, type Front, type ScriptedHub, startFront } from "./support.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const HANDSHAKE = "/socket.io/?EIO=4&transport=polling";
const JOBS = "/api/v1/tenants/acme/training/jobs";
/** Long enough that the limit is seen, short enough that the test is over soon. */
/** How long Socket.IO's clients wait for a new connection. */
const CONNECT_MS = 20_000;
const SHORT = { "proxy_read_timeout 18s": "proxy_read_timeout 1s" };

describe("nginx.conf", () => {
  const CONF = read("nginx.conf");

  it("has the compose file's hubs in nginx/hubs.conf, as `trainwire cluster` writes them", () => {
    const hubs = ["hub-1", "hub-2", "hub-3"].map((name) => ({ name, address: `${name}:3000` }));
    const named = [...read("docker-compose.yml").matchAll(/TRAINWIRE_INSTANCE_ID: ([\w-]+)/g)];
    expect(named.map(([, name]) => name)).to.deep.equal(hubs.map(({ name }) => name));
    expect(read("nginx/hubs.conf")).to.equal(hubsConf(hubs));
    expect(read("nginx/listen.conf")).to.equal(listenConf("8080", "/dev/stdout"));
  });

  it("is accepted as it is, without a warning", () => {
    const folder = tempFolder("conf");
    try {
      for (const name of ["nginx.conf", "nginx"]) {
        cpSync(join(ROOT, name), join(folder.path, "conf", name), { recursive: true });
      }
      // Names that only the compose file's network knows.
      const hubs = join(folder.path, "conf/nginx/hubs.conf");
      writeFileSync(hubs, readFileSync(hubs, "utf8").replace(/server hub-(\d)/g, "server 127.0.0.$1"));
      const prefix = join(folder.path, "prefix");
      cpSync(join(ROOT, "nginx"), prefix, { recursive: true });
      const { nginx } = findPrograms(process.env.PATH ?? "");
      const command = [nginx, "-t", "-p", prefix, "-c", join(folder.path, "conf/nginx.conf"), "-e", "stderr"];
      // Through a shell's pipe: nginx opens /dev/stdout, which cannot be done with a socket.
      const { stderr, status } = spawnSync("/bin/sh", ["-c", '"$@" | cat', "sh", ...command], {
        encoding: "utf8",
      });
      expect(stderr).to.match(/syntax is ok[\s\S]*test is successful/);
      expect(stderr).not.to.match(/\[(?:warn|alert|crit|emerg)\]/);
      expect(status).to.equal(0);
    } finally {
      folder.remove();
    }
  });

  it("fits the hubs' limits and pings", () => {
    const number = (directive: string) => Number(new RegExp(`\\n *${directive} (\\d+)`).exec(CONF)?.[1]);
    const { pingIntervalMs, pingTimeoutMs } = loadConfig({});
    // As long as clients wait for a ping; and so that the next hub has its turn before clients give a new connection up.
    expect(number("proxy_read_timeout") * 1_000).to.equal(pingIntervalMs + pingTimeoutMs);
    expect(number("proxy_read_timeout") * 1_000).to.be.below(CONNECT_MS);
    expect(number("client_max_body_size") * 1_024).to.be.within(
      2 * LIMITS.messageBytes,
      2.2 * LIMITS.messageBytes,
    );
    expect(/large_client_header_buffers \d+ (\d+)k/.exec(CONF)?.[1]).to.equal("12");
    expect(12 * 1_024).to.be.above(LIMITS.tokenLength);
    expect(/proxy_read_timeout (\d{4})s/.exec(CONF)?.[1]).to.equal("3630");
    expect(3_630_000).to.be.above(LIMITS.commandTimeoutMs);
  });

  it("has no regular expression in a map", () => {
    expect(`${CONF}${read("nginx/hubs.conf")}`).not.to.match(/map [^{]+\{[^}]*\n\s*"?~/);
  });

  describe("before three hubs", () => {
    let front: Front;
    let hubs: readonly ScriptedHub[];
    before(async () => {
      front = await startFront(SHORT);
      hubs = front.hubs;
    });
    afterEach(() => {
      for (const hub of hubs) {
        hub.act = undefined;
        hub.requests.length = 0;
      }
    });
    after(() => front.stop());

    const get = (path: string, headers = {}) => ask(`${front.url}${path}`, { headers });
    const answered = async (path: string, headers = {}) => (await get(path, headers)).body;
    const many = (path: string, headers = {}) =>
      Promise.all(Array.from({ length: 12 }, () => answered(path, headers)));
    /** Until a hub that was left out gets first requests again. */
    const isBack = (hub: ScriptedHub, path = HANDSHAKE) =>
      until(async () => (await many(path)).includes(hub.name));

    it("leads a session to the hub that its id ends with, by every method", async () => {
      for (const { name } of hubs) {
        for (const id of [`Ab-_0123456789abcdef.${name}`, `a.b.${name}`, `x.${name.toUpperCase()}`]) {
          expect(await many(`${HANDSHAKE}&sid=${id}`)).to.deep.equal(Array(12).fill(name));
          const posted = await ask(`${front.url}${HANDSHAKE}&sid=${id}`, { method: "POST", body: "40" });
          expect(posted.body).to.equal(name);
        }
      }
    });

    it("takes ids of unknown hubs for first requests", async () => {
      for (const id of ["abc.hub-9", "hub-1", "abc", "abc.hub-1.evil", "abchub-1", ".", "*"]) {
        expect(await answered(`${HANDSHAKE}&sid=${encodeURIComponent(id)}`)).to.match(/^hub-[123]$/);
      }
    });

    it("chooses by the argument, else by the cookie, else the hub with the fewest connections", async () => {
      const routes = Array.from({ length: 40 }, (_, index) => `r${index}`);
      const chosen = new Set<string>();
      for (const route of routes) {
        const [first] = await many(`${HANDSHAKE}&route=${route}`);
        chosen.add(first as string);
        expect(await many(`${HANDSHAKE}&route=${route}`)).to.deep.equal(Array(12).fill(first));
        expect(await answered(HANDSHAKE, { cookie: `trainwire_route=${route}` })).to.equal(first);
        const other = { cookie: "trainwire_route=r0" };
        expect(await answered(`${HANDSHAKE}&route=${route}`, other)).to.equal(first);
      }
      expect([...chosen].sort()).to.deep.equal(["hub-1", "hub-2", "hub-3"]);
      expect([...new Set(await many(HANDSHAKE))].sort()).to.deep.equal(["hub-1", "hub-2", "hub-3"]);
      // The session's id is stronger than both.
      expect(await many(`${HANDSHAKE}&route=r1&sid=a.hub-2`)).to.deep.equal(Array(12).fill("hub-2"));
    });

    it("passes over a hub that drains, and finds it again; its sessions get its own answer", async () => {
      const [draining] = hubs as [ScriptedHub];
      draining.act = (_, response) => response.writeHead(503).end("draining");
      for (const route of ["", "&route=r1", "&route=r2", "&route=r3"]) {
        expect(new Set(await many(`${HANDSHAKE}${route}`))).not.to.include("draining");
      }
      expect(await answered("/ws/heartbeat")).to.not.equal("draining");
      expect(await get(`${HANDSHAKE}&sid=a.hub-1`)).to.include({ status: 503, body: "draining" });
      expect(await get(`${HANDSHAKE}&sid=a.hub-1`)).to.include({ status: 503 });
      // Left out: of a hundred requests at most one finds out whether it is back.
      draining.requests.length = 0;
      for (let round = 0; round < 8; round++) await many(HANDSHAKE);
      expect(draining.requests.length).to.be.below(5);
      draining.act = undefined;
      await isBack(draining);
    });

    it("passes over a hub that is gone, also with a POST that was not sent yet", async () => {
      const [, gone] = hubs as [ScriptedHub, ScriptedHub];
      await gone.close();
      try {
        expect(new Set(await many(HANDSHAKE))).to.deep.equal(new Set(["hub-1", "hub-3"]));
        const posts = Array.from({ length: 12 }, () =>
          ask(`${front.url}${JOBS}`, { method: "POST", body: "{}" }),
        );
        for (const { body } of await Promise.all(posts)) expect(body).to.match(/^hub-[13]$/);
        expect((await get(`${HANDSHAKE}&sid=a.hub-2`)).status).to.equal(502);
      } finally {
        await gone.open();
      }
      await isBack(gone);
      await isBack(gone, JOBS);
    });

    it("passes over a hub that hangs, when its time is over, and leaves it out", async () => {
      const [, , hanging] = hubs as [ScriptedHub, ScriptedHub, ScriptedHub];
      hanging.act = () => {};
      expect(new Set(await many(HANDSHAKE))).to.deep.equal(new Set(["hub-1", "hub-2"]));
      hanging.requests.length = 0;
      const began = Date.now();
      while (Date.now() - began < LEFT_OUT_MS / 2) await many(HANDSHAKE);
      expect(hanging.requests.length).to.be.below(2);
      hanging.act = undefined;
      await isBack(hanging);
    });

    it("sends a POST that a hub has got to no other hub, and says so in the protocol's form", async () => {
      for (const hub of hubs) hub.act = ({ socket }) => socket.destroy();
      const { status, headers, body } = await ask(`${front.url}${JOBS}`, { method: "POST", body: "{}" });
      expect(hubs.flatMap(({ requests }) => requests)).to.have.length(1);
      expect(status).to.equal(503);
      expect(headers["content-type"]).to.match(/^application\/json/);
      expect(headers["retry-after"]).to.equal("1");
      expect(JSON.parse(body))
        .to.deep.include({ ok: false })
        .and.to.have.nested.property("error.temporary", true);
      for (const hub of hubs) hub.act = undefined;
      for (const hub of hubs) await isBack(hub, JOBS);
    });

    it("takes a 503 over HTTP for an answer: with Redis away all hubs say so, and stay", async () => {
      for (const hub of hubs) hub.act = (_, response) => response.writeHead(503).end('{"ok":false}');
      for (const { status, body } of await Promise.all(Array.from({ length: 12 }, () => get(JOBS)))) {
        expect({ status, body }).to.deep.equal({ status: 503, body: '{"ok":false}' });
      }
      for (const hub of hubs) hub.act = undefined;
      expect([...new Set(await many(JOBS))].sort()).to.deep.equal(["hub-1", "hub-2", "hub-3"]);
    });

    it("tells hubs the client's address as it sees it, and no other", async () => {
      await get(JOBS, {
        "x-forwarded-for": "6.6.6.6",
        forwarded: "for=6.6.6.6",
        "x-forwarded-proto": "https",
        connection: "Upgrade, HTTP2-Settings",
        upgrade: "h2c",
        "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA",
      });
      const [{ headers } = { headers: {} }] = hubs.flatMap(({ requests }) => requests);
      expect(headers).to.include({
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        host: new URL(front.url).host,
        connection: "close",
      });
      expect(headers).to.not.have.any.keys("forwarded", "upgrade");
    });

    it("keeps /metrics and /readyz inside, in whatever spelling", async () => {
      const inside = ["/metrics", "/METRICS", "/metrics/", "//metrics", "/%6detrics", "/api/..%2fmetrics"];
      const outside = [...inside, ...inside.map((path) => path.replace(/metrics/i, "readyz")), "/", "/x"];
      for (const path of outside) expect((await get(path)).status, path).to.be.within(400, 404);
      expect(hubs.flatMap(({ requests }) => requests)).to.deep.equal([]);
      expect(await answered("/healthz")).to.match(/^hub-/);
    });

    it("passes each piece of an event stream on at once", async () => {
      for (const hub of hubs) hub.act = (_, response) => response.write("data: 1\n\n");
      const first = await new Promise<string>((resolve, reject) => {
        const asked = request(`${front.url}${JOBS}/a/stream`, { agent: false }, (response) => {
          response.on("error", () => {});
          response.once("data", (piece: Buffer) => {
            resolve(String(piece));
            asked.destroy();
          });
        });
        asked.on("error", reject).end();
      });
      expect(first).to.equal("data: 1\n\n");
    });

    it("waits longer for a command than for others", async () => {
      for (const hub of hubs) hub.act = (_, response) => void setTimeout(() => response.end("done"), 1_500);
      expect(await ask(`${front.url}${JOBS}/a/commands`, { method: "POST", body: "{}" })).to.include({
        status: 200,
        body: "done",
      });
      expect(await ask(`${front.url}${JOBS}/a/events`, { method: "POST", body: "{}" })).to.include({
        status: 503,
      });
      for (const hub of hubs) hub.act = undefined;
      for (const hub of hubs) await isBack(hub, JOBS);
    });

    it("refuses bodies that no hub takes, and passes on those that hubs refuse", async () => {
      const post = (bytes: number) => ask(`${front.url}${JOBS}`, { method: "POST", body: "x".repeat(bytes) });
      expect((await post(LIMITS.messageBytes + 1)).status).to.equal(200);
      const { status, body } = await post(2 * LIMITS.messageBytes + 65_536);
      expect(status).to.equal(413);
      expect(JSON.parse(body)).to.have.nested.property("error.code", "message_too_large");
    });

    it("writes no token anywhere, whatever goes wrong", async () => {
      const token = "SECRET-OF-THE-TEST";
      const paths = [
        HANDSHAKE,
        `${HANDSHAKE}&sid=a.hub-1`,
        "/ws/heartbeat?",
        `${JOBS}?`,
        "/nowhere?",
        "/healthz?",
      ];
      const all = async () => {
        for (const path of paths) {
          const url = `${front.url}${path}&token=${token}`;
          const headers = { authorization: `Bearer ${token}`, referer: `http://x/?token=${token}` };
          await ask(url, { headers });
          await ask(url, { method: "POST", headers, body: "x".repeat(100_000) });
          await ask(url, { method: "POST", headers, body: "x".repeat(3_000_000) }).catch(() => {});
        }
        await get(`${HANDSHAKE}&token=${token}${"x".repeat(20_000)}`);
        await get(`/%zz?token=${token}`);
        await get(`/../..?token=${token}`);
      };
      await all();
      for (const hub of hubs) hub.act = ({ socket }) => socket.destroy();
      await all();
      for (const hub of hubs) hub.act = () => {};
      await ask(`${front.url}${HANDSHAKE}&sid=a.hub-1&token=${token}`);
      await Promise.all(hubs.map((hub) => hub.close()));
      await all();
      await Promise.all(hubs.map((hub) => hub.open()));
      for (const hub of hubs) hub.act = undefined;
      for (const hub of hubs) await isBack(hub, JOBS);
      expect(front.written()).not.to.include(token);
    });

    it("writes down what became of each request, but for polls of sessions that went well", async () => {
      const log = () =>
        front
          .written()
          .split("\n")
          .flatMap((line) => (line.startsWith("{") ? [JSON.parse(line)] : []));
      const before = log().length;
      for (let poll = 0; poll < 5; poll++) await get(`${HANDSHAKE}&sid=a.hub-3`);
      await get(`${JOBS}/quoted"job?token=x`);
      for (const hub of hubs) hub.act = (_, response) => response.writeHead(400).end();
      await get(`${HANDSHAKE}&sid=a.hub-3`);
      await until(() => log().length >= before + 2);
      const [job, poll, ...rest] = log().slice(before);
      expect(rest).to.deep.equal([]);
      expect(job).to.include({
        client: "127.0.0.1",
        method: "GET",
        path: `${JOBS}/quoted"job`,
        status: "200",
      });
      expect(hubs.map(({ address }) => address)).to.include(job.hub);
      expect(poll).to.include({ path: "/socket.io/", status: "400", hub: hubs[2]?.address });
    });
  });

  describe("with low limits", () => {
    let front: Front;
    before(async () => {
      front = await startFront({
        "rate=500r/s": "rate=10r/s",
        "burst=2500": "burst=5",
        "limit_conn addresses 8000": "limit_conn addresses 20",
      });
    });
    after(() => front.stop());

    it("lets newcomers wait, refuses those beyond, and does not count who has a session", async () => {
      const ask12 = (path: string) =>
        Promise.all(Array.from({ length: 12 }, () => ask(`${front.url}${path}`)));
      const statuses = (await ask12(HANDSHAKE)).map(({ status }) => status);
      expect(statuses.filter((status) => status === 200)).to.have.length.within(6, 7);
      expect(statuses.filter((status) => status === 429)).to.have.length.within(5, 6);
      for (const { status } of await ask12(`${HANDSHAKE}&sid=a.hub-1`)) expect(status).to.equal(200);
      for (const { status } of await ask12(JOBS)) expect(status).to.equal(200);
    });

    it("refuses an address that has too many connections open", async () => {
      const received = () => front.hubs.flatMap(({ requests }) => requests).length;
      const before = received();
      for (const hub of front.hubs) hub.act = () => {};
      const waiting = Array.from({ length: 20 }, () => {
        const asked = request(`${front.url}${JOBS}`, { agent: false }).on("error", () => {});
        asked.end();
        return asked;
      });
      try {
        await until(() => received() >= before + 20);
        expect((await ask(`${front.url}${JOBS}`)).status).to.equal(429);
      } finally {
        for (const each of waiting) each.destroy();
      }
    });
  });
});
