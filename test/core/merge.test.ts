/** Progress that a watcher gets merged: fields, attempts, and the points of its curves. */
import { expect } from "chai";
import fc from "fast-check";
import type { Identity } from "../../src/auth.ts";
import type { FeedEvent } from "../../src/bus/bus.ts";
import { merged } from "../../src/core/merge.ts";
import { checkEvent } from "../../src/core/publish.ts";
import type {
  DeliveredEvent,
  MetricPoint,
  PublishedEvent,
  TrainingProgress,
} from "../../src/protocol/types.ts";
import { conflationKey } from "../../src/store/reduce.ts";
import { answerOf, Curves, pointOf } from "../../src/store/series.ts";
import {
  fieldsIn,
  fieldsOf,
  fieldsOfText,
  jobWire,
  joinFields,
  membersOf,
  newestWire,
  tenantWire,
} from "../../src/store/wire.ts";
import { TRAINER } from "./scripted.ts";

type Progress = DeliveredEvent<"training_progress">;
type Told = PublishedEvent<"training_progress">;

const TIME = "2026-03-01T12:00:00.000Z";
const identity: Identity = TRAINER;

/** As a publish makes it. */
function published(seq: number, told: object): FeedEvent & { point: string | undefined } {
  const input = { job_id: "job", timestamp: TIME, ...told };
  const { entry } = checkEvent(input, { identity, receivedAt: TIME });
  return {
    epoch: "e",
    seq,
    type: entry.type,
    durable: entry.durable,
    jobId: "job",
    key: conflationKey(input as never),
    wire: jobWire("e", seq, entry.head, entry.data),
    point: entry.patch.point,
  };
}

const progress = (seq: number, data: TrainingProgress, rest: Partial<Told> = {}) =>
  published(seq, { type: "training_progress", data, ...rest });
const all = (...events: FeedEvent[]): FeedEvent => events.reduce(merged);
const told = ({ wire }: FeedEvent) => JSON.parse(wire) as Progress;
const point = (seq: number, metrics: MetricPoint["metrics"], step?: number): MetricPoint => ({
  seq,
  ...(step !== undefined && { step }),
  timestamp: TIME,
  metrics,
});

