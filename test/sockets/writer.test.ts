import { expect } from "chai";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { Batch, textFrame } from "../../src/sockets/batch.ts";
import { Outbox, Outboxes } from "../../src/sockets/outbox.ts";
import { heard, type Writer, Writers } from "../../src/sockets/writer.ts";
import { until } from "../support/until.ts";

/** A TCP socket that keeps what is written to it, and takes none of it while it is `stuck`. */
class FakeSocket {
  readonly writes: Buffer[] = [];
  writable = true;
  stuck = false;
  writableLength = 0;
  destroyed = false;
  #corked: Buffer[] | undefined;

  write(piece: Buffer): void {
    if (this.#corked) this.#corked.push(piece);
    else this.#take(piece);
  }

  destroy(): void {
    this.destroyed = true;
  }

  cork(): void {
    this.#corked = [];
  }

  uncork(): void {
    const pieces = this.#corked ?? [];
    this.#corked = undefined;
    this.#take(Buffer.concat(pieces));
  }

  #take(piece: Buffer): void {
    this.writes.push(piece);
    if (this.stuck) this.writableLength += piece.length;
  }

  get text(): string[] {
    return this.writes.map((each) => each.toString());
  }
}

/** ws's side, and Engine.IO's transport around it. */
class FakeTransport {
  readonly socket: { _sender: { sendFrame(pieces: Array<Buffer | string>, done?: () => void): void } };
  readonly writable = true;

  constructor() {
    this.socket = { _sender: { sendFrame: () => expect.fail("the writer has taken over") } };
  }

  /** Engine.IO tells of a pong. */
  pong(): void {
    heard.call({ transport: this });
  }

  send(pieces: Array<Buffer | string>, done?: () => void): void {
    this.socket._sender.sendFrame(pieces, done);
  }
}

