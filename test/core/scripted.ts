/** A store and a bus that do what a test says, under a real core: messages get lost, doubled, late; reads wait or fail. */
import { mock } from "node:test";
import { expect } from "chai";
import type { Identity } from "../../src/auth.ts";
import type { Bus, FeedEvent, FeedHandler, FeedName } from "../../src/bus/bus.ts";
import { feedId } from "../../src/bus/bus.ts";
import type { MemoryBus } from "../../src/bus/memory.ts";
import type { AllJobs } from "../../src/core/all-jobs.ts";
import { Hub, type HubOptions } from "../../src/core/hub.ts";
import type { Subscriber, Subscription } from "../../src/core/subscription.ts";
import type {
  Cursor,
  Gap,
  Position,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
} from "../../src/protocol/types.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { MemoryRegistry } from "../../src/store/memory-registry.ts";
import type { Store, StoreOptions } from "../../src/store/store.ts";

export const JOB: FeedName = { tenantId: "acme", jobId: "job" };
export const TENANT: FeedName = { tenantId: "acme" };
export const WATCHER: Identity = {
  subject: "w",
  tenantId: "acme",
  role: "watcher",
  expiresAt: Number.MAX_SAFE_INTEGER,
};
export const TRAINER: Identity = { ...WATCHER, subject: "t", role: "trainer" };

const STORE: StoreOptions = {
  maxEvents: 5_000,
  maxLogLines: 5_000,
  maxFeedBytes: 16_777_216,
  maxPoints: 100,
  maxJobs: 10_000,
  ttlFinished: 86_400,
  ttlSilent: 604_800,
};

/** What becomes of a message. */
export type Fate = "now" | "lose" | "twice" | "hold" | "unreadable";

export class ScriptedBus implements Bus {
  /** Every event that was ever published, as it was. */
  readonly published: Array<{ feed: string; event: FeedEvent }> = [];
  readonly waiting: Array<{ feed: FeedName; events: readonly FeedEvent[] }> = [];
  readonly #handlers = new Map<string, FeedHandler>();
  fate: (feed: FeedName, events: readonly FeedEvent[]) => Fate = () => "now";
  /** While it is down, subscriptions are not confirmed. */
  down = false;

  readonly unreadable = 0;
  readonly heardAt = 0;

  get held(): number {
    return this.#handlers.size;
  }

  hold(feed: FeedName, handler: FeedHandler): void {
    this.#handlers.set(feedId(feed), handler);
    queueMicrotask(() => {
      if (!this.down && this.#handlers.get(feedId(feed)) === handler) handler.subscribed();
    });
  }

  release(feed: FeedName): void {
    this.#handlers.delete(feedId(feed));
  }

  publish: MemoryBus["publish"] = (...changes) => {
    for (const [feed, events] of changes) if (events.length > 0) this.#publishOne(feed, events);
  };

  #publishOne(feed: FeedName, events: readonly FeedEvent[]): void {
    for (const event of events) this.published.push({ feed: feedId(feed), event });
    const fate = this.fate(feed, events);
    if (fate === "hold") this.waiting.push({ feed, events });
    if (fate === "unreadable") this.#handlers.get(feedId(feed))?.unreadable();
    if (fate === "now" || fate === "twice") this.deliver(feed, events);
    if (fate === "twice") this.deliver(feed, events);
  }

  deliver(feed: FeedName, events: readonly FeedEvent[]): void {
    this.#handlers.get(feedId(feed))?.events(events);
  }

  /** Delivers what was held, in the order that `pick` says. */
  flush(pick: (waiting: number) => number = () => 0): void {
    while (this.waiting.length > 0) {
      const [message] = this.waiting.splice(pick(this.waiting.length), 1);
      if (message) this.deliver(message.feed, message.events);
    }
  }

  /** The link was cut, and is back. */
  renew(feed: FeedName = JOB): void {
    this.#handlers.get(feedId(feed))?.subscribed();
  }

  history(feed: FeedName = JOB): FeedEvent[] {
    return this.published.filter((each) => each.feed === feedId(feed)).map(({ event }) => event);
  }

