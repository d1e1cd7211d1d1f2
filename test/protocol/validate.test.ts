import { expect } from "chai";
import fc from "fast-check";
import { Compile } from "typebox/compile";
import { HubError } from "../../src/protocol/codes.ts";
import { EVENT_TYPES, publishedSchema } from "../../src/protocol/events.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { EventType } from "../../src/protocol/types.ts";
import { checkRequest, describeFault } from "../../src/protocol/validate.ts";
import { NOTICES, VERBS, type VerbName } from "../../src/protocol/verbs.ts";
import { EXAMPLES, exampleOf } from "./examples.ts";

const CURSOR = { epoch: "e", seq: 1 };

function fault(verb: VerbName, request: unknown): string | undefined {
  try {
    checkRequest(verb, request);
    return undefined;
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    expect(error.code).to.equal("invalid_request");
    return error.message;
  }
}

describe("protocol/validate", () => {
  const validator = Compile(publishedSchema("training_progress"));
  const describe_ = (event: unknown) => describeFault(validator, event);

  it("describeFault says where and what", () => {
    const event = (data: unknown, rest = {}) => ({ type: "training_progress", job_id: "a", data, ...rest });
    expect(describe_(event({ loss: true }))).to.equal("data/loss must be number");
    expect(describe_(event({ surprise: 1 }))).to.equal(
      'data must not have additional properties: ["surprise"]',
    );
    expect(describe_(event({}, { rank: -1 }))).to.equal("rank must be >= 0");
    expect(describe_(event({ metrics: { a: "1" } }))).to.equal("data/metrics/a must be number");
  });

  it("describeFault never leaks a value, wherever it stands", () => {
    const secret = "hunter2-the-password";
    for (const type of EVENT_TYPES) {
      const own = Compile(publishedSchema(type));
      for (const field of Object.keys(EXAMPLES[type])) {
        for (const value of [{ a: secret }, [secret], `${secret}${"x".repeat(70_000)}`]) {
          const event = { ...exampleOf(type), data: { ...EXAMPLES[type], [field]: value } };
          if (own.Check(event)) continue;
          const said = describeFault(own, event);
          expect(said, `${type}.${field}`).to.not.contain(secret);
          expect(said.length, said).to.be.below(600);
        }
      }
      for (const field of ["job_id", "timestamp", "product", "producer", "id", "n"]) {
        const event = { ...exampleOf(type), [field]: { a: secret } };
        expect(describeFault(own, event), `${type} ${field}`).to.not.contain(secret);
      }
    }
  });

  it("describeFault is one short line for any input", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (data, metadata) => {
        const event = { type: "training_progress", job_id: "a", data, metadata };
        if (validator.Check(event)) return;
        expect(describe_(event)).to.match(/^[^\n]{3,600}$/);
      }),
    );
  });

  it("checkRequest(subscribe) takes every documented form", () => {
    for (const good of [
      {},
      { job_id: "a", types: ["log"], history: 1_000, max_rate: 0.1, wait: true },
      { job_id: "a", since: CURSOR, wait: 3_600, max_rate: 60 },
      { job_id: "*", since: { a: CURSOR, "b.c": CURSOR }, next: "1" },
      { since: CURSOR },
    ]) {
      expect(fault("subscribe", good), JSON.stringify(good)).to.equal(undefined);
    }
  });

  it("checkRequest(subscribe) refuses every other", () => {
    for (const bad of [
      ...[null, [], "a", 1, { surprise: 1 }],
      ...[{ job_id: "" }, { job_id: "a/b" }, { job_id: "**" }, { job_id: null }, { job_id: "x".repeat(65) }],
      ...[{ types: [] }, { types: ["nothing"] }, { types: "log" }, { types: Array(17).fill("log") }],
      ...[{ history: -1 }, { history: 1_001 }, { history: 1.5 }, { history: "1" }],
      ...[{ max_rate: 0 }, { max_rate: 61 }, { wait: 0 }, { wait: 3_601 }, { wait: "yes" }],
      ...[{ since: null }, { since: [] }, { since: "e:1" }, { since: { epoch: "e" } }, { since: { seq: 1 } }],
      ...[
        { since: { ...CURSOR, seq: -1 } },
        { since: { ...CURSOR, seq: 1.5 } },
        { since: { ...CURSOR, x: 1 } },
      ],
      ...[{ since: { epoch: "", seq: 1 } }, { since: { epoch: "x".repeat(65), seq: 1 } }],
      ...[{ since: { ...CURSOR, seq: 2 ** 53 } }, { since: { "a/b": CURSOR } }, { since: { a: 1 } }],
      { since: Object.fromEntries(Array.from({ length: LIMITS.allJobs + 1 }, (_, i) => [`j${i}`, CURSOR])) },
      { next: 1 },
    ]) {
      expect(fault("subscribe", bad), JSON.stringify(bad).slice(0, 80)).to.be.a("string");
    }
  });

  it("checkRequest(publish) takes an object or a list, each event being checked later", () => {
    for (const good of [{}, [1], [{}, "x", null]]) expect(fault("publish", good)).to.equal(undefined);
    for (const bad of [undefined, null, [], "x", 1]) expect(fault("publish", bad)).to.be.a("string");
  });

  it("checkRequest(unsubscribe), (ping)", () => {
    expect(fault("unsubscribe", {})).to.equal(undefined);
    expect(fault("unsubscribe", { job_id: "*" })).to.equal(undefined);
    expect(fault("unsubscribe", { job_id: "a", types: ["log"] })).to.be.a("string");
    expect(fault("ping", {})).to.equal(undefined);
    expect(fault("ping", { a: 1 })).to.be.a("string");
  });

  it("gives no notice the name of an event type, and a verb only that of what it asks for", () => {
    for (const name of NOTICES) expect(EVENT_TYPES).to.not.include(name);
    expect(Object.keys(VERBS).filter((name) => EVENT_TYPES.includes(name as EventType))).to.deep.equal([
      "presence",
    ]);
  });
});
