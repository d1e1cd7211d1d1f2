import type { Socket as NetSocket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { DeliveredEvent, SubscribeAnswer } from "../../src/protocol/types.ts";
import { progress, startTestHub, status, type TestClient, type TestHub, until } from "../support/hub.ts";

/** An event of about this many bytes. */
const EVENT = 60_000;
/** More than the kernel takes of who is not late yet. */
const EVENTS = 300;
const JOB = "job";

const large = (i: number) => ({
  type: "custom" as const,
  job_id: JOB,
  data: { name: "blob", data: { i, text: "x".repeat(EVENT) } },
});

/** The client's own TCP connection. */
function wireOf({ socket }: TestClient): NetSocket {
  return (socket.io.engine.transport as unknown as { ws: { _socket: NetSocket } }).ws._socket;
}

describe("slow watchers", function () {
  this.timeout(60_000);
  let hub: TestHub;

  afterEach(() => hub?.close());

  /** At the pace of somebody who reads. */
  async function publishMuch(good: TestClient): Promise<void> {
    for (let i = 0; i < EVENTS; i += 10) {
      const { positions } = await hub.publish(Array.from({ length: 10 }, (_, n) => large(i + n)));
      await good.reach(positions[JOB]?.seq as number);
    }
  }

  it("who does not read is closed, and nobody else notices; it comes back and reads on by pages", async () => {
    hub = await startTestHub({ env: { TRAINWIRE_MAX_FEED_BYTES: String(64 * 1_048_576) } });
    await hub.publish(status(JOB, "running"));
    const good = await hub.watcher();
    const stopped = await hub.watcher();
    const { epoch, seq } = await stopped.subscribe({ job_id: JOB });
    await good.subscribe({ job_id: JOB });
    wireOf(stopped).pause();
    await publishMuch(good);
    expect(good.events().map((event) => event.seq)).to.deep.equal(
      Array.from({ length: EVENTS }, (_, i) => seq + 1 + i),
    );
    await until("only one is left", () => hub.io.of("/").sockets.size === 1);
    wireOf(stopped).resume();
    await stopped.next("disconnect");
    const got = stopped.events().map((event) => event.seq);
    expect(got, "what arrived is in order and without a hole").to.deep.equal(
      Array.from({ length: got.length }, (_, i) => seq + 1 + i),
    );
    expect(got.length).to.be.below(EVENTS);
    const back = await hub.watcher();
    let since: { epoch: string; seq: number } | undefined = {
      epoch: epoch as string,
      seq: got.at(-1) ?? seq,
    };
    while (since) {
      const page: SubscribeAnswer = await back.subscribe({ job_id: JOB, since });
      expect(page.recovered).to.equal(true);
      got.push(...page.events.map((event) => (event as DeliveredEvent).seq));
      since = page.next;
    }
    expect(got).to.deep.equal(Array.from({ length: EVENTS }, (_, i) => seq + 1 + i));
  });

  it("who stops reading is found out by that, long before the system takes no more", async () => {
    hub = await startTestHub();
    await hub.publish(status(JOB, "running"));
    const stopped = await hub.watcher();
    const { seq } = await stopped.subscribe({ job_id: JOB });
    wireOf(stopped).pause();
    let published = 0;
    while (hub.io.of("/").sockets.size > 0 && published < 100) {
      await hub.publish(large(published++));
      await sleep(100);
    }
    // Late after some 18, above 1 MB after some 27, and closed 2 s later; of who is not asked the kernel takes all 100.
    expect(published).to.be.within(18, 80);
    wireOf(stopped).resume();
    await stopped.next("disconnect");
    const got = stopped.events().map((event) => event.seq);
    expect(got).to.deep.equal(Array.from({ length: got.length }, (_, i) => seq + 1 + i));
  });

  it("who reads too slowly gets the newest values, merged, before the status that ends the job", async () => {
    hub = await startTestHub({
      env: {
        TRAINWIRE_HOLD_BYTES: "2048",
        TRAINWIRE_SLOW_BYTES: String(512 * 1_048_576),
        TRAINWIRE_MAX_FEED_BYTES: String(64 * 1_048_576),
      },
    });
    await hub.publish(status(JOB, "running"));
    const behind = await hub.watcher();
    const good = await hub.watcher();
    await behind.subscribe({ job_id: JOB });
    await good.subscribe({ job_id: JOB });
    wireOf(behind).pause();
    await publishMuch(good);
    for (let step = 1; step <= 500; step++) {
      await hub.publish(progress(JOB, { step, metrics: { [`m${step % 10}`]: step } }));
    }
    await hub.publish(status(JOB, "completed"));
    wireOf(behind).resume();
    await behind.next("training_status");
    const told = behind.all<DeliveredEvent<"training_progress">>("training_progress");
    expect(told).to.have.lengthOf(1);
    expect(told[0]?.data).to.deep.include({ step: 500 });
    expect(Object.keys(told[0]?.data.metrics ?? {})).to.have.lengthOf(10);
    const order = behind.received.map(({ name }) => name);
    expect(order.indexOf("training_progress")).to.be.below(order.indexOf("training_status"));
    expect(behind.all("custom")).to.have.lengthOf(EVENTS);
  });

  it("once it has caught up, values come one by one again, without anything lost at the end", async () => {
    hub = await startTestHub({
      env: {
        TRAINWIRE_HOLD_BYTES: "2048",
        TRAINWIRE_SLOW_BYTES: String(512 * 1_048_576),
        TRAINWIRE_MAX_FEED_BYTES: String(64 * 1_048_576),
      },
    });
    await hub.publish(status(JOB, "running"));
    const behind = await hub.watcher();
    const good = await hub.watcher();
    await behind.subscribe({ job_id: JOB });
    await good.subscribe({ job_id: JOB });
    wireOf(behind).pause();
    await publishMuch(good);
    for (let step = 1; step <= 20; step++) await hub.publish(progress(JOB, { step }));
    wireOf(behind).resume();
    const held = await behind.next<DeliveredEvent<"training_progress">>("training_progress");
    expect(held.data.step).to.equal(20);
    for (let step = 21; step <= 25; step++) await hub.publish(progress(JOB, { step }));
    await behind.until("the last", (each) =>
      each.all<DeliveredEvent<"training_progress">>("training_progress").some(({ data }) => data.step === 25),
    );
    expect(behind.all<DeliveredEvent<"training_progress">>("training_progress")).to.have.lengthOf(6);
  });

  it("what was held back when the connection ended comes with the next one, although it lies before its cursor", async () => {
    hub = await startTestHub({
      env: {
        TRAINWIRE_HOLD_BYTES: "2048",
        TRAINWIRE_SLOW_BYTES: String(512 * 1_048_576),
        TRAINWIRE_MAX_FEED_BYTES: String(64 * 1_048_576),
      },
    });
    await hub.publish(status(JOB, "running"));
    const good = await hub.watcher();
    const behind = await hub.watcher();
    await good.subscribe({ job_id: JOB });
    await behind.subscribe({ job_id: JOB });
    wireOf(behind).pause();
    await publishMuch(good);
    const { positions } = await hub.publish(progress(JOB, { step: 500 }));
    const held = positions[JOB]?.seq as number;
    // While these are on their way, it is still behind.
    await publishMuch(good);
    const cut = new Promise<DeliveredEvent>((resolve) => {
      behind.socket.onAny((_: string, event: DeliveredEvent) => {
        if (!(event.seq > held)) return;
        behind.close();
        resolve(event);
      });
    });
    wireOf(behind).resume();
    const { epoch, seq } = await cut;
    expect(behind.all("training_progress")).to.deep.equal([]);
    const back = await hub.watcher();
    const got: DeliveredEvent[] = [];
    let since: { epoch: string; seq: number } | undefined = { epoch: epoch as string, seq };
    while (since) {
      const page: SubscribeAnswer = await back.subscribe({ job_id: JOB, since });
      got.push(...(page.events as DeliveredEvent[]));
      since = page.next;
    }
    expect(got.filter(({ type }) => type === "training_progress").map((event) => event.seq)).to.deep.equal([
      held,
    ]);
  });

  it("who resumes many jobs gets all of them, page by page, as fast as it reads", async () => {
    hub = await startTestHub({
      env: { TRAINWIRE_MAX_FEED_BYTES: String(64 * 1_048_576), TRAINWIRE_SLOW_BYTES: String(1_048_576) },
    });
    const jobs = Array.from({ length: 40 }, (_, i) => `job-${i}`);
    for (const job_id of jobs) {
      await hub.publish({ ...status(JOB, "running"), job_id });
      await hub.publish(Array.from({ length: 3 }, (_, n) => ({ ...large(n), job_id })));
    }
    const back = await hub.watcher();
    const read = async (job_id: string) => {
      let events = 0;
      let since: { epoch: string; seq: number } | undefined = { epoch: "", seq: 0 };
      while (since) {
        const page: SubscribeAnswer = await back.subscribe({ job_id, since });
        events += page.events.length;
        since = page.next;
      }
      return events;
    };
    // job_created, running, and three large ones.
    expect(await Promise.all(jobs.map(read))).to.deep.equal(jobs.map(() => 5));
    expect(back.all("disconnect")).to.deep.equal([]);
  });

  it("who does not read its refusals is closed, too", async () => {
    hub = await startTestHub({ env: { TRAINWIRE_SLOW_BYTES: String(1_048_576) } });
    const flood = await hub.watcher();
    wireOf(flood).pause();
    for (let i = 0; i < 60 && hub.io.of("/").sockets.size > 0; i++) {
      for (let n = 0; n < 5_000; n++) flood.socket.emit("unsubscribe", { job_id: JOB }, () => {});
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await until("it is closed", () => hub.io.of("/").sockets.size === 0);
  });
});
