import { expect } from "chai";
import { Window } from "../../src/sockets/window.ts";

const BYTES = 1_000;
const UNBOUND = Number.POSITIVE_INFINITY;

describe("sockets/window", () => {
  let pace: { windowBytes: number; ticks: number };
  let window: Window;

  /** Writes so many bytes, which is to be asked about. */
  const ask = (bytes: number) => {
    expect(window.wrote(bytes)).to.deep.equal(Buffer.from([0x81, 1, 0x32]));
  };
  const answer = (holding = false) => expect(window.answered(holding)).to.equal(true);
  const state = () => [window.late, window.charged, window.room];

  beforeEach(() => {
    pace = { windowBytes: BYTES, ticks: 0 };
    window = new Window(pace);
  });

  it("asks about each half of it, and not so often while much more is on its way", () => {
    const marks: number[] = [];
    for (let written = 100; written <= 80_000; written += 100) if (window.wrote(100)) marks.push(written);
    expect(marks.slice(0, 5)).to.deep.equal([500, 1_000, 1_500, 2_000, 2_500]);
    // Half by half there would be 160.
    expect(marks).to.have.length.within(70, 100);
    for (const mark of marks) {
      answer();
      expect(window.read).to.equal(mark);
    }
    expect(window.answered(false), "nothing is asked any more").to.equal(false);
  });

  it("has room without a bound for who is in time, and what is left of the window for who is late", () => {
    ask(600);
    pace.ticks += 15;
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
    pace.ticks += 1;
    expect(state()).to.deep.equal([true, 600, 400]);
    window.wrote(600);
    expect(state()).to.deep.equal([true, 1_200, 0]);
    window.wrote(10_000);
    expect(state()).to.deep.equal([true, 2_000, 0]);
  });

  it("who has answered late is late until he answers in time, and is asked with the next that he gets", () => {
    ask(600);
    pace.ticks += 16;
    answer();
    expect(state()).to.deep.equal([true, 0, BYTES]);
    expect(window.wrote(0), "nothing").to.equal(undefined);
    ask(1);
    pace.ticks += 16;
    answer();
    expect(window.late).to.equal(true);
    ask(1);
    pace.ticks += 15;
    answer();
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
  });

  it("while something is held, each answer in time adds to the window what was read, and a late one takes it back", () => {
    ask(1_000);
    pace.ticks += 16;
    answer(true);
    for (const size of [2_000, 4_000, 8_000]) {
      ask(window.room);
      answer(true);
      expect(state()).to.deep.equal([true, 0, size]);
    }
    ask(8_000);
    pace.ticks += 16;
    expect(window.room).to.equal(0);
    answer(true);
    expect(state()).to.deep.equal([true, 0, BYTES]);
  });

  it("who is late is asked about each quarter", () => {
    ask(500);
    pace.ticks += 16;
    const asked = [100, 150, 100, 150].map((bytes) => window.wrote(bytes) !== undefined);
    expect(asked).to.deep.equal([false, true, false, true]);
  });

  it("a pong without a question says nothing, and what comes after it is judged as ever", () => {
    ask(500);
    ask(500);
    answer();
    answer();
    expect(window.read).to.equal(1_000);
    expect(window.answered(false)).to.equal(false);
    ask(500);
    pace.ticks += 16;
    expect(state()).to.deep.equal([true, 500, 500]);
  });

  it("once it is closed nobody is asked, nor late", () => {
    ask(5_000);
    pace.ticks += 20;
    window.close();
    expect(state()).to.deep.equal([false, 0, UNBOUND]);
    expect(window.answered(false)).to.equal(false);
    expect(window.wrote(5_000)).to.equal(undefined);
  });
});
