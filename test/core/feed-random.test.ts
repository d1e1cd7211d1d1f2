/** Whatever happens to messages, store and watchers: what a watcher was told is true in the end. */
import fc from "fast-check";
import { SHARE_MS } from "../../src/core/shares.ts";
import { HubError } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { EventType, SubscribeRequest } from "../../src/protocol/types.ts";
import { joinFields } from "../../src/store/wire.ts";
import { Oracle } from "./oracle.ts";
import {
  type Fate,
  JOB,
  line,
  pass,
  progress,
  type Scripted,
  sample,
  scripted,
  settle,
  startClock,
  status,
  stopClock,
  TRAINER,
  Watching,
} from "./scripted.ts";

type Action =
  | { do: "publish"; what: Array<"log" | "sample" | "status" | "loss" | "stage">; fate: Fate }
  | { do: "flush"; pick: number }
  | { do: "renew" | "lose" }
  | { do: "fail"; calls: number }
  | { do: "join"; request: "plain" | "history" | "wait"; types?: EventType[] }
  | { do: "resume" | "leave"; which: number }
  | { do: "pass"; ms: number }
  | { do: "turns"; n: number };

const fate = fc.constantFrom<Fate>("now", "now", "now", "lose", "twice", "hold", "hold", "unreadable");
const what = fc.constantFrom("log", "sample", "status", "loss", "stage");
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("publish"),
      what: fc.array(what, { minLength: 1, maxLength: 8 }),
      fate,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("flush"), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("renew") }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("lose") }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("fail"), calls: fc.integer({ min: 1, max: 4 }) }) },
  {
    weight: 4,
    arbitrary: fc.record(
      {
        do: fc.constant("join"),
        request: fc.constantFrom("plain", "history", "wait"),
        types: fc.constantFrom<EventType[]>(
          ["log"],
          ["training_status", "training_progress"],
          ["sample_generated"],
        ),
      },
      { requiredKeys: ["do", "request"] },
    ),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("resume", "leave"), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pass"), ms: fc.constantFrom(100, 700, 2_300) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("turns"), n: fc.integer({ min: 1, max: 5 }) }) },
) as fc.Arbitrary<Action>;

interface Seat {
  watching: Watching;
  types: EventType[] | undefined;
  joined: Promise<unknown>;
  left: boolean;
}

class Run {
  readonly hub: Scripted = scripted({
    positionIntervalMs: 1_000,
    shareMs: SHARE_MS,
    store: { maxEvents: 25, maxLogLines: 15 },
  });
  readonly seats: Seat[] = [];
  #failing = 0;
  #number = 0;
  #delays: number[];

  constructor(delays: number[]) {
    this.#delays = delays;
    this.hub.store.around = async (call) => {
      if (call === "append" || call === "flushTenant") return;
      if (this.#failing > 0 && call !== "heads") {
        this.#failing--;
        throw new HubError("unavailable");
      }
      const delay = this.#delays[this.#number++ % this.#delays.length] ?? 0;
      await settle(delay);
    };
  }

  async act(action: Action): Promise<void> {
    switch (action.do) {
      case "publish":
        this.hub.bus.fate = () => action.fate;
        await this.hub.hub.publish(
          TRAINER,
          action.what.map((kind) => ({ job_id: "job", ...this.#event(kind) })),
        );
        return;
      case "flush":
        return this.hub.bus.flush((waiting) => action.pick % waiting);
      case "renew":
        return this.hub.bus.renew();
      case "lose":
        return await this.hub.store.lose();
      case "fail":
        this.#failing = action.calls;
        return;
      case "join":
        return this.#join({
          job_id: "job",
          ...ask(action.request),
          ...(action.types && { types: action.types }),
        });
      case "resume":
      case "leave":
        return await this.#leave(action);
      case "pass":
        return await pass(action.ms, 100);
      case "turns":
        return await settle(action.n);
    }
  }

  #event(kind: "log" | "sample" | "status" | "loss" | "stage"): object {
    const n = ++this.#number;
    if (kind === "log") return line(String(n));
    if (kind === "sample") return sample(n);
    if (kind === "status") return status(n % 2 ? "running" : "paused");
    return progress(kind === "loss" ? { loss: n } : { stage: String(n) });
  }

