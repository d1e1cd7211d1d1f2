/** What a hub tells of itself to Prometheus: everything in the table, exactly as often as it happened. */
import { expect } from "chai";
import { WebSocket } from "ws";
import { METRICS, type MetricRow, PROCESS_METRICS } from "../../src/metrics/table.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { TrainerCommand } from "../../src/protocol/types.ts";
import { client, line, lines, progress, startTestHub, status, type TestHub, until } from "../support/hub.ts";
import { scrape } from "./scrape.ts";

const ROWS: readonly MetricRow[] = METRICS;
const total = (name: string, labels = "") => `trainwire_${name}_total${labels && `{${labels}}`}`;

describe("metrics: memory", () => {
  let hub: TestHub;
  beforeEach(async () => {
    hub = await startTestHub();
  });
  afterEach(() => hub.close());

  /** What has moved in these families since the call before, or since now. */
  async function moves(...families: string[]): Promise<() => Promise<Record<string, number>>> {
    const names = families.map((name) => `trainwire_${name}`);
    let before = await scrape(hub.url);
    return async () => {
      const now = await scrape(hub.url);
      const moved = now.since(before, ...names);
      before = now;
      return moved;
    };
  }

  it("everything in the table is there, with its type and its help, and nothing else of ours", async () => {
    const { families, samples } = await scrape(hub.url);
    for (const { name, type, help } of ROWS) expect(families.get(name), name).to.deep.equal({ type, help });
    for (const { name, type } of PROCESS_METRICS) expect(families.get(name)?.type, name).to.equal(type);
    const ours = [...families.keys()].filter((name) => name.startsWith("trainwire_"));
    expect(ours).to.deep.equal(ROWS.map(({ name }) => name));
    for (const row of ROWS) {
      const values = Object.entries(row.labels ?? {});
      if (!values.every(([, each]) => typeof each !== "string")) continue;
      const expected = values.reduce((count, [, each]) => count * each.length, 1);
      const found = [...samples.keys()].filter((sample) => sample.split("{")[0] === row.name);
      if (row.type !== "histogram") expect(found, row.name).to.have.length(expected);
    }
  });

  it("says what runs, in which state, and how long the event loop was busy", async () => {
    const { samples, value } = await scrape(hub.url).then((scraped) => ({
      samples: scraped.samples,
      value: scraped.value.bind(scraped),
    }));
    const [build] = [...samples.keys()].filter((sample) => sample.startsWith("trainwire_build_info"));
    expect(build).to.match(/^trainwire_build_info\{version="\d+\.\d+\.\d+",node="v\d+\.\d+\.\d+"\}$/);
    expect(value('trainwire_instance_state{state="ready"}')).to.equal(1);
    expect(value('trainwire_instance_state{state="draining"}')).to.equal(0);
    expect(value("trainwire_store_up")).to.equal(1);
    expect(value("trainwire_sessions_max")).to.equal(15_000);
    expect(value("trainwire_probe_age_seconds")).to.be.within(0, 5);
    expect(value("trainwire_probe_seconds_count")).to.be.at.least(1);
    for (const name of ["p50", "p99", "max"])
      expect(value(`nodejs_eventloop_lag_${name}_seconds`), name).to.be.within(0, 10);
    expect(value("process_resident_memory_bytes")).to.be.above(10_000_000);
    hub.hub.startDraining();
    const draining = await scrape(hub.url);
    expect(draining.value('trainwire_instance_state{state="ready"}')).to.equal(0);
    expect(draining.value('trainwire_instance_state{state="draining"}')).to.equal(1);
  });

  it("counts publishes: accepted, duplicate, refused by code, and how long they take", async () => {
    const moved = await moves("events_published_total", "events_refused_total");
    const trainer = await hub.trainer();
    await trainer.publish([line("run"), { ...line("run"), id: "a" }, { ...line("run"), id: "a" }]);
    await trainer.ask("publish", [
      line("run"),
      { type: "nonsense", job_id: "run" },
      { type: "log", data: {} },
    ]);
    expect(await moved()).to.deep.equal({
      [total("events_published", 'result="accepted"')]: 3,
      [total("events_published", 'result="duplicate"')]: 1,
      [total("events_refused", 'code="unknown_type"')]: 1,
      [total("events_refused", 'code="invalid_event"')]: 1,
    });
    const { samples } = await scrape(hub.url);
    expect(samples.get("trainwire_publish_seconds_count")).to.equal(2);
    expect(samples.get("trainwire_append_seconds_count")).to.equal(2);
    expect(samples.get('trainwire_publish_seconds_bucket{le="+Inf"}')).to.equal(2);
    expect(samples.get("trainwire_publish_seconds_sum")).to.be.within(1e-6, 5);
  });

  it("counts deliveries by class, merged values, and bytes", async () => {
    await hub.publish(line("run"));
    const watchers = [await hub.watcher(), await hub.watcher()];
    for (const each of watchers) await each.subscribe({ job_id: "run" });
    const slow = await hub.watcher();
    await slow.subscribe({ job_id: "run", types: ["training_progress"], max_rate: 1 });
    const moved = await moves("deliveries_total", "conflated_total");
    const bytes = await moves("delivered_bytes_total");
    await hub.publish(lines("run", 3));
    for (const step of [1, 2, 3]) await hub.publish(progress("run", { step }));
    for (const each of watchers) await each.until("all", () => each.events().length === 6);
    await slow.until("the last", () => slow.events().length === 2);
    expect(await moved()).to.deep.equal({
      [total("deliveries", 'class="durable"')]: 2 * 3,
      [total("deliveries", 'class="conflatable"')]: 2 * 3 + 2,
      [total("conflated")]: 1,
    });
    expect(await bytes())
      .to.have.property("trainwire_delivered_bytes_total")
      .that.is.above(14 * 100);
  });

  it("times from receipt and from the trainer's clock, and counts clocks that are ahead", async () => {
    await hub.publish(line("run"));
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run" });
    const before = await scrape(hub.url);
    const at = (ms: number) => ({ ...line("run"), timestamp: new Date(Date.now() + ms).toISOString() });
    await hub.publish([at(-20_000), line("run")]);
    await hub.publish(at(3_600_000));
    await watcher.until("all", () => watcher.events().length === 3);
    const now = await scrape(hub.url);
    const moved = now.since(
      before,
      "trainwire_stored_to_written_seconds_count",
      "trainwire_trainer_to_written_seconds_count",
      "trainwire_trainer_to_written_seconds_sum",
      "trainwire_clock_differences_total",
    );
    // The first event of a message stands for all of it.
    expect(moved).to.include({
      trainwire_stored_to_written_seconds_count: 2,
      trainwire_trainer_to_written_seconds_count: 2,
      [total("clock_differences", 'clock="trainer"')]: 1,
    });
    expect(moved.trainwire_trainer_to_written_seconds_sum).to.be.within(20, 30);
    expect(now.value("trainwire_stored_to_written_seconds_sum")).to.be.within(0, 10);
  });

  it("counts who comes, is in, and goes, by door, transport and reason", async () => {
    const gauges = async () => {
      const { samples } = await scrape(hub.url);
      return [...samples].filter(([sample, value]) => /^trainwire_connections\{/.test(sample) && value > 0);
    };
    const moved = await moves("connections_opened_total", "closes_total", "handshakes_refused_total");
    const watcher = await hub.watcher();
    const trainer = await hub.trainer();
    const polling = client(hub.url, hub.token("watcher"), "/", { transports: ["polling"] });
    await polling.connected();
    const heartbeat = new WebSocket(
      `${hub.url.replace("http", "ws")}/ws/heartbeat?token=${hub.token("watcher")}`,
    );
    await new Promise((resolve) => heartbeat.once("message", resolve));
    expect(Object.fromEntries(await gauges())).to.deep.equal({
      'trainwire_connections{door="watcher",transport="websocket"}': 1,
      'trainwire_connections{door="watcher",transport="polling"}': 1,
      'trainwire_connections{door="trainer",transport="websocket"}': 1,
      'trainwire_connections{door="heartbeat",transport="websocket"}': 1,
    });
    expect((await scrape(hub.url)).value("trainwire_sessions")).to.equal(4);
    for (const bad of [undefined, "nonsense"]) {
      const stranger = client(hub.url, bad);
      await stranger.next("connect_error");
      stranger.close();
    }
    const wrong = client(hub.url, hub.token("watcher"), "/trainer");
    await wrong.next("connect_error");
    wrong.close();
    for (let i = 0; i <= LIMITS.violations; i++) void watcher.ask("nonsense", {}).catch(() => {});
    await watcher.next("disconnect");
    trainer.close();
    polling.close();
    heartbeat.close();
    await until("nobody", async () => (await gauges()).length === 0);
    expect(await moved()).to.deep.equal({
      [total("connections_opened", 'door="watcher"')]: 2,
      [total("connections_opened", 'door="trainer"')]: 1,
      [total("connections_opened", 'door="heartbeat"')]: 1,
      [total("closes", 'door="watcher",reason="too_many_violations"')]: 1,
      [total("closes", 'door="watcher",reason="client_namespace_disconnect"')]: 1,
      [total("closes", 'door="trainer",reason="client_namespace_disconnect"')]: 1,
      [total("closes", 'door="heartbeat",reason="transport_close"')]: 1,
      [total("handshakes_refused", 'code="unauthorized"')]: 2,
      [total("handshakes_refused", 'code="forbidden"')]: 1,
    });
  });

  it("counts refused verbs, violations, and HTTP answers", async () => {
    const moved = await moves("verbs_refused_total", "violations_total", "http_requests_total");
    const watcher = await hub.watcher();
    await watcher.refused("nonsense", {});
    await watcher.refused("subscribe", { job_id: "none" });
    await fetch(`${hub.url}/healthz`);
    await fetch(`${hub.url}/api/v1/status`);
    await fetch(`${hub.url}/nothing?token=secret`);
    expect(await moved()).to.deep.equal({
      [total("verbs_refused", 'code="unknown_verb"')]: 1,
      [total("verbs_refused", 'code="job_not_found"')]: 1,
      [total("violations")]: 1,
      // One is the scrape before.
      [total("http_requests", 'status="200"')]: 2,
      [total("http_requests", 'status="401"')]: 1,
      [total("http_requests", 'status="404"')]: 1,
    });
  });

  it("counts replays: recovered by pages, or too old", async () => {
    await hub.publish(line("run"));
    const watcher = await hub.watcher();
    const { epoch } = await watcher.subscribe({ job_id: "run" });
    for (let i = 0; i < 6; i++) await hub.publish(lines("run", 100, 100 * i));
    const moved = await moves("replays_total", "replay_pages_total");
    let since = { epoch: epoch as string, seq: 1 };
    let pages = 0;
    for (;;) {
      const answer = await watcher.subscribe({ job_id: "run", since });
      pages++;
      if (!answer.more) break;
      since = answer.next as typeof since;
    }
    expect(pages).to.be.above(1);
    await watcher.subscribe({ job_id: "run", since: { epoch: "another", seq: 1 } });
    await watcher.subscribe({ job_id: "run", history: 5 });
    await watcher.subscribeAll({ since: { run: { epoch: epoch as string, seq: 600 } } });
    expect(await moved()).to.deep.equal({
      [total("replays", 'result="recovered"')]: 2,
      [total("replays", 'result="reset"')]: 1,
      [total("replay_pages")]: pages + 2,
    });
  });

  it("counts feeds, subscriptions, rooms, and they return to the base line", async () => {
    await hub.publish([line("one"), line("two")]);
    const gauges = async () => {
      const scraped = await scrape(hub.url);
      return ["channels", "feeds", "subscriptions", "rooms"].map((name) =>
        scraped.value(`trainwire_${name}`),
      );
    };
    expect(await gauges()).to.deep.equal([0, 0, 0, 0]);
    const watchers = [await hub.watcher(), await hub.watcher()];
    for (const each of watchers) await each.subscribe({ job_id: "one" });
    await watchers[0]?.subscribe({ job_id: "two" });
    // The tenant's room, and two of jobs.
    expect(await gauges()).to.deep.equal([2, 2, 3, 3]);
    for (const each of watchers) each.close();
    await until("left", async () => (await gauges()).slice(2).join() === "0,0");
  });

  it("counts commands by their outcome, and liveness", async () => {
    await hub.close();
    hub = await startTestHub({ env: { TRAINWIRE_STALE_MS: "200", TRAINWIRE_LOST_MS: "600000" } });
    await hub.publish(status("run", "running"));
    const moved = await moves("commands_total", "liveness_changes_total");
    const operator = await hub.watcher({ role: "operator" });
    const trainer = await hub.trainer();
    await trainer.good("announce", { job_id: "run", commands: ["pause", "stop"] });
    trainer.socket.on("command", ({ action }: TrainerCommand, answer: (value: object) => void) =>
      answer({ ok: action === "pause" }),
    );
    await operator.good("command", { job_id: "run", action: "pause" });
    await operator.refused("command", { job_id: "run", action: "stop" });
    trainer.close();
    let found: Record<string, number> = {};
    await until("stale", async () => {
      found = { ...found, ...(await moved()) };
      return total("liveness_changes", 'liveness="stale"') in found;
    });
    expect(found).to.deep.equal({
      [total("commands", 'outcome="applied"')]: 1,
      [total("commands", 'outcome="command_failed"')]: 1,
      [total("liveness_changes", 'liveness="stale"')]: 1,
    });
  });

  it("holds no tenant, job, user or token in any label", async () => {
    const names = { tenant: "tenant-zq1", subject: "subject-zq2" };
    await hub.publish([line("job-zq3"), progress("job-zq3", { step: 1 })], { tenant: names.tenant });
    const watcher = await hub.watcher(names);
    await watcher.subscribe({ job_id: "job-zq3" });
    await watcher.refused("verb-zq4", {});
    await fetch(`${hub.url}/api/v1/tenants/tenant-zq1/training/jobs/job-zq3?token=zq5`, { method: "PUT" });
    const { text } = await scrape(hub.url);
    expect(text).not.to.match(/zq\d/);
    expect(text).not.to.contain(hub.prefix);
  });
});