  async probe(onSent?: () => void): Promise<void> {
    onSent?.();
  }

  reconnect(): void {}

  async close(): Promise<void> {}
}

type Call = Exclude<keyof Store, "ready" | "close">;

/** A store in memory whose calls can be interrupted, and whose content can be lost. */
export class ScriptedStore implements Store {
  #inner: MemoryStore;
  readonly #options: StoreOptions & { bus: MemoryBus; now: () => number };
  /** Called around each call; a throw is the call's. */
  around: (call: Call, moment: "before" | "after") => void | Promise<void> = () => {};
  ready = true;

  constructor(bus: ScriptedBus, options: Partial<StoreOptions> = {}) {
    // The store of one process publishes to the bus of one process: only `publish` is used of it.
    this.#options = { ...STORE, ...options, bus: bus as unknown as MemoryBus, now: () => Date.now() };
    this.#inner = new MemoryStore(this.#options);
  }

  /** Everything is gone, as after FLUSHALL. */
  async lose(): Promise<void> {
    await this.#inner.close();
    this.#inner = new MemoryStore(this.#options);
  }

  append: Store["append"] = (...args) => this.#do("append", (store) => store.append(...args));
  read: Store["read"] = (...args) => this.#do("read", (store) => store.read(...args));
  tail: Store["tail"] = (...args) => this.#do("tail", (store) => store.tail(...args));
  heads: Store["heads"] = (...args) => this.#do("heads", (store) => store.heads(...args));
  job: Store["job"] = (...args) => this.#do("job", (store) => store.job(...args));
  jobs: Store["jobs"] = (...args) => this.#do("jobs", (store) => store.jobs(...args));
  fields: Store["fields"] = (...args) => this.#do("fields", (store) => store.fields(...args));
  series: Store["series"] = (...args) => this.#do("series", (store) => store.series(...args));
  touch: Store["touch"] = (...args) => this.#do("touch", (store) => store.touch(...args));
  tenants: Store["tenants"] = (...args) => this.#do("tenants", (store) => store.tenants(...args));
  due: Store["due"] = (...args) => this.#do("due", (store) => store.due(...args));
  defer: Store["defer"] = (...args) => this.#do("defer", (store) => store.defer(...args));
  flushTenant: Store["flushTenant"] = (...args) =>
    this.#do("flushTenant", (store) => store.flushTenant(...args));

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #do<R>(call: Call, work: (store: MemoryStore) => Promise<R>): Promise<R> {
    await this.around(call, "before");
    const result = await work(this.#inner);
    await this.around(call, "after");
    return result;
  }
}

export interface Scripted {
  hub: Hub;
  store: ScriptedStore;
  bus: ScriptedBus;
  /** What the hub logged. */
  logged: string[];
  /** Publishes, each event by itself. */
  publish(...events: object[]): Promise<void>;
  close(): Promise<void>;
}

export interface ScriptedOptions extends Partial<Omit<HubOptions, "store" | "bus">> {
  store?: Partial<StoreOptions>;
}

export function scripted({ store: storeOptions, ...rest }: ScriptedOptions = {}): Scripted {
  const bus = new ScriptedBus();
  const store = new ScriptedStore(bus, storeOptions);
  const logged: string[] = [];
  const log = (fields: object, message: string) => {
    logged.push(`${message}: ${String((fields as { err?: unknown }).err ?? "")}`);
  };
  const hub = new Hub({
    instanceId: "hub-test",
    log: { warn: log, error: log },
    checkIntervalMs: 2_000,
    releaseMs: 10_000,
    positionIntervalMs: 10_000,
    timeoutMs: 5_000,
    presenceIntervalMs: 0,
    instanceTimeoutMs: 3_000,
    staleMs: 60_000,
    lostMs: 900_000,
    probeIntervalMs: 1_000,
    maxReplays: 256,
    // No test waits for others to read with, but those of just that.
    shareMs: 0,
    registry: new MemoryRegistry({ instanceId: "hub-test" }),
    ...rest,
    store,
    bus,
  });
  return {
    hub,
    store,
    bus,
    logged,
    async publish(...events) {
      for (const event of events) {
        const { refused } = await hub.publish(TRAINER, { job_id: "job", ...event });
        if (refused[0]) throw new Error(`${refused[0].code}: ${refused[0].message}`);
      }
    },
    async close() {
      await hub.close();
      await store.close();
    },
  };
}

