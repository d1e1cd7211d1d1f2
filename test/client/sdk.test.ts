import { readdirSync, readFileSync } from "node:fs";
import { expect } from "chai";
import {
  type DeliveredEvent,
  type Num,
  type Snapshot,
  type TenantSnapshot,
  TrainwireClient,
  type TrainwireError,
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
});