const event = (seq: number, text = "x"): FeedEvent => ({
  ...{ epoch: "e", seq, type: "log", durable: true, jobId: "job", key: "" },
  wire: JSON.stringify({ seq, text }),
});
const frame = (each: FeedEvent) => textFrame(`42["${each.type}",${each.wire}]`);
const PING = textFrame("2");
const WINDOW = 10_000;
const CLOSE_FRAME = Buffer.from([0x88, 0x00]);
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("sockets/writer", () => {
  let writers: Writers;
  let socket: FakeSocket;
  let transport: FakeTransport;
  let writer: Writer;

  const connect = () => {
    const made = { socket: new FakeSocket(), transport: new FakeTransport() };
    writers.take(made.transport.socket as never, made.socket as never);
    return { ...made, writer: writers.of(made.transport) as Writer };
  };

  beforeEach(() => {
    writers = new Writers(0, WINDOW);
    ({ socket, transport, writer } = connect());
  });
  afterEach(() => writers.close());

  it("events of a turn are one write, as ordinary frames in their order", async () => {
    const events = [1, 2, 3].map((seq) => event(seq));
    for (const each of events) writer.event(each);
    expect(socket.writes).to.have.length(0);
    await turn();
    expect(socket.writes).to.deep.equal([Buffer.concat(events.map(frame))]);
    writer.event(event(4));
    await turn();
    expect(socket.writes).to.have.length(2);
    expect(writers.writes).to.equal(2);
  });

  it("connections that get the same events are written the very same bytes", async () => {
    const all = [connect(), connect(), connect()];
    for (const each of [event(1), event(2)]) for (const one of all) one.writer.event(each);
    await turn();
    const [first, ...others] = all.map((one) => one.socket.writes[0]);
    for (const other of others) expect(other).to.equal(first);
  });

  it("who got less or other events shares what is the same, and nothing else", async () => {
    const [a, b, c] = [event(1), event(2), event(3)];
    const other = connect();
    for (const each of [a, b, c]) writer.event(each);
    for (const each of [a, c]) other.writer.event(each);
    await turn();
    expect(socket.writes).to.deep.equal([Buffer.concat([a, b, c].map(frame))]);
    expect(other.socket.writes).to.deep.equal([Buffer.concat([a, c].map(frame))]);
  });

  it("frames of ws stand between the events as they came, and are said to be done at once", async () => {
    const [a, b] = [event(1), event(2)];
    let done = 0;
    writer.event(a);
    const answer = textFrame("answer");
    transport.send([answer.subarray(0, 2), "answer"], () => done++);
    writer.event(b);
    expect(done).to.equal(1);
    await turn();
    expect(Buffer.concat(socket.writes)).to.deep.equal(Buffer.concat([frame(a), answer, frame(b)]));
    expect(socket.writes).to.have.length(1);
  });

  it("a close frame takes along what stands before it, at once, and nothing follows it", async () => {
    writer.event(event(1));
    transport.send([CLOSE_FRAME]);
    expect(Buffer.concat(socket.writes)).to.deep.equal(Buffer.concat([frame(event(1)), CLOSE_FRAME]));
    writer.event(event(2));
    transport.send([textFrame("late")]);
    await turn();
    expect(socket.writes).to.have.length(1);
  });

  it("what is large does not wait for the end of the turn", () => {
    writer.event(event(1, "x".repeat(70_000)));
    expect(socket.writes).to.have.length(1);
    transport.send([Buffer.alloc(10), Buffer.alloc(70_000)]);
    expect(Buffer.concat(socket.writes).length).to.be.above(140_000);
  });

  it("writes nothing to who has gone", async () => {
    writer.event(event(1));
    socket.writable = false;
    await turn();
    expect(socket.writes).to.have.length(0);
    expect(writer.bytes).to.equal(0);
  });

  it("who reads nothing and has joined nothing is cut, before much waits for him", async () => {
    socket.stuck = true;
    for (let i = 0; i < 3; i++) transport.send([textFrame("x".repeat(50_000))]);
    await turn();
    expect(socket.destroyed).to.equal(false);
    for (let i = 0; i < 3; i++) transport.send([textFrame("x".repeat(50_000))]);
    await turn();
    expect(socket.destroyed).to.equal(true);
  });

  describe("to whom it is late that he says what he has read", () => {
    /** An event whose frame has 1 000 bytes, as a write of its own. */
    const send = (seq: number) => {
      writer.event(kilobyte(seq));
      writer.flush();
    };
    const kilobyte = (seq: number) => {
      const bare = frame(event(seq, "x".repeat(500))).length;
      return event(seq, "x".repeat(500 + 1_000 - bare));
    };
    const sendAll = (from: number, to: number) => {
      for (let seq = from; seq <= to; seq++) send(seq);
    };
    /** What was written, and how many pings are in it. */
    const written = () => {
      let data = Buffer.concat(socket.writes);
      let pings = 0;
      for (let at = data.indexOf(PING); at >= 0; at = data.indexOf(PING)) {
        data = Buffer.concat([data.subarray(0, at), data.subarray(at + PING.length)]);
        pings++;
      }
      return { data, pings };
    };
    let answers = 0;
    /** To all that was asked so far. */
    const answer = () => {
      for (const { pings } = written(); answers < pings; answers++) transport.pong();
    };
    /** Has the pings before this be late. */
    const wait = () => {
      writers.ticks += 20;
    };
    const frames = (to: number) =>
      Buffer.concat(Array.from({ length: to }, (_, i) => frame(kilobyte(i + 1))));

    beforeEach(() => {
      answers = 0;
    });

    it("who answers in time gets all at once, however much it is", () => {
      sendAll(1, 300);
      expect(written().data).to.deep.equal(frames(300));
      expect(writer.bytes).to.equal(0);
    });

    it("no more goes than the window, and the rest waits, in order, until he has read", () => {
      sendAll(1, 8);
      wait();
      sendAll(9, 40);
      expect(written().data).to.deep.equal(frames(10));
      // The window of what is on its way, and what is held.
      expect(writer.bytes).to.be.within(40_000, 40_010);
      for (const to of [20, 30, 40]) {
        wait();
        answer();
        // One may have begun within the window.
        expect([frames(to), frames(to - 1)]).to.deep.include(written().data);
      }
      wait();
      answer();
      expect(written().data).to.deep.equal(frames(40));
      expect(writer.bytes).to.be.below(WINDOW / 4);
    });

    it("what was written in time is nobody's fault: a burst of any size is not slow afterwards", () => {
      sendAll(1, 3_000);
      wait();
      sendAll(3_001, 3_005);
      expect(writer.bytes).to.equal(2 * WINDOW + 5_000);
    });

    it("while this process stands still nobody is late", () => {
      sendAll(1, 100);
      // Longer than an answer may take.
      const until = performance.now() + 1_700;
      while (performance.now() < until);
      sendAll(101, 110);
      expect(written().data).to.deep.equal(frames(110));
      expect(writer.bytes).to.equal(0);
    });

    it("a piece that is larger than the window goes when there is room for any", () => {
      sendAll(1, 12);
      wait();
      const large = [1, 2].map((seq) => event(seq, "x".repeat(30_000)));
      for (const each of large) {
        writer.event(each);
        writer.flush();
      }
      answer();
      expect(written().data).to.deep.equal(Buffer.concat([frames(12), frame(large[0] as FeedEvent)]));
    });

    it("many small frames of a turn are held as one", () => {
      sendAll(1, 12);
      wait();
      for (let i = 0; i < 1_000; i++) transport.send([Buffer.from([0x8a, 0])]);
      writer.flush();
      answer();
      expect(written().data.length).to.equal(14_000);
      expect(socket.writes.at(-1)?.length).to.be.within(2_000, 2_000 + PING.length);
    });

    it("a close takes along what is held, and asks nothing", () => {
      sendAll(1, 12);
      wait();
      sendAll(13, 30);
      const { pings } = written();
      transport.send([CLOSE_FRAME]);
      expect(written()).to.deep.equal({ data: Buffer.concat([frames(30), CLOSE_FRAME]), pings });
      answer();
      expect(written().pings).to.equal(pings);
    });

    it("what is held for who has gone is forgotten", () => {
      sendAll(1, 12);
      wait();
      sendAll(13, 20);
      socket.writable = false;
      answer();
      send(21);
      expect(written().data).to.deep.equal(frames(12));
      expect(writer.bytes).to.be.at.most(WINDOW);
    });
  });

  it("closing the door writes what waits", () => {
    writer.event(event(1));
    writers.close();
    expect(socket.writes).to.have.length(1);
  });

  it("while the event loop is busy events leave together, and an answer takes them along at once", async () => {
    writers = new Writers(1_000, WINDOW);
    ({ socket, transport, writer } = connect());
    const busyUntil = performance.now() + 400;
    while (performance.now() < busyUntil) {
      const slice = performance.now() + 90;
      while (performance.now() < slice);
      writer.event(event(0));
      await turn();
    }
    expect(writers.waitMs).to.be.above(100);
    // What the loop above left behind goes with the first answer.
    transport.send([textFrame("first")]);
    await turn();
    socket.writes.length = 0;
    writer.event(event(1));
    await turn();
    writer.event(event(2));
    await turn();
    expect(socket.writes).to.have.length(0);
    transport.send([textFrame("answer")]);
    await turn();
    expect(socket.writes).to.deep.equal([
      Buffer.concat([frame(event(1)), frame(event(2)), textFrame("answer")]),
    ]);
  });

  it("where waiting brings nothing together nobody waits", async () => {
    writers = new Writers(200, WINDOW);
    ({ socket, transport, writer } = connect());
    const spin = () => {
      const slice = performance.now() + 90;
      while (performance.now() < slice);
    };
    for (let i = 0; writers.waitMs === 0 && i < 100; i++) {
      spin();
      writer.event(event(i));
      await turn();
    }
    expect(writers.waitMs).to.be.above(0);
    const before = writers.writes;
    await until(() => writers.writes > before);
    expect(writers.waitMs, "one event had waited").to.equal(0);
    spin();
    spin();
    writer.event(event(1));
    await turn();
    expect(writers.writes).to.equal(before + 2);
  });

  it("hundreds who become slow together are closed one a turn", async () => {
    const all = new Outboxes({ holdBytes: 1_024, slowBytes: 4_096 }, writers);
    let closed = 0;
    for (let i = 0; i < 100; i++) all.slow({ slow: () => closed++ });
    for (let turns = 1; turns <= 100; turns++) {
      await turn();
      expect(closed).to.equal(turns);
    }
  });

  it("frames have the length of RFC 6455, in bytes", () => {
    expect([...textFrame("é").subarray(0, 2)]).to.deep.equal([0x81, 2]);
    expect([...textFrame("x".repeat(125)).subarray(0, 2)]).to.deep.equal([0x81, 125]);
    expect([...textFrame("x".repeat(126)).subarray(0, 4)]).to.deep.equal([0x81, 126, 0, 126]);
    expect([...textFrame("x".repeat(65_536)).subarray(0, 10)]).to.deep.equal([
      0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0,
    ]);
  });

  it("a batch without events has no bytes", () => {
    expect(new Batch().buffer).to.have.length(0);
  });

  describe("its outbox", () => {
    let all: Outboxes;
    let outbox: Outbox;
    let slow: number;

    const conn = () => ({
      ...{ transport, readyState: "open", writeBuffer: [] },
      write: () => expect.fail("not by Engine.IO"),
      once: () => expect.fail("it is a WebSocket already"),
    });

    beforeEach(() => {
      slow = 0;
      all = new Outboxes({ holdBytes: 1_024, slowBytes: 4_096 }, writers);
      outbox = new Outbox(conn(), all, { slow: () => slow++ });
    });
    afterEach(() => {
      outbox.close();
      expect(all.behind).to.equal(0);
    });

    it("who has polled is known from the upgrade on, before what waited goes", async () => {
      let upgraded = () => {};
      const polled = {
        ...{ ...conn(), transport: { writable: true } },
        once: (_: "upgrade", listener: () => void) => {
          upgraded = listener;
        },
      };
      const late = new Outbox(polled, all, { slow: () => slow++ });
      Object.assign(polled, { transport });
      upgraded();
      socket.stuck = true;
      transport.send([textFrame("x".repeat(300_000))]);
      expect(socket.destroyed, "it is no stranger").to.equal(false);
      late.close();
    });

    it("who takes all is never behind; who does not is, until half of it is left", async () => {
      for (let i = 0; i < 30; i++) outbox.write(event(i, "x".repeat(100)));
      await turn();
      expect(outbox.behind).to.equal(false);
      socket.stuck = true;
      outbox.write(event(31, "x".repeat(1_500)));
      expect(outbox.behind, "not before it is written").to.equal(false);
      await turn();
      expect(outbox.behind).to.equal(true);
      socket.writableLength = 512;
      outbox.sweep();
      expect(outbox.behind).to.equal(false);
    });

    it("above twice the limit it is slow: what waits is forgotten", async () => {
      socket.stuck = true;
      outbox.write(event(1, "x".repeat(300_000)));
      await turn();
      await turn();
      expect(slow).to.equal(1);
      expect(outbox.write(event(2))).to.equal(false);
      expect(socket.destroyed, "the connection is its owner's to end").to.equal(false);
    });

    it("who is late is slow when above twice the limit is held, also for the other namespace", async () => {
      let others = 0;
      const other = new Outbox(conn(), all, { slow: () => others++ });
      for (let i = 0; i < 12; i++) outbox.write(event(i, "x".repeat(1_000)));
      writer.flush();
      writers.ticks += 20;
      for (let i = 0; i < 12; i++) outbox.write(event(i, "x".repeat(1_000)));
      writer.flush();
      for (let i = 0; i < 3; i++) await turn();
      expect([slow, others]).to.deep.equal([1, 1]);
      other.close();
    });

    it("two namespaces of one connection both hear of it", async () => {
      let others = 0;
      const other = new Outbox(conn(), all, { slow: () => others++ });
      socket.stuck = true;
      outbox.write(event(1, "x".repeat(9_000)));
      await turn();
      await turn();
      await turn();
      expect([slow, others]).to.deep.equal([1, 1]);
      other.close();
    });
  });
});
