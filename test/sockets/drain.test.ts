/** The planned end of an instance: everybody is told, and leaves at a moment of its own; nothing is lost by it. */
import { expect } from "chai";
import type { Closing, Draining, PublishAnswer, Welcome } from "../../src/protocol/types.ts";
import { request } from "../http/request.ts";
import { client, line, startTestHub, type TestClient, type TestHub, token, until } from "../support/hub.ts";
import { expectNoRoom } from "./new-session.ts";

const WINDOW_MS = 1_000;
/** Two moments that are closer may fall into one slice, or be seen in another order. */
const APART_MS = 100;

/** Everybody's moment is at this part of the window. */
function atMoment<R>(part: number, work: () => R): R {
  const { random } = Math;
  Math.random = () => part;
  try {
    return work();
  } finally {
    Math.random = random;
  }
}

describe("sockets: drain", () => {
  let hub: TestHub;
  const clients: TestClient[] = [];
  const start = async (windowMs = WINDOW_MS) => {
    hub = await startTestHub({ env: { TRAINWIRE_DRAIN_MS: String(windowMs) } });
  };
  afterEach(async () => {
    for (const each of clients.splice(0)) each.close();
    await hub.close();
  });

  async function connect(namespace: "/" | "/trainer", transport: "websocket" | "polling") {
    const role = namespace === "/" ? "watcher" : "trainer";
    const opened = client(hub.url, token(role), namespace, { transports: [transport] });
    clients.push(opened);
    await opened.connected();
    return opened;
  }

  it("tells everybody a moment of its own within the window, and keeps it", async () => {
    await start();
    const all = await Promise.all(
      Array.from({ length: 24 }, (_, i) =>
        connect(i % 2 ? "/" : "/trainer", i % 3 ? "websocket" : "polling"),
      ),
    );
    const from = performance.now();
    const ended = all.map(async (each) => {
      const { closes_in_ms } = await each.next<Draining>("draining");
      const closing = await each.next<Closing>("closing");
      const after = performance.now() - from;
      const reason = await each.next<string>("disconnect");
      return { closes_in_ms, closing: closing.reason, reason, after };
    });
    await hub.drain();
    const told = await Promise.all(ended);
    for (const { closes_in_ms, closing, reason, after } of told) {
      expect(closes_in_ms).to.be.within(0, WINDOW_MS);
      expect(after).to.be.at.least(closes_in_ms - 1);
      // The transport is closed, not the socket, so that clients come back by themselves.
      expect([closing, reason]).to.deep.equal(["shutdown", "transport close"]);
    }
    expect(new Set(told.map(({ closes_in_ms }) => closes_in_ms)).size).to.be.above(told.length / 2);
    for (const one of told) {
      for (const other of told) {
        if (one.closes_in_ms + APART_MS < other.closes_in_ms) expect(one.after).to.be.below(other.after);
      }
    }
  });

  it("takes no new sessions, and serves those that are there and HTTP until the end", async () => {
    await start();
    await hub.publish(line("going-on"));
    const watchers = await Promise.all((["polling", "websocket"] as const).map((by) => connect("/", by)));
    for (const watcher of watchers) await watcher.subscribe({ job_id: "going-on" });
    const over = atMoment(1, () => hub.drain());
    expect(hub.hub.state).to.equal("draining");
    for (const watcher of watchers) await watcher.next("draining");
    await expectNoRoom(hub, "draining");
    expect((await request(hub, "/healthz")).headers.get("connection")).to.equal("close");
    await hub.publish(line("going-on", "while draining"));
    for (const watcher of watchers) {
      const { data } = await watcher.next<{ data: object }>("log");
      expect(data).to.deep.equal({ message: "while draining" });
      await watcher.good("ping", {});
      expect(watcher.all("closing")).to.deep.equal([]);
    }
    await over;
    await expectNoRoom(hub, "draining");
  });

  it("a connection in both namespaces has one moment, and both are told; also one that joins meanwhile", async () => {
    await start();
    const watcher = await connect("/", "websocket");
    const over = atMoment(1, () => hub.drain());
    const { closes_in_ms } = await watcher.next<Draining>("draining");
    const from = performance.now();
    const trainer = watcher.socket.io.socket("/trainer", { auth: { token: token("trainer") } });
    const told: string[] = [];
    trainer.onAny((name: string) => told.push(name));
    const later = await new Promise<Draining>((resolve) => trainer.once("draining", resolve));
    expect(later.closes_in_ms).to.be.closeTo(closes_in_ms - (performance.now() - from), APART_MS);
    await watcher.next("disconnect");
    await until("both are closed", () => !trainer.connected);
    expect(told).to.deep.equal(["welcome", "draining", "closing"]);
    await over;
  });

  for (const transport of ["websocket", "polling"] as const) {
    it(`answers what is under way first, and takes nothing new meanwhile (${transport})`, async () => {
      await start(0);
      const trainer = await connect("/trainer", transport);
      const publish = hub.hub.publish.bind(hub.hub);
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      hub.hub.publish = async (...args) => {
        await held;
        return await publish(...args);
      };
      const answer = trainer.publish(line("finished"));
      // What comes in afterwards came in after it.
      await trainer.good("ping", {});
      const over = hub.drain();
      await trainer.next<Draining>("draining");
      let refusal: { code: string } | undefined;
      await until("it takes nothing new", async () => {
        const answered = await trainer.ask("ping", {});
        refusal = answered.ok ? undefined : answered.error;
        return refusal !== undefined;
      });
      expect(refusal).to.deep.include({ code: "draining", temporary: true });
      expect(trainer.all("closing")).to.deep.equal([]);
      release();
      expect((await answer) satisfies PublishAnswer).to.include({ accepted: 1, duplicates: 0 });
      await trainer.next("closing");
      await trainer.next("disconnect");
      const names = trainer.received.map(({ name }) => name);
      expect(names.indexOf("answer:publish")).to.be.within(0, names.indexOf("closing"));
      await over;
    });
  }

  it("does not wait for ever for what is under way", async () => {
    await start(0);
    const trainer = await connect("/trainer", "websocket");
    hub.hub.publish = () => new Promise(() => {});
    let answered = false;
    trainer.socket.emit("publish", line("stuck"), () => {
      answered = true;
    });
    await trainer.good("ping", {});
    await hub.drain();
    await trainer.next("disconnect");
    expect(answered).to.equal(false);
  });

  it("is over when nobody is left, whatever the window", async () => {
    await start(600_000);
    const [first, second] = await Promise.all([connect("/", "websocket"), connect("/trainer", "polling")]);
    let over = false;
    const drained = hub.drain().then(() => {
      over = true;
    });
    await Promise.all([first, second].map((each) => each?.next("draining")));
    first?.close();
    await until("the first is gone", () => hub.io.engine.clientsCount === 1);
    expect(over).to.equal(false);
    second?.close();
    await drained;
  });

  it("closes who is still there when the hub does not wait for the end of the drain", async () => {
    await start(600_000);
    const watcher = await connect("/", "websocket");
    const over = atMoment(1, () => hub.drain());
    await watcher.next<Draining>("draining");
    await hub.close();
    expect(await watcher.next<Closing>("closing")).to.include({ reason: "shutdown" });
    await over;
    await start();
  });

  it("plain clients come back by themselves on the hub that takes its place, and miss nothing", async () => {
    await start(200);
    const { port } = new URL(hub.url);
    const reconnecting = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };
    const watchers = (["websocket", "polling"] as const).map((transport) =>
      client(hub.url, token("watcher"), "/", { transports: [transport], ...reconnecting }),
    );
    clients.push(...watchers);
    await Promise.all(watchers.map((watcher) => watcher.connected()));
    const before = watchers.map((watcher) => watcher.all<Welcome>("welcome")[0]?.instance_id);
    await hub.drain();
    await hub.close();
    hub = await startTestHub({ env: { PORT: port, TRAINWIRE_INSTANCE_ID: "the-next" } });
    await until("both are back", () => watchers.every((watcher) => watcher.all("welcome").length === 2));
    for (const [i, watcher] of watchers.entries()) {
      expect(watcher.all<Welcome>("welcome")[1]?.instance_id).to.equal("the-next").and.not.equal(before[i]);
    }
  });
});
