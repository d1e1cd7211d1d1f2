/** Where `watch` shows what it gets: a live screen, lines of text, JSON. */
import { styleText } from "node:util";
import { createLogUpdate } from "log-update";
import type { ConnectionState } from "../../client/index.ts";
import type { DeliveredEvent, Gap, Snapshot } from "../protocol/types.ts";
import { describe, describeGap, describeSnapshot } from "./describe.ts";
import { clock } from "./figures.ts";
import type { Style } from "./paper.ts";
import { render } from "./screen.ts";
import type { LossSoFar } from "./series.ts";
import { harmless, harmlessJson } from "./text.ts";
import { emptyView, type View, withEvent, withGap, withLosses, withSnapshot } from "./view.ts";

export interface Output {
  /** Durable events from before that it wants to see. */
  readonly history: number;
  /** Deliveries of progress and stats a second that it can show. */
  readonly maxRate?: number;
  /** Without it, trouble is told on standard error. */
  connection?(state: ConnectionState, note?: string): void;
  /** From now on it is this job's turn; it may have to begin first. */
  follow?(jobId: string): void;
  snapshot(snapshot: Snapshot): void;
  /** The loss up to a position. May come again, when points have not come live. */
  losses?(soFar: LossSoFar): void;
  event(event: DeliveredEvent): void;
  gap(gap: Gap): void;
  /** Shows what it has not shown yet, and gives the terminal back. */
  close(): void;
}

export type Stream = NodeJS.WriteStream;

/** Frames a second at most. */
const FRAME_MS = 100;
/** Clocks go on without events. */
const TICK_MS = 1_000;

/** Redrawn in place, the log-update way: what was on the terminal before stays above. */
export class Live implements Output {
  readonly history = 50;
  readonly maxRate = 10;
  readonly #stream: Stream;
  readonly #write: ReturnType<typeof createLogUpdate>;
  readonly #hint: string;
  readonly #ticker: NodeJS.Timeout;
  readonly #resized = () => this.#redraw();
  #view: View;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: Stream, { hub, tenant, hint }: { hub: string; tenant: string; hint: string }) {
    this.#stream = stream;
    this.#write = createLogUpdate(stream);
    this.#hint = hint;
    this.#view = emptyView({ state: "connecting", hub }, tenant);
    this.#ticker = setInterval(() => this.#draw(), TICK_MS);
    stream.on("resize", this.#resized);
    this.#draw();
  }

  connection(state: ConnectionState, note?: string): void {
    const { hub } = this.#view.connection;
    this.#change({ ...this.#view, connection: { state, hub, ...(note && { note: harmless(note) }) } });
  }

  follow(jobId: string): void {
    const { jobId: before, connection, tenant } = this.#view;
    if (before !== undefined && before !== jobId) {
      // How the job before ended stays on the terminal.
      const lines = this.#lines();
      const end = lines.indexOf("");
      this.#write.persist(`${lines.slice(0, end < 0 ? 2 : end).join("\n")}\n\n`);
    }
    this.#change({ ...emptyView(connection, tenant), awaited: jobId });
  }

  snapshot(snapshot: Snapshot): void {
    this.#change(withSnapshot(this.#view, snapshot));
  }

  losses(soFar: LossSoFar): void {
    this.#change(withLosses(this.#view, soFar));
  }

  event(event: DeliveredEvent): void {
    this.#change(withEvent(this.#view, event));
  }

  gap(gap: Gap): void {
    this.#change(withGap(this.#view, gap));
  }

  close(): void {
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.#stream.off("resize", this.#resized);
    this.#write(this.#lines().join("\n"));
    this.#write.done();
  }

  #change(view: View): void {
    this.#view = view;
    this.#timer ??= setTimeout(() => this.#draw(), FRAME_MS);
  }

  #draw(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#write(this.#lines(this.#hint).join("\n"));
  }

  /** How a terminal wraps the old frame into the new size nobody knows: begin anew, at the top. */
  #redraw(): void {
    this.#write.done();
    this.#stream.write("\u001b[H\u001b[J");
    this.#draw();
  }

  #lines(hint?: string): string[] {
    // The last line stays free: log-update leaves the cursor there.
    const { columns = 80, rows = 24 } = this.#stream;
    return render(this.#view, {
      ...paper(this.#stream),
      width: columns,
      height: Math.max(1, rows - 1),
      ...(hint !== undefined && { hint }),
    });
  }
}

function paper(stream: Stream) {
  return {
    width: stream.columns ?? 80,
    height: Number.POSITIVE_INFINITY,
    now: Date.now(),
    paint: (style: Style, text: string) => styleText(style, text, { stream }),
  };
}

/** The screen once, when it is closed. */
export class Once implements Output {
  readonly history = 50;
  readonly #stream: Stream;
  #view = emptyView({ state: "connecting", hub: "" }, "");

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  snapshot(snapshot: Snapshot): void {
    this.#view = withSnapshot(this.#view, snapshot);
  }

  losses(soFar: LossSoFar): void {
    this.#view = withLosses(this.#view, soFar);
  }

  event(event: DeliveredEvent): void {
    this.#view = withEvent(this.#view, event);
  }

  gap(gap: Gap): void {
    this.#view = withGap(this.#view, gap);
  }

  close(): void {
    if (this.#view.jobId === undefined) return;
    this.#stream.write(`${render(this.#view, paper(this.#stream)).join("\n")}\n`);
  }
}

/** One line an event, for a pipe or a file. */
export class Lines implements Output {
  readonly history = 0;
  readonly maxRate = 1;
  readonly #stream: Stream;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  snapshot(snapshot: Snapshot): void {
    this.#line(snapshot.updated_at, `${snapshot.job_id}: ${describeSnapshot(snapshot)}`);
  }

  event(event: DeliveredEvent): void {
    this.#line(event.timestamp, describe(event));
  }

  gap(gap: Gap): void {
    this.#line(new Date().toISOString(), `gap: ${describeGap(gap)}`);
  }

  close(): void {}

  #line(time: string, text: string): void {
    this.#stream.write(`${clock(time)}  ${harmless(text)}\n`);
  }
}

/** NDJSON: events and gaps as they were delivered; or with `once` the snapshot alone. */
export class Json implements Output {
  readonly history = 0;
  readonly #stream: Stream;
  readonly #once: boolean;

  constructor(stream: Stream, { once }: { once: boolean }) {
    this.#stream = stream;
    this.#once = once;
  }

  snapshot(snapshot: Snapshot): void {
    if (this.#once) this.#line(snapshot);
  }

  event(event: DeliveredEvent): void {
    if (!this.#once) this.#line(event);
  }

  gap(gap: Gap): void {
    if (!this.#once) this.#line(gap);
  }

  close(): void {}

  #line(value: unknown): void {
    this.#stream.write(`${harmlessJson(value)}\n`);
  }
}
