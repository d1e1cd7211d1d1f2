/**
 * Every metric of a hub: what it is called, what it counts, what that tells an operator. The metrics are registered from
 * this table, and docs/operations.md prints it. No label holds a tenant, a job or a user: there is no bound to those.
 */
import { CLOSES } from "../protocol/codes.ts";

export interface MetricRow {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  /** Label → its values, or in words where there is no fixed list. Listed values are there from the start, at 0. */
  readonly labels?: Readonly<Record<string, readonly string[] | string>>;
  readonly help: string;
  /** Only of histograms: upper bounds. */
  readonly buckets?: readonly number[];
}

/** Seconds. */
const WORK = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const WAY = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const CODE = "an error code of PROTOCOL.md";
const SOCKET_DOORS = ["watcher", "trainer"] as const;
const DOORS = [...SOCKET_DOORS, "heartbeat"] as const;

export const METRICS = [
  {
    name: "trainwire_build_info",
    type: "gauge",
    labels: { version: "of Trainwire", node: "version of Node.js" },
    help: "Always 1; which version runs.",
  },
  {
    name: "trainwire_instance_state",
    type: "gauge",
    labels: { state: ["starting", "ready", "degraded", "deaf", "draining"] },
    help: "1 for the state that the instance is in, 0 for the others. Deaf: Redis answers, but what is published does not come back.",
  },
  {
    name: "trainwire_sessions",
    type: "gauge",
    help: "Open connections of all doors, joined to a namespace or not: what TRAINWIRE_MAX_CONNECTIONS limits.",
  },
  {
    name: "trainwire_sessions_max",
    type: "gauge",
    help: "TRAINWIRE_MAX_CONNECTIONS; above, new connections are refused too_many_connections.",
  },
  {
    name: "trainwire_connections",
    type: "gauge",
    labels: { door: DOORS, transport: ["websocket", "polling"] },
    help: "Clients that are in: watchers, trainers, heartbeats; one session may be both watcher and trainer.",
  },
  {
    name: "trainwire_connections_opened_total",
    type: "counter",
    labels: { door: DOORS },
    help: "Clients that came in.",
  },
  {
    name: "trainwire_closes_total",
    type: "counter",
    labels: {
      door: DOORS,
      reason: [...(Object.keys(CLOSES) as Array<keyof typeof CLOSES>), "transport_close", "ping_timeout"],
    },
    help: "Clients that went, by reason. Slow: it read more slowly than its events came; token_expired: it brought no new token; ping_timeout: it fell silent; transport_close and others: the client or its network.",
  },
  {
    name: "trainwire_handshakes_refused_total",
    type: "counter",
    labels: { code: CODE },
    help: "Clients that were not let in, by code: bad tokens, foreign origins, a full or draining instance.",
  },
  {
    name: "trainwire_verbs_refused_total",
    type: "counter",
    labels: { code: CODE },
    help: "Requests on sockets that were refused as a whole, by code; single events of a publish count in trainwire_events_refused_total.",
  },
  {
    name: "trainwire_violations_total",
    type: "counter",
    help: "Requests on sockets that no correct client sends; too many of one connection close it.",
  },
  {
    name: "trainwire_http_requests_total",
    type: "counter",
    labels: { status: "HTTP status" },
    help: "HTTP requests beside those of Socket.IO, by the status of their answer.",
  },
  {
    name: "trainwire_internal_errors_total",
    type: "counter",
    help: "Faults of the hub, each with a line of level error in the log. Anything above 0 is worth a look.",
  },
  {
    name: "trainwire_events_published_total",
    type: "counter",
    labels: { result: ["accepted", "duplicate"] },
    help: "Events that trainers published here: stored, or sent again and stored before.",
  },
  {
    name: "trainwire_events_refused_total",
    type: "counter",
    labels: { code: CODE },
    help: "Events that trainers published here and that were refused, by code.",
  },
  {
    name: "trainwire_publish_seconds",
    type: "histogram",
    buckets: WORK,
    help: "A publish call from its receipt to its answer.",
  },
  {
    name: "trainwire_append_seconds",
    type: "histogram",
    buckets: WORK,
    help: "The store's part of a publish: with Redis, one script and its round trip. If it grows alone, Redis or the network is slow; if the event loop's lag grows with it, this process is.",
  },
  {
    name: "trainwire_stored_to_written_seconds",
    type: "histogram",
    buckets: WAY,
    help: "From the receipt of an event, on whatever instance, until this instance has written it to its watchers. The first of each message is measured; healed events count as late as they are. Of another instance's events it is as right as the two clocks.",
  },
  {
    name: "trainwire_trainer_to_written_seconds",
    type: "histogram",
    buckets: WAY,
    help: "The same from the trainer's own timestamp: what a user sees as delay, as right as the trainer's clock. Without a timestamp the receipt counts.",
  },
  {
    name: "trainwire_clock_differences_total",
    type: "counter",
    labels: { clock: ["hub", "trainer"] },
    help: "Events that seemed to be written before they were made, and were measured as 0: that clock is ahead of this instance's.",
  },
  {
    name: "trainwire_deliveries_total",
    type: "counter",
    labels: { class: ["durable", "conflatable"] },
    help: "Events written live to watchers, one for each watcher; pages of answers are not among them.",
  },
  {
    name: "trainwire_delivered_bytes_total",
    type: "counter",
    help: "Bytes of them (characters, where they are not ASCII); divided by the deliveries, the mean size of a message.",
  },
  {
    name: "trainwire_conflated_total",
    type: "counter",
    help: "Values that were merged into a newer one before their watcher got them, by max_rate or because it was behind. No loss: the newest always comes.",
  },
  {
    name: "trainwire_replays_total",
    type: "counter",
    labels: { result: ["recovered", "reset"] },
    help: "Watchers that came back with a position and got all that they had missed, or (reset) a new snapshot because it was no longer kept.",
  },
  {
    name: "trainwire_replay_pages_total",
    type: "counter",
    help: "Pages that were answered to them.",
  },
  {
    name: "trainwire_log_reads_total",
    type: "counter",
    help: "Pages that were read from the log for whoever comes in. When many come back to the same job, far below trainwire_replay_pages_total: who asks within 50 ms shares one.",
  },
  {
    name: "trainwire_replays_waiting",
    type: "gauge",
    help: "Requests that wait for their turn to read what was missed, or how a feed begins; TRAINWIRE_MAX_REPLAYS do so at a time.",
  },
  {
    name: "trainwire_gaps_total",
    type: "counter",
    labels: { reason: ["trimmed", "reset", "overflow"] },
    help: "Feeds of this instance of which something could not be delivered: trimmed away before it was read, the store has lost its end, or too much to catch up with.",
  },
  {
    name: "trainwire_gaps_told_total",
    type: "counter",
    labels: { reason: ["trimmed", "reset", "overflow"] },
    help: "Watchers that were told so.",
  },
  {
    name: "trainwire_heals_total",
    type: "counter",
    labels: { reason: ["renewed", "hole", "unreadable", "head"] },
    help: "Feeds that read the log because messages were, or may have been, lost: a renewed subscription, a hole, a message of another version, a head that was ahead. Without gaps nobody has missed anything.",
  },
  {
    name: "trainwire_socket_writes_total",
    type: "counter",
    help: "Writes to WebSockets, answers and pings among them; each takes along what its turn had for that client. Deliveries divided by it say how much bursts save.",
  },
  {
    name: "trainwire_flush_wait_seconds",
    type: "gauge",
    help: "How long events wait at the moment to leave together with others: 0 while the event loop has room, at most TRAINWIRE_FLUSH_MS.",
  },
  {
    name: "trainwire_queue_bytes",
    type: "gauge",
    help: "What waits for clients to read it: in this process, and on its way to those who are late in saying what they have read.",
  },
  {
    name: "trainwire_queue_largest_bytes",
    type: "gauge",
    help: "What waits for the one that is furthest behind; above TRAINWIRE_SLOW_BYTES it is closed as slow.",
  },
  {
    name: "trainwire_connections_behind",
    type: "gauge",
    help: "Watchers that are behind with reading, so that conflatable values are held back and merged for them.",
  },
  {
    name: "trainwire_feeds",
    type: "gauge",
    help: "Feeds that this instance follows: jobs and tenants with watchers here, and those just left.",
  },
  {
    name: "trainwire_channels",
    type: "gauge",
    help: "Redis channels that this instance is subscribed to; after a while equal to trainwire_feeds.",
  },
  {
    name: "trainwire_subscriptions",
    type: "gauge",
    help: "Places of watchers in feeds.",
  },
  {
    name: "trainwire_rooms",
    type: "gauge",
    help: "Socket.IO rooms of tenants and jobs on this instance.",
  },
  {
    name: "trainwire_store_up",
    type: "gauge",
    help: "1 while the store (Redis) answers commands, else 0.",
  },
  {
    name: "trainwire_redis_lost_total",
    type: "counter",
    help: "How often the connection for commands was lost.",
  },
  {
    name: "trainwire_probe_seconds",
    type: "histogram",
    buckets: WORK,
    help: "A message of this instance to itself, through Redis and back.",
  },
  {
    name: "trainwire_probe_age_seconds",
    type: "gauge",
    help: "Since the last of them came back. Well above TRAINWIRE_PROBE_INTERVAL_MS: this instance hears nothing. NaN before the first.",
  },
  {
    name: "trainwire_subscriber_reconnects_total",
    type: "counter",
    help: "How often the subscriptions were dead while Redis answered, and were connected anew.",
  },
  {
    name: "trainwire_unreadable_total",
    type: "counter",
    labels: { channel: ["feeds", "adapter"] },
    help: "Messages on Redis' channels that were dropped because nobody could read them: somebody else writes there, or another version.",
  },
  {
    name: "trainwire_commands_total",
    type: "counter",
    labels: { outcome: `applied, or ${CODE}` },
    help: "Commands that operators requested on this instance, by what became of them.",
  },
  {
    name: "trainwire_liveness_changes_total",
    type: "counter",
    labels: { liveness: ["live", "stale", "lost"] },
    help: "Jobs whose trainer this instance found silent, or alive again.",
  },
  {
    name: "trainwire_presence_changes_total",
    type: "counter",
    help: "How often this instance told the watchers of a job who watches it.",
  },
  {
    name: "trainwire_folds_total",
    type: "counter",
    labels: { result: ["done", "failed"] },
    help: "Foldings of raw metric points into curves in the background; one that failed is tried again with the next points.",
  },
] as const satisfies readonly MetricRow[];

