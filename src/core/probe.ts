/**
 * Whether what is published arrives here. Every interval a message goes to Redis and back; from what becomes of it
 * follows what this instance is. One timer, four ticks an interval.
 *
 * Time is counted in ticks, and only in those before which Redis has taken the message: neither a server that hangs nor
 * a process that stood still makes the subscriptions look dead. After a stop of any length one tick comes, and then
 * what has arrived meanwhile is read.
 */
import type { Bus } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { InstanceState } from "../protocol/types.ts";

export interface ProbeOptions {
  bus: Pick<Bus, "probe" | "reconnect" | "heardAt">;
  /** Whether the store answers at the moment. */
  isStoreReady: () => boolean;
  /** ms between two probes. */
  intervalMs: number;
  /** A probe has come back after so many ms. */
  onArrived?: (ms: number) => void;
  /** The subscriptions are dead, and are connected anew. */
  onDeaf: (fields: { reconnects: number; last_ms_ago: number | undefined }) => void;
  /** One comes back, the first or after some that did not. */
  onReady?: (fields: { after: ProbeState; round_trip_ms: number }) => void;
  /** What nobody foresaw. */
  onError: (error: unknown, what: string) => void;
}

/** What an instance is, as far as a probe can tell. */
export type ProbeState = Exclude<InstanceState, "draining">;

/** Ticks in an interval. */
const TICKS = 4;
/** A probe that Redis has taken is followed by another one when it is missing for so long: two have to be lost. */
const MISSED_TICKS = 2;
/** When the second is missing as well. What is left of two intervals since the last success is for the new connection. */
const DEAF_TICKS = 3;
/**
 * How long a new connection, or one after Redis was away, has to bring a probe back: two intervals, and not less than
 * this. The subscriber may pause for a second between two tries to connect.
 */
const RENEWAL_MS = 2_000;

export class Probe {
  readonly #options: ProbeOptions;
  readonly #timer: NodeJS.Timeout;
  #verdict: ProbeState = "starting";
  /** By `performance.now()`. */
  #arrivedAt: number | undefined;
  #roundTripMs: number | undefined;
  #reconnects = 0;
  /** Ticks since a probe was sent. */
  #sentTicks = 0;
  /** Redis has not yet said that it has taken the last one. */
  #sending = false;
  /** Probes that Redis has taken since the last one came back, and ticks since the first of them. */
  #taken = 0;
  #missingTicks = 0;
  #takenAt = 0;
  /** `RENEWAL_MS` and two intervals. */
  readonly #renewalTicks: number;
  #told = false;
  #closed = false;

  constructor(options: ProbeOptions) {
    this.#options = options;
    const tickMs = options.intervalMs / TICKS;
    this.#renewalTicks = Math.max(2 * TICKS, Math.ceil(RENEWAL_MS / tickMs));
    this.#timer = setInterval(() => this.#tick(), tickMs);
    this.#send();
  }

  get state(): ProbeState {
    // Known at once, and not only with the next tick. Before the first success it makes no difference.
    if (this.#verdict !== "starting" && !this.#options.isStoreReady()) return "degraded";
    return this.#verdict;
  }

  /** From sending to arrival of the last one that came back, in ms; `undefined` before the first. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** Since the last one came back, in ms; `undefined` before the first. */
  get ageMs(): number | undefined {
    return this.#arrivedAt === undefined ? undefined : performance.now() - this.#arrivedAt;
  }

  /** How often the subscriptions were dead, and connected anew. */
  get reconnects(): number {
    return this.#reconnects;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  #tick(): void {
    this.#sentTicks++;
    const isAway = !this.#options.isStoreReady();
    if (isAway || (this.#sending && this.#sentTicks >= TICKS)) this.#degrade();
    if (isAway || this.#sending) return;
    if (this.#taken > 0) this.#missingTicks++;
    if (this.#missingTicks >= DEAF_TICKS && this.#taken > 1) this.#judge();
    const isLate = this.#taken > 0 && this.#missingTicks >= MISSED_TICKS;
    if (this.#sentTicks >= TICKS || isLate || this.#verdict !== "ready") this.#send();
  }

  #send(): void {
    const sentAt = performance.now();
    this.#sending = true;
    this.#sentTicks = 0;
    const onSent = () => {
      this.#sending = false;
      if (this.#taken++ === 0) this.#takenAt = performance.now();
    };
    this.#options.bus.probe(onSent).then(
      () => this.#arrived(sentAt),
      (error: unknown) => {
        this.#sending = false;
        this.#degrade();
        this.#tell(error);
      },
    );
  }

  /** Once, until a probe comes back: the same happens at every tick. */
  #tell(error: unknown): void {
    if (this.#told || this.#closed || error instanceof HubError) return;
    this.#told = true;
    this.#options.onError(error, "probe failed");
  }

  #arrived(sentAt: number): void {
    this.#arrivedAt = performance.now();
    this.#roundTripMs = this.#arrivedAt - sentAt;
    this.#options.onArrived?.(this.#roundTripMs);
    const after = this.#verdict;
    this.#verdict = "ready";
    if (after !== "ready") this.#options.onReady?.({ after, round_trip_ms: Math.round(this.#roundTripMs) });
    this.#taken = 0;
    this.#missingTicks = 0;
    this.#told = false;
  }

  /** Redis does not answer: nobody can say whether the subscriptions live. */
  #degrade(): void {
    if (this.#verdict !== "starting") this.#verdict = "degraded";
    this.#taken = 0;
    this.#missingTicks = DEAF_TICKS - this.#renewalTicks;
  }

  /** Where other messages come, the probes are behind them: what is slow must not lose what is on its way. */
  #judge(): void {
    if (this.#options.bus.heardAt <= this.#takenAt) this.#reconnect();
    else {
      this.#taken = 0;
      this.#missingTicks = 0;
    }
  }

  #reconnect(): void {
    if (this.#verdict !== "starting") this.#verdict = "deaf";
    this.#missingTicks = DEAF_TICKS - this.#renewalTicks;
    this.#reconnects++;
    const { ageMs } = this;
    const last_ms_ago = ageMs === undefined ? undefined : Math.round(ageMs);
    this.#options.onDeaf({ reconnects: this.#reconnects, last_ms_ago });
    this.#options.bus.reconnect();
  }
}