describe("core/merge", () => {
  it("keeps each field's newest, metric by metric, under the newer envelope", () => {
    const one = progress(1, { loss: 1, stage: "s", metrics: { a: 1, b: 1 } }, { metadata: { old: true } });
    const two = progress(2, { loss: 2, metrics: { b: 2 } }, { timestamp: "2026-03-01T12:00:01.000Z" });
    const both = merged(one, two);
    expect(both).to.include({ epoch: "e", seq: 2, type: "training_progress", durable: false, key: two.key });
    const { points, data, ...envelope } = told(both);
    expect(data).to.deep.equal({ loss: 2, stage: "s", metrics: { a: 1, b: 2 } });
    const { data: _, ...newer } = told(two);
    expect(envelope).to.deep.equal(newer);
    expect(points?.map(({ seq }) => seq)).to.deep.equal([1, 2]);
  });

  it("tells every point once: steps, times and names of the series, and none for what has no metric", () => {
    const later = "2026-03-01T12:00:09.000Z";
    const { points, ...rest } = told(
      all(
        progress(1, { step: 5, loss: 1, metrics: { "val/acc": 0.5 } }),
        progress(2, { step: 6, stage: "x" }),
        progress(3, { smooth_loss: "NaN" }, { timestamp: later }),
        progress(4, { step: 7, learning_rate: 1e-4, metrics: { loss: 3, "1": 1 }, loss: 2 }),
        progress(5, { message: "end" }),
      ),
    );
    expect(points).to.deep.equal([
      point(1, { "val/acc": 0.5, loss: 1 }, 5),
      { ...point(3, { smooth_loss: "NaN" }), timestamp: later },
      point(4, { loss: 2, "1": 1, learning_rate: 1e-4 }, 7),
    ]);
    expect(rest).to.not.have.property("points_omitted");
    expect(told(all(progress(1, { stage: "a" }), progress(2, { stage: "b" }))).points).to.deep.equal([]);
  });

  it("begins afresh with a higher attempt, points too, and ignores a lower one", () => {
    const first = all(progress(1, { loss: 1, step: 9 }), progress(2, { loss: 1, step: 10 }));
    const second = progress(3, { loss: 2 }, { attempt: 2 });
    expect(merged(first, second)).to.equal(second);
    expect(merged(second, progress(4, { step: 10 }, { attempt: 1 }))).to.equal(second);
    const { attempt, points } = told(all(first, second, progress(5, { loss: 3 }, { attempt: 2 })));
    expect([attempt, points?.map(({ seq }) => seq)]).to.deep.equal([2, [3, 5]]);
  });

  it("takes an event that names no attempt for one of the newest, which is told", () => {
    const second = all(progress(1, { loss: 1 }, { attempt: 2 }), progress(2, { loss: 2 }));
    expect(told(second)).to.deep.include({ attempt: 2, seq: 2, data: { loss: 2 } });
    const third = merged(second, progress(3, { step: 3 }));
    expect(told(third)).to.deep.include({ attempt: 2, data: { loss: 2, step: 3 } });
    expect(merged(third, progress(4, { step: 4 }, { attempt: 1 }))).to.equal(third);
    expect(told(all(progress(1, { loss: 1 }), progress(2, { loss: 2 })))).to.not.have.property("attempt");
  });

  it("leaves numbers and texts as they are written", () => {
    const text = (seq: number, data: string): FeedEvent => ({
      ...progress(seq, {}),
      wire: jobWire("e", seq, `"type":"training_progress","timestamp":"${TIME}"`, data),
    });
    const message = JSON.stringify('a "quoted\\" {brace}, [bracket]: \\');
    const both = all(
      text(1, `{"loss":9007199254740993,"message":${message},"metrics":{"a":1E+2,"x\\"y":1e-320}}`),
      text(2, `{"step":12345678901234567890,"metrics":{"big":123456789.123456789123,"n":"NaN"}}`),
      text(3, `{"metrics":{}}`),
    );
    const at = `"timestamp":"${TIME}"`;
    expect(both.wire).to.equal(
      `{"feed":"job","epoch":"e","seq":3,"type":"training_progress",${at},"points":[` +
        `{"seq":1,${at},"metrics":{"a":1E+2,"x\\"y":1e-320,"loss":9007199254740993}},` +
        `{"seq":2,"step":12345678901234567890,${at},"metrics":{"big":123456789.123456789123,"n":"NaN"}}],` +
        `"data":{"loss":9007199254740993,"message":${message},"step":12345678901234567890,` +
        `"metrics":{"a":1E+2,"big":123456789.123456789123,"n":"NaN","x\\"y":1e-320}}}`,
    );
  });

  it("has no points of what is no curve: other types, the tenant's feed, newest values that were read", () => {
    const stats = (seq: number, data: object) =>
      published(seq, { type: "system_stats", data: { host: "h", ...data } });
    const load = told(merged(stats(1, { cpu_percent: 5 }), stats(2, { cpu_count: 8, gpus: [{ index: 0 }] })));
    expect(load).to.not.have.property("points");
    expect(load.data).to.deep.equal({ host: "h", cpu_percent: 5, cpu_count: 8, gpus: [{ index: 0 }] });

    const head = `"type":"training_progress","timestamp":"${TIME}"`;
    const listed = (seq: number): FeedEvent => ({
      ...progress(seq, {}),
      wire: tenantWire("t", seq, { epoch: "e", seq }, head, `{"loss":${seq}}`),
    });
    expect(told(merged(listed(1), listed(2)))).to.deep.include({ seq: 2, data: { loss: 2 } });
    expect(merged(listed(1), listed(2)).wire).to.not.include("points");

    const fields = new Map(fieldsIn(fieldsOf({ loss: 2, metrics: { a: 1 } })));
    const value = { key: "k", seq: 2, attempt: 1, type: "training_progress" as const, head, fields };
    const read: FeedEvent = { ...progress(2, {}), wire: newestWire("job", "e", value) };
    expect(told(read).points).to.deep.equal([]);
    const healed = told(all(progress(1, { loss: 1 }), read, progress(3, { loss: 3 })));
    expect(healed.points?.map(({ seq }) => seq)).to.deep.equal([1, 3]);
    expect(healed.data).to.deep.equal({ loss: 3, metrics: { a: 1 } });
  });

  describe("of any events", () => {
    const num = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom("NaN" as const, "Infinity" as const, "-Infinity" as const),
    );
    const name = fc.oneof(
      fc.constantFrom("a", "b", "val/acc", "loss", 'quote"', "back\\", "{}", "é", "1"),
      fc
        .string({ minLength: 1, maxLength: 8, unit: "grapheme" })
        .filter((text) => text !== "__proto__" && text.length <= 64 && text >= " "),
    );
    const data: fc.Arbitrary<TrainingProgress> = fc.record(
      {
        step: fc.nat(100),
        loss: num,
        smooth_loss: num,
        learning_rate: num,
        stage: fc.string(),
        metrics: fc.dictionary(name, num, { maxKeys: 4, noNullPrototype: true }),
      },
      { requiredKeys: [] },
    );
    const where = fc.record(
      { rank: fc.constantFrom(0, 1), product: fc.constantFrom("p", "q,}") },
      { requiredKeys: [] },
    );
    const sent = (attempt: fc.Arbitrary<number | undefined>) =>
      fc.array(fc.record({ data, where, attempt, isDue: fc.constantFrom(false, false, false, true) }), {
        minLength: 1,
        maxLength: 60,
      });

    /** What a throttle does with them: held by key, delivered when they are due, and all in the end. */
    function deliveries(events: ReadonlyArray<FeedEvent & { isDue: boolean }>): FeedEvent[] {
      const held = new Map<string, FeedEvent>();
      const delivered: FeedEvent[] = [];
      for (const event of events) {
        const before = held.get(event.key);
        held.set(event.key, before ? merged(before, event) : event);
        if (!event.isDue) continue;
        delivered.push(held.get(event.key) as FeedEvent);
        held.delete(event.key);
      }
      return [...delivered, ...held.values()];
    }

    it("deliveries hold every point once, in order, and the newest of each field", () => {
      fc.assert(
        fc.property(sent(fc.constantFrom(undefined, undefined, 1, 2, 3)), (list) => {
          const events = list.map(({ data, where, attempt, isDue }, i) => ({
            ...progress(i + 1, data, { ...where, ...(attempt !== undefined && { attempt }) }),
            isDue,
          }));
          // The same by looking at each event by itself.
          const groups = new Map<string, { attempt: number; events: typeof events }>();
          const expected: Array<typeof events> = [];
          for (const event of events) {
            const group = groups.get(event.key);
            const named = told(event).attempt;
            const attempt = named ?? group?.attempt ?? 1;
            if (!group || attempt > group.attempt) groups.set(event.key, { attempt, events: [event] });
            else if (attempt === group.attempt) group.events.push(event);
            if (!event.isDue) continue;
            expected.push(groups.get(event.key)?.events ?? []);
            groups.delete(event.key);
          }
          for (const group of groups.values()) expected.push(group.events);

          const got = deliveries(events);
          expect(got).to.have.length(expected.length);
          for (const [i, delivery] of got.entries()) {
            const own = expected[i] ?? [];
            const newest = own.at(-1) as FeedEvent;
            const { points, data, seq } = told(delivery);
            expect(seq).to.equal(newest.seq);
            if (own.length === 1) {
              expect(delivery.wire).to.equal(newest.wire);
              continue;
            }
            const metrics = Object.assign({}, ...own.map((event) => told(event).data.metrics ?? {}));
            const fields = Object.assign({}, ...own.map((event) => told(event).data));
            if (Object.keys(metrics).length > 0) fields.metrics = metrics;
            else delete fields.metrics;
            expect(data).to.deep.equal(fields);
            const truth = own.flatMap(({ seq, point: text }) => {
              if (text === undefined) return [];
              const { step, metrics } = JSON.parse(text);
              return [point(seq, metrics, step)];
            });
            expect(points).to.deep.equal(truth);
          }
        }),
        { numRuns: 300 },
      );
    });

    it("the curves of all deliveries are the series", () => {
      fc.assert(
        fc.property(sent(fc.constant(undefined)), (list) => {
          const events = list.map(({ data, where, isDue }, i) => ({
            ...progress(i + 1, data, where),
            isDue,
          }));
          const series = new Curves();
          for (const { seq, point: text } of events) if (text !== undefined) series.add(pointOf(seq, text));
          const live = deliveries(events)
            .map((event) => ({ event, ...told(event) }))
            .flatMap(({ event, points, rank, product }) =>
              points
                ? points.map(({ seq, step, metrics }) => ({
                    seq,
                    text: JSON.stringify({ step, rank, product, metrics }),
                  }))
                : { seq: event.seq, text: events[event.seq - 1]?.point },
            )
            .sort((a, b) => a.seq - b.seq);
          const curves = new Curves();
          for (const { seq, text } of live) if (text !== undefined) curves.add(pointOf(seq, text));
          const job = { job_id: "job", epoch: "e", seq: events.length };
          expect(answerOf(job, curves, {})).to.deep.equal(answerOf(job, series, {}));
        }),
        { numRuns: 200 },
      );
    });

    it("their texts come apart into what they were joined of", () => {
      fc.assert(
        fc.property(data, fc.json(), (given, json) => {
          const text = JSON.stringify(given);
          expect(fieldsOfText(text)).to.deep.equal([...fieldsIn(fieldsOf(given))]);
          const object = JSON.stringify({ first: JSON.parse(json), last: given });
          expect(membersOf(object)).to.deep.equal([
            ['"first"', JSON.stringify(JSON.parse(json))],
            ['"last"', text],
          ]);
          expect(JSON.parse(joinFields(new Map(fieldsOfText(text))))).to.deep.equal(
            JSON.parse(joinFields(new Map(fieldsIn(fieldsOf(given))))),
          );
        }),
      );
    });
  });
});
