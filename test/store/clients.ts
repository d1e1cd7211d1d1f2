import { expect } from "chai";
import { listen } from "../bus/recorder.ts";
import {
  created,
  FEED,
  log,
  progress,
  readAll,
  sample,
  seqsOf,
  status,
  TENANT_FEED,
  withId,
  withN,
} from "./entries.ts";
import type { Client, Open, Subject } from "./subject.ts";

const ROUNDS = 60;

/** Two clients of the same data at the same time. */
export function clients(open: Open): void {
  let subject: Subject;
  let both: [Client, Client];
  beforeEach(async () => {
    subject = await open();
    both = [subject, await subject.second()];
  });
  afterEach(() => subject.close());

  it("append to one job: no seq twice, none lost, each client's in its order, and the bus in that of the log", async () => {
    const heard = await Promise.all([listen(both[1].bus, FEED), listen(both[0].bus, TENANT_FEED)]);
    const answers = await Promise.all(
      Array.from({ length: ROUNDS }, (_, i) => {
        const client = i % 2;
        const entries = [
          log(`${client} ${i}`),
          progress({ step: i }),
          sample(i),
          ...(i % 5 ? [] : [status("running")]),
        ];
        return both[client]?.store.append(FEED, entries, created());
      }),
    );
    const seqs = answers.flatMap((answer) => seqsOf(answer?.stored ?? []));
    const head = seqs.length + 1;
    expect([...seqs].sort((a, b) => a - b)).to.deep.equal(Array.from({ length: head - 1 }, (_, i) => i + 2));
    const page = await readAll(subject.store);
    expect(page).to.deep.include({ seq: head, trimmed: [] });
    for (const client of [0, 1]) {
      const lines = page.logged.filter(({ data }) => data.startsWith(`{"message":"${client} `));
      expect(lines.map(({ data }) => Number(JSON.parse(data).message.split(" ")[1]))).to.deep.equal(
        Array.from({ length: ROUNDS / 2 }, (_, i) => i * 2 + client),
      );
    }
    await heard[0].reach(head);
    expect(heard[0].seqs).to.deep.equal(Array.from({ length: head }, (_, i) => i + 1));
    const durable = heard[0].received
      .filter((event) => event.durable)
      .map(({ seq, type }) => `${seq} ${type}`);
    expect(durable).to.deep.equal(page.logged.map(({ seq, type }) => `${seq} ${type}`));
    const tenant = await readAll(subject.store, TENANT_FEED);
    await heard[1].reach(tenant.seq);
    expect(heard[1].seqs).to.deep.equal(tenant.logged.map(({ seq }) => seq));
  });

  it("append to two jobs of a tenant: the tenant's feed has both, each once, in one order", async () => {
    const heard = await listen(both[1].bus, TENANT_FEED);
    await Promise.all(
      Array.from({ length: ROUNDS }, (_, i) => {
        const jobId = `job-${i % 2}`;
        return both[i % 2]?.store.append({ ...FEED, jobId }, [status("running"), log()], created(jobId));
      }),
    );
    const { logged, seq } = await readAll(subject.store, TENANT_FEED);
    expect(seq).to.equal(ROUNDS + 2);
    expect(logged.map((event) => event.seq)).to.deep.equal(Array.from({ length: seq }, (_, i) => i + 1));
    for (const jobId of ["job-0", "job-1"]) {
      const positions = logged.flatMap(({ job }) => (job?.jobId === jobId ? [job.position.seq] : []));
      expect(positions).to.deep.equal([1, ...Array.from({ length: ROUNDS / 2 }, (_, i) => 2 + 2 * i)]);
    }
    await heard.reach(seq);
    expect(heard.seqs).to.deep.equal(logged.map((event) => event.seq));
  });

  it("send the same events: each is stored once", async () => {
    const batches = Array.from({ length: ROUNDS }, (_, i) => [
      withId(`${i % 20}`),
      withN(i % 20, { id: `p${i % 4}` }),
    ]);
    await Promise.all(batches.map((batch, i) => both[i % 2]?.store.append(FEED, batch, created())));
    const { logged } = await readAll(subject.store);
    const lines = logged
      .filter(({ type }) => type === "log")
      .map(({ data }) => JSON.parse(data).message as string);
    expect(
      lines
        .filter((line) => !line.startsWith("n"))
        .map(Number)
        .sort((a, b) => a - b),
    ).to.deep.equal(Array.from({ length: 20 }, (_, i) => i));
    const numbered = lines.filter((line) => line.startsWith("n"));
    expect(numbered.length).to.equal(new Set(numbered).size);
  });
}
