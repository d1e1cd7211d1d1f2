import { expect } from "chai";
import { Window } from "../../src/sockets/window.ts";

const BYTES = 1_000;
const UNBOUND = Number.POSITIVE_INFINITY;

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
    const mark = markOf(window.ask());
    pace.ticks += ticks;
    expect(window.answered(mark, false)).to.equal(true);
  };
  const state = () => [window.late, window.charged, window.room];

  beforeEach(() => {
    pace = { windowBytes: BYTES, ticks: 0 };
    window = new Window(pace);
  });

  it("asks about each half of it, and not so often while much more is on its way", () => {
    greeted();
    const marks: number[] = [];
    for (let written = 100; written <= 20_000; written += 100) if (window.wrote(100)) marks.push(written);
    expect(marks.slice(0, 5)).to.deep.equal([500, 1_000, 1_500, 2_000, 2_500]);
    // Half by half there would be 40.
    expect(marks).to.have.length.within(15, 25);
    expect(window.answered(data(marks.at(-1) as number), false), "and with it all before").to.equal(true);
    expect(window.read).to.equal(marks.at(-1));
    expect(window.answered(data(500), false)).to.equal(false);
  });

  it("has room without a bound for who is in time, and what is left of the window for who is late", () => {
    greeted();
    window.wrote(600);
    pace.ticks += 5;
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
    pace.ticks += 1;
    expect(state()).to.deep.equal([true, 600, 400]);
    window.wrote(600);
    expect(state()).to.deep.equal([true, 1_200, 0]);
    window.wrote(10_000);
    expect(state()).to.deep.equal([true, 2_000, 0]);
  });

  it("who has answered late is late until he answers in time, and is asked with the next that he gets", () => {
    greeted();
    const first = markOf(window.wrote(600));
    pace.ticks += 6;
    window.answered(first, false);
    expect(state()).to.deep.equal([true, 0, BYTES]);
    expect(window.wrote(0), "nothing").to.equal(undefined);
    const second = markOf(window.wrote(1));
    pace.ticks += 6;
    window.answered(second, false);
    expect(window.late).to.equal(true);
    const third = markOf(window.wrote(1));
    pace.ticks += 5;
    window.answered(third, false);
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
  });

  it("while something is held, each answer in time adds to the window what was read, and a late one takes it back", () => {
    greeted();
    const ask = (bytes: number) => markOf(window.wrote(bytes));
    let mark = ask(1_000);
    pace.ticks += 6;
    window.answered(mark, true);
    for (const size of [2_000, 4_000, 8_000]) {
      mark = ask(window.room);
      window.answered(mark, true);
      expect(state()).to.deep.equal([true, 0, size]);
    }
    mark = ask(8_000);
    pace.ticks += 6;
    expect(window.room).to.equal(0);
    window.answered(mark, true);
    expect(state()).to.deep.equal([true, 0, BYTES]);
  });

  it("who is late is asked about each quarter", () => {
    greeted();
    window.wrote(500);
    pace.ticks += 6;
    const asked = [100, 150, 100, 150].map((bytes) => window.wrote(bytes) !== undefined);
    expect(asked).to.deep.equal([false, true, false, true]);
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
    window.ask();
    expect(window.wrote(10_000)).to.equal(undefined);
    pace.ticks += 1_000;
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
  });

  it("takes nothing from pongs that answer nothing", () => {
    const greeting = markOf(window.ask());
    expect(window.answered(Buffer.alloc(0), false)).to.equal(false);
    expect(window.answered(data(1), false)).to.equal(false);
    expect(window.answered(greeting, false)).to.equal(true);
    expect(window.answered(greeting, false), "once").to.equal(false);
    window.wrote(600);
    for (const bytes of [Buffer.alloc(4, 0xff), Buffer.alloc(3), data(601), greeting]) {
      expect(window.answered(bytes, false)).to.equal(false);
    }
    pace.ticks += 6;
    expect(window.charged).to.equal(600);
  });

  it("goes on beyond 4 GB", () => {
    greeted();
    const mark = markOf(window.wrote(2 ** 32 + 700));
    expect(mark).to.deep.equal(data(700));
    expect(window.answered(mark, false)).to.equal(true);
    expect(window.read).to.equal(2 ** 32 + 700);
    expect(window.wrote(499)).to.equal(undefined);
  });

  it("once it is closed nobody is asked, nor late", () => {
    greeted();
    const mark = markOf(window.wrote(5_000));
    pace.ticks += 10;
    window.close();
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
    expect(window.answered(mark, false)).to.equal(false);
    expect(window.wrote(5_000)).to.equal(undefined);
  });
});
