import { expect } from "chai";
import { Window } from "../../src/sockets/window.ts";

const BYTES = 1_000;

describe("sockets/window", () => {
  let pace: { windowBytes: number; ticks: number };
  let window: Window;

  const markOf = (ping: Buffer | undefined): Buffer => {
    expect(ping?.length).to.equal(6);
    expect(ping?.subarray(0, 2)).to.deep.equal(Buffer.from([0x89, 4]));
    return (ping as Buffer).subarray(2);
  };
  const data = (mark: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(mark);
    return bytes;
  };
  /** The first ping is answered after so many ticks. */
  const greeted = (ticks = 0) => {
    const mark = markOf(window.greet());
    pace.ticks += ticks;
    expect(window.answered(mark)).to.equal(true);
  };

  beforeEach(() => {
    pace = { windowBytes: BYTES, ticks: 0 };
    window = new Window(pace);
  });

  it("asks once half of it may be unread, and not again before the answer", () => {
    greeted();
    expect(window.wrote(499)).to.equal(undefined);
    const mark = markOf(window.wrote(1));
    expect(window.wrote(5_000)).to.equal(undefined);
    expect(window.answered(mark)).to.equal(true);
    expect(markOf(window.wrote(0)), "5 000 are still unread").to.deep.equal(data(5_500));
  });

  it("has room without a bound for who is in time, and what is left of the window for who is late", () => {
    greeted();
    window.wrote(600);
    pace.ticks += 5;
    expect([window.late, window.waiting, window.room]).to.deep.equal([false, 0, Number.POSITIVE_INFINITY]);
    pace.ticks += 1;
    expect([window.late, window.waiting, window.room]).to.deep.equal([true, 600, 400]);
    window.wrote(600);
    expect([window.late, window.waiting, window.room]).to.deep.equal([true, BYTES, 0]);
  });

  it("who has answered late is late until he answers in time", () => {
    greeted();
    const first = markOf(window.wrote(600));
    pace.ticks += 6;
    window.answered(first);
    expect([window.late, window.waiting, window.room]).to.deep.equal([true, 0, BYTES]);
    const second = markOf(window.wrote(700));
    expect(window.waiting).to.equal(700);
    pace.ticks += 6;
    window.answered(second);
    expect(window.late).to.equal(true);
    const third = markOf(window.wrote(500));
    pace.ticks += 5;
    window.answered(third);
    expect(window.late).to.equal(false);
  });

  it("a long way is no lateness, up to a second", () => {
    greeted(7);
    window.wrote(600);
    pace.ticks += 12;
    expect(window.late).to.equal(false);
    pace.ticks += 1;
    expect(window.late).to.equal(true);
    window = new Window(pace);
    greeted(100);
    window.wrote(600);
    pace.ticks += 16;
    expect(window.late).to.equal(true);
  });

  it("nobody is late who has never answered, and nothing is asked of him", () => {
    window.greet();
    expect(window.wrote(10_000)).to.equal(undefined);
    pace.ticks += 1_000;
    expect([window.late, window.waiting, window.room]).to.deep.equal([false, 0, Number.POSITIVE_INFINITY]);
  });

  it("asks once more when an answer seems lost, and takes the old one, too", () => {
    greeted();
    const first = markOf(window.wrote(600));
    window.wrote(600);
    pace.ticks += 20;
    expect(window.again()).to.equal(undefined);
    pace.ticks += 1;
    const second = markOf(window.again());
    expect(window.late, "asking again makes nobody in time").to.equal(true);
    pace.ticks += 100;
    expect(window.again(), "nothing was written since").to.equal(undefined);
    expect(window.answered(first)).to.equal(true);
    expect([window.late, window.waiting]).to.deep.equal([true, 600]);
    expect(window.answered(second)).to.equal(true);
    expect([window.late, window.waiting]).to.deep.equal([true, 0]);
  });

  it("takes nothing from pongs that answer nothing", () => {
    const greeting = markOf(window.greet());
    expect(window.answered(Buffer.alloc(0))).to.equal(false);
    expect(window.answered(data(1))).to.equal(false);
    expect(window.answered(greeting)).to.equal(true);
    expect(window.answered(greeting), "once").to.equal(false);
    window.wrote(600);
    for (const bytes of [Buffer.alloc(4, 0xff), Buffer.alloc(3), data(601)]) {
      expect(window.answered(bytes)).to.equal(false);
    }
    pace.ticks += 6;
    expect(window.waiting).to.equal(600);
  });

  it("goes on beyond 4 GB", () => {
    greeted();
    const mark = markOf(window.wrote(2 ** 32 + 700));
    expect(mark).to.deep.equal(data(700));
    window.wrote(300);
    expect(window.answered(mark)).to.equal(true);
    pace.ticks += 6;
    expect(window.late).to.equal(false);
    const next = markOf(window.wrote(2 ** 32 - 500));
    expect(window.answered(next)).to.equal(true);
    expect(window.wrote(499)).to.equal(undefined);
  });

  it("once it is closed nobody is asked, nor late", () => {
    greeted();
    const mark = markOf(window.wrote(5_000));
    pace.ticks += 10;
    window.close();
    expect([window.late, window.room]).to.deep.equal([false, Number.POSITIVE_INFINITY]);
    expect(window.answered(mark)).to.equal(false);
    expect(window.wrote(5_000)).to.equal(undefined);
  });
});
