import { expect } from "chai";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { Outbox, Outboxes } from "../../src/sockets/outbox.ts";
import { until } from "../support/hub.ts";

/** Engine.IO's side, as far as an outbox sees it. */
class FakeConn {
  readonly transport = { writable: true };
  readonly readyState = "open";
  writeBuffer: Array<{ data: string }> = [];
  readonly handed: string[] = [];

  readonly upgrades = new Set<() => void>();

  once(name: "upgrade", listener: () => void): void {
    expect(name).to.equal("upgrade");
    this.upgrades.add(listener);
  }

  off(_name: "upgrade", listener: () => void): void {
    this.upgrades.delete(listener);
  }

  write(data: string): void {
    this.writeBuffer.push({ data });
    if (this.transport.writable) this.#hand();
  }

  /** The batch before has gone; the next one, if there is any, goes on its way. */
  sent(): void {
    this.transport.writable = true;
    if (this.writeBuffer.length > 0) this.#hand();
  }

  #hand(): void {
    this.handed.push(...this.writeBuffer.map(({ data }) => data));
    this.writeBuffer = [];
    this.transport.writable = false;
  }
}

const KB = "x".repeat(1_024);
/** As a packet, 1 KB. */
const EVENT: FeedEvent = {
  epoch: "e",
  seq: 1,
  type: "log",
  durable: true,
  jobId: "job",
  key: "",
  wire: "x".repeat(1_024 - '2["log",]'.length),
};
const NO_WRITERS = { of: () => undefined };

describe("sockets/outbox, of a client that polls", () => {
  let conn: FakeConn;
  let all: Outboxes;
  let outbox: Outbox;
  let slow: number;

  beforeEach(() => {
    conn = new FakeConn();
    all = new Outboxes({ holdBytes: 10 * 1_024, slowBytes: 20 * 1_024 }, NO_WRITERS);
    slow = 0;
    outbox = new Outbox(conn, all, { slow: () => slow++ });
  });
  afterEach(() => {
    outbox.close();
    expect(all.behind).to.equal(0);
    expect([...conn.upgrades], "nobody listens any more").to.deep.equal([]);
  });

  const write = (count: number) => {
    for (let i = 0; i < count; i++) outbox.write(EVENT);
  };

  it("counts the batch that is on its way and what waits behind it, and forgets what has gone", () => {
    write(3);
    expect(outbox.bytes).to.equal(3 * 1_024);
    conn.sent();
    expect(outbox.bytes).to.equal(2 * 1_024);
    conn.sent();
    expect(outbox.bytes).to.equal(0);
  });

  it("a client that takes each batch is never behind, however much it gets", () => {
    for (let i = 0; i < 200; i++) {
      write(5);
      conn.sent();
      expect(outbox.behind).to.equal(false);
    }
    expect(conn.handed).to.have.length.above(990);
  });

  it("counts what others write to the connection, once", () => {
    write(1);
    conn.write(KB);
    outbox.count();
    outbox.count();
    expect(outbox.bytes).to.equal(2 * 1_024);
  });

  it("is behind above the first limit, until half of it is left", async () => {
    write(11);
    expect(outbox.behind).to.equal(true);
    expect(all.behind).to.equal(1);
    conn.sent();
    conn.sent();
    await until("the sweep", () => !outbox.behind);
    expect(all.behind).to.equal(0);
    expect(slow).to.equal(0);
  });

  it("is slow when it stays above the second limit; what waits is dropped", async () => {
    write(22);
    expect(slow).to.equal(0);
    await until("slow", () => slow === 1);
    expect(conn.writeBuffer).to.deep.equal([]);
    write(5);
    expect(conn.writeBuffer, "nothing is written any more").to.deep.equal([]);
    expect(slow).to.equal(1);
  });

  it("who takes what waits, if only slowly, is not slow", async () => {
    write(38);
    for (const left of [37, 0]) {
      // Less than what makes one slow, and together more.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      conn.sent();
      expect(outbox.bytes).to.equal(left * 1_024);
    }
    expect(slow).to.equal(0);
  }).timeout(10_000);

  it("there is room for a large answer when it is no longer behind, or has ended", async () => {
    await outbox.room();
    write(15);
    let room = 0;
    const both = [outbox.room().then(() => room++), outbox.room().then(() => room++)];
    await new Promise(setImmediate);
    expect(room).to.equal(0);
    conn.sent();
    conn.sent();
    await Promise.all(both);
    write(15);
    const last = outbox.room();
    outbox.close();
    await last;
  });

  it("keeps nothing of what it has counted", () => {
    write(3);
    conn.write(KB);
    outbox.count();
    conn.sent();
    conn.sent();
    expect(outbox.bytes).to.equal(0);
    write(1);
    expect(outbox.bytes).to.equal(1_024);
  });

  it("a burst of one turn that goes at once is not slow", async () => {
    write(22);
    conn.sent();
    conn.sent();
    await until("the sweep", () => !outbox.behind);
    expect(slow).to.equal(0);
  });

  it("above twice the limit it does not wait for a sweep", async () => {
    write(42);
    await new Promise(setImmediate);
    expect(slow).to.equal(1);
  });
});
