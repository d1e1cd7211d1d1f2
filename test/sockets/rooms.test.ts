import { expect } from "chai";
import fc from "fast-check";
import { ID_PATTERN } from "../../src/protocol/limits.ts";
import { allJobsRoom, jobRoom, tenantRoom } from "../../src/sockets/rooms.ts";

const id = fc.stringMatching(new RegExp(ID_PATTERN));

describe("sockets/rooms", () => {
  it("trap 16: no room is 20 characters long, which the adapter takes for a socket's id", () => {
    fc.assert(
      fc.property(id, id, (tenant, job) => {
        for (const room of [tenantRoom(tenant), jobRoom(tenant, job), allJobsRoom(tenant)])
          expect(room).to.not.have.length(20);
      }),
      { numRuns: 2_000 },
    );
    for (let length = 1; length <= 64; length++) {
      expect(tenantRoom("x".repeat(length))).to.not.have.length(20);
      expect(allJobsRoom("x".repeat(length))).to.not.have.length(20);
      for (let other = 1; other <= 20; other++)
        expect(jobRoom("x".repeat(length), "y".repeat(other))).to.not.have.length(20);
    }
  });

  it("each tenant, job and kind has a room of its own", () => {
    fc.assert(
      fc.property(id, id, id, id, (tenant, job, other, otherJob) => {
        const rooms = (a: string, b: string) => [tenantRoom(a), allJobsRoom(a), jobRoom(a, b)];
        expect(new Set(rooms(tenant, job)).size).to.equal(3);
        if (tenant !== other) {
          const both = new Set([...rooms(tenant, job), ...rooms(other, otherJob)]);
          expect(both.size).to.equal(6);
        }
        if (job !== otherJob) expect(jobRoom(tenant, job)).to.not.equal(jobRoom(tenant, otherJob));
      }),
    );
  });
});
