/**
 * Every bound that the protocol itself sets. Bounds that an operator may move are settings (config.ts); these are
 * fixed, because clients rely on them. `welcome.limits` carries the ones a client has to know.
 */
export const LIMITS = {
  /** Events in one `publish`. */
  batchEvents: 500,
  /** Bytes of one event as it is stored and sent (UTF-8 JSON). */
  eventBytes: 65_536,
  /** Bytes of one Socket.IO message or one HTTP body; more is refused `message_too_large`. */
  messageBytes: 1_048_576,
  /** Nesting of objects and arrays in any input; more is refused `too_deep` before it is parsed. */
  depth: 64,
  /** Bytes of an event's `metadata` (UTF-8 JSON). */
  metadataBytes: 4_096,
  /** Metrics in one event. */
  metrics: 64,
  /** Events in one page of an answer. */
  pageEvents: 256,
  /** Bytes of events in one page of an answer; the first event always fits. */
  pageBytes: 131_072,
  /** Durable events that `history` may ask for. */
  history: 1_000,
  /** Seconds that `wait` may keep a subscription to a job that does not exist yet. */
  waitSeconds: 3_600,
  /** Job feeds that one `job_id: "*"` subscription follows at a time. */
  allJobs: 1_000,
  /** Subscriptions of one connection (`"*"` counts as one). */
  subscriptions: 1_000,
  /** Events that an instance delivers for one feed in one healing; beyond, watchers get a `gap` of reason `overflow`. */
  healEvents: 1_000,
  /** Bytes that an instance delivers for one feed in one healing. */
  healBytes: 1_048_576,
  /** `id`s of a job that are remembered for duplicates. */
  ids: 10_000,
  /** Characters of a free-text `id`. */
  idLength: 128,
  /** Producers of a job that are remembered for duplicates. */
  producers: 4_096,
  /** Conflation keys (ranks, products, hosts) of a job that have a newest value. */
  conflationKeys: 4_096,
  /** Fields (metrics and others) that the newest value of one conflation key merges within one attempt. */
  mergedFields: 96,
  /** CONNECT packets of one connection, to whatever namespace. */
  connects: 16,
  /** Bad requests of one connection within 60 s; one more closes it `too_many_violations`. */
  violations: 100,
  /** Characters of a token. */
  tokenLength: 8_192,
  /** Entries of a token's job allow-list. */
  tokenJobs: 100,
} as const;

/** Ids of tenants and jobs. */
export const ID_PATTERN = "^[A-Za-z0-9_.-]{1,64}$";
