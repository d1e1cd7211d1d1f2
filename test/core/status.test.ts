import { expect } from "chai";
import { Status } from "../../src/core/status.ts";
import { HubError } from "../../src/protocol/codes.ts";
import type { InstanceStatus } from "../../src/protocol/types.ts";
import { MemoryRegistry } from "../../src/store/memory-registry.ts";
import { pass, startClock, stopClock } from "./scripted.ts";

describe("core/status", () => {
  const counted = { published: 0, duplicates: 0, refused: 0, delivered: 0, heals: 0, gaps: 0 };
  let registry: MemoryRegistry;
  let errors: string[];
  let events: typeof counted;

  function statusOf(instanceId: string): Status {
    return new Status({
      registry,
      instanceId,
      state: () => "ready",
      numbers: () => ({
        ...{ feeds: 1, subscriptions: 2, memory_bytes: 3, events },
        connections: { connections: 10, watchers: 4, trainers: 5, heartbeats: 6 },
      }),
      onError: (error, what) => errors.push(`${what}: ${(error as Error).message}`),
    });
  }

  beforeEach(() => {
    registry = new MemoryRegistry({ instanceId: "hub-b" });
    errors = [];
    events = { ...counted };
  });

  it("sums what other instances have reported, and leaves out what this one has", async () => {
    const texts = ["hub-c", "hub-b", "hub-a"].map((id) => statusOf(id).report());
    registry.reports = async () => texts;
    events = { ...counted, published: 7 };
    const { instances, ...sums } = await statusOf("hub-b").answer();
    expect(sums).to.deep.equal({
      ...{ instance_id: "hub-b", feeds: 3, subscriptions: 6, memory_bytes: 9 },
      connections: { connections: 30, watchers: 12, trainers: 15, heartbeats: 18 },
      events: { ...counted, published: 7 },
      rates: { published: 0, delivered: 0 },
    });
    expect(instances.map(({ instance_id }) => instance_id)).to.deep.equal(["hub-a", "hub-b", "hub-c"]);
  });

  it("reads reports of other versions, and passes over what is none", async () => {
    const other = {
      ...{ instance_id: "hub-z", state: "asleep", version: "9.0.0", uptime_seconds: 1, feeds: "many" },
      ...{ reported_at: "2030-01-01T00:00:00.000Z", more: 1, events: { published: 5, more: 2 }, rates: null },
    };
    const garbage = ["", "{", "null", "7", '"x"', "[]", "{}", '{"instance_id":7,"state":"ready"}'];
    registry.reports = async () => [...garbage, JSON.stringify(other)];
    const { instances, ...sums } = await statusOf("hub-b").answer();
    expect(instances).to.have.length(2);
    const { feeds, events: told, ...rest } = instances[1] as InstanceStatus;
    expect(rest).to.include({ instance_id: "hub-z", state: "asleep", version: "9.0.0", uptime_seconds: 1 });
    expect(rest).not.to.have.property("more");
    expect([feeds, told]).to.deep.equal([0, { ...counted, published: 5 }]);
    expect([sums.feeds, sums.events.published]).to.deep.equal([1, 5]);
  });

  it("is of this instance alone when the registry throws", async () => {
    registry.reports = () => Promise.reject(new HubError("unavailable"));
    expect((await statusOf("hub-b").answer()).instances).to.have.length(1);
    expect(errors).to.have.length(1);
  });

  it("is of this instance alone when the registry takes its time", async () => {
    stopClock();
    try {
      registry.reports = () => new Promise(() => {});
      const answer = statusOf("hub-b").answer();
      await pass(500);
      expect((await answer).instances).to.have.length(1);
    } finally {
      startClock();
    }
  });
});
