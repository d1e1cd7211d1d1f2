/**
 * A watcher with the plain Socket.IO client, which follows PROTOCOL.md and no more: it applies answers in the
 * acknowledgement, keeps a cursor per feed, and subscribes again with `since` after every reconnect. It judges
 * nothing; it writes down the very text of each delivery.
 */
import { io, type Socket } from "socket.io-client";
import type {
  Answer,
  Cursor,
  DeliveredEvent,
  EventType,
  Gap,
  PingAnswer,
  Position,
  Snapshot,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
} from "../../src/protocol/types.ts";
import type { Texts, View } from "./history.ts";

export interface WatcherOptions {
  name: string;
  url: string;
  token: string;
  tenantId: string;
  /** Begins with long polling, as browsers behind strict proxies do. */
  polling: boolean;
  /** A job, `"*"`, or absent for the tenant's feed. */
  jobId?: string;
  types?: readonly EventType[];
  texts: Texts;
  /** ms from the hub's clock to here, of every live delivery. */
  onDelay?: (ms: number) => void;
}

const TENANT = "";
const RETRY_MS = 100;

export class Watcher {
  readonly options: WatcherOptions;
  /** Of every feed, and of every stay if it left and came without a cursor. */
  readonly views: View[] = [];
  readonly faults: string[] = [];
  deliveries = 0;
  reconnects = 0;
  /** ms from each lost connection to the last page of the answer that followed. */
  readonly recoveries: number[] = [];
  readonly #types: ReadonlySet<EventType> | undefined;
  readonly #open = new Map<string, View>();
  readonly #cursors = new Map<string, Cursor>();
  readonly #socket: Socket;
  /** Texts of event packets that the client has not handed out yet. */
  #packets: string[] = [];
  #wants = false;
  #history = 0;
  #joined: (() => void) | undefined;
  #connection = 0;
  /** It has unsubscribed. */
  #silent = false;
  #lostAt: number | undefined;

