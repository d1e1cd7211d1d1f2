/** Where the value of each metric comes from. Durations are not here: they come by the meter. */
import type { Bus } from "../bus/bus.ts";
import type { Hub } from "../core/hub.ts";
import type { SocketsMeasures } from "../sockets/measures.ts";
import { VERSION } from "../version.ts";
import type { METRICS, MetricName } from "./table.ts";

/** What the metrics are read from, at the moment of a scrape. */
export interface Sources {
  hub: Hub;
  bus: Pick<Bus, "held" | "unreadable">;
  sockets: SocketsMeasures;
  /** Connections of `/ws/heartbeat`. */
  heartbeats: number;
  maxConnections: number;
  /** How often the connection for commands was lost. */
  redisLost: number;
  folds: { done: number; failed: number };
  /** Events that seemed to be written before they were made. */
  clockDifferences: { hub: number; trainer: number };
}

export type Value = readonly [labels: Readonly<Record<string, string>>, value: number];

type HistogramName = Extract<(typeof METRICS)[number], { type: "histogram" }>["name"];
export type ReadName = Exclude<MetricName, HistogramName>;

const single = (value: number): Value[] => [[{}, value]];

/** One value a name. */
function byName(label: string, tally: Readonly<Record<string, number | undefined>>): Value[] {
  return Object.entries(tally).map(([name, value]) => [{ [label]: name }, value ?? 0]);
}

export const READINGS: Readonly<Record<ReadName, (from: Sources) => Value[]>> = {
  trainwire_build_info: () => [[{ version: VERSION, node: process.version }, 1]],
  trainwire_instance_state: ({ hub }) => byName("state", { [hub.state]: 1 }),
  trainwire_sessions: ({ sockets, heartbeats }) => single(sockets.sessions + heartbeats),
  trainwire_sessions_max: ({ maxConnections }) => single(maxConnections),
  trainwire_connections: ({ sockets, heartbeats }) => [
    ...sockets.connections.map(({ door, transport, count }): Value => [{ door, transport }, count]),
    [{ door: "heartbeat", transport: "websocket" }, heartbeats],
  ],
  trainwire_connections_opened_total: ({ hub }) => byName("door", hub.visits.opened),
  trainwire_closes_total: ({ hub }) =>
    Object.entries(hub.visits.closed).flatMap(([door, reasons]) =>
      Object.entries(reasons).map(([reason, value]): Value => [{ door, reason }, value ?? 0]),
    ),
  trainwire_handshakes_refused_total: ({ hub }) => byName("code", hub.visits.refusals),
  trainwire_verbs_refused_total: ({ sockets }) => byName("code", sockets.refused),
  trainwire_violations_total: ({ sockets }) => single(sockets.violations),
  trainwire_http_requests_total: ({ hub }) => byName("status", hub.tallies.http),
  trainwire_internal_errors_total: ({ hub }) => single(hub.tallies.internal),
  trainwire_events_published_total: ({ hub: { counters } }) =>
    byName("result", { accepted: counters.published, duplicate: counters.duplicates }),
  trainwire_events_refused_total: ({ hub }) => byName("code", hub.tallies.refused),
  trainwire_clock_differences_total: ({ clockDifferences }) => byName("clock", clockDifferences),
  trainwire_deliveries_total: ({ hub }) => {
    const { durable, conflatable } = hub.tallies.deliveries;
    return byName("class", { durable, conflatable });
  },
  trainwire_delivered_bytes_total: ({ hub }) => single(hub.tallies.deliveries.characters),
  trainwire_conflated_total: ({ hub }) => single(hub.tallies.conflated),
  trainwire_replays_total: ({ hub }) => {
    const { recovered, reset } = hub.tallies.replays;
    return byName("result", { recovered, reset });
  },
  trainwire_replay_pages_total: ({ hub }) => single(hub.tallies.replays.pages),
  trainwire_log_reads_total: ({ hub }) => single(hub.replays.reads),
  trainwire_replays_waiting: ({ hub }) => single(hub.replays.waiting),
  trainwire_gaps_total: ({ hub }) => byName("reason", hub.tallies.gaps),
  trainwire_gaps_told_total: ({ hub }) => byName("reason", hub.tallies.gapsTold),
  trainwire_heals_total: ({ hub }) => byName("reason", hub.tallies.heals),
  trainwire_socket_writes_total: ({ sockets }) => single(sockets.writes),
  trainwire_flush_wait_seconds: ({ sockets }) => single(sockets.flushWaitMs / 1_000),
  trainwire_queue_bytes: ({ sockets }) => single(sockets.queue.bytes),
  trainwire_queue_largest_bytes: ({ sockets }) => single(sockets.queue.largest),
  trainwire_connections_behind: ({ sockets }) => single(sockets.behind),
  trainwire_feeds: ({ hub }) => single(hub.feeds.size),
  trainwire_channels: ({ bus }) => single(bus.held),
  trainwire_subscriptions: ({ hub }) => single(hub.feeds.subscriptions),
  trainwire_rooms: ({ sockets }) => single(sockets.rooms),
  trainwire_store_up: ({ hub }) => single(hub.ready ? 1 : 0),
  trainwire_redis_lost_total: ({ redisLost }) => single(redisLost),
  trainwire_probe_age_seconds: ({ hub }) => single((hub.probe.ageMs ?? Number.NaN) / 1_000),
  trainwire_subscriber_reconnects_total: ({ hub }) => single(hub.probe.reconnects),
  trainwire_unreadable_total: ({ bus, sockets }) =>
    byName("channel", { feeds: bus.unreadable, adapter: sockets.unreadable }),
  trainwire_commands_total: ({ hub }) => byName("outcome", hub.tallies.commands),
  trainwire_liveness_changes_total: ({ hub }) => byName("liveness", hub.tallies.liveness),
  trainwire_presence_changes_total: ({ hub }) => single(hub.tallies.presence),
  trainwire_folds_total: ({ folds }) => byName("result", { ...folds }),
};
