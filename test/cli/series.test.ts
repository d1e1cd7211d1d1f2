/** The loss from before `watch` came. */
import { expect } from "chai";
import { lossSoFar } from "../../src/cli/series.ts";
import type { PublishedEvent } from "../../src/protocol/types.ts";
import { line, progress, startTestHub, TENANT, type TestHub } from "../support/hub.ts";

describe("cli: the loss so far", () => {
  let hub: TestHub;
  beforeEach(async () => {
    hub = await startTestHub();
  });
  afterEach(() => hub.close());

  const accessTo = (url: string) => ({
    connection: { url, token: hub.token("watcher") },
    explain: ({ message }: { message: string }) => new Error(message),
  });
  const soFar = (job: string) => lossSoFar(accessTo(hub.url), TENANT, job);

  it("is the job's own, of its last attempt, oldest first", async () => {
    const told: PublishedEvent[] = [
      progress("run", { loss: 9 }),
      { ...progress("run", { loss: 3 }), attempt: 2 },
      { ...progress("run", { loss: "NaN" }), attempt: 2 },
      { ...progress("run", { loss: 2, metrics: { other: 7 } }), attempt: 2, rank: 0 },
      { ...progress("run", { loss: 50 }), attempt: 2, rank: 1 },
      { ...progress("run", { loss: 60 }), attempt: 3, product: "p" },
    ];
    const { positions } = await hub.publish(told);
    expect(await soFar("run")).to.deep.equal({
      ...positions.run,
      attempt: 2,
      values: [3, Number.NaN, 2],
    });
  });

  it("of a long run is its whole course", async () => {
    for (let i = 0; i < 6; i++) {
      await hub.publish(Array.from({ length: 500 }, (_, k) => progress("run", { loss: i * 500 + k })));
    }
    const { values: course = [] } = (await soFar("run")) ?? {};
    expect(course.length).to.be.within(512, 1_024);
    expect(course[0]).to.be.below(4);
    expect(course.at(-1)).to.equal(2_999);
    expect(course).to.deep.equal([...course].sort((a, b) => a - b));
  });

  it("is nothing when there is none, no job, or no hub", async () => {
    await hub.publish(line("run"));
    expect(await soFar("run")).to.equal(undefined);
    expect(await soFar("none")).to.equal(undefined);
    expect(await lossSoFar(accessTo("http://127.0.0.1:1"), TENANT, "run")).to.equal(undefined);
  });
});