  #join(request: SubscribeRequest): void {
    const watching = new Watching();
    const seat: Seat = { watching, types: request.types, joined: Promise.resolve(), left: false };
    seat.joined = this.#enter(seat, request);
    this.seats.push(seat);
  }

  /** As a client: what is temporary is asked again; a job that is not there is left alone. */
  async #enter(seat: Seat, request: SubscribeRequest): Promise<void> {
    for (;;) {
      try {
        await seat.watching.join(this.hub.hub, request);
        return;
      } catch (error) {
        if (!(error instanceof HubError)) throw error;
        seat.left = true;
        if (!error.temporary) return;
        seat.left = false;
        // What an interrupted answer has brought is not counted: the client begins again.
        seat.watching.received.length = 0;
        await settle();
      }
    }
  }

  async #leave({ do: how, which }: { do: "resume" | "leave"; which: number }): Promise<void> {
    const seat = this.seats[which % Math.max(1, this.seats.length)];
    if (!seat || seat.left) return;
    await this.#over(seat.joined);
    if (seat.left) return;
    seat.watching.leave(this.hub.hub);
    if (how === "leave") seat.left = true;
    else seat.joined = this.#resume(seat);
  }

  async #resume(seat: Seat): Promise<void> {
    const { epoch, seq } = new Oracle(seat.types).take(seat.watching.received);
    const since = epoch === null ? {} : { since: { epoch, seq } };
    for (;;) {
      const before = seat.watching.received.length;
      try {
        const request = { job_id: "job", wait: true, ...since, ...(seat.types && { types: seat.types }) };
        await seat.watching.join(this.hub.hub, request);
        return;
      } catch (error) {
        if (!(error instanceof HubError) || !error.temporary) throw error;
        seat.watching.received.length = before;
        await settle();
      }
    }
  }

  /** Waits for something while the clock goes on. */
  async #over(promise: Promise<unknown>): Promise<void> {
    let over = false;
    void promise.finally(() => {
      over = true;
    });
    while (!over) await pass(100, 100);
    await promise;
  }

  async end(): Promise<string[]> {
    this.#failing = 0;
    this.#delays = [0];
    this.hub.bus.fate = () => "now";
    this.hub.bus.flush();
    for (const { joined } of this.seats) await this.#over(joined);
    await pass(5_000, 100);
    const [head] = await this.hub.store.heads("acme", [JOB]);
    const state = await this.hub.store.job("acme", "job");
    const faults = this.seats.flatMap(({ watching, types, left }, i) => {
      if (left) return [];
      const newest = (state?.newest ?? [])
        .filter(({ type }) => !types || types.includes(type))
        .map(({ seq, fields }) => ({ seq, data: JSON.parse(joinFields(fields)) }));
      const oracle = new Oracle(types).take(watching.received);
      return oracle.check(this.hub.bus.history(), head, newest).map((fault) => `watcher ${i}: ${fault}`);
    });
    if (this.hub.logged.length > 0) faults.push(...this.hub.logged);
    await this.hub.close();
    return faults;
  }
}

function ask(request: "plain" | "history" | "wait"): Partial<SubscribeRequest> {
  return request === "history" ? { history: 7 } : request === "wait" ? { wait: true } : {};
}

describe("core/feed, whatever happens", () => {
  const limits = LIMITS as Record<string, number>;
  const { pageEvents, healEvents } = LIMITS;

  before(() => {
    // Small enough for pages and overflows to come about.
    Object.assign(limits, { pageEvents: 5, healEvents: 12 });
  });
  after(() => {
    Object.assign(limits, { pageEvents, healEvents });
  });
  beforeEach(() => stopClock());
  afterEach(() => startClock());

  it("each watcher gets exactly the log's durable events in order, the newest values, or a gap that covers", async function () {
    this.timeout(60_000);
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { minLength: 5, maxLength: 50 }),
        fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 10 }),
        async (actions, delays) => {
          const run = new Run(delays);
          for (const one of actions) await run.act(one);
          const faults = await run.end();
          if (faults.length > 0) throw new Error(faults.join("\n"));
        },
      ),
      { numRuns: 500 },
    );
  });
});
