import { expect } from "chai";
import fc from "fast-check";
import type { Socket } from "socket.io";
import type {
  DeliveredEvent,
  SubscribeAllAnswer,
  SubscribeAnswer,
  SubscribeRequest,
} from "../../client/index.ts";
import { line, ScriptedHub } from "./scripted-hub.ts";
import { watch } from "./support.ts";

const PAGE = 5;

/** A hub of a few jobs: a log each, and who has joined. Answers in small pages. */
class ScriptedFeeds {
  readonly logs = new Map<string, DeliveredEvent[]>();
  readonly #joined = new Map<Socket, Set<string>>();

  publish(jobId: string): void {
    const log = this.logs.get(jobId) ?? [];
    const event = line(log.length + 1, { job_id: jobId });
    this.logs.set(jobId, [...log, event]);
    for (const [socket, jobs] of this.#joined) {
      // A new job comes by itself to those who follow all.
      if (jobs.has("*") && log.length === 0) jobs.add(jobId);
      if (jobs.has(jobId)) socket.emit(event.type, event);
    }
  }

  answer(request: SubscribeRequest, socket: Socket): SubscribeAnswer | SubscribeAllAnswer {
    const jobs = this.#joined.get(socket) ?? new Set();
    this.#joined.set(socket, jobs);
    if (request.job_id !== "*") return this.#page(request.job_id as string, request, jobs);
    const since = (request.since ?? {}) as Record<string, { epoch: string; seq: number }>;
    const done = request.next === undefined ? [] : [...this.logs.keys()].slice(0, Number(request.next));
    const left = [...this.logs.keys()].filter((jobId) => !done.includes(jobId));
    const [jobId] = left;
    if (left.length <= 1) jobs.add("*");
    if (jobId === undefined) return { job_id: "*", jobs: [] };
    // Whole jobs: what a later page would bring of one is tested with the jobs by name.
    const all = this.logs.get(jobId) ?? [];
    jobs.add(jobId);
    const after = since[jobId]?.seq ?? 0;
    const answer = this.#whole(
      jobId,
      all.filter(({ seq }) => seq > after),
      all.length,
    );
    return {
      job_id: "*",
      jobs: [answer],
      ...(left.length > 1 && { more: true, next: String(done.length + 1) }),
    };
  }

  #whole(jobId: string, events: DeliveredEvent[], seq: number) {
    return { job_id: jobId, feed: "job" as const, epoch: "e1", seq, recovered: true, events };
  }

  #page(jobId: string, request: SubscribeRequest, jobs: Set<string>): SubscribeAnswer {
    const log = this.logs.get(jobId) ?? [];
    const after = (request.since as { seq: number } | undefined)?.seq ?? 0;
    const events = log.slice(after, after + PAGE);
    const upTo = after + events.length;
    if (upTo < log.length) {
      return { ...this.#whole(jobId, events, upTo), more: true, next: { epoch: "e1", seq: upTo } };
    }
    jobs.add(jobId);
    return this.#whole(jobId, events, log.length);
  }
}

describe("a watcher whose connection is cut again and again", () => {
  let hub: ScriptedHub;
  before(async () => {
    hub = await ScriptedHub.start();
  });
  after(() => hub.stop());

  it("gets every durable event of a job once and in order", async () => {
    const step = fc.constantFrom("publish", "publish", "publish", "cut", "turn");
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (script) => {
        const feeds = new ScriptedFeeds();
        feeds.publish("a");
        hub.on.subscribe = ({ request, socket, answer }) => answer(feeds.answer(request, socket));
        const client = watch(hub, { reconnectDelayMs: 1, reconnectDelayMaxMs: 1 }).on("error", () => {});
        const seen: number[] = [];
        const subscription = client.subscribe({ job_id: "a", since: { epoch: "e1", seq: 0 } });
        const all = new Promise<void>((resolve) => {
          subscription
            .on("alert", () => {})
            .on("log", ({ seq, data }) => {
              seen.push(seq);
              if (data.message === "line 150") resolve();
            });
        });
        await subscription.ready;
        for (const what of script) {
          if (what === "publish") feeds.publish("a");
          else if (what === "cut") hub.cut();
          else await new Promise((resolve) => setImmediate(resolve));
        }
        while ((feeds.logs.get("a")?.length ?? 0) < 150) feeds.publish("a");
        await all;
        client.close();
        expect(seen).to.deep.equal(Array.from({ length: 150 }, (_, i) => i + 1));
      }),
      { numRuns: 25 },
    );
  });

  it("gets every durable event of all jobs, beside a subscription to one of them", async () => {
    const step = fc.constantFrom("a", "b", "c", "d", "cut", "turn");
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (script) => {
        const feeds = new ScriptedFeeds();
        feeds.publish("a");
        hub.on.subscribe = ({ request, socket, answer }) => answer(feeds.answer(request, socket));
        const client = watch(hub, { reconnectDelayMs: 1, reconnectDelayMaxMs: 1 }).on("error", () => {});
        const seen = new Map<string, number[]>();
        const one: number[] = [];
        const jobs = ["a", "b", "c", "d"];
        const done = new Promise<void>((resolve) => {
          const check = () => {
            if (jobs.every((job) => seen.get(job)?.at(-1) === 100) && one.at(-1) === 100) resolve();
          };
          client.subscribe({ job_id: "*" }).on("log", ({ job_id = "", seq }) => {
            seen.set(job_id, [...(seen.get(job_id) ?? []), seq]);
            check();
          });
          client.subscribe({ job_id: "a" }).on("log", ({ seq }) => {
            one.push(seq);
            check();
          });
        });
        for (const what of script) {
          if (jobs.includes(what)) feeds.publish(what);
          else if (what === "cut") hub.cut();
          else await new Promise((resolve) => setImmediate(resolve));
        }
        for (const job of jobs) while ((feeds.logs.get(job)?.length ?? 0) < 100) feeds.publish(job);
        await done;
        client.close();
        const whole = Array.from({ length: 100 }, (_, i) => i + 1);
        for (const job of jobs) expect(seen.get(job), job).to.deep.equal(whole);
        expect(one).to.deep.equal(whole);
      }),
      { numRuns: 50 },
    );
  });
});
