import { readdirSync, readFileSync } from "node:fs";
import { expect } from "chai";
import {
  type CommandAnswer,
  type DeliveredEvent,
  type Json,
  type Num,
  type Snapshot,
  type TenantSnapshot,
  TrainwireClient,
  type TrainwireError,
  TrainwireTrainer,
} from "../../client/index.ts";

const folder = new URL("../../client/", import.meta.url);

describe("the SDK", () => {
  it("imports at run time nothing but socket.io-client", () => {
    for (const file of readdirSync(folder).filter((name) => name.endsWith(".ts"))) {
      const source = readFileSync(new URL(file, folder), "utf8");
      for (const [, clause, from] of source.matchAll(/^(?:import|export) ([^;]*?) ?from "([^"]+)";/gms)) {
        if (clause?.startsWith("type ") || from?.startsWith("./")) continue;
        expect(from, file).to.equal("socket.io-client");
      }
    }
  });

  it("has types that know each event and snapshot", () => {
    const client = new TrainwireClient({ url: "http://127.0.0.1:1", token: "t" });
    const job = client.subscribe(
      { job_id: "a" },
      { training_progress: ({ data }) => data.loss satisfies Num | undefined },
    );
    job.on("snapshot", (snapshot) => snapshot satisfies Snapshot);
    job.on("event", (event) => event satisfies DeliveredEvent);
    job.on("error", (error) => error satisfies TrainwireError);
    // @ts-expect-error a log line has no loss
    job.on("log", ({ data }) => data.loss);
    // @ts-expect-error no such event
    job.on("training_progres", () => {});
    client.subscribe({}, { snapshot: (snapshot) => snapshot satisfies TenantSnapshot });
    // @ts-expect-error the client asks for further pages itself
    expect(() => client.subscribe({ job_id: "a", next: "1" })).to.throw();
    client.close();
  });

  it("has types that know commands and their handlers", () => {
    const trainer = new TrainwireTrainer({ url: "http://127.0.0.1:1", token: "t", onError: () => {} });
    const run = trainer.run("a");
    run
      .onCommand("save", ({ args }) => String(args?.name satisfies Json | undefined))
      .onCommand({ pause: async () => {}, sample: () => ({ made: 3 }), stop: () => Promise.resolve("bye") });
    // @ts-expect-error no such action
    run.onCommand("explode", () => {});
    // @ts-expect-error a number is no answer
    run.onCommand({ save: () => 3 });
    run.products(3).complete("p", { duration_seconds: 1 });
    run.stages({ loading: 20, training: 100 }).progress(0.5, { loss: 1 });
    // @ts-expect-error the stage's own fields
    run.stages({ loading: 20 }).progress(0.5, { stage: "x" });
    const client = new TrainwireClient({ url: "http://127.0.0.1:1", token: "t" });
    const answered = client.command("a", "custom", { args: { x: [1, null] }, timeoutMs: 100 });
    answered satisfies Promise<CommandAnswer>;
    answered.catch(() => {});
    client.close();
    return trainer.close({ timeoutMs: 0 });
  });
});
