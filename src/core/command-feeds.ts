/** The `command_update`s of jobs, for those on this instance who ask for commands or carry them out. */
import { feedId, type JobName } from "../bus/bus.ts";
import type { CommandUpdate } from "../protocol/types.ts";
import type { Feeds } from "./feeds.ts";
import type { Replays } from "./replays.ts";
import type { Subscription } from "./subscription.ts";

export interface CommandListener {
  update(update: CommandUpdate): void;
  /** Some may be missing. */
  gap(): void;
}

interface Followed {
  readonly listeners: Set<CommandListener>;
  readonly opened: Promise<Subscription>;
}

export class CommandFeeds {
  readonly #replays: Pick<Replays, "follow">;
  readonly #feeds: Pick<Feeds, "leave">;
  readonly #followed = new Map<string, Followed>();

  constructor(replays: Pick<Replays, "follow">, feeds: Pick<Feeds, "leave">) {
    this.#replays = replays;
    this.#feeds = feeds;
  }

  /**
   * Follows a job from now on; answers what ends that.
   *
   * @throws HubError `job_not_found`, `unavailable`.
   */
  async follow(job: JobName, listener: CommandListener): Promise<() => void> {
    const id = feedId(job);
    let followed = this.#followed.get(id);
    if (!followed) {
      const listeners = new Set<CommandListener>();
      followed = { listeners, opened: this.#subscribe(job, listeners) };
      this.#followed.set(id, followed);
    }
    const { listeners, opened } = followed;
    listeners.add(listener);
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      listeners.delete(listener);
      if (listeners.size > 0) return;
      if (this.#followed.get(id)?.listeners === listeners) this.#followed.delete(id);
      void opened.then(
        (subscription) => this.#feeds.leave(subscription),
        () => {},
      );
    };
    try {
      await opened;
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }

  async #subscribe(job: JobName, listeners: ReadonlySet<CommandListener>): Promise<Subscription> {
    const all = (tell: (listener: CommandListener) => void) => {
      for (const listener of [...listeners]) tell(listener);
    };
    const subscriber = {
      deliver: ({ wire }: { wire: string }) => {
        const { data } = JSON.parse(wire) as { data: CommandUpdate };
        all((listener) => listener.update(data));
      },
      gap: () => all((listener) => listener.gap()),
      position: () => {},
      waitExpired: () => {},
    };
    const filter = { types: new Set(["command_update"] as const), maySee: undefined };
    return await this.#replays.follow(job, filter, subscriber);
  }
}
