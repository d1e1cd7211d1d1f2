/** A whole cluster, started in this process: plain Socket.IO clients come through nginx to real hubs, and stay there. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { io, type Socket } from "socket.io-client";
import { Cluster } from "../../src/cluster/cluster.ts";
import { createLog } from "../../src/log.ts";
import type { Welcome } from "../../src/protocol/types.ts";
import { BARE } from "../cli/support.ts";
import { buildHub, type HubBuild } from "../cluster/hub-process.ts";
import { SECRET, token } from "../support/hub.ts";
import { childrenOf } from "../support/nginx.ts";
import { until } from "../support/until.ts";
import { ask } from "./support.ts";

const SETTINGS = {
  JWT_SECRET: SECRET,
  TRAINWIRE_DRAIN_MS: "1000",
  TRAINWIRE_PING_INTERVAL_MS: "300",
  LOG_LEVEL: "info,sockets=debug",
};

interface Guest {
  socket: Socket;
  welcome: Welcome;
  /** Of its first session. */
  sid: string;
  disconnects: number;
}

describe("Cluster", () => {
  let build: HubBuild;
  let cluster: Cluster;
  const lines: string[] = [];
  const guests: Guest[] = [];

  before(async () => {
    build = await buildHub();
    cluster = await Cluster.start({
      command: [process.execPath, build.main],
      replicas: 3,
      restart: true,
      env: { ...process.env, ...BARE, ...SETTINGS },
      log: createLog({
        levels: { level: "info", modules: {} },
        pretty: false,
        destination: { write: (line: string) => void lines.push(line) },
      }),
      line: (_, line) => lines.push(line),
    });
  });
  afterEach(() => {
    for (const { socket } of guests.splice(0)) socket.close();
  });
  after(async () => {
    await cluster?.close("SIGINT");
    build?.remove();
  });

  /** A client as anybody has it, without the SDK. */
  function enter(transports: string[]): Promise<Guest> {
    const socket = io(cluster.url, {
      forceNew: true,
      transports,
      auth: { token: token("watcher") },
      reconnectionDelay: 100,
      reconnectionDelayMax: 500,
    });
    return new Promise((resolve, reject) => {
      socket.on("connect_error", reject);
      socket.once("welcome", (welcome: Welcome) => {
        const guest = { socket, welcome, sid: socket.io.engine.id, disconnects: 0 };
        socket.on("disconnect", () => {
          guest.disconnects++;
        });
        socket.off("connect_error", reject);
        guests.push(guest);
        resolve(guest);
      });
    });
  }

  for (const [what, count, transports] of [
    ["that only poll", 24, ["polling"]],
    ["that only have WebSocket", 12, ["websocket"]],
    ["that poll first and upgrade", 12, ["polling", "websocket"]],
  ] as const) {
    it(`keeps ${count} of ${count} clients ${what} on the hub that their session's id ends with`, async () => {
      const all = await Promise.all(Array.from({ length: count }, () => enter([...transports])));
      for (const { sid, welcome } of all) expect(sid).to.match(new RegExp(`\\.${welcome.instance_id}$`));
      const hubs = [...new Set(all.map(({ welcome }) => welcome.instance_id))].sort();
      expect(hubs).to.deep.equal(["hub-1", "hub-2", "hub-3"]);
      // Requests both ways, and several pings of the hub.
      for (let round = 0; round < 20; round++) {
        const answers = all.map(({ socket }) => socket.timeout(5_000).emitWithAck("ping", {}));
        for (const answer of await Promise.all(answers)) expect(answer).to.include({ ok: true });
      }
      const pings = all.map(
        ({ socket }) => new Promise<void>((resolve) => socket.io.once("ping", () => resolve())),
      );
      await Promise.all(pings);
      if (transports.length === 2) {
        await until(() => all.every(({ socket }) => socket.io.engine.transport.name === "websocket"));
      }
      expect(all.map(({ disconnects }) => disconnects)).to.deep.equal(Array(count).fill(0));
    });
  }

  it("has hubs believe what nginx says of a client's address", async () => {
    const url = cluster.hubs[0]?.url as string;
    const socket = io(url, {
      forceNew: true,
      reconnection: false,
      auth: { token: "none" },
      extraHeaders: { "x-forwarded-for": "203.0.113.9" },
    });
    await new Promise((resolve) => socket.once("connect_error", resolve));
    socket.close();
    await until(() => lines.some((line) => line.includes('"address":"203.0.113.9"')));
  });

  it("reloads nginx: new workers take new clients at once, the old ones keep theirs for a while", async () => {
    const old = childrenOf(cluster.nginx.pid as number);
    const before = await enter(["websocket"]);
    await cluster.reloadNginx();
    expect(childrenOf(cluster.nginx.pid as number)).to.not.have.members(old);
    const after = await enter(["polling"]);
    for (const { socket, disconnects } of [before, after]) {
      expect(await socket.timeout(5_000).emitWithAck("ping", {})).to.include({ ok: true });
      expect(disconnects).to.equal(0);
    }
    expect(cluster.deaths).to.deep.equal([]);
  });

  it("says when nginx refuses its configuration, and goes on with the one before", async () => {
    const path = join(cluster.folder, "nginx/nginx/listen.conf");
    const before = readFileSync(path, "utf8");
    writeFileSync(path, "nonsense;");
    const error = await cluster.reloadNginx().catch((reason: Error) => reason);
    writeFileSync(path, before);
    expect((error as Error).message).to.match(/unknown directive "nonsense"/);
    expect((await enter(["websocket"])).disconnects).to.equal(0);
  });

  it("restarts the hubs one after the other, each ready before the next one ends; clients move on", async () => {
    const all = await Promise.all([
      ...Array.from({ length: 6 }, () => enter(["polling"])),
      ...Array.from({ length: 6 }, () => enter(["websocket"])),
    ]);
    const pids = cluster.hubs.map(({ pid }) => pid);
    const ports = cluster.hubs.map(({ port }) => port);
    let least = Number.POSITIVE_INFINITY;
    const look = setInterval(() => {
      least = Math.min(least, cluster.hubs.filter(({ serves }) => serves).length);
    }, 5);
    const first = cluster.rollingRestart();
    expect(cluster.rollingRestart()).to.equal(first);
    await first;
    clearInterval(look);
    expect(least).to.equal(2);
    for (const [index, { pid, port, serves }] of cluster.hubs.entries()) {
      expect(pid).to.not.equal(pids[index]);
      expect(port).to.equal(ports[index]);
      expect(serves).to.equal(true);
    }
    await until(() => all.every(({ socket }) => socket.connected));
    for (const { socket } of all) {
      expect(await socket.timeout(5_000).emitWithAck("ping", {})).to.include({ ok: true });
    }
    expect(cluster.deaths).to.deep.equal([]);
  });

  it("brings back whatever dies, on its port, and counts it", async () => {
    const victims = [...cluster.hubs.slice(1), cluster.nginx, cluster.redis];
    for (const victim of victims) {
      const { pid, port } = victim;
      process.kill(pid as number, "SIGKILL");
      await until(() => victim.serves && victim.pid !== pid);
      expect(victim.port).to.equal(port);
    }
    await until(async () => (await ask(`${cluster.url}/healthz`)).status === 200);
    expect(cluster.deaths.map(({ name, signal }) => `${name} ${signal}`)).to.deep.equal([
      "hub-2 SIGKILL",
      "hub-3 SIGKILL",
      "nginx SIGKILL",
      "redis SIGKILL",
    ]);
    expect((await enter(["websocket"])).disconnects).to.equal(0);
  });
});
