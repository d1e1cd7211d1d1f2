import { expect } from "chai";
import { Compile } from "typebox/compile";
import { ENVELOPE, EVENT_TYPES, EVENTS, publishedSchema } from "../../src/protocol/events.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import { JOB_STATUSES, STATUS_SPELLINGS, TERMINAL_STATUSES } from "../../src/protocol/status.ts";
import type { EventType } from "../../src/protocol/types.ts";
import { ENVELOPE_EXAMPLE, EXAMPLES, exampleOf } from "./examples.ts";

type Fields = Record<string, unknown>;

const schemas = new Map(EVENT_TYPES.map((type) => [type, Compile(publishedSchema(type))]));
const fits = (type: EventType, event: unknown) => schemas.get(type)!.Check(event);
const with_ = (type: EventType, data: Fields) => fits(type, { ...exampleOf(type), data });
const progress = (data: unknown) =>
  fits("training_progress", { type: "training_progress", job_id: "a", data });
/** As it comes from the wire. */
const parsed = (text: string) => JSON.parse(text) as Fields;

describe("protocol/events", () => {
  it("has every type of the features' part B", () => {
    expect([...EVENT_TYPES].sort()).to.deep.equal(
      [
        ...["training_progress", "training_status", "sample_generated", "log", "validation_result"],
        ...["system_stats", "job_created", "job_updated", "dataset_update", "product_completed"],
        ...["checkpoint_saved", "alert", "custom", "job_liveness", "presence", "command_update"],
      ].sort(),
    );
  });

  for (const type of EVENT_TYPES) {
    describe(type, () => {
      it("accepts an event with every field", () => {
        expect(fits(type, exampleOf(type))).to.equal(true);
      });

      it("accepts each optional field absent, and refuses each required one absent", () => {
        const { required = [] } = EVENTS[type].data as { required?: string[] };
        for (const field of Object.keys(EXAMPLES[type])) {
          const { [field]: _, ...rest } = EXAMPLES[type] as Fields;
          expect(with_(type, rest), field).to.equal(!required.includes(field));
        }
      });

      it("refuses an unknown field, and __proto__", () => {
        expect(with_(type, { ...EXAMPLES[type], surprise: 1 })).to.equal(false);
        expect(fits(type, { ...exampleOf(type), surprise: 1 })).to.equal(false);
        const text = JSON.stringify(EXAMPLES[type]).replace("{", '{"__proto__":{"polluted":true},');
        expect(with_(type, parsed(text))).to.equal(false);
      });

      it("refuses each field with a wrong type", () => {
        for (const field of Object.keys(EXAMPLES[type])) {
          const isFreeForm = (type === "custom" || type === "command_update") && /^(data|args)$/.test(field);
          const object = isFreeForm ? [] : [{ surprise: "x" }];
          for (const wrong of [null, [[]], Symbol.iterator, ...object]) {
            expect(with_(type, { ...EXAMPLES[type], [field]: wrong }), field).to.equal(false);
          }
        }
      });

      it("refuses data that is no object", () => {
        for (const data of [null, [], "text", 1, undefined])
          expect(fits(type, { ...exampleOf(type), data })).to.equal(false);
      });
    });
  }

  it("has an example for every field of the envelope, and refuses each with a wrong type", () => {
    expect(Object.keys(ENVELOPE_EXAMPLE)).to.have.members(Object.keys(ENVELOPE));
    for (const field of Object.keys(ENVELOPE)) {
      for (const wrong of [null, [], true, -1, 1.5, "", { surprise: 1 }]) {
        // Free-form.
        if (field === "metadata" && typeof wrong === "object" && wrong && !Array.isArray(wrong)) continue;
        expect(
          fits("log", { ...exampleOf("log"), [field]: wrong }),
          `${field}: ${JSON.stringify(wrong)}`,
        ).to.equal(false);
      }
    }
  });

  it("takes ids of 1 to 64 plain characters", () => {
    for (const good of ["a", "A-b_c.9", "x".repeat(64)])
      expect(fits("log", { ...exampleOf("log"), job_id: good }), good).to.equal(true);
    for (const bad of ["", "a/b", "a b", "*", "ü", "x".repeat(65), "a\n", "a:b", "{a}", "a#b"])
      expect(fits("log", { ...exampleOf("log"), job_id: bad }), bad).to.equal(false);
  });

  it("takes ISO 8601 times with a zone", () => {
    for (const good of [
      "2026-01-02T03:04:05Z",
      "2026-01-02 03:04:05.123456+0530",
      "2026-12-31T23:59:60-08:00",
    ])
      expect(fits("log", { ...exampleOf("log"), timestamp: good }), good).to.equal(true);
    for (const bad of [
      "2026-01-02",
      "2026-01-02T03:04:05",
      "2026-13-02T03:04:05Z",
      "now",
      "2026-01-02T25:00:00Z",
    ])
      expect(fits("log", { ...exampleOf("log"), timestamp: bad }), bad).to.equal(false);
  });

  it("takes NaN and the infinities as strings, spelt exactly so", () => {
    for (const good of ["NaN", "Infinity", "-Infinity"])
      expect(progress({ loss: good }), good).to.equal(true);
    for (const bad of [
      "nan",
      "NAN",
      "inf",
      "+Infinity",
      "1",
      "",
      null,
      true,
      Number.NaN,
      Number.POSITIVE_INFINITY,
    ])
      expect(progress({ loss: bad }), String(bad)).to.equal(false);
  });

  it("refuses 1e999, which JSON reads as an infinity, everywhere", () => {
    for (const text of ['{"loss":1e999}', '{"metrics":{"a":-1e999}}', '{"epoch":1e999}', '{"step":1e999}'])
      expect(progress(parsed(text)), text).to.equal(false);
    for (const text of ['{"loss":1e20}', '{"loss":3.4e38}', '{"loss":9007199254740994}', '{"loss":5e-324}'])
      expect(progress(parsed(text)), text).to.equal(true);
  });

  it("takes 64 metrics and refuses 65", () => {
    const metrics = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`m${i}`, i]));
    expect(progress({ metrics: metrics(64) })).to.equal(true);
    expect(progress({ metrics: metrics(65) })).to.equal(false);
  });

  it("refuses a metric named __proto__, empty, too long or with control characters, and takes any other name", () => {
    for (const bad of ["__proto__", "", "x".repeat(65), "a\nb", "\u0000"])
      expect(progress({ metrics: parsed(`{${JSON.stringify(bad)}:1}`) }), bad).to.equal(false);
    for (const good of [
      "val/accuracy",
      "constructor",
      "toString",
      "hasOwnProperty",
      "Δ loss",
      "x".repeat(64),
      "0",
    ])
      expect(progress({ metrics: parsed(`{${JSON.stringify(good)}:1}`) }), good).to.equal(true);
  });

  it("takes whole numbers only where they are counted, and fractions of epochs", () => {
    expect(progress({ epoch: 1.5 })).to.equal(true);
    expect(progress({ step: 1.5 })).to.equal(false);
    expect(progress({ step: -1 })).to.equal(false);
    expect(progress({ step: Number.MAX_SAFE_INTEGER })).to.equal(true);
    expect(progress({ step: 2 ** 53 })).to.equal(false);
    expect(progress({ progress: 100 })).to.equal(true);
    expect(progress({ progress: 100.1 })).to.equal(false);
  });

  it("bounds every text and every list", () => {
    const tooLong = "x".repeat(70_000);
    for (const type of EVENT_TYPES) {
      for (const [field, value] of Object.entries(EXAMPLES[type])) {
        if (typeof value === "string")
          expect(with_(type, { ...EXAMPLES[type], [field]: tooLong }), `${type}.${field}`).to.equal(false);
        if (Array.isArray(value))
          expect(with_(type, { ...EXAMPLES[type], [field]: Array(257).fill(value[0]) }), field).to.equal(
            false,
          );
      }
    }
  });

  it("needs a product where one is completed", () => {
    const { product: _, ...rest } = exampleOf("product_completed");
    expect(fits("product_completed", rest)).to.equal(false);
    expect(fits("log", { type: "log", job_id: "a", data: { message: "" } })).to.equal(true);
  });

  it("gives durable events a stream and conflatable ones a key", () => {
    for (const type of EVENT_TYPES) {
      const { class: own, stream, key } = EVENTS[type];
      expect(stream !== undefined, type).to.equal(own === "durable");
      expect(key !== undefined, type).to.equal(own === "conflatable");
    }
    expect(EVENTS.log.stream).to.equal("log");
  });

  it("names statuses once, and other systems' spellings of them", () => {
    for (const status of TERMINAL_STATUSES) expect(JOB_STATUSES).to.include(status);
    for (const [spelling, status] of Object.entries(STATUS_SPELLINGS)) {
      expect(JOB_STATUSES).to.include(status);
      expect(JOB_STATUSES).to.not.include(spelling);
    }
    expect(Object.keys(STATUS_SPELLINGS)).to.have.members([
      ...["in_progress", "succeeded", "success", "failure", "error", "canceled"],
    ]);
  });

  it("leaves room for the largest event within a message", () => {
    expect(LIMITS.eventBytes).to.be.below(LIMITS.pageBytes);
    expect(LIMITS.pageBytes).to.be.below(LIMITS.messageBytes);
  });
});
