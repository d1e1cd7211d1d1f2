import { expect } from "chai";
import type { Identity } from "../../src/auth.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { EVENT_TYPES, EVENTS } from "../../src/protocol/events.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import { STATUS_SPELLINGS } from "../../src/protocol/status.ts";
import type { PublishAnswer } from "../../src/protocol/types.ts";
import { exampleOf } from "../protocol/examples.ts";
import { line, type Scripted, sample, scripted, status, TRAINER, WATCHER } from "./scripted.ts";

describe("core/publish", () => {
  let hub: Scripted;
  beforeEach(() => {
    hub = scripted();
  });
  afterEach(() => hub.close());

  const publish = (events: unknown, identity: Identity = TRAINER): Promise<PublishAnswer> =>
    hub.hub.publish(identity, events);
  const event = (rest: object = {}) => ({ job_id: "job", ...line(), ...rest });
  const code = async (input: unknown, identity?: Identity) =>
    (await publish([input], identity)).refused[0]?.code;
  const wires = (jobId = "job") =>
    hub.bus.history({ tenantId: "acme", jobId }).map(({ wire }) => JSON.parse(wire));
  const stored = (answer: PublishAnswer) => answer.accepted + answer.duplicates;

  it("publish(events): one bad event refuses only itself, and is named by its index", async () => {
    const answer = await publish([
      event(),
      { type: "nothing" },
      "text",
      event({ surprise: 1 }),
      new HubError("malformed"),
      event({ data: { message: "last" } }),
    ]);
    expect(answer.accepted).to.equal(2);
    expect(answer.refused.map(({ index, code: own }) => [index, own])).to.deep.equal([
      [1, "unknown_type"],
      [2, "invalid_event"],
      [3, "invalid_event"],
      [4, "malformed"],
    ]);
    expect(answer.positions.job?.seq).to.equal(3);
    expect(wires().map(({ type }) => type)).to.deep.equal(["job_created", "log", "log"]);
  });

  it("publish(event) takes one event as a list of one", async () => {
    expect((await publish(event())).accepted).to.equal(1);
  });

  it("publish(events) refuses more than 500 as a whole, and stores none", async () => {
    const most = Array.from({ length: LIMITS.batchEvents }, () => event());
    expect((await publish(most)).accepted).to.equal(500);
    await expectRefusal(publish([...most, event()]), "batch_too_large");
    expect(wires()).to.have.length(501);
  });

  it("creates the job with its first event, and only once", async () => {
    await publish([event(), event()]);
    await publish(event());
    const [first, ...rest] = wires();
    expect(first).to.include({ type: "job_created", seq: 1, job_id: "job" });
    expect(first.data).to.deep.equal({ created_by: "t" });
    expect(rest.map(({ type }) => type)).to.deep.equal(["log", "log", "log"]);
  });

  it("sets created_by and updated_by, whatever the sender says", async () => {
    await publish([
      { type: "job_created", job_id: "job", data: { name: "n", created_by: "somebody else" } },
      { type: "job_updated", job_id: "job", data: { kind: "k", updated_by: "somebody else" } },
      { type: "dataset_update", data: { dataset_id: "d", action: "created", updated_by: "somebody else" } },
    ]);
    expect(wires().map(({ data }) => data.created_by ?? data.updated_by)).to.deep.equal(["t", "t"]);
    const [dataset] = hub.bus.history({ tenantId: "acme" }).slice(-1);
    expect(JSON.parse(dataset?.wire ?? "").data.updated_by).to.equal("t");
    expect((await hub.hub.jobs.snapshot(WATCHER, "job")).created_by).to.equal("t");
    expect(await code({ type: "job_created", job_id: "job", data: {} })).to.equal("job_exists");
  });

  it("takes other spellings of a status, and sends ours", async () => {
    for (const [spelling, own] of Object.entries(STATUS_SPELLINGS)) {
      expect(await code({ job_id: spelling, ...status(spelling) }), spelling).to.equal(undefined);
      expect(wires(spelling).at(-1).data.status).to.equal(own);
    }
    expect(await code({ job_id: "job", ...status("done") })).to.equal("invalid_event");
    expect(await code({ job_id: "job", ...status("constructor") })).to.equal("invalid_event");
    expect(await code({ job_id: "job", type: "training_status", data: { status: null } })).to.equal(
      "invalid_event",
    );
  });

  it("refuses the types that only the hub makes", async () => {
    for (const type of EVENT_TYPES) {
      const { id: _, job_id: __, ...example } = exampleOf(type);
      const { commands: ___, ...data } = example.data as { commands?: unknown };
      const expected = EVENTS[type].hubOnly ? "forbidden_type" : undefined;
      const own = EVENTS[type].scope === "tenant" ? {} : { job_id: `job-${type}` };
      expect(await code({ ...example, data, ...own }), type).to.equal(expected);
    }
    const commands = { type: "job_updated", job_id: "job", data: { commands: ["stop"] } };
    expect(await code(commands), "told by announce").to.equal("invalid_event");
  });

  it("wants producer and n together, and not with id", async () => {
    const producer = { id: "p", incarnation: 1 };
    for (const bad of [{ producer }, { n: 1 }, { id: "x", producer, n: 1 }])
      expect(await code(event(bad)), JSON.stringify(bad)).to.equal("invalid_event");
    expect(await code(event({ producer, n: 0 }))).to.equal(undefined);
    expect(await code(event({ id: "x" }))).to.equal(undefined);
    expect(await code(event({ id: "x", n: 1 }))).to.equal("invalid_event");
  });

  it("refuses ids and products with half a character, which would become the same in UTF-8", async () => {
    expect(await code(event({ id: "\ud800" }))).to.equal("invalid_event");
    expect(await code(event({ product: "a\udc00" }))).to.equal("invalid_event");
    expect(await code(event({ id: "\ud83d\ude80", product: "\ud83d\ude80" }))).to.equal(undefined);
  });

  it("stores an event with the same id or n once, and answers its position", async () => {
    const producer = { id: "p", incarnation: 2 };
    const first = await publish([event({ id: "x" }), event({ producer, n: 7 })]);
    const again = await publish([event({ id: "x" }), event({ producer, n: 7 }), event({ producer, n: 3 })]);
    expect(again).to.deep.include({ accepted: 0, duplicates: 3, refused: [] });
    expect(again.positions).to.deep.equal(first.positions);
    expect(await code(event({ producer: { id: "p", incarnation: 1 }, n: 99 }))).to.equal("producer_fenced");
    expect((await publish(event({ producer: { id: "p", incarnation: 3 }, n: 1 }))).accepted).to.equal(1);
  });

  it("wants a job_id for events of a job, and none for the tenant's", async () => {
    expect(await code({ type: "log", data: { message: "" } })).to.equal("invalid_event");
    const dataset = { type: "dataset_update", data: { dataset_id: "d", action: "created" } };
    expect(await code({ ...dataset, job_id: "job" })).to.equal("invalid_event");
    const alert = { type: "alert", data: { level: "info", title: "t" } };
    const answer = await publish([dataset, alert, { ...alert, job_id: "job" }]);
    expect(answer.accepted).to.equal(3);
    expect(answer.tenant_position?.seq).to.be.a("number");
    expect(Object.keys(answer.positions)).to.deep.equal(["job"]);
  });

  it("lets a token with a job allow-list publish to its jobs only, as if the others were not there", async () => {
    const limited: Identity = { ...TRAINER, jobs: ["mine", "exp-*"] };
    await publish(event({ job_id: "theirs" }));
    for (const job_id of ["mine", "exp-1", "exp-"])
      expect(await code(event({ job_id }), limited)).to.equal(undefined);
    const [theirs, missing] = (
      await publish([event({ job_id: "theirs" }), event({ job_id: "none" })], limited)
    ).refused;
    expect({ ...theirs, index: 0 }).to.deep.equal({ ...missing, index: 0 });
    expect(theirs?.code).to.equal("job_not_found");
    const alert = { type: "alert", data: { level: "info", title: "t" } };
    expect(await code(alert, limited)).to.equal("job_not_found");
    expect(await code(alert, { ...TRAINER, jobs: ["*"] })).to.equal(undefined);
    expect(await code(event(), { ...TRAINER, jobs: [] })).to.equal("job_not_found");
  });

  it("publish() takes any valid job id, __proto__ too", async () => {
    const answer = await publish(event({ job_id: "__proto__" }));
    expect(JSON.parse(JSON.stringify(answer)).positions).to.have.own.property("__proto__");
    expect((await hub.hub.jobs.snapshot(WATCHER, "__proto__")).job_id).to.equal("__proto__");
  });

  it("refuses metadata over 4 KB and events over 64 KB, counted in bytes", async () => {
    const metadata = (size: number) => ({ text: "x".repeat(size - '{"text":""}'.length) });
    expect(await code(event({ metadata: metadata(LIMITS.metadataBytes) }))).to.equal(undefined);
    expect(await code(event({ metadata: metadata(LIMITS.metadataBytes + 1) }))).to.equal("event_too_large");
    expect(await code(event({ metadata: { text: "ü".repeat(2_100) } }))).to.equal("event_too_large");
    const custom = (text: string) => ({ type: "custom", job_id: "job", data: { name: "n", data: { text } } });
    expect(await code(custom("x".repeat(64_000)))).to.equal(undefined);
    expect(await code(custom("x".repeat(66_000)))).to.equal("event_too_large");
    expect(await code(custom("ü".repeat(33_000)))).to.equal("event_too_large");
    const [largest] = hub.bus.history().filter(({ type }) => type === "custom");
    expect(Buffer.byteLength(largest?.wire ?? "")).to.be.within(64_000, LIMITS.eventBytes);
  });

  it("takes the hub's time where the sender gives none, and always says when it was received", async () => {
    const given = "2020-01-02T03:04:05+01:00";
    await publish([event(), event({ timestamp: given })]);
    const [, without, with_] = wires();
    expect(without.timestamp).to.equal(without.received_at);
    expect(with_.timestamp).to.equal(given);
    expect(Date.parse(with_.received_at)).to.be.closeTo(Date.now(), 5_000);
  });

  it("keeps numbers and strings as they were written", async () => {
    const data = {
      loss: "NaN",
      smooth_loss: "-Infinity",
      learning_rate: 3.4e38,
      metrics: { a: 1e20, b: 2 ** 53 + 2 },
    };
    await publish({ type: "training_progress", job_id: "job", data });
    expect(wires().at(-1).data).to.deep.equal(data);
    const text = '\u2028 \ud83d\ude00 \\n "quoted" </script>';
    await publish(event({ data: { message: text } }));
    expect(wires().at(-1).data.message).to.equal(text);
    expect(hub.bus.history().every(({ wire }) => !wire.includes("\n"))).to.equal(true);
  });

  it("keeps free-form __proto__ keys as data, without touching a prototype", async () => {
    const custom = JSON.parse('{"name":"n","data":{"__proto__":{"polluted":true}}}');
    await publish({ type: "custom", job_id: "job", data: custom, metadata: JSON.parse('{"__proto__":1}') });
    expect(hub.bus.history().at(-1)?.wire).to.include('"__proto__":{"polluted":true}');
    expect(({} as { polluted?: boolean }).polluted).to.equal(undefined);
    await hub.hub.jobs.snapshot(WATCHER, "job");
  });

  it("answers a job's whole group when the store is away, and the other jobs as usual", async () => {
    let calls = 0;
    hub.store.around = (call, moment) => {
      if (call === "append" && moment === "before" && ++calls === 1) throw new HubError("unavailable");
    };
    const answer = await publish([event({ job_id: "a" }), event({ job_id: "b" }), event({ job_id: "a" })]);
    expect(answer.refused.map(({ index, code: own, temporary }) => [index, own, temporary])).to.deep.equal([
      [0, "unavailable", true],
      [2, "unavailable", true],
    ]);
    expect(Object.keys(answer.positions)).to.deep.equal(["b"]);
  });

  it("answers internal for a fault of the hub, tells nothing of it, and logs it whole", async () => {
    hub.store.around = () => {
      throw new Error("the secret inside");
    };
    const answer = await publish(event());
    expect(answer.refused).to.deep.equal([
      { index: 0, code: "internal", message: "A fault of the hub; it is in its log.", temporary: true },
    ]);
    expect(hub.logged.join()).to.include("the secret inside");
  });

  it("counts what was published, doubled and refused", async () => {
    await publish([
      event({ id: "x" }),
      event({ id: "x" }),
      { type: "nothing" },
      { job_id: "job", ...sample() },
    ]);
    expect(hub.hub.counters).to.include({ published: 2, duplicates: 1, refused: 1 });
    expect(stored(await publish(event({ id: "x" })))).to.equal(1);
  });

  it("createJob() answers the job, makes an id where none is given, and refuses one that is there", async () => {
    const made = await hub.hub.createJob(TRAINER, { name: "n", tags: ["a"] });
    expect(made).to.include({ name: "n", status: "pending", created_by: "t", seq: 1 });
    expect(made.job_id).to.match(/^job-[0-9a-f]{16}$/);
    await hub.hub.createJob(TRAINER, { job_id: "mine" });
    await expectRefusal(hub.hub.createJob(TRAINER, { job_id: "mine" }), "job_exists");
    await expectRefusal(hub.hub.createJob(TRAINER, { job_id: "a/b" }), "invalid_event");
    await expectRefusal(hub.hub.createJob(TRAINER, { surprise: 1 } as object), "invalid_event");
  });
});

async function expectRefusal(promise: Promise<unknown>, code: string): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).to.be.instanceOf(HubError);
  expect((error as HubError).code).to.equal(code);
}
