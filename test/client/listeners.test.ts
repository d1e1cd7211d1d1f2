import { expect } from "chai";
import type { TrainwireError } from "../../client/errors.ts";
import { Listeners } from "../../client/listeners.ts";

interface Events {
  tick: (n: number) => void;
  error: (error: TrainwireError) => void;
}

describe("Listeners", () => {
  it("calls every handler, also after one that throws, and tells that as an error", () => {
    const listeners = new Listeners<Events>();
    const told: unknown[] = [];
    const cause = new Error("mine");
    listeners.on("tick", () => {
      throw cause;
    });
    listeners.on("tick", (n) => told.push(n));
    listeners.on("error", (error) => told.push(error.code, error.cause));
    listeners.emit("tick", 1);
    expect(told).to.deep.equal(["handler_failed", cause, 1]);
  });

  it("catches what a promise of a handler rejects with", async () => {
    const listeners = new Listeners<Events>();
    const error = new Promise<TrainwireError>((resolve) => listeners.on("error", resolve));
    listeners.on("tick", async () => {
      throw new Error("later");
    });
    listeners.emit("tick", 1);
    expect((await error).message).to.equal('A handler of "tick" threw: later');
  });

  it("gives errors that nobody handles to `unheard`", () => {
    const unheard: string[] = [];
    const listeners = new Listeners<Events>((error) => unheard.push(error.message));
    listeners.on("tick", () => {
      throw "text";
    });
    listeners.emit("tick", 1);
    expect(unheard).to.deep.equal(['A handler of "tick" threw: text']);
  });

  it("prints the first error only, also when the error handler throws", () => {
    const printed: unknown[] = [];
    const { error: print } = console;
    console.error = (error: unknown) => printed.push(error);
    try {
      const listeners = new Listeners<Events>();
      listeners.on("tick", () => {
        throw new Error("a");
      });
      listeners.on("error", () => {
        throw new Error("b");
      });
      listeners.emit("tick", 1);
      listeners.emit("tick", 2);
    } finally {
      console.error = print;
    }
    expect(printed).to.have.length(1);
    expect(String(printed[0])).to.contain('A handler of "error" threw: b');
  });

  it("lets a handler add and remove handlers", () => {
    const listeners = new Listeners<Events>();
    const told: string[] = [];
    const once = () => {
      told.push("once");
      listeners.off("tick", once);
      listeners.on("tick", () => told.push("later"));
    };
    listeners.on("tick", once);
    listeners.emit("tick", 1);
    expect(told).to.deep.equal(["once"]);
    listeners.emit("tick", 2);
    expect(told).to.deep.equal(["once", "later"]);
    listeners.off("tick");
    listeners.emit("tick", 3);
    expect(told).to.have.length(2);
  });
});
