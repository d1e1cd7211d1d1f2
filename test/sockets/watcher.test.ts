/** One connection's subscriptions over a store and a bus that misbehave: what no real hub can be brought to do in time. */
import { expect } from "chai";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { HubError } from "../../src/protocol/codes.ts";
import type { Gap, SubscribeAllAnswer, SubscribeAnswer, SubscribeRequest } from "../../src/protocol/types.ts";
import type { Connection } from "../../src/sockets/connection.ts";
import { Watcher } from "../../src/sockets/watcher.ts";
import {
  line,
  type Scripted,
  scripted,
  settle,
  startClock,
  status,
  stopClock,
  WATCHER,
} from "../core/scripted.ts";
import { replied } from "./replied.ts";

/** What a Watcher needs of a connection. */
class FakeSocket {
  readonly rooms = new Set<string>();
  readonly sent: Array<{ name: string; value: { seq: number; job_id?: string } & Partial<Gap> }> = [];
  readonly connected = true;
  join(room: string): void {
    this.rooms.add(room);
  }
  leave(room: string): void {
    this.rooms.delete(room);
  }
  emit(name: string, value: { seq: number }): void {
    this.sent.push({ name, value });
  }
}

/** Nobody is behind here: what is written goes out. */
function connectionOf(socket: FakeSocket): Connection {
  const write = ({ type, wire }: FeedEvent) => {
    socket.sent.push({ name: type, value: JSON.parse(wire) });
    return true;
  };
  const outbox = { behind: false, write, count() {}, room: () => Promise.resolve() };
  return { socket, identity: WATCHER, outbox } as unknown as Connection;
}

describe("sockets/watcher", () => {
  let hub: Scripted;
  let socket: FakeSocket;
  let watcher: Watcher;

  beforeEach(() => {
    stopClock();
    hub = scripted({ store: { maxLogLines: 2 } });
    socket = new FakeSocket();
    watcher = new Watcher(connectionOf(socket), hub.hub);
  });
  afterEach(async () => {
    watcher.close();
    expect(hub.hub.feeds.subscriptions).to.equal(0);
    await hub.close();
    startClock();
  });

  function subscribe<A = SubscribeAnswer>(request: SubscribeRequest): Promise<A> {
    return new Promise((resolve, reject) => {
      watcher.subscribe(request, (answer) => resolve(replied<A>(answer))).catch(reject);
    });
  }
  const names = () => socket.sent.map(({ name, value }) => `${name} ${value.seq}`);

  it('a gap of a job that is followed by name and by "*" is told once', async () => {
    await hub.publish(line());
    await subscribe({ job_id: "*" });
    await subscribe({ job_id: "job" });
    await hub.store.lose();
    await hub.publish(line());
    await settle();
    await hub.publish(line());
    expect(names()).to.deep.equal(["gap 2", "log 3"]);
  });

  it("in a new epoch, too, an event that both want comes once", async () => {
    await hub.publish(line(), line(), line(), line());
    await subscribe({ job_id: "*" });
    await subscribe({ job_id: "job" });
    await hub.store.lose();
    await hub.publish(line());
    await settle();
    socket.sent.length = 0;
    await hub.publish(line(), status("running"));
    expect(names()).to.deep.equal(["log 3", "training_status 4"]);
  });

  it('a gap that concerns only "*" is told, although the job is followed by name', async () => {
    await hub.publish(line());
    await subscribe({ job_id: "*" });
    await subscribe({ job_id: "job", types: ["training_status"] });
    hub.bus.fate = () => "lose";
    await hub.publish(line(), line(), line(), status("running"));
    hub.bus.renew();
    await settle();
    expect(names()).to.deep.equal(["gap 2", "log 4", "log 5", "training_status 6"]);
    expect(socket.sent[0]?.value).to.include({ reason: "trimmed", stream: "log", from: 3, to: 3 });
  });

  it('a second "*" that fails leaves the first as it was', async () => {
    await hub.publish(line());
    await subscribe({ job_id: "*" });
    for (const broken of ["jobs", "heads"] as const) {
      hub.store.around = (call) => {
        if (call === broken) throw new HubError("unavailable");
      };
      const error = await subscribe({ job_id: "*", types: ["log"] }).catch((reason: HubError) => reason);
      expect(error).to.have.property("code", "unavailable");
      hub.store.around = () => {};
    }
    await hub.publish(status("running"), { ...line(), job_id: "new" });
    await settle();
    expect(names()).to.have.members(["training_status 3", "job_created 1", "log 2"]);
  });

  it("a second subscribe that fails leaves the first as it was", async () => {
    await hub.publish(line());
    await subscribe({ job_id: "job" });
    hub.store.around = (call) => {
      if (call === "heads") throw new HubError("unavailable");
    };
    await subscribe({ job_id: "job", types: ["log"] }).catch(() => {});
    hub.store.around = () => {};
    await hub.publish(status("running"));
    expect(names()).to.deep.equal(["training_status 3"]);
  });

  it("a connection that ends while it subscribes leaves nothing behind", async () => {
    await hub.publish(line(), { ...line(), job_id: "b" });
    for (const request of [{ job_id: "job" }, {}, { job_id: "*" }, { job_id: "none", wait: true }]) {
      for (const call of ["heads", "job", "jobs"]) {
        const own = new Watcher(connectionOf(socket), hub.hub);
        hub.store.around = (each, moment) => {
          if (each === call && moment === "after") own.close();
        };
        let answered = false;
        await own.subscribe(request, () => {
          answered = true;
        });
        hub.store.around = () => {};
        if (answered) own.close();
        await settle();
        expect(hub.hub.feeds.subscriptions, `${JSON.stringify(request)} ${call}`).to.equal(0);
      }
    }
    await hub.publish(line());
    expect(socket.sent).to.deep.equal([]);
  });

  it("answers subscribes to different feeds side by side, and to one feed in order", async () => {
    await hub.publish(line(), { ...line(), job_id: "b" });
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let first = true;
    hub.store.around = async (call, moment) => {
      if (call !== "job" || moment !== "before" || !first) return;
      first = false;
      await gate;
    };
    const order: string[] = [];
    const slow = subscribe({ job_id: "job" }).then(() => order.push("slow"));
    await settle();
    const behind = subscribe({ job_id: "job", history: 1 }).then(() => order.push("behind"));
    await subscribe({ job_id: "b" }).then(() => order.push("other"));
    release();
    await Promise.all([slow, behind]);
    expect(order).to.deep.equal(["other", "slow", "behind"]);
  });

  it('"*" pages go on after a page that failed', async () => {
    const big = { type: "custom", data: { name: "n", data: { text: "x".repeat(60_000) } } };
    for (const job_id of ["a", "b", "c"]) await hub.publish({ ...big, job_id });
    const first = await subscribe<SubscribeAllAnswer>({ job_id: "*" });
    expect(first.more).to.equal(true);
    const next = { job_id: "*", next: first.next as string };
    hub.store.around = (call) => {
      if (call === "heads") throw new HubError("unavailable");
    };
    const error = await subscribe(next).catch((reason: HubError) => reason);
    expect(error).to.have.property("code", "unavailable");
    hub.store.around = () => {};
    const rest = await subscribe<SubscribeAllAnswer>(next);
    expect([...first.jobs, ...rest.jobs].map(({ job_id }) => job_id).sort()).to.deep.equal(["a", "b", "c"]);
  });
});
