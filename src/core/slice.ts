/** A page as those share it who asked for the same: what is made of it is made once. */
import type { FeedEvent, FeedName } from "../bus/bus.ts";
import type { Logged, Newest, Page } from "../store/store.ts";
import { type Filter, type Item, itemsOf, wants } from "./page.ts";

export class Slice {
  readonly page: Page;
  /** Events of the read that it was cut from, and what they have become. */
  readonly made: Map<Logged | Newest, FeedEvent>;
  #all: readonly Item[] | undefined;
  /** By types. */
  readonly #wanted = new Map<string, readonly Item[]>();

  constructor(page: Page, made: Map<Logged | Newest, FeedEvent> = new Map()) {
    this.page = page;
    this.made = made;
  }

  /** The same list for the same types; not to be changed. */
  items(name: FeedName, filter: Filter): readonly Item[] {
    this.#all ??= itemsOf(name, this.page, this.made);
    const { types, maySee } = filter;
    if (!types && !maySee) return this.#all;
    // What a token may see is its own.
    if (maySee) return this.#all.filter((item) => wants(filter, item));
    const key = [...(types ?? [])].sort().join();
    let wanted = this.#wanted.get(key);
    if (!wanted) {
      wanted = this.#all.filter((item) => wants(filter, item));
      this.#wanted.set(key, wanted);
    }
    return wanted;
  }
}
