/** Jobs over HTTP: list, create, snapshot, series. */
import { expect } from "chai";
import type { JobSummary, SeriesAnswer } from "../../src/protocol/types.ts";
import { line, progress, startTestHub, status, TENANT, type TestHub } from "../support/hub.ts";
import { expectError, JOBS, type Reply, type RequestOptions, request } from "./request.ts";

const ids = (reply: Reply) => (reply.json.jobs as JobSummary[]).map(({ job_id }) => job_id);

for (const redis of ["memory", "plain"] as const) {
  describe(`http: jobs (${redis})`, () => {
    let hub: TestHub;
    beforeEach(async () => {
      hub = await startTestHub({ redis });
    });
    afterEach(() => hub.close());

    const get = (path: string, options: RequestOptions = {}) =>
      request(hub, `${JOBS}${path}`, { role: "watcher", ...options });
    const create = (body: unknown, options: RequestOptions = {}) => request(hub, JOBS, { body, ...options });

    async function walk(limit: number, options: RequestOptions = {}): Promise<{ pages: string[][] }> {
      const pages: string[][] = [];
      let next: string | undefined;
      do {
        const query = next === undefined ? "" : `&before=${encodeURIComponent(next)}`;
        const reply = await get(`?limit=${limit}${query}`, options);
        expect(reply.status).to.equal(200);
        pages.push(ids(reply));
        next = reply.json.next;
      } while (next !== undefined);
      return { pages };
    }

    it("GET lists summaries, newest first, and an empty tenant is an empty list", async () => {
      expect((await get("")).json).to.deep.equal({ jobs: [] });
      for (const id of ["a", "b", "c"]) await hub.publish(line(id));
      await hub.publish([status("b", "running"), progress("b", { loss: 0.5 })]);
      const { json } = await get("");
      expect(json.jobs.map(({ job_id }: JobSummary) => job_id)).to.deep.equal(["c", "b", "a"]);
      expect(json.jobs[1]).to.include({ job_id: "b", status: "running", seq: 4 });
      expect(json.jobs[1].progress).to.deep.include({ loss: 0.5 });
      expect(json.jobs[1].epoch).to.be.a("string");
      expect(json).to.not.have.property("next");
    });

    it("GET pages with limit and next: each job once", async () => {
      const made = Array.from({ length: 7 }, (_, i) => `j${i}`);
      for (const id of made) await hub.publish(line(id));
      for (const limit of [1, 2, 3, 7, 100]) {
        const { pages } = await walk(limit);
        expect(pages.flat(), `limit ${limit}`).to.deep.equal([...made].reverse());
        for (const page of pages) expect(page).to.have.length.at.most(limit);
      }
    });

    it("GET shows a token with an allow-list only its own, page by page", async () => {
      for (let i = 0; i < 6; i++) await hub.publish([line(`mine-${i}`), line(`theirs-${i}`)]);
      const mine = ["mine-5", "mine-4", "mine-3", "mine-2", "mine-1", "mine-0"];
      for (const limit of [1, 2, 4, 6, 50]) {
        const { pages } = await walk(limit, { jobs: ["mine-*"] });
        expect(pages.flat(), `limit ${limit}`).to.deep.equal(mine);
      }
      const reply = await get("?limit=2", { jobs: ["mine-*"] });
      expect(reply.text).to.not.include("theirs");
      expect((await walk(2, { jobs: [] })).pages).to.deep.equal([[]]);
    });

    it("GET refuses wrong values of limit and before", async () => {
      for (const query of [
        "limit=0",
        "limit=-1",
        "limit=101",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=NaN",
        "limit=%20",
        "limit=1&limit=2",
        "before=a&before=b",
      ])
        expectError(await get(`?${query}`), "invalid_request");
    });

    it("POST creates: 201, the snapshot, and urls that answer", async () => {
      const fields = {
        job_id: "made",
        name: "A run",
        kind: "lora",
        tags: ["x"],
        description: "d",
        progress: 5,
      };
      const reply = await create(fields, { role: "operator", subject: "olga" });
      expect(reply.status, reply.text).to.equal(201);
      expect(reply.json).to.have.all.keys("job", "urls");
      expect(reply.json.job).to.deep.include({
        ...{ job_id: "made", tenant_id: TENANT, name: "A run", kind: "lora", tags: ["x"], seq: 1 },
        created_by: "olga",
      });
      expect(reply.json.urls).to.have.all.keys(
        ...["snapshot", "events", "series", "presence", "commands", "heartbeat", "socket_io"],
      );
      for (const name of ["snapshot", "events", "series", "presence"])
        expect((await request(hub, reply.json.urls[name], { role: "watcher" })).status, name).to.equal(200);
      expect(reply.json.urls.snapshot).to.equal(`${JOBS}/made`);
    });

    it("POST without job_id names the job itself", async () => {
      const [one, two] = [await create({}), await create({ name: "n" })];
      expect(one.json.job.job_id)
        .to.match(/^[A-Za-z0-9_.-]{1,64}$/)
        .and.not.equal(two.json.job.job_id);
    });

    it("POST says who created from the token, not from the body", async () => {
      const reply = await create({ job_id: "forged", created_by: "somebody" }, { subject: "me" });
      expect(reply.json.job.created_by).to.equal("me");
    });

    it("POST of a job that is there is job_exists, and changes nothing", async () => {
      await create({ job_id: "twice", name: "first" });
      const before = (await get("/twice")).json.job;
      expectError(await create({ job_id: "twice", name: "second" }), "job_exists");
      const after = (await get("/twice")).json.job;
      expect({ ...after, updated_at: "" }).to.deep.equal({ ...before, updated_at: "" });
    });

    it("POST of bad fields is refused, and makes no job", async () => {
      for (const body of [
        { job_id: "with space" },
        { job_id: "" },
        { job_id: "x".repeat(65) },
        { job_id: 7 },
        { job_id: null },
        { job_id: "ok", name: 7 },
        { job_id: "ok", nmae: "typo" },
        { job_id: "ok", status: "dancing" },
        { job_id: "ok", progress: 101 },
        { job_id: "ok", tags: "x" },
        '{"job_id": "ok", "__proto__": {"name": "x"}}',
        '{"job_id": "ok", "constructor": 1}',
      ])
        expectError(await create(body), "invalid_event");
      for (const body of ["[]", "7", "null", '"text"', "[{}]"])
        expectError(await create(body), "invalid_request");
      for (const body of ["", "{", '{"progress": NaN}', "\u0000"])
        expectError(await create(body), "malformed");
      expectError(await create(`{"name":${"[".repeat(6_000)}${"]".repeat(6_000)}}`), "too_deep");
      expectError(await create({ name: "x".repeat(1_100_000) }), "message_too_large");
      expect((await get("")).json.jobs).to.deep.equal([]);
    });

    it("GET of a job is its snapshot and urls", async () => {
      await hub.publish([status("run", "running"), progress("run", { step: 3, loss: "NaN" }), line("run")]);
      const { json } = await get("/run");
      expect(json).to.have.all.keys("job", "urls");
      expect(json.job).to.deep.include({ job_id: "run", tenant_id: TENANT, seq: 4, status: "running" });
      expect(json.job.counts).to.deep.equal({
        job_created: 1,
        training_status: 1,
        training_progress: 1,
        log: 1,
      });
      expect(json.job.newest[0].data).to.deep.equal({ step: 3, loss: "NaN" });
      expectError(await get("/missing"), "job_not_found");
    });

    it("job ids like __proto__ and constructor are ids like any other", async () => {
      for (const id of ["__proto__", "constructor", "toString", ".", "..", "-"]) {
        await create({ job_id: id, name: `job ${id}` });
        if (!/^\.+$/.test(id)) expect((await get(`/${id}`)).json.job, id).to.include({ job_id: id });
      }
      expect(ids(await get(""))).to.have.members(["__proto__", "constructor", "toString", ".", "..", "-"]);
    });

    it("GET series is the answer of the verb: by metric, rank, product and step, in so many buckets", async () => {
      const metrics = { acc: 0.5 };
      for (let step = 1; step <= 5; step++)
        await hub.publish(progress("run", { step, loss: 1 / step, ...(step === 3 && { metrics }) }));
      await hub.publish({ ...progress("run", { step: 9, loss: 7 }), rank: 1, product: "p" });
      const all = (await get("/run/series")).json;
      expect(all).to.have.all.keys("job_id", "epoch", "seq", "series", "dropped");
      expect(all).to.include({ job_id: "run", seq: 7, dropped: 0 });
      const one = { attempt: 1, count: 1, nan: 0 };
      const bucket = (step: number, value: number) => ({
        ...{ ...one, first_step: step, last_step: step, min: value, max: value, last: value },
      });
      const losses = [1, 2, 3, 4, 5].map((step) => bucket(step, 1 / step));
      expect(all.series).to.deep.equal([
        { metric: "loss", buckets: losses },
        { metric: "acc", buckets: [bucket(3, 0.5)] },
        { metric: "loss", rank: 1, product: "p", buckets: [bucket(9, 7)] },
      ]);
      const some = async (query: string) => (await get(`/run/series?${query}`)).json.series;
      expect(await some("metric=loss&from=2&to=4")).to.deep.equal([
        { metric: "loss", buckets: losses.slice(1, 4) },
      ]);
      expect(await some("rank=1")).to.deep.equal(all.series.slice(2));
      expect(await some("product=p&metric=loss")).to.deep.equal(all.series.slice(2));
      expect(await some("metric=acc&rank=0")).to.deep.equal(all.series.slice(1, 2));
      expect(await some("metric=loss&rank=0&points=1")).to.deep.equal([
        {
          metric: "loss",
          buckets: [{ ...one, first_step: 1, last_step: 5, min: 1 / 5, max: 1, last: 1 / 5, count: 5 }],
        },
      ]);
      expect(await some("metric=nothing")).to.deep.equal([]);
      await hub.publish(line("bare"));
      expect((await get("/bare/series")).json.series).to.deep.equal([]);
    });

    it("GET series refuses wrong queries, and jobs that are not there", async () => {
      await hub.publish(line("run"));
      expectError(await get("/missing/series"), "job_not_found");
      expectError(await get("/run/series", { jobs: ["mine"] }), "job_not_found");
      for (const query of [
        ...[
          "from=x",
          "to=-1",
          "from=1&from=2",
          "metric=a&metric=b",
          "from=",
          "metric=",
          "rank=1.5",
          "rank=-1",
        ],
        ...["points=0", "points=1025", "points=x", `metric=${"x".repeat(65)}`, "product=", "rank=1000001"],
      ])
        expectError(await get(`/run/series?${query}`), "invalid_request");
    });

    it("GET series counts what is no number, and takes metrics of any name", async () => {
      const metrics = JSON.parse('{"toString": 1, "constructor": "Infinity", "a/b c": 1e20}');
      await hub.publish(progress("odd", { step: 1, loss: "NaN", metrics }));
      const { series } = (await get("/odd/series")).json as SeriesAnswer;
      const found = series.map(({ metric, buckets }) => [metric, buckets[0]?.last, buckets[0]?.nan]);
      expect(found).to.have.deep.members([
        ["toString", 1, 0],
        ["constructor", null, 1],
        ["a/b c", 1e20, 0],
        ["loss", null, 1],
      ]);
    });
  });
}
