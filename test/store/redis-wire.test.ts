/** The scripts and wire.ts make the same bytes of the same texts. */
import { readFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { Redis } from "ioredis";
import { fieldsIn, fieldsOf, jobWire, joinFields, tenantWire } from "../../src/store/wire.ts";
import { plainRedis } from "../support/hooks.ts";

const COMMON = readFileSync(new URL("../../src/store/lua/common.lua", import.meta.url), "utf8");
const SCRIPT = `#!lua
${COMMON}
local fields, at = {}, 7
while ARGV[at] do
  fields[ARGV[at]] = ARGV[at + 1]
  at = at + 2
end
return {
  job_lines(ARGV[1], ARGV[2], 'd', 'log', 'job', 'a key', ARGV[5], ARGV[6]),
  tenant_lines(ARGV[1], tonumber(ARGV[2]), 'c', 'log', '', '', ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]),
  join_fields(fields),
}`;

const seq = fc.oneof(
  fc.integer({ min: 1, max: 1_000 }),
  fc.maxSafeNat(),
  fc.constantFrom(99_999_999_999_999, 100_000_000_000_001, Number.MAX_SAFE_INTEGER),
);
const json = fc.json();
const name = fc.oneof(
  fc.constantFrom(
    "loss",
    "val/accuracy",
    "val/loss",
    "a b",
    'q"u\\o',
    "",
    "m",
    "_",
    "A",
    "a",
    "é",
    "\uffee",
    "😀",
    "\u{10ffff}",
  ),
  fc.string({ maxLength: 12, unit: "grapheme" }),
  fc.string({
    maxLength: 4,
    unit: fc.constantFrom("a", "b", "A", "_", "/", "é", "\ue000", "\uffff", "😀", "😁"),
  }),
);

describe("store: the scripts and wire.ts", () => {
  let redis: Redis;
  before(async () => {
    redis = new Redis((await plainRedis()).url);
  });
  after(() => redis.disconnect());

  it("make the same bytes of events, positions and merged fields", async () => {
    const data = fc.record({
      metrics: fc.dictionary(name, fc.anything()),
      plain: fc.dictionary(name, fc.anything()),
    });
    await fc.assert(
      fc.asyncProperty(
        seq,
        seq,
        fc.boolean(),
        json,
        json,
        data,
        async (own, jobs, ofJob, head, payload, { metrics, plain }) => {
          const { metrics: _, ...others } = plain;
          const all = JSON.parse(
            JSON.stringify({ ...others, metrics }, (_, value) => (typeof value === "bigint" ? 0 : value)),
          );
          const fields = new Map(fieldsIn(fieldsOf(all)));
          const job = ofJob ? { epoch: "job-epoch", seq: jobs } : undefined;
          const args = [
            "epoch_-1",
            own,
            job?.epoch ?? "",
            job?.seq ?? 0,
            head,
            payload,
            ...[...fields].flat(),
          ];
          const made = (await redis.eval(SCRIPT, 0, ...args)) as string[];
          expect(made).to.deep.equal([
            `1 epoch_-1 ${own} d log job a key\n${jobWire("epoch_-1", own, head, payload)}`,
            `1 epoch_-1 ${own} c log  \n${tenantWire("epoch_-1", own, job, head, payload)}`,
            joinFields(fields),
          ]);
          expect(JSON.parse(joinFields(fields))).to.deep.equal(
            Object.keys(all.metrics).length > 0
              ? all
              : JSON.parse(JSON.stringify({ ...all, metrics: undefined })),
          );
        },
      ),
      { numRuns: 500 },
    );
  });

  it("sort by the bytes of UTF-8", async () => {
    const units = [
      "\u0001",
      " ",
      '"',
      "A",
      "Z",
      "_",
      "a",
      "~",
      "\u0080",
      "é",
      "\ud7ff",
      "\ue000",
      "\uffff",
      "😀",
      "\u{10ffff}",
    ];
    const names = units.flatMap((a) => ["", ...units].map((b) => JSON.stringify(a + b)));
    const sorted = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const fields = new Map(names.map((one) => [one, "1"] as const));
    const expected = `{${sorted.map((one) => `${one}:1`).join(",")}}`;
    expect(joinFields(fields)).to.equal(expected);
    const made = (await redis.eval(SCRIPT, 0, "e", 1, "", 0, "h", "d", ...[...fields].flat())) as string[];
    expect(made[2]).to.equal(expected);
  });
});