export type Received =
  | { answer: SubscribeAnswer; request: SubscribeRequest }
  | { event: FeedEvent }
  | { gap: Gap }
  | { position: Position }
  | { expired: string };

/** A watcher that writes down what it gets. */
export class Watching implements Subscriber {
  readonly received: Received[] = [];
  subscription: Subscription | undefined;

  deliver(event: FeedEvent): void {
    this.received.push({ event });
  }

  gap(gap: Gap): void {
    this.received.push({ gap });
  }

  position(position: Position): void {
    this.received.push({ position });
  }

  waitExpired(expired: string): void {
    this.received.push({ expired });
  }

  get answers(): SubscribeAnswer[] {
    return this.received.flatMap((one) => ("answer" in one ? [one.answer] : []));
  }

  get events(): FeedEvent[] {
    return this.received.flatMap((one) => ("event" in one ? [one.event] : []));
  }

  get gaps(): Gap[] {
    return this.received.flatMap((one) => ("gap" in one ? [one.gap] : []));
  }

  get seqs(): number[] {
    return this.events.map(({ seq }) => seq);
  }

  /** As a door does: page by page until it is joined. */
  async join(hub: Hub, request: SubscribeRequest = { job_id: "job" }, identity = WATCHER): Promise<this> {
    for (let next = request; ; ) {
      const opening = await hub.replays.open(identity, next, this);
      const answer = asTold(opening.finish());
      this.received.push({ answer, request: next });
      this.subscription = opening.start();
      if (!answer.more) return this;
      const { history: _, ...rest } = next;
      next = { ...rest, since: answer.next as { epoch: string; seq: number } };
    }
  }

  leave(hub: Hub): void {
    if (this.subscription) hub.feeds.leave(this.subscription);
  }
}

/** An answer as a client gets it; both of its forms say the same. */
export function asTold<D>(answer: { object(): D; text(): string }): D {
  const text: D = JSON.parse(answer.text());
  expect(text).to.deep.equal(JSON.parse(JSON.stringify(answer.object())));
  return text;
}

export const line = (message = "a line") => ({ type: "log", data: { message } });
export const sample = (step = 1) => ({ type: "sample_generated", data: { step } });
export const status = (value: string) => ({ type: "training_status", data: { status: value } });
export const progress = (data: object) => ({ type: "training_progress", data });

/** Lets everything that only waits for promises go on. */
export async function settle(turns = 3): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Timers stand still until `pass`; setImmediate and promises go on. */
export function stopClock(): void {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // Node calls its mock timers experimental, at every run
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  process.emitWarning = emitWarning;
}

export function startClock(): void {
  mock.timers.reset();
}

/** Lets time go by in steps, so that what a timer starts can go on before the next. */
export async function pass(ms: number, step = 50): Promise<void> {
  for (let left = ms; left > 0; left -= step) {
    mock.timers.tick(Math.min(step, left));
    await settle();
  }
}

/** Every answer to `subscribe {job_id: "*"}`, to the last page, as the door asks for them. */
export async function allPages(
  all: AllJobs,
  watching: Watching,
  { since }: Pick<SubscribeRequest, "since">,
): Promise<SubscribeAllAnswer[]> {
  await all.begin(since as Record<string, Cursor> | undefined);
  const pages: SubscribeAllAnswer[] = [];
  for (;;) {
    const page = await all.page();
    const answer = asTold(page.finish());
    pages.push(answer);
    if (pages.length === 1) expect(watching.received, "before the first answer").to.deep.equal([]);
    page.start();
    if (!answer.more) return pages;
    expect(all.expects(answer.next as string)).to.equal(true);
    expect(all.expects("another")).to.equal(false);
  }
}
