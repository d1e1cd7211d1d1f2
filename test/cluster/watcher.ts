/**
 * A watcher on a plain Socket.IO client, which follows PROTOCOL.md and no more: it applies answers in the
 * acknowledgement, keeps a cursor per feed, and subscribes again with `since` after every reconnect. It judges
 * nothing; it writes down the very text of each delivery.
 */
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
  TenantSnapshot,
  Welcome,
} from "../../src/protocol/types.ts";
import type { JobProgress, JobState, Texts, Told, View } from "./history.ts";
import { type OpenSocket, plainSocket, type SocketTarget, type WatcherSocket } from "./socket.ts";

export interface WatcherOptions {
  name: string;
  url: string;
  token: string;
  tenantId: string;
  /** Begins with long polling, as browsers behind strict proxies do; or stays with it. */
  polling: boolean | "only";
  /** Default: with socket.io-client. */
  open?: OpenSocket;
  /** Default: impatient. */
  reconnect?: SocketTarget["reconnect"];
  /** A job, `"*"`, or absent for the tenant's feed. */
  jobId?: string;
  types?: readonly EventType[];
  texts: Texts;
  /** ms from the hub's clock to here, of every live delivery. */
  onDelay?: (ms: number) => void;
}

const TENANT = "";
/** The cursor of a feed that is not there: when it begins, everything of it. */
const START: Cursor = { epoch: "", seq: 0 };
const RETRY_MS = 100;
const RECONNECT = { delayMs: 100, delayMaxMs: 1_000 };

/** What happened to a watcher since a moment that it was told to mark. */
export interface SinceMark {
  /** ms since 1970. */
  at: number;
  /** The instance that it was connected to at that moment. */
  instance: string;
  /** It has lost its connection, or had none. */
  lost: boolean;
  /** How many `recoveries` there were by then. */
  outages: number;
  /** ms until it lost its connection, for the first time. */
  lostAfter: number | undefined;
  /** ms until the first durable event came that was stored after that moment. */
  recovery: number | undefined;
}

