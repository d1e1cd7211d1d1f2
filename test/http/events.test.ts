/** Events over HTTP: pages of a feed, and publishing. */
import { expect } from "chai";
import { LIMITS } from "../../src/protocol/limits.ts";
import type { DeliveredEvent, SubscribeAnswer } from "../../src/protocol/types.ts";
import { line, lines, progress, startTestHub, status, type TestHub, token } from "../support/hub.ts";
import { expectError, JOBS, type Reply, type RequestOptions, request } from "./request.ts";

const NDJSON = { "content-type": "application/x-ndjson" };

for (const redis of ["memory", "plain"] as const) {
  describe(`http: events (${redis})`, () => {
    let hub: TestHub;
    before(async () => {
      hub = await startTestHub({ redis });
    });
    after(() => hub.close());

    let job: string;
    let jobs = 0;
    beforeEach(() => {
      job = `job${++jobs}`;
    });

    const page = (query = "", options: RequestOptions = {}) =>
      request(hub, `${JOBS}/${job}/events${query}`, { role: "watcher", ...options });
    const post = (body: unknown, options: RequestOptions = {}) =>
      request(hub, `${JOBS}/${job}/events`, { role: "trainer", body, ...options });
    const messages = (reply: Reply) =>
      (reply.json.events as DeliveredEvent<"log">[])
        .filter(({ type }) => type === "log")
        .map(({ data }) => data.message);
    /** Everything that is stored of the job. */
    const stored = async () => ((await page("?history=1000")).json as SubscribeAnswer).events;

    it("GET without since is the state and no events; with history the last n", async () => {
      await hub.publish([status(job, "running"), ...lines(job, 5)]);
      const bare = (await page()).json as SubscribeAnswer;
      expect(bare).to.include({ job_id: job, feed: "job", seq: 7, recovered: true });
      expect(bare.events).to.deep.equal([]);
      expect(bare.snapshot).to.deep.include({ job_id: job, status: "running" });
      expect(messages(await page("?history=2"))).to.deep.equal(["line 4", "line 5"]);
      expect(
        ((await page("?history=1&types=training_status")).json as SubscribeAnswer).events,
      ).to.have.length(1);
      expect((await page("?history=0")).json.events).to.deep.equal([]);
    });

    it("GET since brings what follows, page by page with limit and next", async () => {
      await hub.publish(lines(job, 20));
      const { epoch } = (await page()).json;
      const read: string[] = [];
      let since = `${epoch}:1`;
      for (let pages = 1; ; pages++) {
        const reply = await page(`?since=${since}&limit=6`);
        expect(reply.json.recovered).to.equal(true);
        expect(reply.json.events).to.have.length.at.most(6);
        read.push(...messages(reply));
        if (!reply.json.more) {
          expect(pages).to.equal(4);
          expect(reply.json).to.include({ epoch, seq: 21 });
          break;
        }
        since = `${reply.json.next.epoch}:${reply.json.next.seq}`;
      }
      expect(read).to.deep.equal(lines(job, 20).map(({ data }) => data.message));
    });

    it("GET since another epoch or beyond the head is not recovered, with the state", async () => {
      await hub.publish(line(job));
      const { epoch } = (await page()).json;
      for (const since of ["another:1", `${epoch}:99`]) {
        const { json } = await page(`?since=${since}`);
        expect(json).to.include({ recovered: false, epoch, seq: 2 });
        expect(json.events).to.deep.equal([]);
        expect(json.snapshot).to.include({ job_id: job });
      }
    });

    it("GET types lets only these through", async () => {
      await hub.publish([status(job, "running"), line(job), progress(job, { step: 1 })]);
      const { epoch } = (await page()).json;
      const types = async (list: string) =>
        (await page(`?since=${epoch}:0&types=${list}`)).json.events.map(({ type }: DeliveredEvent) => type);
      expect(await types("log")).to.deep.equal(["log"]);
      expect(await types("training_status,training_progress")).to.deep.equal([
        "training_status",
        "training_progress",
      ]);
      expect(await types("alert")).to.deep.equal([]);
    });

    it("GET refuses wrong values", async () => {
      await hub.publish(line(job));
      for (const query of [
        "since=",
        "since=x",
        "since=a:b",
        "since=:1",
        "since=a:",
        "since=a:-1",
        "since=a:1.5",
        "since=a:9007199254740993",
        `since=${"e".repeat(65)}:1`,
        "since=a:1&since=a:2",
        "history=-1",
        "history=1001",
        "history=x",
        "history=",
        "limit=0",
        "limit=257",
        "limit=x",
        "since=a:1&history=5",
      ])
        expectError(await page(`?${query}`), "invalid_request");
      for (const query of [
        "types=",
        "types=nothing",
        "types=log,,",
        "types=__proto__",
        "types=constructor",
        "types=Log",
      ])
        expectError(await page(`?${query}`), "unknown_type");
      expectError(await page("?types=log&types=alert"), "invalid_request");
      job = "missing";
      expectError(await page(), "job_not_found");
    });

    it("POST one event: stored, the answer of publish, and watchers hear it", async () => {
      await hub.publish(line(job));
      const watcher = await hub.watcher();
      await watcher.subscribe({ job_id: job });
      const reply = await post({ type: "log", data: { message: "by HTTP" } });
      expect(reply.status, reply.text).to.equal(200);
      expect(reply.json).to.deep.include({ accepted: 1, duplicates: 0, refused: [] });
      expect(reply.json.positions[job]).to.include({ seq: 3 });
      expect((await watcher.next<DeliveredEvent<"log">>("log")).data.message).to.equal("by HTTP");
      watcher.close();
    });

    it("POST a list; sent again with the same ids, it is nothing new", async () => {
      const list = [1, 2, 3].map((i) => ({ ...line(job, `m${i}`), id: `i${i}` }));
      expect((await post(list)).json).to.include({ accepted: 3, duplicates: 0 });
      const again = await post(list);
      expect(again.status).to.equal(200);
      expect(again.json).to.include({ accepted: 0, duplicates: 3 });
      expect(messages(await page("?history=100"))).to.deep.equal(["m1", "m2", "m3"]);
    });

    it("POST NDJSON with bad lines: the others are stored, each bad one is named, 207", async () => {
      const body = [
        JSON.stringify(line(job, "one")),
        '{"type": "log", "data": {"message": NaN}}',
        "",
        JSON.stringify({ type: "log", data: { message: "two" } }),
        `{"type":"custom","data":{"name":"x","data":${'{"a":'.repeat(100)}1${"}".repeat(100)}}}`,
        JSON.stringify({ type: "nonsense", data: {} }),
        JSON.stringify(line(job, "three")),
      ].join("\r\n");
      const reply = await post(`${body}\n`, { headers: NDJSON });
      expect(reply.status, reply.text).to.equal(207);
      expect(reply.json.accepted).to.equal(3);
      const refused = reply.json.refused as Array<{ index: number; code: string }>;
      expect(refused.map(({ index, code }) => [index, code])).to.deep.equal([
        [1, "malformed"],
        [3, "too_deep"],
        [4, "unknown_type"],
      ]);
      expect(messages(await page("?history=100"))).to.deep.equal(["one", "two", "three"]);
    });

    it("POST NDJSON with parameters in its type, and without events", async () => {
      const headers = { "content-type": "application/x-ndjson; charset=utf-8" };
      expect((await post(JSON.stringify(line(job, "é")), { headers })).status).to.equal(200);
      expect(messages(await page("?history=9"))).to.deep.equal(["é"]);
      for (const body of ["", "\n\n", "  \r\n"]) expectError(await post(body, { headers }), "malformed");
    });

    it("POST a list with one bad event: the others are stored, 207", async () => {
      const reply = await post([line(job, "a"), { type: "log", data: {} }, line(job, "b")]);
      expect(reply.status).to.equal(207);
      expect(reply.json).to.include({ accepted: 2 });
      expect(reply.json.refused).to.have.length(1);
      expect(reply.json.refused[0]).to.include({ index: 1, code: "invalid_event", temporary: false });
    });

    it("POST of which all is refused has the status of the first refusal", async () => {
      for (const [body, code, wanted] of [
        [{ type: "nonsense", data: {} }, "unknown_type", 400],
        [{ type: "job_liveness", data: { liveness: "live" } }, "forbidden_type", 403],
        [[line(job, "x".repeat(70_000)), { type: "log" }], "invalid_event", 400],
        [{ type: "custom", data: { name: "x", data: { a: "x".repeat(70_000) } } }, "event_too_large", 413],
        [{ ...line(job), metadata: { a: "x".repeat(5_000) } }, "event_too_large", 413],
        [{ ...line("another") }, "invalid_event", 400],
        [{ ...line(job), job_id: null }, "invalid_event", 400],
        [{ type: "dataset_update", data: { dataset_id: "d", action: "created" } }, "invalid_event", 400],
        [[[line(job)]], "invalid_event", 400],
        [7, "invalid_event", 400],
        ['{"type": "log", "data": {"message": "m"}, "__proto__": {"a": 1}}', "invalid_event", 400],
        ['{"type": "__proto__", "data": {}}', "unknown_type", 400],
        ['{"type": "training_progress", "data": {"step": 1e999}}', "invalid_event", 400],
      ] as const) {
        const reply = await post(body);
        expect(reply.json.refused?.[0]?.code, reply.text).to.equal(code);
        expect(reply.status).to.equal(wanted);
        expect(reply.json).to.include({ accepted: 0 });
      }
      expectError(await page(), "job_not_found");
    });

    it("POST that is no list of events at all stores nothing", async () => {
      expectError(await post("x".repeat(LIMITS.messageBytes + 1)), "message_too_large");
      expectError(await post("[".repeat(6_000) + "]".repeat(6_000)), "too_deep");
      expectError(await post(`${'{"a":'.repeat(6_000)}1${"}".repeat(6_000)}`), "too_deep");
      for (const body of ["", "{", "not JSON", '{"a": NaN}', "[1,]"])
        expectError(await post(body), "malformed");
      expectError(await post(lines(job, LIMITS.batchEvents + 1)), "batch_too_large");
      expectError(await page(), "job_not_found");
      expect((await post(lines(job, LIMITS.batchEvents))).json.accepted).to.equal(LIMITS.batchEvents);
    });

    it("POST of an empty list is nothing, and makes no job", async () => {
      const reply = await post([]);
      expect(reply.status).to.equal(200);
      expect(reply.json).to.deep.equal({ accepted: 0, duplicates: 0, positions: {}, refused: [] });
      expectError(await page(), "job_not_found");
    });

    it("POST in a compressed body is refused, not guessed at", async () => {
      const headers = { "content-encoding": "gzip" };
      expectError(await post(new Uint8Array([0x1f, 0x8b, 8, 0]), { headers }), "malformed");
    });

    it("POST keeps 1e20, 3.4e38, 2^53+2 and infinities as they were written", async () => {
      const data = '{"step":9007199254740991,"loss":1e20,"smooth_loss":3.4e38,"learning_rate":"-Infinity"}';
      await post(`{"type":"training_progress","data":${data}}`);
      await post('{"type":"custom","data":{"name":"n","data":{"n":9007199254740994}}}');
      const { text } = await page("?history=10");
      expect(text).to.include('"n":9007199254740994');
      const [newest] = (await request(hub, `${JOBS}/${job}`)).json.job.newest;
      expect(newest.data).to.include({ loss: 1e20, smooth_loss: 3.4e38, learning_rate: "-Infinity" });
    });

    it("a body in pieces beyond the limit is refused, and the hub reads no further", async () => {
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          sent += 65_536;
          if (sent > 64 * LIMITS.messageBytes) controller.close();
          else controller.enqueue(new Uint8Array(65_536).fill(0x20));
        },
      });
      const reply = await fetch(`${hub.url}${JOBS}/${job}/events`, {
        method: "POST",
        headers: { authorization: `Bearer ${token("trainer")}` },
        body,
        duplex: "half",
      } as RequestInit);
      expect(reply.status).to.equal(413);
      await reply.text();
      expect(sent).to.be.below(64 * LIMITS.messageBytes);
    });

    it("nothing of what was refused is stored", async () => {
      await hub.publish(line(job, "first"));
      await post([{ type: "log", data: { message: 7 } }, { type: "nonsense" }]);
      await post("{");
      const events = await stored();
      expect(events.map(({ type }) => type)).to.deep.equal(["job_created", "log"]);
    });
  });
}
