import { expect } from "chai";
import { Redis } from "ioredis";
import { LogReads, Monitor, mostReads, readsPerWindow } from "../../bench/log-reads.ts";
import { Keys } from "../../src/redis/keys.ts";
import { freshPrefix, plainRedis } from "../support/hooks.ts";
import { lines, startTestHub, status } from "../support/hub.ts";

const { events, log, meta } = new Keys("p").job("acme", "a");

describe("LogReads", () => {
  const CLIENT = "127.0.0.1:5";

  it("counts a script that reads streams once, whatever it reads", () => {
    const reads = new LogReads();
    reads.add(1, ["evalsha", "abc", "4", meta, "x", events, log], CLIENT);
    reads.add(1, ["HMGET", meta, "e", "n"], "lua");
    for (const key of [events, events, log]) reads.add(1, ["XRANGE", key, "(5-0", "9-0"], "lua");
    reads.add(1.2, ["xrange", events, "-", "+"], CLIENT);
    expect([...reads.times()]).to.deep.equal([["a", [1_000, 1_200]]]);
  });

  it("counts no script that only names them, and none that appends", () => {
    const reads = new LogReads();
    reads.add(1, ["evalsha", "abc", "2", meta, events], CLIENT);
    reads.add(1, ["HMGET", meta, "e", "n"], "lua");
    reads.add(2, ["evalsha", "def", "2", meta, events], CLIENT);
    reads.add(2, ["XRANGE", events, "-", "+"], "lua");
    reads.add(2, ["XADD", events, "9-0", "t", "log"], "lua");
    reads.add(3, ["xlen", events], CLIENT);
    expect([...reads.times()]).to.deep.equal([]);
  });

  it("keeps jobs apart", () => {
    const reads = new LogReads();
    const other = new Keys("p").job("acme", "b.c");
    reads.add(1, ["evalsha", "abc", "1", log], CLIENT);
    reads.add(1, ["XRANGE", log, "-", "+"], "lua");
    reads.add(2, ["evalsha", "abc", "1", other.log], CLIENT);
    reads.add(2, ["XRANGE", other.log, "-", "+"], "lua");
    expect([...reads.times()]).to.deep.equal([
      ["a", [1_000]],
      ["b.c", [2_000]],
    ]);
  });

  it("finds a hub's reads by MONITOR, and not its appends", async () => {
    const { url } = await plainRedis();
    const hub = await startTestHub({ redis: "plain", prefix: freshPrefix() });
    const redis = new Redis(url);
    const monitor = await Monitor.start(redis);
    try {
      await hub.publish([status("job", "running"), ...lines("job", 20)]);
      const watcher = await hub.watcher();
      const all = await watcher.subscribe({ job_id: "job", since: { epoch: "", seq: 0 } });
      // What made the job is one more.
      expect(all.events).to.have.length(22);
      expect([...(await monitor.stop())].map(([job, times]) => [job, times.length])).to.deep.equal([
        ["job", 1],
      ]);
    } finally {
      redis.disconnect();
      await hub.close();
    }
  });
});

describe("readsPerWindow(times, windowMs)", () => {
  it("is the reads for each window from the first to the last", () => {
    expect(readsPerWindow([], 50)).to.equal(0);
    expect(readsPerWindow([7], 50)).to.equal(1);
    expect(readsPerWindow([0, 50, 100], 50)).to.equal(1);
    expect(readsPerWindow([0, 200], 50)).to.equal(2 / 5);
    expect(readsPerWindow([0, 1, 2, 3], 50)).to.equal(4);
    expect(readsPerWindow([0, 10, 60, 70], 50)).to.equal(2);
  });
});

describe("mostReads(times, windowMs)", () => {
  it("is what the worst window has", () => {
    expect(mostReads([], 50)).to.equal(0);
    expect(mostReads([3], 50)).to.equal(1);
    expect(mostReads([0, 50, 100], 50)).to.equal(1);
    expect(mostReads([0, 49, 98, 99], 50)).to.equal(2);
    expect(mostReads([0, 200, 210, 249, 250], 50)).to.equal(3);
  });
});