export class Watcher {
  readonly options: WatcherOptions;
  /** Of every feed, and of every stay if it left and came without a cursor. */
  readonly views: View[] = [];
  readonly faults: string[] = [];
  deliveries = 0;
  reconnects = 0;
  /** Of its connection, the last one when there is none. */
  instance = "";
  since: SinceMark | undefined;
  /** ms from each lost connection to the last page of the answer that followed. */
  readonly recoveries: number[] = [];
  readonly #types: ReadonlySet<EventType> | undefined;
  readonly #open = new Map<string, View>();
  readonly #cursors = new Map<string, Cursor>();
  readonly #socket: WatcherSocket;
  /** Told when the connection goes. */
  readonly #gone = new Set<() => void>();
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
    const { open = plainSocket, reconnect = RECONNECT, url, token, polling } = options;
    this.#socket = open(
      { url, token, polling, reconnect },
      {
        connected: () => this.#opened(),
        disconnected: () => this.#closed(),
        event: (name, text, argument) => this.#received(name, text, argument),
        fault: (text) => this.faults.push(text),
      },
    );
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  /** The last position of a feed that the hub has confirmed. */
  until(feed: string): Cursor {
    const view = this.#open.get(feed);
    return { epoch: view?.untilEpoch ?? "", seq: view?.until ?? 0 };
  }

  /** Whether it knows that the feed is not there. */
  knowsNothing(feed: string): boolean {
    return (this.#cursors.get(feed) ?? START).epoch === "";
  }

  /** From now on it must know what has become of its feeds. */
  stay(): void {
    for (const view of this.#open.values()) view.stayed = true;
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
    this.#socket.close();
    this.#left(true);
  }

  /** Begins to measure `since` this moment, now or a little earlier. */
  mark(at: number): void {
    this.since = {
      ...{ at, instance: this.instance, lost: !this.connected, outages: this.recoveries.length },
      ...{ lostAfter: undefined, recovery: undefined },
    };
  }

  /** Where the hub says that each subscription stands: everything up to there has come before this answer. */
  async ping(): Promise<Position[]> {
    const answer = (await this.#call("ping", {})) as Answer<PingAnswer> | undefined;
    if (!answer?.ok) return [];
    for (const { feed, job_id, epoch, seq } of answer.data.positions) {
      const view = this.#open.get(feed === "tenant" ? TENANT : (job_id as string));
      if (!view) continue;
      view.until = view.untilEpoch === epoch ? Math.max(view.until, seq) : seq;
      view.untilEpoch = epoch;
    }
    return answer.data.positions;
  }

  #left(keep: boolean): void {
    if (keep) return;
    this.#open.clear();
    this.#cursors.clear();
  }

  #opened(): void {
    if (++this.#connection > 1) this.reconnects++;
    if (this.#wants) this.#subscribe(this.#request());
  }

  #closed(): void {
    if (this.#wants) this.#lostAt ??= performance.now();
    if (this.since) {
      this.since.lost = true;
      this.since.lostAfter ??= Date.now() - this.since.at;
    }
    for (const gone of [...this.#gone]) gone();
  }

  /** `argument` is what the text says, where it has been parsed already. */
  #received(name: string, text: string, argument: unknown): void {
    const said = <Argument>() => (argument ?? JSON.parse(text)) as Argument;
    if (name === "welcome") this.instance = said<Welcome>().instance_id;
    else if (name === "closing" || name === "draining") return;
    else if (name === "position") this.#advance(said<Position>());
    else if (name === "gap") this.#gap(said<Gap>());
    else if (name === "refused") this.faults.push(`refused: ${text}`);
    else this.#deliver(this.options.texts.intern(text, argument as DeliveredEvent | undefined));
  }

  #deliver(told: Told): void {
    this.deliveries++;
    const view = this.#view(told.feed, told.jobId);
    if (!view || this.#silent) {
      this.faults.push(`an event of a feed that it does not watch: ${told.text.slice(0, 200)}`);
      return;
    }
    this.#take(view, told);
    this.#reach(view.jobId, told.epoch, told.seq);
    this.options.onDelay?.(Date.now() - told.receivedAt);
  }

  #take(view: View, told: Told): void {
    view.entries.push(told);
    const { since } = this;
    if (since && since.recovery === undefined && told.durable && told.receivedAt >= since.at) {
      since.recovery = Date.now() - since.at;
    }
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

  #gap({ snapshot: given, ...gap }: Gap): void {
    const told = { kind: "gap" as const, gap, at: Date.now(), ...stateOf(given) };
    this.#view(gap.feed, gap.job_id)?.entries.push(told);
    if (gap.epoch !== null) this.#advance({ ...gap, epoch: gap.epoch });
    else this.#cursors.set(gap.feed === "tenant" ? TENANT : (gap.job_id as string), START);
  }

  #advance({ feed, job_id, epoch, seq }: Position): void {
    this.#reach(feed === "tenant" ? TENANT : (job_id as string), epoch, seq);
  }

  #reach(key: string, epoch: string, seq: number): void {
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
    const wait = jobId !== undefined && (since ?? START).epoch === "" && { wait: true };
    if (since) return { ...request, ...wait, since };
    return { ...request, ...wait, ...(this.#history > 0 && { history: this.#history }) };
  }

  #subscribe(request: SubscribeRequest): void {
    const connection = this.#connection;
    this.#socket.emit("subscribe", request, (said) => {
      const answer = said as Answer<SubscribeAnswer | SubscribeAllAnswer>;
      if (answer.ok) {
        this.#silent = false;
        if ("jobs" in answer.data) this.#applyAll(answer.data);
        else this.#apply(answer.data, request);
      } else if (answer.error.temporary) {
        setTimeout(() => {
          if (connection === this.#connection && this.connected && this.#wants)
            this.#subscribe(this.#request());
        }, RETRY_MS);
      } else if (answer.error.code === "job_not_found" && this.#forget()) this.#subscribe(this.#request());
      else this.faults.push(`subscribe: ${answer.error.code}: ${answer.error.message}`);
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

  /** The job that it has a cursor of is gone: it waits for one that begins anew. False when it has none. */
  #forget(): boolean {
    const key = this.options.jobId ?? TENANT;
    const view = this.#open.get(key);
    const since = this.#cursors.get(key);
    if (!view || !since || since.epoch === "") return false;
    const answer = { epoch: null, seq: 0, recovered: false, since, events: 0, more: false };
    view.entries.push({ kind: "answer", ...answer, at: Date.now() });
    this.#cursors.set(key, START);
    return true;
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
    view.entries.push({
      ...{ kind: "answer", epoch, seq, recovered, events: events.length, more: page.more ?? false },
      at: Date.now(),
      ...(since && { since }),
      ...(history && { history }),
      ...stateOf(page.snapshot),
    });
    for (const item of events) {
      if (item.type === "gap") this.#gap(item as Gap);
      else this.#take(view, this.options.texts.intern(JSON.stringify(item), item as DeliveredEvent));
    }
    this.#cursors.set(key, epoch === null ? START : (page.next ?? { epoch, seq }));
  }

  /** `undefined` when the connection went before the answer came. */
  #call(verb: "unsubscribe" | "ping", request: object): Promise<unknown> {
    if (!this.connected) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const gone = () => {
        this.#gone.delete(gone);
        resolve(undefined);
      };
      this.#gone.add(gone);
      this.#socket.emit(verb, request, (answer) => {
        this.#gone.delete(gone);
        resolve(answer);
      });
    });
  }
}

/** Of a snapshot what the checker looks at. */
function stateOf(given: Snapshot | TenantSnapshot | null | undefined): {
  snapshot?: JobState;
  jobs?: JobProgress[];
} {
  if (!given) return {};
  if ("jobs" in given) {
    return { jobs: given.jobs.map(({ job_id, progress }) => ({ job_id, ...(progress && { progress }) })) };
  }
  const { seq, counts, latest, newest } = given;
  return { snapshot: { seq, counts, latest, newest } };
}
