/** The contract of `Registry`. Every implementation is held against all of it. */
import { expect } from "chai";
import type { JobName } from "../../src/bus/bus.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Registry, Turn } from "../../src/store/registry.ts";

export interface RegistrySubject {
  registry: Registry;
  /** Lets the time of turns go by. */
  pass(ms: number): Promise<void>;
  close(): Promise<void>;
}

export const JOB: JobName = { tenantId: "acme", jobId: "job-1" };
const OTHER: JobName = { tenantId: "other", jobId: "job-1" };
const HOUR = 3_600_000;

export function given(turn: Turn): Exclude<Turn, "told" | { waitMs: number }> {
  if (turn === "told" || "waitMs" in turn) throw new Error(`no turn: ${JSON.stringify(turn)}`);
  return turn;
}

export async function code(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof HubError) return error.code;
    throw error;
  }
  return "none";
}

export function registrySuite(name: string, open: () => Promise<RegistrySubject>): void {
  describe(`registry: ${name}`, () => {
    let subject: RegistrySubject;
    let registry: Registry;
    beforeEach(async () => {
      subject = await open();
      registry = subject.registry;
    });
    afterEach(() => subject.close());

    it("beat() says once that the instance is new, and finds nobody else", async () => {
      expect(await registry.beat()).to.deep.equal({ anew: true, silent: [] });
      expect(await registry.beat()).to.deep.equal({ anew: false, silent: [] });
    });

    it("share() sets what this instance has, of one tenant's job", async () => {
      expect(await registry.shares(JOB)).to.deep.equal([]);
      await registry.share(JOB, { watchers: 2, users: ["ann", 'b"ü\u{1F600}'] });
      expect(await registry.shares(JOB)).to.deep.equal([{ watchers: 2, users: ["ann", 'b"ü\u{1F600}'] }]);
      expect(await registry.shares(OTHER)).to.deep.equal([]);
      await registry.share(JOB, { watchers: 1, users: ["ann"] });
      expect(await registry.shares(JOB)).to.deep.equal([{ watchers: 1, users: ["ann"] }]);
      await registry.share(JOB, undefined);
      expect(await registry.shares(JOB)).to.deep.equal([]);
    });

    it("turn() is for changes that have not been told", async () => {
      expect(await registry.turn(JOB, HOUR)).to.equal("told");
      await registry.share(JOB, undefined);
      expect(await registry.turn(JOB, HOUR), "none is no change").to.equal("told");
      await registry.share(JOB, { watchers: 1, users: ["ann"] });
      const { shares, version } = given(await registry.turn(JOB, HOUR));
      expect(shares).to.deep.equal([{ watchers: 1, users: ["ann"] }]);
      await registry.told(JOB, version);
      await registry.share(JOB, { watchers: 1, users: ["ann"] });
      expect(await registry.turn(JOB, 0), "the same once more").to.equal("told");
    });

    it("turn() comes once in its time, and with a higher version after each change", async () => {
      await registry.share(JOB, { watchers: 1, users: [] });
      const first = given(await registry.turn(JOB, HOUR)).version;
      expect(await registry.turn(JOB, HOUR))
        .to.have.property("waitMs")
        .within(HOUR - 60_000, HOUR);
      expect(given(await registry.turn(JOB, 0)).version, "nothing has changed").to.deep.equal(first);
      await registry.share(JOB, undefined);
      await registry.told(JOB, first);
      await subject.pass(HOUR);
      const { shares, version } = given(await registry.turn(JOB, HOUR));
      expect(shares).to.deep.equal([]);
      expect(version.incarnation).to.equal(first.incarnation);
      expect(version.n).to.be.above(first.n);
      await registry.told(JOB, version);
      await registry.told(JOB, first);
      expect(await registry.turn(JOB, 0), "an older one takes nothing back").to.equal("told");
    });

    it("versions rise over a release", async () => {
      await registry.share(JOB, { watchers: 1, users: [] });
      const first = given(await registry.turn(JOB, 0)).version;
      await registry.share(JOB, undefined);
      await registry.release(JOB);
      await registry.share(JOB, { watchers: 1, users: [] });
      const second = given(await registry.turn(JOB, 0)).version;
      expect([second.incarnation - first.incarnation, second.n - first.n]).to.satisfy(
        ([incarnation, n]: [number, number]) => incarnation > 0 || (incarnation === 0 && n > 0),
      );
    });

    it("trainers() are sorted by rank, the newest first", async () => {
      expect(await registry.trainers(JOB)).to.deep.equal([]);
      for (const [id, rank] of [
        ["a", 1],
        ["b", 0],
        ["c", 0],
        ["d", 10],
      ] as const) {
        expect(await registry.announce(JOB, { id, rank })).to.include({ id, rank, instanceId: "hub-a" });
      }
      const ids = async () => (await registry.trainers(JOB)).map(({ id }) => id).join("");
      expect(await ids()).to.equal("cbad");
      await registry.announce(JOB, { id: "b", rank: 0 });
      expect(await ids()).to.equal("bcad");
      await registry.announce(JOB, { id: "d", rank: 0 });
      expect(await ids()).to.equal("dbca");
      expect(await registry.trainers(OTHER)).to.deep.equal([]);
      await registry.withdraw(JOB, "b");
      await registry.withdraw(JOB, "nobody");
      expect(await ids()).to.equal("dca");
      for (const id of "dca") await registry.withdraw(JOB, id);
      expect(await registry.trainers(JOB)).to.deep.equal([]);
    });

    it("announce() refuses one more trainer than may be", async () => {
      for (let i = 0; i < LIMITS.trainers; i++) await registry.announce(JOB, { id: `t-${i}`, rank: i });
      expect(await code(registry.announce(JOB, { id: "more", rank: 0 }))).to.equal("too_many_trainers");
      await registry.announce(JOB, { id: "t-0", rank: 0 });
      await registry.withdraw(JOB, "t-7");
      await registry.announce(JOB, { id: "more", rank: 0 });
      expect(await registry.trainers(JOB)).to.have.length(LIMITS.trainers);
    });

    it("leave() takes everything away, and who comes again is new", async () => {
      await registry.beat();
      await registry.share(JOB, { watchers: 1, users: [] });
      await registry.announce(JOB, { id: "a", rank: 0 });
      await registry.leave();
      expect(await registry.shares(JOB)).to.deep.equal([]);
      expect(await registry.trainers(JOB)).to.deep.equal([]);
      expect((await registry.beat()).anew).to.equal(true);
    });

    it("reports() tell the newest of who is there, until it leaves", async () => {
      expect(await registry.reports()).to.deep.equal([]);
      await registry.beat();
      expect(await registry.reports()).to.deep.equal([]);
      await registry.report('{"n":1}');
      await registry.report('{"n":2,"text":"ü\\u2028"}');
      await registry.beat();
      expect(await registry.reports()).to.deep.equal(['{"n":2,"text":"ü\\u2028"}']);
      await registry.leave();
      expect(await registry.reports()).to.deep.equal([]);
    });

    it("lease() is this instance's, as often as it asks", async () => {
      expect(await registry.lease("work", HOUR)).to.equal(true);
      expect(await registry.lease("work", HOUR)).to.equal(true);
    });
  });
}