export type MetricName = (typeof METRICS)[number]["name"];

/** Those of the process itself that matter most; prom-client registers them and some more of the kind. */
export const PROCESS_METRICS = [
  {
    name: "process_cpu_seconds_total",
    type: "counter",
    help: "CPU of this process; its rate is cores, and one hub uses hardly more than 1.",
  },
  { name: "process_resident_memory_bytes", type: "gauge", help: "Memory of this process." },
  { name: "process_open_fds", type: "gauge", help: "Open files and sockets." },
  { name: "process_max_fds", type: "gauge", help: "How many it may have." },
  { name: "process_start_time_seconds", type: "gauge", help: "When it started, seconds since 1970." },
  { name: "nodejs_heap_size_used_bytes", type: "gauge", help: "JavaScript's part of the memory." },
  {
    name: "nodejs_eventloop_lag_p50_seconds",
    type: "gauge",
    help: "How late timers were since the last scrape, in the middle. Its own timer's 0.010 is in it: so much when idle.",
  },
  { name: "nodejs_eventloop_lag_p99_seconds", type: "gauge", help: "The same for the worst of a hundred." },
  {
    name: "nodejs_eventloop_lag_max_seconds",
    type: "gauge",
    help: "The longest time for which the process did nothing else.",
  },
  {
    name: "nodejs_gc_duration_seconds",
    type: "histogram",
    help: "Garbage collections, by kind.",
    labels: { kind: ["major", "minor", "incremental", "weakcb"] },
  },
] as const satisfies readonly MetricRow[];
