/** Entries as the core makes them (core/publish.ts), and what to expect of them. */
import { EVENTS } from "../../src/protocol/events.ts";
import type { EventMap, EventType, PublishedEvent } from "../../src/protocol/types.ts";
import { type CheckedEvent, isJobProgress, lifeOf, reduce } from "../../src/store/reduce.ts";
import type { Entry, Page, ReadOptions, Store, Stored } from "../../src/store/store.ts";

export const TENANT = "acme";
export const JOB = "job-1";
export const FEED = { tenantId: TENANT, jobId: JOB };
export const TENANT_FEED = { tenantId: TENANT };
const TIME = "2026-01-02T03:04:05.678Z";

type Envelope = Pick<PublishedEvent, "job_id" | "attempt" | "rank" | "product" | "metadata">;

export function entryOf<T extends EventType>(type: T, data: EventMap[T], envelope: Envelope = {}): Entry {
  const job_id = EVENTS[type].scope === "tenant" ? undefined : JOB;
  const event = { type, job_id, ...envelope, data } as CheckedEvent & Envelope;
  const { attempt, rank, product, metadata } = event;
  const kind = EVENTS[type];
  const head = {
    ...{ type, tenant_id: TENANT, job_id: event.job_id, timestamp: TIME, received_at: TIME },
    ...{ attempt, rank, product, metadata },
  };
  return {
    type,
    durable: kind.class === "durable",
    stream: kind.stream ?? "events",
    tenantFeed: kind.tenantFeed === "merged" ? isJobProgress(event) && "merged" : kind.tenantFeed,
    head: JSON.stringify(head).slice(1, -1),
    data: JSON.stringify(data),
    patch: reduce(event, () => JSON.stringify({ ...head, type: "training_progress" }).slice(1, -1)),
    ...lifeOf(event),
    ...(attempt !== undefined && { attempt }),
  };
}

export const log = (message = "a line") => entryOf("log", { message });
export const sample = (step = 1) => entryOf("sample_generated", { step, url: "https://samples.test/1.png" });
export const status = (value: EventMap["training_status"]["status"], envelope?: Envelope) =>
  entryOf("training_status", { status: value }, envelope);
export const progress = (data: EventMap["training_progress"], envelope?: Envelope) =>
  entryOf("training_progress", data, envelope);
export const product = (name: string, data: EventMap["product_completed"] = {}) =>
  entryOf("product_completed", data, { product: name });
export const dataset = (dataset_id = "faces") => entryOf("dataset_update", { dataset_id, action: "updated" });
/** What makes a job whose first event is another one. */
export const created = (job_id = JOB) => entryOf("job_created", { created_by: "tester" }, { job_id });

/** A conflatable event that has these texts, exactly. */
export function progressOfTexts(fields: ReadonlyArray<readonly [string, string]>): Entry {
  const entry = progress({});
  const plain = fields.filter(([name]) => !name.startsWith("m")).map(([name, json]) => `${name}:${json}`);
  const metrics = fields
    .filter(([name]) => name.startsWith("m"))
    .map(([name, json]) => `${name.slice(1)}:${json}`);
  if (metrics.length > 0) plain.push(`"metrics":{${metrics.join(",")}}`);
  const data = `{${plain.join(",")}}`;
  const key = entry.patch.merge?.key as string;
  const point = `{"metrics":{${metrics.join(",")}}}`;
  const lines = fields.flat().map((text) => `${text}\n`);
  return { ...entry, data, patch: { merge: { key, fields: lines.join("") }, point } };
}

export const withId = (id: string, entry: Entry = log(id)): Entry => ({ ...entry, id });
export const withN = (
  n: number,
  { id = "p", incarnation = 1 } = {},
  entry: Entry = log(`n ${n}`),
): Entry => ({
  ...entry,
  producer: { id, incarnation, n },
});

/** The seqs that were given; throws for what was refused. */
export function seqsOf(stored: readonly Stored[]): number[] {
  return stored.map((one) => {
    if ("refused" in one) throw new Error(`refused: ${one.refused}`);
    return one.seq;
  });
}

/** What became of each entry in one word: a seq, `=seq` of a duplicate, or the code of the refusal. */
export function told(stored: readonly Stored[]): Array<number | string> {
  return stored.map((one) => ("refused" in one ? one.refused : one.duplicate ? `=${one.seq}` : one.seq));
}

export const ALL: ReadOptions = {
  after: 0,
  epoch: null,
  limit: 1_000_000,
  bytes: 1_000_000_000,
  streams: ["events", "log"],
};

export function readAll(store: Store, feed: { tenantId: string; jobId?: string } = FEED): Promise<Page> {
  return store.read(feed, ALL);
}

/** A feed's log in short: seq and data of each event. */
export function inShort(page: Page): string[] {
  return page.logged.map(({ seq, type, data }) => `${seq} ${type} ${data}`);
}
