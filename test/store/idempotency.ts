import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import {
  created,
  dataset,
  FEED,
  log,
  progress,
  readAll,
  status,
  TENANT_FEED,
  told,
  withId,
  withN,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

const BATCH = 500;

/** What is sent twice is stored once. */
export function idempotency(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());
  const append = async (...entries: Parameters<Subject["store"]["append"]>[1]) =>
    told((await subject.store.append(FEED, entries, created())).stored);
  const lines = async () =>
    (await readAll(subject.store)).logged
      .filter(({ type }) => type === "log")
      .map(({ data }) => JSON.parse(data).message);

  describe("an id", () => {
    it("makes a resend a duplicate, which answers the position that was stored", async () => {
      expect(await append(withId("a"), withId("b"))).to.deep.equal([2, 3]);
      expect(await append(withId("b"), withId("c"), withId("a"))).to.deep.equal(["=3", 4, "=2"]);
      expect(await lines()).to.deep.equal(["a", "b", "c"]);
    });

    it("counts once within one batch", async () => {
      expect(await append(withId("a"), withId("a"), withId("b"), withId("a"))).to.deep.equal([
        2,
        "=2",
        3,
        "=2",
      ]);
      expect(await lines()).to.deep.equal(["a", "b"]);
    });

    it("counts once across clients", async () => {
      const clients = [subject, await subject.second()];
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          clients[i % 2]?.store.append(FEED, [withId("a"), withId("b")], created()),
        ),
      );
      const words = answers.flatMap((answer) => told(answer?.stored ?? []));
      expect(words.filter((word) => typeof word === "number")).to.have.members([2, 3]);
      expect(words.filter((word) => typeof word === "string")).to.have.length(18);
      expect(await lines()).to.deep.equal(["a", "b"]);
    });

    it("is the job's: another job may have the same", async () => {
      expect(await append(withId("a"))).to.deep.equal([2]);
      const other = await subject.store.append({ ...FEED, jobId: "job-2" }, [withId("a")], created("job-2"));
      expect(told(other.stored)).to.deep.equal([2]);
    });

    it("works for conflatable events, and for any text", async () => {
      const ids = ["", " ", "a b", '"\\\n', "ä\u2028😀", "x".repeat(LIMITS.idLength)].filter(Boolean);
      const entries = ids.map((id, i) => withId(id, i % 2 ? progress({ step: i }) : log(id)));
      expect(await append(...entries)).to.deep.equal([2, 3, 4, 5, 6]);
      expect(await append(...entries)).to.deep.equal(["=2", "=3", "=4", "=5", "=6"]);
    });

    it("of the tenant's own events is remembered too", async () => {
      const { store } = subject;
      const entries = [withId("a", dataset("a")), withN(1, {}, dataset("b"))];
      expect(told((await store.append(TENANT_FEED, entries)).stored)).to.deep.equal([1, 2]);
      expect(told((await store.append(TENANT_FEED, entries)).stored)).to.deep.equal(["=1", "=2"]);
      expect((await readAll(store, TENANT_FEED)).logged).to.have.length(2);
    });

    it(`is remembered for the last ${LIMITS.ids} ids`, async function () {
      this.timeout(60_000);
      const ids = Array.from({ length: LIMITS.ids + 1 }, (_, i) => `id-${i}`);
      for (let i = 0; i < ids.length; i += BATCH)
        await append(...ids.slice(i, i + BATCH).map((id) => withId(id)));
      const head = LIMITS.ids + 2;
      expect(await append(withId("id-1"), withId(`id-${LIMITS.ids}`))).to.deep.equal(["=3", `=${head}`]);
      expect(await append(withId("id-0"))).to.deep.equal([head + 1]);
    });
  });

  describe("a producer", () => {
    it("is kept by its highest n: what is not above it is a duplicate", async () => {
      expect(await append(withN(1), withN(2), withN(3))).to.deep.equal([2, 3, 4]);
      expect(await append(withN(2), withN(3), withN(4), withN(4))).to.deep.equal(["=4", "=4", 5, "=5"]);
      expect(await lines()).to.deep.equal(["n 1", "n 2", "n 3", "n 4"]);
    });

    it("may begin anywhere and leave numbers out", async () => {
      expect(await append(withN(0), withN(7), withN(900))).to.deep.equal([2, 3, 4]);
      expect(await append(withN(8), withN(899), withN(901))).to.deep.equal(["=4", "=4", 5]);
      const last = Number.MAX_SAFE_INTEGER;
      expect(await append(withN(last - 1), withN(last), withN(last - 1))).to.deep.equal([6, 7, "=7"]);
    });

    it("of a lower incarnation is fenced, of a higher one begins anew", async () => {
      const old = { incarnation: 1 };
      const next = { incarnation: Number.MAX_SAFE_INTEGER };
      expect(await append(withN(5, old))).to.deep.equal([2]);
      expect(await append(withN(1, next), withN(6, old))).to.deep.equal([3, "producer_fenced"]);
      expect(await append(withN(1, next), withN(2, next))).to.deep.equal(["=3", 4]);
    });

    it("does not touch another one, nor the same one at another job", async () => {
      expect(await append(withN(5, { id: "a" }), withN(1, { id: "b" }))).to.deep.equal([2, 3]);
      const other = await subject.store.append(
        { ...FEED, jobId: "job-2" },
        [withN(1, { id: "a" })],
        created("job-2"),
      );
      expect(told(other.stored)).to.deep.equal([2]);
    });

    it("counts once across clients", async () => {
      const clients = [subject, await subject.second()];
      const batch = [withN(1), withN(2), withN(3)];
      await Promise.all(
        Array.from({ length: 10 }, (_, i) => clients[i % 2]?.store.append(FEED, batch, created())),
      );
      expect(await lines()).to.deep.equal(["n 1", "n 2", "n 3"]);
    });

    it(`beyond the ${LIMITS.producers}th is refused`, async function () {
      this.timeout(30_000);
      const all = Array.from({ length: LIMITS.producers }, (_, i) => withN(1, { id: `p${i}` }));
      for (let i = 0; i < all.length; i += BATCH) await append(...all.slice(i, i + BATCH));
      expect(await append(withN(1, { id: "one-more" }), withN(2, { id: "p0" }))).to.deep.equal([
        "too_many_producers",
        LIMITS.producers + 2,
      ]);
    });
  });

  it("a duplicate changes nothing", async () => {
    const { store } = subject;
    const batch = [
      withId("s", status("running")),
      withN(1, {}, progress({ step: 1 })),
      withId("l", status("failed")),
    ];
    await append(...batch);
    const before = [
      await store.job(FEED.tenantId, FEED.jobId),
      await readAll(store),
      await readAll(store, TENANT_FEED),
    ];
    expect(await append(...batch)).to.deep.equal(["=2", "=3", "=4"]);
    const { updatedAt: _, ...after } = (await store.job(FEED.tenantId, FEED.jobId)) ?? {};
    expect(before[0]).to.deep.include(after);
    expect([await readAll(store), await readAll(store, TENANT_FEED)]).to.deep.equal(before.slice(1));
  });

  it("an entry without id and producer is stored as often as it is sent", async () => {
    expect(await append(log("a"), log("a"))).to.deep.equal([2, 3]);
    expect(await append(log("a"))).to.deep.equal([4]);
  });
}
