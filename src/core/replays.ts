/**
 * What doors call to let watchers in: `open` to stay, `page` to read and go, `listen` for the tenant's feed alone. What
 * they read is shared (reads.ts, snapshots.ts), and only so many read at a time, by turns of tenants and clients.
 */
import type { Identity } from "../auth.ts";
import type { FeedName } from "../bus/bus.ts";
import type { Gap, SubscribeAnswer, SubscribeRequest } from "../protocol/types.ts";
import type { Store } from "../store/store.ts";
import { feedOf, sightOf } from "./access.ts";
import type { Feeds } from "./feeds.ts";
import type { Tallies } from "./meter.ts";
import { follow, type OpenContext, type Opening, opened, openPage, readPage } from "./open.ts";
import type { Filter } from "./page.ts";
import { Reads } from "./reads.ts";
import type { Shares } from "./shares.ts";
import { FairSlots } from "./slots.ts";
import { Snapshots } from "./snapshots.ts";
import type { Subscriber, Subscription } from "./subscription.ts";

export interface ReplaysOptions {
  store: Store;
  feeds: Feeds;
  shares: Shares;
  /** Requests that read at a time. */
  maxReplays: number;
  /** ms that a subscription waits for the store and the bus. */
  timeoutMs: number;
  /** A watcher's view of a feed's present state. */
  snapshot(name: FeedName): Promise<Gap["snapshot"]>;
  tallies: Pick<Tallies, "replayed">;
}

export class Replays {
  readonly #context: OpenContext;
  readonly #reads: Reads;
  readonly #snapshots: Snapshots;
  readonly #slots: FairSlots;
  readonly #tallies: ReplaysOptions["tallies"];

  constructor({ store, feeds, shares, maxReplays, timeoutMs, snapshot, tallies }: ReplaysOptions) {
    this.#reads = new Reads(store, shares);
    this.#snapshots = new Snapshots(snapshot);
    this.#slots = new FairSlots(maxReplays);
    this.#tallies = tallies;
    this.#context = {
      reads: this.#reads,
      feeds,
      timeoutMs,
      snapshot: (name, head) => this.#snapshots.at(name, head),
    };
  }

  /** Pages read from the log. */
  get reads(): number {
    return this.#reads.pages;
  }

  /** Requests that wait for their turn to read. */
  get waiting(): number {
    return this.#slots.waiting;
  }

  /**
   * Reads the page that answers a subscription and keeps what comes meanwhile. The caller sends `finish()` to the
   * client and calls `start()` in the same turn, so that live events follow the answer without gap or double. Only so
   * many read at a time; `subscriber` stands for who asks: the others get their turns between his.
   *
   * @throws HubError `job_not_found`, `unavailable`.
   */
  async open(identity: Identity, request: SubscribeRequest, subscriber: Subscriber): Promise<Opening> {
    const { name, filter } = asked(identity, request);
    const options = { ...this.#context, name, filter, request, subscriber };
    await opened(options);
    return await this.#slots.take(name.tenantId, subscriber, () => openPage(options));
  }

  /** The same page for those who do not stay (HTTP). */
  async page(identity: Identity, request: SubscribeRequest, limit?: number): Promise<SubscribeAnswer> {
    const { name, filter } = asked(identity, request);
    const options = { ...this.#context, name, filter, request, ...(limit !== undefined && { limit }) };
    const { answer } = await this.#slots.take(name.tenantId, identity, () => readPage(options));
    if (request.since) this.#tallies.replayed(answer.head);
    return answer.object();
  }

  /** Follows the tenant's feed from now on, for those who only want to hear of jobs. */
  listen(identity: Identity, subscriber: Subscriber): Promise<Subscription> {
    const { name, filter } = asked(identity, {});
    return this.follow(name, filter, subscriber);
  }

  /** Follows a feed from now on, whoever asks. @throws HubError `job_not_found`, `unavailable`. */
  follow(name: FeedName, filter: Filter, subscriber: Subscriber): Promise<Subscription> {
    return follow({ ...this.#context, name, filter, subscriber });
  }

  /** What a subscription to the tenant's feed may see changes with its watcher's token, at once. */
  identify(subscription: Subscription, identity: Identity): void {
    subscription.maySee = sightOf(identity, subscription.name);
  }

  close(): void {
    this.#reads.close();
    this.#snapshots.close();
  }
}

function asked(identity: Identity, { job_id, types }: SubscribeRequest): { name: FeedName; filter: Filter } {
  const name = feedOf(identity, job_id);
  return { name, filter: { types: types && new Set(types), maySee: sightOf(identity, name) } };
}
