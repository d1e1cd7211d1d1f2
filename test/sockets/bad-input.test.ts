/**
 * Bad input: the sender gets a documented code and its connection goes on; nothing is stored; a watcher beside it
 * sees nothing of it.
 */
import { expect } from "chai";
import { type ErrorCode, REPLY_ERRORS } from "../../src/protocol/codes.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { Closing, PublishAnswer } from "../../src/protocol/types.ts";
import {
  client,
  line,
  lines,
  type Refusal,
  startTestHub,
  TENANT,
  type TestClient,
  type TestHub,
  token,
  until,
} from "../support/hub.ts";
import { RawClient } from "./raw.ts";

const DEEP = 6_000;
const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;
/** Arrays in arrays, built without recursion. */
function deepValue(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = { a: value };
  return value;
}

for (const redis of ["memory", "plain"] as const) {
  describe(`sockets: bad input (${redis})`, () => {
    let hub: TestHub;
    let trainer: TestClient;
    let beside: TestClient;
    let raw: RawClient | undefined;
    let job: string;
    let jobs = 0;

    before(async () => {
      hub = await startTestHub({ redis });
    });
    after(() => hub.close());
    beforeEach(async () => {
      job = `job${++jobs}`;
      await hub.publish(line(job, "before"));
      [trainer, beside] = await Promise.all([hub.trainer(), hub.watcher()]);
      await beside.subscribe({ job_id: job });
      await beside.subscribe({});
    });
    afterEach(async () => {
      await undisturbed();
      trainer.close();
      beside.close();
      raw?.close();
      raw = undefined;
      expect(hub.log.filter((each) => each.includes('"level":"error"'))).to.deep.equal([]);
    });

    /** Nothing came of it: the feeds stand where they stood, and the next event is the only one to arrive. */
    async function undisturbed(): Promise<void> {
      const identity = {
        subject: "t",
        tenantId: TENANT,
        role: "admin",
        expiresAt: Date.now() + 60_000,
      } as const;
      const page = await hub.hub.replays.page(identity, { job_id: job, history: 1_000 });
      expect(page.events.map(({ type }) => type)).to.deep.equal(["job_created", "log"]);
      expect(page.seq).to.equal(2);
      await hub.publish(line(job, "after"));
      await beside.reach(3);
      expect(beside.received.map(({ name }) => name)).to.deep.equal([
        ...["welcome", "answer:subscribe", "answer:subscribe", "log"],
      ]);
    }

    /** Asked once more, properly, the same connection answers. */
    async function goesOn(one: TestClient): Promise<void> {
      expect(await one.good("ping", {})).to.have.property("server_time");
      expect(one.all("disconnect")).to.deep.equal([]);
    }

    function documented(refusal: Pick<Refusal, "code" | "temporary">, code: ErrorCode): void {
      expect(refusal.code).to.equal(code);
      expect(refusal.temporary).to.equal(REPLY_ERRORS[code].temporary);
    }

    async function refusedEvent(event: unknown, code: ErrorCode): Promise<void> {
      const answer = await trainer.good<PublishAnswer>("publish", event);
      expect(answer).to.deep.include({ accepted: 0, duplicates: 0, positions: {} });
      expect(answer.refused).to.have.length(1);
      documented(answer.refused[0] as Refusal, code);
      await goesOn(trainer);
    }

    describe("events", () => {
      it("of an unknown type", async () => {
        for (const type of [
          "nonsense",
          "",
          "Log",
          "__proto__",
          "constructor",
          "welcome",
          "gap",
          7,
          null,
          ["log"],
        ])
          await refusedEvent({ ...line(job), type }, "unknown_type");
      });

      it("that only the hub makes", async () => {
        for (const type of ["job_liveness", "command_update", "presence"])
          await refusedEvent({ type, job_id: job, data: {} }, "forbidden_type");
      });

      it("with a wrong, missing or unknown field", async () => {
        for (const event of [
          { type: "log", job_id: job },
          { type: "log", job_id: job, data: {} },
          { type: "log", job_id: job, data: null },
          { type: "log", job_id: job, data: { message: 7 } },
          { type: "log", job_id: job, data: { message: "m", level: "loud" } },
          { type: "log", job_id: job, data: { message: "m", colour: "red" } },
          { type: "log", job_id: job, data: { message: "x".repeat(16_385) } },
          { type: "log", data: { message: "m" } },
          { ...line(job), attempt: 0 },
          { ...line(job), rank: 1.5 },
          { ...line(job), color: 1 },
          { ...line(job), n: 1 },
          { ...line(job), producer: { id: "p", incarnation: 1 } },
          { ...line(job), id: "i", producer: { id: "p", incarnation: 1 }, n: 1 },
          { ...line(job), tenant_id: "globex" },
          { type: "training_progress", job_id: job, data: { loss: "nan" } },
          { type: "training_progress", job_id: job, data: { step: -1 } },
          { type: "training_progress", job_id: job, data: { metrics: { a: "b" } } },
          { type: "product_completed", job_id: job, data: {} },
          { type: "dataset_update", job_id: job, data: { dataset_id: "d", action: "created" } },
        ])
          await refusedEvent(event, "invalid_event");
        for (const event of [null, 7, "text", true, []]) {
          const answer = await trainer.good<PublishAnswer>("publish", [event]);
          documented(answer.refused[0] as Refusal, "invalid_event");
        }
        await goesOn(trainer);
      });

      it("with wrong job ids", async () => {
        for (const job_id of ["", "a b", "a/b", "x".repeat(65), "*", "{x}", "é", 7, null, {}, ["a"], "a\n"])
          await refusedEvent({ ...line(job), job_id }, "invalid_event");
      });

      it("over 64 KB, or with metadata over 4 KB", async () => {
        const data = { name: "big", data: { text: "x".repeat(LIMITS.eventBytes) } };
        await refusedEvent({ type: "custom", job_id: job, data }, "event_too_large");
        // Counted in bytes, not in characters.
        const wide = { name: "big", data: { text: "é".repeat(LIMITS.eventBytes / 2) } };
        await refusedEvent({ type: "custom", job_id: job, data: wide }, "event_too_large");
        await refusedEvent({ ...line(job), metadata: { a: "x".repeat(4_096) } }, "event_too_large");
      });

      it("more than 500 in one call", async () => {
        documented(await trainer.refused("publish", lines(job, LIMITS.batchEvents + 1)), "batch_too_large");
        await goesOn(trainer);
      });

      it("of a job that the token may not see", async () => {
        const restricted = await hub.trainer({ jobs: ["own-*"] });
        for (const job_id of [job, "missing"]) {
          const answer = await restricted.good<PublishAnswer>("publish", line(job_id));
          documented(answer.refused[0] as Refusal, "job_not_found");
        }
        restricted.close();
      });

      it("with keys like __proto__ and numbers like 1e999", async () => {
        raw = await RawClient.open(hub);
        let id = 0;
        for (const event of [
          `{"type":"log","job_id":"${job}","data":{"message":"m"},"__proto__":{"job_id":"x"}}`,
          `{"type":"log","job_id":"${job}","data":{"message":"m","__proto__":{"level":"info"}}}`,
          `{"type":"log","job_id":"${job}","data":{"__proto__":{"message":"m"}}}`,
          `{"type":"log","job_id":"${job}","data":{"message":"m","constructor":{}}}`,
          `{"__proto__":{"type":"log","job_id":"${job}","data":{"message":"m"}}}`,
          `{"type":"training_progress","job_id":"${job}","data":{"loss":1e999}}`,
          `{"type":"training_progress","job_id":"${job}","data":{"metrics":{"a":-1e999}}}`,
        ]) {
          raw.send(`2/trainer,${++id}["publish",${event}]`);
          const packet = await raw.next(new RegExp(`^3/trainer,${id}\\[`));
          expect(packet, event)
            .to.include('"accepted":0')
            .and.to.match(/"code":"(invalid_event|unknown_type)"/);
        }
        expect(({} as { level?: string }).level).to.equal(undefined);
      });
    });

    describe("messages", () => {
      it("over 1 MB, below what closes the connection", async () => {
        const big = { type: "custom", job_id: job, data: { name: "b", data: { t: "x".repeat(1_100_000) } } };
        documented(await trainer.refused("publish", big), "message_too_large");
        await goesOn(trainer);
        const watcher = await hub.watcher();
        documented(
          await watcher.refused("subscribe", { job_id: "x".repeat(1_100_000) }),
          "message_too_large",
        );
        await goesOn(watcher);
        watcher.close();
      });

      it("nested 6000 deep, with an acknowledgement and without", async () => {
        const data = { name: "deep", data: deepValue(DEEP) };
        // Socket.IO's client would overflow its own stack while it looks for binary data.
        raw = await RawClient.open(hub);
        raw.send(`2/trainer,1["publish",{"type":"custom","job_id":"${job}","data":${nested(DEEP)}}]`);
        expect(await raw.answer(1)).to.equal("too_deep");
        raw.send(`2/trainer,["publish",${nested(DEEP)}]`);
        expect((await raw.refused()).code).to.equal("too_deep");
        raw.send(`2/trainer,2["publish",${"[".repeat(DEEP)}${"]".repeat(DEEP)}]`);
        expect(await raw.answer(2)).to.equal("too_deep");
        raw.send('2/trainer,3["ping",{}]');
        expect(await raw.answer(3)).to.equal("ok");
        expect(data.name).to.equal("deep");
      });

      it("nested just beyond the limit, and just within", async () => {
        const event = (depth: number) => ({
          type: "custom",
          job_id: "deep",
          data: { name: "n", data: deepValue(depth) },
        });
        // The packet's list, the event and its data are three levels, `data.data` begins the fourth.
        documented(await trainer.refused("publish", event(LIMITS.depth - 2)), "too_deep");
        expect((await trainer.good<PublishAnswer>("publish", event(LIMITS.depth - 3))).accepted).to.equal(1);
        await beside.next("job_created");
        beside.received.splice(
          beside.received.findIndex(({ name }) => name === "job_created"),
          1,
        );
      });

      it("that are not JSON: a bare NaN, Infinity, half a list, nothing", async () => {
        raw = await RawClient.open(hub);
        let id = 0;
        for (const body of [
          `["publish",{"type":"training_progress","job_id":"${job}","data":{"loss":NaN}}]`,
          `["publish",{"type":"training_progress","job_id":"${job}","data":{"loss":-Infinity}}]`,
          '["publish"',
          "{",
          "",
          "{}",
          "[]",
          "[7]",
          '[{"publish":1}]',
          "[null]",
        ]) {
          raw.send(`2/trainer,${++id}${body}`);
          expect(await raw.answer(id), body).to.be.oneOf(["malformed", "unknown_verb"]);
        }
        raw.send(`2/trainer,["publish",NaN]`);
        expect((await raw.refused()).code).to.equal("malformed");
        raw.send('2/trainer,99["ping",{}]');
        expect(await raw.answer(99)).to.equal("ok");
      });

      it("with binary attachments, few and many", async () => {
        const picture = Buffer.alloc(100);
        const sample = { type: "custom", job_id: job, data: { name: "b", data: { picture } } };
        documented(await trainer.refused("publish", sample), "binary_not_supported");
        const many = { type: "custom", job_id: job, data: { name: "b", data: Array(50).fill(picture) } };
        documented(await trainer.refused("publish", many), "binary_not_supported");
        trainer.socket.emit("publish", picture);
        const notice = await trainer.next<{ error: Refusal }>("refused");
        documented(notice.error, "binary_not_supported");
        await goesOn(trainer);
      });
    });

    describe("verbs", () => {
      const names = [
        "error",
        "disconnect",
        "connect",
        "connect_error",
        "disconnecting",
        "newListener",
        "removeListener",
        "__proto__",
        "constructor",
        "toString",
        "hasOwnProperty",
        "",
        "nonsense",
        "Subscribe",
        "welcome",
        "closing",
        "x".repeat(10_000),
      ];

      it("unknown, and those whose names mean something elsewhere", async () => {
        raw = await RawClient.open(hub, "watcher");
        let id = 0;
        for (const name of names) {
          raw.send(`2${++id}[${JSON.stringify(name)},{}]`);
          expect(await raw.answer(id), name).to.be.oneOf(["unknown_verb", "malformed"]);
          raw.send(`2[${JSON.stringify(name)}]`);
          expect((await raw.refused()).code, name).to.be.oneOf(["unknown_verb", "malformed"]);
        }
        raw.send('2["__proto__",{"__proto__":{"polluted":1}}]');
        await raw.refused();
        expect(({} as { polluted?: number }).polluted).to.equal(undefined);
        raw.send('2999["ping",{}]');
        expect(await raw.answer(999)).to.equal("ok");
      });

      it("of the other namespace", async () => {
        const watcher = await hub.watcher();
        documented(await watcher.refused("publish", line(job)), "unknown_verb");
        documented(await trainer.refused("subscribe", { job_id: job }), "unknown_verb");
        watcher.close();
      });

      it("without an acknowledgement are not carried out", async () => {
        trainer.socket.emit("publish", line(job));
        const { verb, error } = await trainer.next<{ verb: string; error: Refusal }>("refused");
        expect(verb).to.equal("publish");
        documented(error, "ack_required");
        await goesOn(trainer);
      });

      it("with something else where the acknowledgement should be", async () => {
        raw = await RawClient.open(hub);
        for (const ack of ["7", '"ack"', "null", "{}", '{"call":1}', "[]"]) {
          raw.send(`2/trainer,["publish",${JSON.stringify(line(job))},${ack}]`);
          expect((await raw.refused()).code, ack).to.equal("ack_required");
        }
        // With an id as well there are two arguments.
        raw.send(`2/trainer,5["publish",${JSON.stringify(line(job))},"more"]`);
        expect(await raw.answer(5)).to.equal("invalid_request");
      });

      it("acknowledgements of what was never asked are nothing", async () => {
        raw = await RawClient.open(hub, "watcher");
        for (const packet of ["37[1]", "3999999999999999[]", '30[{"__proto__":1}]', "3[]"]) raw.send(packet);
        raw.send('21["ping",{}]');
        expect(await raw.answer(1)).to.equal("ok");
      });

      it("with requests of the wrong shape", async () => {
        const watcher = await hub.watcher();
        const cursor = { epoch: "e", seq: 1 };
        for (const request of [
          ...[7, "text", true, [], [{}]],
          ...[
            { job_id: 7 },
            { job_id: "" },
            { job_id: "a b" },
            { job_id: "a/b" },
            { job_id: null },
            { job: "x" },
          ],
          ...[{ job_id: "x".repeat(65) }, { job_id: ["a"] }, { job_id: {} }],
          ...[{ types: [] }, { types: "log" }, { types: ["nonsense"] }, { types: [7] }, { types: null }],
          { types: Array(LIMITS.metrics).fill("log") },
          ...[
            { since: 7 },
            { since: "e:1" },
            { since: null },
            { since: [] },
            { since: { epoch: "e" } },
            { since: {} },
          ],
          ...[{ since: { seq: 1 } }, { since: { epoch: "", seq: 1 } }, { since: { epoch: 7, seq: 1 } }],
          ...[
            { since: { epoch: "e", seq: -1 } },
            { since: { epoch: "e", seq: 1.5 } },
            { since: { epoch: "e", seq: "1" } },
          ],
          ...[{ since: { ...cursor, more: 1 } }, { since: { epoch: "x".repeat(65), seq: 1 } }],
          { since: { epoch: "e", seq: Number.MAX_SAFE_INTEGER + 1 } },
          { since: { a: cursor } },
          ...[{ history: -1 }, { history: 1_001 }, { history: "5" }, { history: 1.5 }, { history: null }],
          ...[{ max_rate: 0 }, { max_rate: 61 }, { max_rate: "1" }],
          ...[
            { job_id: "x", wait: 0 },
            { job_id: "x", wait: 3_601 },
            { job_id: "x", wait: "yes" },
            { wait: true },
          ],
          ...[{ next: "n" }, { next: 7 }, { job_id: "*", wait: true }, { job_id: "*", since: cursor }],
          ...[
            { job_id: "*", since: { a: 1 } },
            { job_id: "*", since: { "a b": cursor } },
          ],
          ...[{ since: cursor, history: 5 }, { unknown: 1 }],
        ]) {
          documented(await watcher.refused("subscribe", request), "invalid_request");
        }
        documented(await watcher.refused("subscribe", { job_id: "*", next: "n" }), "invalid_cursor");
        for (const request of [7, [], { job_id: 7 }, { job: 1 }])
          documented(await watcher.refused("unsubscribe", request), "invalid_request");
        documented(await watcher.refused("unsubscribe", { job_id: job }), "not_subscribed");
        documented(await watcher.refused("ping", { extra: 1 }), "invalid_request");
        for (const request of [7, "x", null, undefined, []])
          documented(await trainer.refused("publish", request), "invalid_request");
        await goesOn(watcher);
        await goesOn(trainer);
        watcher.close();
      });
    });

    describe("jobs of others", () => {
      it("answer byte for byte as missing ones", async () => {
        await hub.publish(line("theirs"), { tenant: "globex" });
        const theirs = await hub.watcher({ tenant: "globex" });
        await theirs.subscribe({ job_id: "theirs" });
        raw = await RawClient.open(hub, "watcher");
        const restricted = await hub.watcher({ jobs: ["own-*"] });
        for (const rest of [{}, { history: 5 }, { since: { epoch: "e", seq: 1 } }, { types: ["log"] }]) {
          raw.send(`21${JSON.stringify(["subscribe", { job_id: "theirs", ...rest }])}`);
          const foreign = await raw.next(/^31\[/);
          raw.send(`21${JSON.stringify(["subscribe", { job_id: "missing", ...rest }])}`);
          expect(foreign)
            .to.equal(await raw.next(/^31\[/))
            .and.to.include("job_not_found");
          const hidden = await restricted.ask("subscribe", { job_id: job, ...rest });
          expect(JSON.stringify(hidden)).to.equal(
            JSON.stringify(await restricted.ask("subscribe", { job_id: "own-1", ...rest })),
          );
          expect(JSON.stringify([hidden])).to.equal(foreign.slice(2));
        }
        await hub.publish(line("theirs", "secret"), { tenant: "globex" });
        await theirs.reach(3);
        restricted.close();
        theirs.close();
      });

      it("wait does not tell whether they are there", async () => {
        await hub.publish(line("waited"), { tenant: "globex" });
        const watcher = await hub.watcher();
        const foreign = await watcher.subscribe({ job_id: "waited", wait: true });
        const missing = await watcher.subscribe({ job_id: "nowhere", wait: true });
        expect({ ...foreign, job_id: "" }).to.deep.equal({ ...missing, job_id: "" });
        expect(foreign).to.include({ epoch: null, seq: 0 });
        const restricted = await hub.watcher({ jobs: ["own-*"] });
        documented(await restricted.refused("subscribe", { job_id: job, wait: true }), "job_not_found");
        watcher.close();
        restricted.close();
      });
    });

    describe("getting in", () => {
      it("with an auth payload nested 6000 deep is refused, and the sockets can still be listed", async () => {
        raw = new RawClient(hub.url);
        await new Promise((resolve) => raw?.socket.once("open", resolve));
        const deep = `{"token":${JSON.stringify(token("watcher"))},"more":${nested(DEEP)}}`;
        raw.send(`0${deep}`);
        expect(await raw.next(/^4/)).to.include('"code":"too_deep"');
        raw.send(`0/trainer,${deep}`);
        expect(await raw.next(/^4\/trainer,/)).to.include('"code":"too_deep"');
        // The same connection may try again, and better.
        raw.send(`0${JSON.stringify({ token: token("watcher"), more: { a: 1 } })}`);
        await raw.next(/"welcome"/);
        expect(
          JSON.stringify((await hub.io.of("/").fetchSockets()).map(({ handshake }) => handshake.auth)),
        ).to.not.include("more");
      });

      it("with a token that has ended", async () => {
        const late = client(hub.url, token("watcher", { ttl: -1 }));
        const error = await late.next<Error & { data: Refusal }>("connect_error");
        documented(error.data, "token_expired");
        late.close();
      });

      it("events before CONNECT, or to a namespace that was not joined, end only that connection", async () => {
        const early = new RawClient(hub.url);
        await new Promise((resolve) => early.socket.once("open", resolve));
        early.send('21["ping",{}]');
        await early.end();
        raw = await RawClient.open(hub, "watcher");
        raw.send(`2/trainer,1["publish",${JSON.stringify(line(job))}]`);
        await raw.end();
      });
    });

    it("too many bad requests close the connection, and nobody else's", async () => {
      const rude = await hub.watcher();
      const id = rude.socket.id as string;
      for (let i = 0; i < LIMITS.violations; i++)
        documented(await rude.refused("nonsense", {}), "unknown_verb");
      await goesOn(rude);
      rude.socket.emit("nonsense", {});
      const closing = await rude.next<Closing>("closing");
      expect(closing).to.include({ reason: "too_many_violations", code: 4501, reconnect: false });
      expect(await rude.next("disconnect")).to.equal("transport close");
      await until("gone", () => !hub.io.of("/").sockets.has(id));
    });

    it("what is not the sender's fault is not counted", async () => {
      const polite = await hub.watcher();
      for (let i = 0; i <= LIMITS.violations; i++)
        documented(await polite.refused("subscribe", { job_id: "missing" }), "job_not_found");
      await goesOn(polite);
      polite.close();
    });
  });
}
