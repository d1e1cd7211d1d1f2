/**
 * Every bound that the protocol itself sets. Bounds that an operator may move are settings (settings.ts); these are
 * fixed, because clients rely on them. `welcome.limits` carries them in snake_case; PROTOCOL.md prints them.
 */
const TABLE = {
  batchEvents: { value: 500, meaning: "Events in one `publish`." },
  eventBytes: { value: 65_536, meaning: "Bytes of one event as it is stored and sent (UTF-8 JSON)." },
  messageBytes: {
    value: 1_048_576,
    meaning: "Bytes of one Socket.IO message or one HTTP body; more is refused `message_too_large`.",
  },
  depth: {
    value: 64,
    meaning: "Nesting of objects and arrays in any input; more is refused `too_deep` before it is parsed.",
  },
  metadataBytes: { value: 4_096, meaning: "Bytes of an event's `metadata` (UTF-8 JSON)." },
  metrics: { value: 64, meaning: "Metrics in one event." },
  pageEvents: { value: 256, meaning: "Events in one page of an answer." },
  pageBytes: {
    value: 131_072,
    meaning: "Bytes of events in one page of an answer; the first event always fits.",
  },
  history: { value: 1_000, meaning: "Durable events that `history` may ask for." },
  waitSeconds: {
    value: 3_600,
    meaning: "Seconds that `wait` may keep a subscription to a job that does not exist yet.",
  },
  allJobs: { value: 1_000, meaning: 'Job feeds that one `job_id: "*"` subscription follows at a time.' },
  subscriptions: { value: 1_000, meaning: 'Subscriptions of one connection (`"*"` counts as one).' },
  healEvents: {
    value: 1_000,
    meaning:
      "Events that an instance delivers for one feed in one healing; beyond, watchers get a `gap` of reason `overflow`.",
  },
  healBytes: { value: 1_048_576, meaning: "Bytes that an instance delivers for one feed in one healing." },
  ids: { value: 10_000, meaning: "`id`s of a job that are remembered for duplicates." },
  idLength: { value: 128, meaning: "Characters of a free-text `id`." },
  producers: { value: 4_096, meaning: "Producers of a job that are remembered for duplicates." },
  conflationKeys: {
    value: 4_096,
    meaning: "Conflation keys (ranks, products, hosts) of a job, and products of an attempt that are done.",
  },
  seriesMetrics: {
    value: 64,
    meaning:
      "Series (metrics of a rank and product) of a job; points of further ones are counted as dropped.",
  },
  seriesBuckets: { value: 1_024, meaning: "Buckets of one series, however long the run is." },
  seriesAnswer: {
    value: 20_480,
    meaning: "Buckets of one `series` answer; where it holds more than 20 series, each has its share.",
  },
  trainers: { value: 256, meaning: "Trainers that have announced one job at a time." },
  announcedJobs: { value: 256, meaning: "Jobs that one trainer's connection announces at a time." },
  commands: { value: 16, meaning: "Commands to one job that are under way." },
  commandBytes: { value: 4_096, meaning: "Bytes of a command's `args`, and of its answer (UTF-8 JSON)." },
  commandTimeoutMs: { value: 3_600_000, meaning: "Milliseconds that a command may wait for its trainer." },
  expectSeconds: {
    value: 86_400,
    meaning: "Seconds without a sign of life that a heartbeat may announce (`expect_next_in`).",
  },
  presenceUsers: { value: 100, meaning: "Users that `presence` names; `watchers` counts all." },
  mergedFields: {
    value: 96,
    meaning:
      "Fields (metrics and others) that the newest value of one conflation key merges within one attempt.",
  },
  mergedPoints: {
    value: 256,
    meaning:
      "Metric points in the `points` of one merged progress; of more, the first, the last, extremes and an even choice of the others stay.",
  },
  mergedPointBytes: { value: 32_768, meaning: "Bytes of these points; fewer where the event has less room." },
  connects: { value: 16, meaning: "CONNECT packets of one connection, to whatever namespace." },
  violations: {
    value: 100,
    meaning: "Bad requests of one connection within 60 s; one more closes it `too_many_violations`.",
  },
  tokenLength: { value: 8_192, meaning: "Characters of a token." },
  tokenJobs: { value: 100, meaning: "Entries of a token's job allow-list." },
} as const;

export type LimitName = keyof typeof TABLE;
export const LIMIT_TABLE: Readonly<Record<LimitName, { value: number; meaning: string }>> = TABLE;
export const LIMITS = Object.fromEntries(
  Object.entries(TABLE).map(([name, { value }]) => [name, value]),
) as Readonly<Record<LimitName, number>>;

/** A limit's name on the wire. */
export function wireName(limit: string): string {
  return limit.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Ids of tenants and jobs. */
export const ID_PATTERN = "^[A-Za-z0-9_.-]{1,64}$";