  constructor(options: WatcherOptions) {
    this.options = options;
    this.#types = options.types && new Set(options.types);
    this.#socket = io(options.url, {
      auth: { token: options.token },
      transports: options.polling ? ["polling", "websocket"] : ["websocket"],
      forceNew: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 1_000,
    });
    this.#socket.io.on("open", () => this.#opened());
    this.#socket.onAny((name: string, argument: unknown) => this.#received(name, argument));
    this.#socket.on("connect", () => {
      if (++this.#connection > 1) this.reconnects++;
      if (this.#wants) this.#subscribe(this.#request());
    });
    this.#socket.on("disconnect", () => {
      if (this.#wants) this.#lostAt ??= performance.now();
    });
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  /** The last position of a feed that the hub has confirmed. */
  until(feed: string): number {
    return this.#open.get(feed)?.until ?? 0;
  }

  /** Resolves with the last page of the answer, however many reconnects that takes. */
  join(history = 0): Promise<void> {
    this.#wants = true;
    this.#history = history;
    return new Promise((resolve) => {
      this.#joined = resolve;
      if (this.connected) this.#subscribe(this.#request());
    });
  }

  /** Unsubscribes. `keep` the cursor to go on from there later. */
  async leave({ keep = false } = {}): Promise<void> {
    this.#wants = false;
    await this.ping();
    if (await this.#call("unsubscribe", this.#name())) this.#silent = true;
    this.#left(keep);
  }

  /** As a closed browser tab. */
  close(): void {
    this.#wants = false;
    this.#socket.disconnect();
    this.#left(true);
  }

  /** Where the hub says that each subscription stands: everything up to there has come before this answer. */
  async ping(): Promise<Position[]> {
    const answer = (await this.#call("ping", {})) as Answer<PingAnswer> | undefined;
    if (!answer?.ok) return [];
    for (const { feed, job_id, seq } of answer.data.positions) {
      const view = this.#open.get(feed === "tenant" ? TENANT : (job_id as string));
      if (view) view.until = Math.max(view.until, seq);
    }
    return answer.data.positions;
  }

  #left(keep: boolean): void {
    if (keep) return;
    this.#open.clear();
    this.#cursors.clear();
  }

  #opened(): void {
    this.#packets = [];
    this.#socket.io.engine.on("data", (packet) => {
      if (typeof packet === "string" && packet.startsWith("2[")) this.#packets.push(packet);
    });
  }

  #received(name: string, argument: unknown): void {
    const packet = this.#packets.shift() ?? "";
    const start = `2["${name}",`;
    if (!packet.startsWith(start))
      this.faults.push(`${name} came without its packet: ${packet.slice(0, 80)}`);
    if (name === "welcome" || name === "closing") return;
    if (name === "position") this.#advance(argument as Position);
    else if (name === "gap") this.#gap(argument as Gap);
    else if (name === "refused") this.faults.push(`refused: ${JSON.stringify(argument)}`);
    else this.#deliver(packet.slice(start.length, -1), argument as DeliveredEvent);
  }

  #deliver(text: string, event: DeliveredEvent): void {
    this.deliveries++;
    const view = this.#view(event.feed, event.job_id);
    if (!view || this.#silent) {
      this.faults.push(`an event of a feed that it does not watch: ${text.slice(0, 200)}`);
      return;
    }
    const told = this.options.texts.intern(text, event);
    view.entries.push(told);
    this.#advance(event);
    this.options.onDelay?.(Date.now() - told.receivedAt);
  }

  /** Who follows all jobs gets new ones without an answer, from their start. */
  #view(feed: "job" | "tenant", jobId: string | undefined): View | undefined {
    const key = feed === "tenant" ? TENANT : (jobId as string);
    const view = this.#open.get(key);
    if (view || this.options.jobId !== "*" || feed === "tenant") return view;
    return this.#begin(key, true);
  }

  #begin(key: string, fromStart = false): View {
    const { name, tenantId } = this.options;
    const view: View = {
      ...{ watcher: name, tenantId, feed: key === TENANT ? "tenant" : "job", jobId: key, types: this.#types },
      ...{ fromStart, entries: [], until: 0 },
    };
    this.#open.set(key, view);
    this.views.push(view);
    return view;
  }

  #gap({ snapshot: _, ...gap }: Gap): void {
    this.#view(gap.feed, gap.job_id)?.entries.push({ kind: "gap", gap });
    if (gap.epoch !== null) this.#advance({ ...gap, epoch: gap.epoch });
  }

  #advance({ feed, job_id, epoch, seq }: Position): void {
    const key = feed === "tenant" ? TENANT : (job_id as string);
    const before = this.#cursors.get(key);
    if (before?.epoch === epoch && before.seq >= seq) return;
    this.#cursors.set(key, { epoch, seq });
  }

  #name(): { job_id?: string } {
    const { jobId } = this.options;
    return jobId === undefined ? {} : { job_id: jobId };
  }

  #request(): SubscribeRequest {
    const { jobId, types } = this.options;
    const request: SubscribeRequest = { ...this.#name(), ...(types && { types: [...types] }) };
    if (jobId === "*") {
      return this.#cursors.size === 0 ? request : { ...request, since: Object.fromEntries(this.#cursors) };
    }
    const since = this.#cursors.get(jobId ?? TENANT);
    if (since) return { ...request, since };
    return {
      ...request,
      ...(jobId !== undefined && { wait: true }),
      ...(this.#history > 0 && { history: this.#history }),
    };
  }

  #subscribe(request: SubscribeRequest): void {
    const connection = this.#connection;
    this.#socket.emit("subscribe", request, (answer: Answer<SubscribeAnswer | SubscribeAllAnswer>) => {
      if (answer.ok) {
        this.#silent = false;
        if ("jobs" in answer.data) this.#applyAll(answer.data);
        else this.#apply(answer.data, request);
      } else if (answer.error.temporary) {
        setTimeout(() => {
          if (connection === this.#connection && this.connected && this.#wants)
            this.#subscribe(this.#request());
        }, RETRY_MS);
      } else this.faults.push(`subscribe: ${answer.error.code}: ${answer.error.message}`);
    });
  }

  #apply(page: SubscribeAnswer, request: SubscribeRequest): void {
    this.#write(page, request.since as Cursor | undefined, request.history);
    if (page.more) this.#subscribe({ ...this.#request(), since: page.next as Cursor });
    else this.#isThere();
  }

  #applyAll({ jobs, next }: SubscribeAllAnswer): void {
    for (const page of jobs) this.#write(page, this.#cursors.get(page.job_id), undefined);
    if (next !== undefined) this.#subscribe({ job_id: "*", next });
    else this.#isThere();
  }

  #isThere(): void {
    if (this.#lostAt !== undefined) this.recoveries.push(performance.now() - this.#lostAt);
    this.#lostAt = undefined;
    this.#joined?.();
  }

  #write(page: SubscribeAnswer, since: Cursor | undefined, history: number | undefined): void {
    const key = page.feed === "tenant" ? TENANT : (page.job_id as string);
    const view = this.#open.get(key) ?? this.#begin(key);
    const { epoch, seq, recovered, events } = page;
    const snapshot = page.snapshot && "counts" in page.snapshot && shortened(page.snapshot);
    view.entries.push({
      ...{ kind: "answer", epoch, seq, recovered, events: events.length, more: page.more ?? false },
      ...(since && { since }),
      ...(history && { history }),
      ...(snapshot && { snapshot }),
    });
    for (const item of events) {
      if (item.type === "gap") this.#gap(item as Gap);
      else view.entries.push(this.options.texts.intern(JSON.stringify(item), item as DeliveredEvent));
    }
    if (epoch !== null) this.#cursors.set(key, page.next ?? { epoch, seq });
  }

  /** `undefined` when the connection went before the answer came. */
  #call(verb: "unsubscribe" | "ping", request: object): Promise<unknown> {
    if (!this.connected) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const gone = () => resolve(undefined);
      this.#socket.once("disconnect", gone);
      this.#socket.emit(verb, request, (answer: unknown) => {
        this.#socket.off("disconnect", gone);
        resolve(answer);
      });
    });
  }
}

function shortened({
  seq,
  counts,
  latest,
  newest,
}: Snapshot): Pick<Snapshot, "seq" | "counts" | "latest" | "newest"> {
  return { seq, counts, latest, newest };
}
