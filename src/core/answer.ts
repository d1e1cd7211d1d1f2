/** An answer to `subscribe`, as an object, or as text that is made of the stored bytes. */
import type { DeliveredEvent, Gap, SubscribeAllAnswer, SubscribeAnswer } from "../protocol/types.ts";
import type { Item } from "./page.ts";

/** What is in an answer beside its events. */
export type AnswerHead = Omit<SubscribeAnswer, "events">;

export class Answer {
  readonly head: AnswerHead;
  /** The answer's `events` as they came from the store; shared with others who get the same. */
  readonly items: readonly Item[];

  constructor(head: AnswerHead, items: readonly Item[] = []) {
    this.head = head;
    this.items = items;
  }

  /** Made anew with each call. */
  object(): SubscribeAnswer {
    return { ...this.head, events: this.items.map(toClient) };
  }

  /**
   * As JSON. Events are neither parsed nor written again, and the same events or the same snapshot are joined into one
   * text once, for whoever gets them.
   */
  text(): string {
    const { snapshot, ...head } = this.head;
    const told = snapshot === undefined ? "" : `,"snapshot":${textOf(snapshot, JSON.stringify)}`;
    return `${JSON.stringify(head).slice(0, -1)}${told},"events":${textOf(this.items, eventsText)}}`;
  }
}

/** The same of `subscribe {job_id: "*"}`: of several jobs. */
export class AllAnswer {
  readonly jobs: ReadonlyArray<readonly [jobId: string, answer: Answer]>;
  /** Where the next page begins, if there is one. */
  readonly next: string | undefined;

  constructor(jobs: ReadonlyArray<readonly [jobId: string, answer: Answer]>, next: string | undefined) {
    this.jobs = jobs;
    this.next = next;
  }

  object(): SubscribeAllAnswer {
    const jobs = this.jobs.map(([job_id, answer]) => ({ ...answer.object(), job_id }));
    return { job_id: "*", jobs, ...(this.next !== undefined && { more: true, next: this.next }) };
  }

  text(): string {
    const more = this.next === undefined ? "" : `,"more":true,"next":${JSON.stringify(this.next)}`;
    return `{"job_id":"*","jobs":[${this.jobs.map(([, answer]) => answer.text()).join(",")}]${more}}`;
  }
}

const texts = new WeakMap<object, string>();

function textOf<T extends object>(shared: T | null, write: (shared: T) => string): string {
  if (shared === null) return "null";
  let text = texts.get(shared);
  if (text === undefined) {
    text = write(shared);
    texts.set(shared, text);
  }
  return text;
}

function eventsText(items: readonly Item[]): string {
  return `[${items.map((item) => ("wire" in item ? item.wire : JSON.stringify(item))).join(",")}]`;
}

function toClient(item: Item): DeliveredEvent | Gap {
  return "wire" in item ? (JSON.parse(item.wire) as DeliveredEvent) : item;
}
