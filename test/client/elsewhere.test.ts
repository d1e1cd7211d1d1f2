/** How the SDK gets from one hub to another: by a load balancer's choice, and when a hub asks it to leave. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import type { Socket } from "socket.io";
import { type ConnectionState, type Draining, TrainwireClient, type Welcome } from "../../client/index.ts";
import { undoAtExit } from "../support/cleanup.ts";
import { until } from "../support/until.ts";
import { type Call, ScriptedHub } from "./scripted-hub.ts";
import { heard, watch } from "./support.ts";
import { Bench } from "./trainer-support.ts";

/** Whoever waits for such a back-off has not come back at once. */
const PATIENT = { reconnectDelayMs: 3_600_000, reconnectDelayMaxMs: 3_600_000 };

/** As a hub does at a connection's moment. */
function leave(socket: Socket): void {
  socket.emit("closing", { reason: "shutdown", code: 4000, reconnect: true });
  socket.conn.close();
}

describe("a load balancer chooses the hub by `route`", () => {
  it("random, the same for every request of a client and over reconnects, another for the next client", async () => {
    const hub = await ScriptedHub.start();
    const transports = ["polling", "websocket"] as const;
    const clients = [watch(hub, { transports: [...transports] }), watch(hub)];
    // What a cut looks like to who polls.
    for (const each of clients) each.on("error", () => {});
    const route = async () => (await hub.next("connection")).socket.handshake.query.route;
    const first = [await route(), await route()];
    for (const each of first) expect(each).to.match(/^[0-9a-f]{32}$/);
    expect(first[0]).not.to.equal(first[1]);
    hub.cut();
    expect([await route(), await route()]).to.have.members(first);
    for (const each of clients) each.close();
    await hub.stop();
  });

  it("another one after two attempts in a row that reached no hub", async () => {
    const routes: string[] = [];
    const server = createServer((request, response) => {
      const route = new URL(request.url ?? "", "http://x").searchParams.get("route") ?? "";
      if (routes.at(-1) !== route) routes.push(route);
      response.writeHead(503).end();
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const forget = undoAtExit("a server that refuses", () => server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const fast = { reconnectDelayMs: 1, reconnectDelayMaxMs: 1 };
    const failures: string[] = [];
    const client = new TrainwireClient({ url, token: "t", ...fast, transports: ["polling"] });
    client.on("error", ({ code }) => failures.push(code)).connect();
    await until(() => failures.length === 5);
    client.close();
    // The fifth attempt is the first of the third route.
    expect(new Set(routes).size).to.equal(routes.length).and.to.equal(3);
    expect(new Set(failures)).to.deep.equal(new Set(["connect_failed"]));
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    forget();
  });
});

describe("a hub asks to leave (`draining`)", () => {
  it("tells the application, stays until the hub closes, and reconnects at once", async () => {
    const hub = await ScriptedHub.start();
    const client = watch(hub, PATIENT);
    const states: ConnectionState[] = [];
    client.on("state", (state) => states.push(state));
    // However often: none of them is a failure.
    for (let hubs = 1; hubs <= 3; hubs++) {
      const { socket } = await hub.next("connection");
      const told = heard<Draining>(client, "draining");
      const welcomed = heard<Welcome>(client, "welcome");
      socket.emit("welcome", { client_id: "c" });
      await welcomed;
      socket.emit("draining", { closes_in_ms: 10_000 });
      expect(await told).to.deep.equal({ closes_in_ms: 10_000 });
      expect(client.state).to.equal("connected");
      leave(socket);
    }
    await hub.next("connection");
    await until(() => client.state === "connected");
    const moves = ["reconnecting", "connected"];
    expect(states).to.deep.equal(["connected", ...moves, ...moves, ...moves]);
    client.close();
    await hub.stop();
  });

  it("asks the next hub what this one no longer answers", async () => {
    const hub = await ScriptedHub.start();
    const client = watch(hub, PATIENT);
    const asked = client.presence("a");
    const first = await hub.next("presence");
    first.socket.emit("draining", { closes_in_ms: 0 });
    first.refuse("draining", true);
    leave(first.socket);
    const second = await hub.next("presence");
    const presence = { job_id: "a", watchers: 1, users: ["x"] };
    second.answer(presence);
    expect(await asked).to.deep.equal(presence);
    client.close();
    await hub.stop();
  });

  it("subscribes on the next hub where this one no longer did", async () => {
    const hub = await ScriptedHub.start();
    const client = watch(hub, PATIENT);
    const { ready } = client.subscribe({ job_id: "a" });
    const first = await hub.next("subscribe");
    first.socket.emit("draining", { closes_in_ms: 0 });
    first.refuse("draining", true);
    leave(first.socket);
    const second = await hub.next("subscribe");
    second.answer({ job_id: "a", feed: "job", epoch: "e", seq: 1, recovered: true, events: [] });
    await ready;
    client.close();
    await hub.stop();
  });

  it("a trainer's events that were refused are sent on the next connection, without a pause", async () => {
    const bench = await Bench.start(PATIENT);
    const { publish } = bench.hub.on;
    let refused = 0;
    bench.hub.on.publish = (call: Call) => {
      refused += 1;
      call.socket.emit("draining", { closes_in_ms: 0 });
      call.refuse("draining", true);
      if (refused === 1) leave(call.socket);
      bench.hub.on.publish = publish;
    };
    const run = bench.trainer.run("a");
    run.log("once");
    expect(await bench.trainer.flush()).to.equal(true);
    expect(refused).to.equal(1);
    expect(bench.store.of("log")).to.have.length(1);
    expect(bench.store.duplicates).to.equal(0);
    expect(bench.errors).to.deep.equal([]);
    await bench.stop();
  });
});
