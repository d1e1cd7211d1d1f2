/** A watcher's connection: its subscriptions, and how their events get on the wire. */
import { atLeast, type Identity, maySee, type Role } from "../auth.ts";
import type { FeedEvent, JobName } from "../bus/bus.ts";
import { AllJobs } from "../core/all-jobs.ts";
import type { Hub } from "../core/hub.ts";
import { count } from "../core/meter.ts";
import { wants } from "../core/page.ts";
import { Slots } from "../core/slots.ts";
import type { Subscriber, Subscription } from "../core/subscription.ts";
import { Turns } from "../core/turns.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type {
  Closing,
  CommandRequest,
  Cursor,
  Gap,
  PingAnswer,
  Position,
  PresenceRequest,
  SeriesRequest,
  SubscribeRequest,
} from "../protocol/types.ts";
import type { Client, Connection, Verbs } from "./connection.ts";
import { JsonText } from "./encoder.ts";
import { allJobsRoom, jobRoom, tenantRoom } from "./rooms.ts";

/** The keys of subscriptions that are not to one job; no job id looks like them. */
const TENANT = "";
const ALL = "*";
/** Pages of one connection that are read at a time: together they are well below what makes a client slow. */
const PAGES = 4;

export class Watcher implements Client {
  static readonly verbs: Verbs<Watcher> = {
    subscribe: (watcher, request, reply) => watcher.subscribe(request, reply),
    unsubscribe: (watcher, request, reply) => watcher.unsubscribe(request, reply),
    presence: (watcher, request: PresenceRequest, reply) =>
      watcher.#ask(request, reply, (identity) => watcher.#hub.presence.answer(identity, request)),
    // They are large: one after the other.
    series: (watcher, request: SeriesRequest, reply) =>
      watcher.#inTurn(async () => {
        await watcher.#connection.outbox.room();
        await watcher.#ask(request, reply, (identity) => watcher.#hub.jobs.series(identity, request));
      }),
    command: (watcher, request: CommandRequest, reply) =>
      watcher.#ask(
        request,
        reply,
        async (identity) => (await watcher.#hub.commands.request(identity, request)).outcome,
        "operator",
      ),
    ping: (watcher, _, reply) => reply(watcher.ping()),
  };

  readonly #connection: Pick<Connection, "socket" | "identity" | "outbox">;
  readonly #hub: Hub;
  readonly #subscriptions = new Map<string, Subscription>();
  #all: AllJobs | undefined;
  #named: Delivery | undefined;
  /** Two calls for one feed are answered in order. */
  readonly #turns = new Turns();
  /** Of series; made for the first. */
  #reading: Turns | undefined;
  readonly #pages = new Slots(PAGES);
  #told: WeakSet<Gap> | undefined;
  #gone = false;

  constructor(connection: Pick<Connection, "socket" | "identity" | "outbox">, hub: Hub) {
    this.#connection = connection;
    this.#hub = hub;
    connection.socket.join(tenantRoom(connection.identity.tenantId));
  }

  #inTurn(read: () => Promise<void>): Promise<void> {
    this.#reading ??= new Turns();
    return this.#reading.take("series", read);
  }

  /** Answers by the token as it is when the answer is there: a new one may allow less. */
  async #ask(
    { job_id }: { job_id: string },
    reply: (data: unknown) => void,
    work: (identity: Identity) => Promise<unknown>,
    role: Role = "watcher",
  ): Promise<void> {
    const { identity } = this.#connection;
    const answer = await work(identity);
    const now = this.#connection.identity;
    if (!maySee(now, job_id)) throw new HubError("job_not_found");
    if (!atLeast(now.role, role)) throw new HubError("forbidden");
    reply(answer);
  }

  async subscribe(request: SubscribeRequest, reply: (data: unknown) => void): Promise<void> {
    const key = request.job_id ?? TENANT;
    checkCombination(request);
    const taken = new Set([...this.#subscriptions.keys(), ...this.#turns.keys, ...(this.#all ? [ALL] : [])]);
    if (!taken.has(key) && taken.size >= LIMITS.subscriptions) throw new HubError("too_many_subscriptions");
    await this.#turns.take(key, () =>
      this.#pages.take(async () => {
        // A client that resumes many feeds gets its pages as fast as it reads them.
        await this.#connection.outbox.room();
        if (this.#gone) return;
        if (key === ALL) await this.#subscribeAll(request, reply);
        else await this.#subscribeOne(key, request, reply);
      }),
    );
  }

  async unsubscribe({ job_id }: { job_id?: string }, reply: (data: unknown) => void): Promise<void> {
    const key = job_id ?? TENANT;
    await this.#turns.take(key, async () => {
      if (key === ALL ? !this.#all : !this.#subscriptions.has(key)) throw new HubError("not_subscribed");
      this.#leave(key);
      reply(job_id === undefined ? {} : { job_id });
    });
  }

  ping(): PingAnswer {
    const own = [...this.#subscriptions.values()].flatMap((subscription) => subscription.position() ?? []);
    const jobs = new Set(own.map(({ job_id }) => job_id));
    const others = this.#all?.positions().filter(({ job_id }) => !jobs.has(job_id)) ?? [];
    return { server_time: new Date().toISOString(), positions: [...own, ...others] };
  }

  /** The token is another one: what it does not allow ends, and comes no more from this moment on. */
  narrow(): void {
    const { identity } = this.#connection;
    const named = [...this.#subscriptions.keys()].filter((key) => key !== TENANT && !maySee(identity, key));
    for (const jobId of named) this.#leave(jobId);
    const tenant = this.#subscriptions.get(TENANT);
    if (tenant) this.#hub.replays.identify(tenant, identity);
    const ended = new Set([...named, ...(this.#all?.identify(identity) ?? [])]);
    for (const jobId of ended) this.#tellEnd(jobId, "forbidden");
  }

  /** The connection has ended. */
  close(): void {
    this.#gone = true;
    this.#turns.close();
    this.#reading?.close();
    for (const key of [...this.#subscriptions.keys()]) this.#leave(key);
    this.#all?.close();
    this.#all = undefined;
  }

  async #subscribeOne(key: string, request: SubscribeRequest, reply: (data: unknown) => void): Promise<void> {
    const opening = await this.#asAllowed((identity) =>
      this.#hub.replays.open(identity, request, this.#subscriber()),
    );
    if (this.#gone) return opening.abandon();
    const answer = opening.finish();
    // Also before the first of several pages: a live event above it would pass what is still to be read.
    this.#leave(key);
    // From here to the end of the turn: answer, what came meanwhile, live events.
    reply(new JsonText(answer.text()));
    if (request.since) this.#hub.tallies.replayed(answer.head);
    const subscription = opening.start();
    if (!subscription) return;
    this.#subscriptions.set(key, subscription);
    const { socket, identity } = this.#connection;
    if (request.job_id === undefined) return;
    socket.join(jobRoom(identity.tenantId, request.job_id));
    this.#hub.presence.join(subscription.name as JobName, identity.subject);
  }

  async #subscribeAll(request: SubscribeRequest, reply: (data: unknown) => void): Promise<void> {
    const { identity, socket } = this.#connection;
    const before = this.#all;
    if (request.next !== undefined && !before?.expects(request.next)) throw new HubError("invalid_cursor");
    const goesOn = request.next !== undefined && before !== undefined;
    const { all, page, abandon } = await this.#asAllowed((as) =>
      goesOn ? pageOf(before) : this.#beginAll(as, request),
    );
    if (this.#gone) return abandon();
    // A second one takes the place of the first only now: should it fail, the first goes on.
    if (!goesOn) before?.close();
    this.#all = all;
    const answer = page.finish();
    reply(new JsonText(answer.text()));
    if (all.resumes) for (const [, { head }] of answer.jobs) this.#hub.tallies.replayed(head);
    page.start();
    socket.join(allJobsRoom(identity.tenantId));
  }

  async #beginAll(identity: Identity, request: SubscribeRequest): Promise<AllPage> {
    const all = new AllJobs(this.#hub, identity, request, this.#subscriber(true));
    try {
      await all.begin(request.since as Record<string, Cursor> | undefined);
      const { page } = await pageOf(all);
      const abandon = () => {
        page.abandon();
        all.close();
      };
      return { all, page, abandon };
    } catch (error) {
      all.close();
      throw error;
    }
  }

  /** Reads by the token as it is when the page is there: a new one may have come, which allows less. */
  async #asAllowed<P extends { abandon(): void }>(read: (identity: Identity) => Promise<P>): Promise<P> {
    for (;;) {
      const { identity } = this.#connection;
      const page = await read(identity);
      if (this.#gone || this.#connection.identity === identity) return page;
      page.abandon();
    }
  }

  /** A subscription to a job has come to its end by itself. */
  #tellEnd(jobId: string, reason: string): void {
    const closing: Closing = { reason, job_id: jobId, reconnect: false };
    this.#connection.socket.emit("closing", closing);
  }

  #leave(key: string): void {
    const { socket, identity } = this.#connection;
    if (key === ALL) {
      this.#all?.close();
      this.#all = undefined;
      socket.leave(allJobsRoom(identity.tenantId));
      return;
    }
    const subscription = this.#subscriptions.get(key);
    if (!subscription) return;
    this.#hub.feeds.leave(subscription);
    this.#subscriptions.delete(key);
    if (key === TENANT) return;
    this.#hub.presence.leave(subscription.name as JobName, identity.subject);
    socket.leave(jobRoom(identity.tenantId, key));
  }

  /** One for all subscriptions by name, and one for `"*"`. */
  #subscriber(all = false): Subscriber {
    if (!all) {
      this.#named ??= new Delivery(this.#connection, this.#hub, this);
      return this.#named;
    }
    return new AllDelivery(this.#connection, this.#hub, this);
  }

  /** The same gap of a job followed by name and by "*" is told once; only one of them may be concerned by it. */
  tellsFirst(gap: Gap): boolean {
    if (this.#told?.has(gap)) return false;
    this.#told ??= new WeakSet();
    this.#told.add(gap);
    return true;
  }

  /** The job has not come in time. */
  waitExpired(jobId: string): void {
    this.#leave(jobId);
    this.#tellEnd(jobId, "wait_expired");
  }

  /** Whether the job is followed by name. */
  follows(jobId: string): boolean {
    return this.#subscriptions.has(jobId);
  }

  /** Whether a subscription to the job by name brings this event, so that `"*"` must not bring it again. */
  deliversItself(event: FeedEvent): boolean {
    const own = this.#subscriptions.get(event.jobId);
    return own !== undefined && own.epoch === event.epoch && event.seq > own.start && wants(own, event);
  }
}

/** How events and news of feeds reach the connection. */
class Delivery implements Subscriber {
  readonly #connection: Pick<Connection, "socket" | "outbox">;
  readonly #tallies: Hub["tallies"];
  protected readonly watcher: Watcher;

  constructor(connection: Pick<Connection, "socket" | "outbox">, { tallies }: Hub, watcher: Watcher) {
    this.#connection = connection;
    this.#tallies = tallies;
    this.watcher = watcher;
  }

  get behind(): boolean {
    return this.#connection.outbox.behind;
  }

  deliver(event: FeedEvent): void {
    const { socket, outbox } = this.#connection;
    if (!socket.connected || !outbox.write(event)) return;
    const { deliveries } = this.#tallies;
    if (event.durable) deliveries.durable++;
    else deliveries.conflatable++;
    deliveries.characters += event.wire.length;
  }

  gap(gap: Gap): void {
    if (!this.watcher.tellsFirst(gap)) return;
    this.emit("gap", gap);
    this.#connection.outbox.count();
    count(this.#tallies.gapsTold, gap.reason);
  }

  conflated(): void {
    this.#tallies.conflated++;
  }

  position(position: Position): void {
    this.emit("position", position);
  }

  waitExpired(jobId: string): void {
    this.watcher.waitExpired(jobId);
  }

  protected emit(name: "gap" | "position", told: Gap | Position): void {
    this.#connection.socket.emit(name, told);
  }
}

/** Of `"*"`: what a subscription by name brings does not come twice. */
class AllDelivery extends Delivery {
  override deliver(event: FeedEvent): void {
    if (!this.watcher.deliversItself(event)) super.deliver(event);
  }

  override position(position: Position): void {
    if (!this.watcher.follows(position.job_id as string)) super.position(position);
  }
}

/** A page of `"*"`; abandoned with everything that was begun for it. */
interface AllPage {
  all: AllJobs;
  page: Awaited<ReturnType<AllJobs["page"]>>;
  abandon(): void;
}

async function pageOf(all: AllJobs): Promise<AllPage> {
  const page = await all.page();
  return { all, page, abandon: page.abandon };
}

function checkCombination({ job_id, since, next, wait, history }: SubscribeRequest): void {
  const invalid = (message: string) => new HubError("invalid_request", message);
  const isCursor = since !== undefined && typeof since.epoch === "string" && typeof since.seq === "number";
  if (job_id === ALL) {
    if (isCursor) throw invalid('since is a map by job with job_id "*"');
    if (wait) throw invalid('wait does not go with job_id "*"');
    return;
  }
  if (since !== undefined && !isCursor) throw invalid("since is a cursor {epoch, seq}");
  if (next !== undefined) throw invalid('next goes with job_id "*"; others go on with since');
  if (job_id === undefined && wait) throw invalid("wait goes with a job_id");
  if (since !== undefined && history) throw invalid("either since or history, not both");
}
