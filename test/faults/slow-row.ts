/** Clients that do not read what they are sent. */
import { percentiles } from "../cluster/figures.ts";
import { HubSignals } from "../cluster/hub-signals.ts";
import { readMetrics, sumOf } from "../cluster/metrics.ts";
import { rawSocket } from "../cluster/raw-socket.ts";
import { HOME } from "../cluster/stage.ts";
import { Watcher } from "../cluster/watcher.ts";
import { TcpProxy } from "../support/proxy.ts";
import { becomes } from "./hub-state.ts";
import { type Row, runScenario, type Scenario } from "./scenario.ts";

const HUBS = 3;
/** Where the slow ones are, and the trainer that floods their job. */
const [SLOW_HUB, FLOOD_HUB] = [0, 2] as const;
const READERS = { short: 10, long: 40 } as const;
const JOB = "job-0";
const LINE = 15_000;
/** 18 MB for each: more than all buffers on the way take of who never answers. */
const LINES = 1_200;
const LINES_PER_SECOND = 250;
const SLOW_CLOSES = 'trainwire_closes_total{door="watcher",reason="slow"}';
/** Only against hanging. */
const LIMIT_MS = 60_000;
const RECONNECT = { delayMs: 200, delayMaxMs: 1_000 };
/** A hub's bound for one client: judged ten times a second above TRAINWIRE_SLOW_BYTES, and at once above its double. */
const BOUND_BYTES = 2 * 1_048_576;

export const slowReaders: Row = {
  number: 18,
  fault: "clients stop reading",
  people: "closed as slow, and caught up when they read again; the others nothing",
  budget: { ms: 60_000, part: "max", of: "recovered" },
  run: async (context) => {
    const delays: number[] = [];
    const proxies: TcpProxy[] = [];
    const signals = await HubSignals.create(context.build);
    try {
      return await runScenario(context, {
        hubs: HUBS,
        env: () => ({
          ...signals.env,
          // What they miss must still be there.
          TRAINWIRE_MAX_FEED_BYTES: String(256 * 1_048_576),
          // Nobody goes for another reason.
          TRAINWIRE_PING_TIMEOUT_MS: "120000",
        }),
        listen: () => ({ onDelay: (ms) => void delays.push(ms) }),
        inject: async (scenario) => {
          const proxy = await TcpProxy.open(scenario.stage.hub(SLOW_HUB));
          proxies.push(proxy);
          await stopReading(scenario, proxy, { signals, delays });
        },
      });
    } finally {
      await Promise.all(proxies.map((proxy) => proxy.close()));
      signals.remove();
    }
  },
};

async function stopReading(
  scenario: Scenario,
  proxy: TcpProxy,
  { signals, delays }: { signals: HubSignals; delays: number[] },
): Promise<void> {
  const { stage } = scenario;
  const hub = stage.hub(SLOW_HUB);
  const count = READERS[scenario.context.size.name];
  const readers = await bringReaders(scenario, proxy, count);
  const memory = await signals.memoryOf(hub.pid as number);
  const before = percentiles(delays.splice(0));
  proxy.hold({ direction: "reply" });
  const flooded = flood(scenario);
  let most = 0;
  await becomes(async () => {
    most = Math.max(most, await signals.memoryOf(hub.pid as number));
    return sumOf(await readMetrics(hub.url), SLOW_CLOSES) >= count;
  }, LIMIT_MS);
  await flooded;
  const closed = sumOf(await readMetrics(hub.url), SLOW_CLOSES);
  const during = percentiles(delays.splice(0));
  const grown = most - memory;
  scenario.say(`${closed} of ${count} who did not read were closed as slow`);
  scenario.say(`the hub held ${Math.round(grown / 1_048_576)} MB more meanwhile`);
  scenario.say(
    `deliveries to everybody else after ${before.join("/")} ms before, ${during.join("/")} ms then`,
  );
  if (closed !== count) scenario.complain("I6", `${closed} were closed as slow, and ${count} are`);
  if (grown > count * BOUND_BYTES) scenario.complain("I6", `${grown} bytes more for ${count} slow clients`);
  const others = stage.staying.filter((watcher) => !readers.includes(watcher));
  for (const { options, reconnects } of others) {
    if (reconnects > 0) scenario.complain("I6", `${options.name} reads, and had to connect again`);
  }
  scenario.mark();
  proxy.release();
  await scenario.untilRecovered();
}

async function bringReaders(scenario: Scenario, proxy: TcpProxy, count: number): Promise<Watcher[]> {
  const readers = Array.from({ length: count }, (_, i) => {
    const options = { name: `reader ${i}`, polling: false, jobId: JOB };
    return new Watcher({
      ...scenario.stage.watcherOptions(HOME, SLOW_HUB, options),
      ...{ open: rawSocket("127.0.0.1"), reconnect: RECONNECT, url: `http://127.0.0.1:${proxy.port}` },
      onDelay: () => {},
    });
  });
  await Promise.all(readers.map((reader) => scenario.stage.join(reader)));
  return readers;
}

async function flood({ stage }: Scenario): Promise<void> {
  const trainer = stage.trainer(HOME, [FLOOD_HUB], {
    ...{ durable: LINES, progress: 0, perSecond: LINES_PER_SECOND, keys: [{}], breaks: 0, large: LINE },
    jobs: () => [JOB],
  });
  await trainer.run();
}
