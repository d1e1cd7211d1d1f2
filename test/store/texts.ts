import { expect } from "chai";
import type { Entry } from "../../src/store/store.ts";
import { joinFields, newestWire } from "../../src/store/wire.ts";
import { listen } from "../bus/recorder.ts";
import {
  created,
  entryOf,
  FEED,
  JOB,
  log,
  progress,
  progressOfTexts,
  readAll,
  status,
  TENANT,
  TENANT_FEED,
  withId,
} from "./entries.ts";
import type { Open, Subject } from "./subject.ts";

const NUMBERS = [
  ...[
    "1e20",
    "100000000000000000000",
    "3.4e38",
    "9007199254740994",
    "9007199254740993",
    "5e-324",
    "-0",
    "0",
    "-1.5",
  ],
  ...[
    "1.7976931348623157e308",
    "1e999",
    "0.1",
    "0.30000000000000004",
    "1E5",
    "123456789012345678901234567890",
  ],
  ...['"NaN"', '"Infinity"', '"-Infinity"', "null", "true"],
];
const TEXTS = [
  ...[
    "",
    " ",
    "plain",
    "quotes \" and ' and `",
    "back\\slash \\n \\u0041",
    "line\nbreak\r\ttab",
    "\u2028\u2029",
  ],
  ...[
    "ä ß 漢字 😀 \u{10ffff}",
    "\u0000\u001f\u007f",
    "\ud800 alone",
    "{}[]:,%d%s $1 -- ]]",
    "'; FLUSHALL",
    "x".repeat(60_000),
  ],
];
/** As the protocol takes it in names: without control characters. */
const nameOf = (text: string) => text.slice(0, 100).replace(/\p{Cc}|\p{Cs}/gu, "");
const NAMES = [
  "loss",
  "val/accuracy",
  "a b",
  'q"uo\\te',
  "ä😀\u2028",
  "\uffee",
  "😀",
  "__index",
  "1",
  "m",
  "-",
  "{tag}",
];

/** Payloads are text: on every way through the store they stay as they came. */
export function texts(open: Open): void {
  let subject: Subject;
  beforeEach(async () => {
    subject = await open();
  });
  afterEach(() => subject.close());

  it("numbers at the edges stay as they are written, on every way", async () => {
    const fields = NUMBERS.map((json, i) => [`m"n${i}"`, json] as const);
    const conflatable = progressOfTexts(fields);
    const data = `{"metrics":{${NUMBERS.map((json, i) => `"n${i}":${json}`).join(",")}}}`;
    const durable: Entry = { ...entryOf("validation_result", { metrics: {} }), data };
    const tenants: Entry = { ...status("completed"), data, patch: { latest: true, set: [["x", data]] } };
    const job = await listen(subject.bus, FEED);
    const tenant = await listen(subject.bus, TENANT_FEED);
    await subject.store.append(FEED, [conflatable, durable, { ...log(), data }, tenants], created());
    await job.reach(5);
    await tenant.reach(3);
    for (const wire of job.wires.slice(1)) expect(wire.endsWith(`,"data":${data}}`), wire).to.equal(true);
    expect(tenant.wires[2]?.endsWith(`,"data":${data}}`)).to.equal(true);

    const page = await readAll(subject.store);
    expect(page.logged.slice(1).map((event) => event.data)).to.deep.equal([data, data, data]);
    expect((await readAll(subject.store, TENANT_FEED)).logged.at(-1)?.data).to.equal(data);
    const state = await subject.store.job(TENANT, JOB);
    expect(state?.latest.find(({ type }) => type === "validation_result")?.data).to.equal(data);
    expect(state?.fields.get("x")).to.equal(data);
    for (const value of [
      page.newest[0],
      state?.newest[0],
      (await readAll(subject.store, TENANT_FEED)).newest[0],
    ]) {
      expect([...(value?.fields ?? [])].sort()).to.deep.equal([...fields].sort());
    }
    // Only curves are numbers: the nearest that a double can be, and none beyond its range.
    const curves = (await subject.store.series(TENANT, JOB, {}))?.series ?? [];
    expect(curves.map(({ metric, buckets }) => [metric, buckets[0]?.last])).to.deep.equal(
      NUMBERS.flatMap((json, i) => {
        if (json === "null" || json === "true") return [];
        return [[`n${i}`, Number.isFinite(Number(json)) ? Number(json) + 0 : null]];
      }),
    );
  });

  it("merged numbers reach the tenant's feed as they are written", async () => {
    const fields = NUMBERS.map((json, i) => [`m"n${String(i).padStart(2, "0")}"`, json] as const);
    const tenant = await listen(subject.bus, TENANT_FEED);
    await subject.store.append(FEED, [progressOfTexts(fields)], created());
    await subject.store.flushTenant(TENANT);
    await tenant.reach(2);
    const data = `{"metrics":{${fields.map(([name, json]) => `${name.slice(1)}:${json}`).join(",")}}}`;
    expect(tenant.wires[1]?.endsWith(`,"data":${data}}`), tenant.wires[1]).to.equal(true);
  });

  it("texts of every kind stay as they are, on every way", async () => {
    const entries = TEXTS.flatMap((text, i) => [
      withId(`a${i}`, log(text)),
      withId(
        `b${i}`,
        entryOf(
          "custom",
          { name: "t", data: { [text.slice(0, 100)]: text } },
          { metadata: { t: text.slice(0, 999) } },
        ),
      ),
      progress({ message: text.slice(0, 1_000) }, { product: `${i} ${nameOf(text)}` }),
    ]);
    const job = await listen(subject.bus, FEED);
    const { position } = await subject.store.append(FEED, entries, created());
    await job.reach(position?.seq as number);
    const page = await readAll(subject.store);
    const durable = entries.filter((entry) => entry.durable);
    expect(page.logged.slice(1).map(({ head, data }) => [head, data])).to.deep.equal(
      durable.map(({ head, data }) => [head, data]),
    );
    expect(job.received.slice(1).map(({ wire }) => JSON.parse(wire).data)).to.deep.equal(
      entries.map(({ data }) => JSON.parse(data)),
    );
    expect(job.received.slice(1).map(({ key }) => key)).to.deep.equal(
      entries.map(({ patch }) => patch.merge?.key ?? ""),
    );
    const messages = new Map(
      page.newest.map(({ key, fields }) => [key, JSON.parse(joinFields(fields)).message]),
    );
    for (const { patch, data } of entries) {
      if (patch.merge) expect(messages.get(patch.merge.key)).to.equal(JSON.parse(data).message);
    }
  });

  it("names of metrics of every kind stay as they are, in one order", async () => {
    const metrics = Object.fromEntries(NAMES.map((name, i) => [name, i]));
    const tenant = await listen(subject.bus, TENANT_FEED);
    await subject.store.append(FEED, [progress({ metrics, loss: 1, stage: "a b" })], created());
    await subject.store.flushTenant(TENANT);
    await tenant.reach(2);
    const page = await readAll(subject.store, TENANT_FEED);
    const [value] = page.newest;
    if (!value) throw new Error("no newest value");
    expect(JSON.parse(joinFields(value.fields))).to.deep.equal({ metrics, loss: 1, stage: "a b" });
    expect(tenant.wires[1]).to.equal(newestWire("tenant", page.epoch as string, value));
  });
}
