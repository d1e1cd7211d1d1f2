/** Metrics of watchers that do not read: what waits for them, that they are behind, and that they are closed. */
import type { Socket as NetSocket } from "node:net";
import { expect } from "chai";
import { startTestHub, type TestClient, type TestHub, until } from "../support/hub.ts";
import { scrape } from "./scrape.ts";

const TEXT = "x".repeat(60_000);
const large = () => ({ type: "custom", job_id: "run", data: { name: "blob", data: { text: TEXT } } });
const wireOf = ({ socket }: TestClient) =>
  (socket.io.engine.transport as unknown as { ws: { _socket: NetSocket } }).ws._socket;

describe("metrics: slow watchers", () => {
  let hub: TestHub;
  beforeEach(async () => {
    hub = await startTestHub();
  });
  afterEach(() => hub.close());

  const value = async (name: string) => (await scrape(hub.url)).value(`trainwire_${name}`);

  it("tell what waits and who is behind, then the close", async () => {
    await hub.publish(large());
    const watcher = await hub.watcher();
    await watcher.subscribe({ job_id: "run" });
    wireOf(watcher).pause();
    // More than the kernel takes of who is not late yet.
    let queued = 0;
    while (queued === 0) {
      await hub.publish([large(), large(), large()]);
      queued = await value("queue_bytes");
    }
    expect(await value("queue_largest_bytes")).to.be.at.least(TEXT.length);
    while ((await value("connections_behind")) === 0) await hub.publish([large(), large()]);
    const closes = 'closes_total{door="watcher",reason="slow"}';
    while ((await value(closes)) === 0) await hub.publish([large(), large()]);
    expect(await value(closes)).to.equal(1);
    await until("nothing waits", async () => (await value("queue_bytes")) === 0);
    expect(await value("connections_behind")).to.equal(0);
    expect(hub.log.filter((text) => text.includes('"reason":"slow"'))).to.have.length(1);
    expect(hub.log[0]).to.contain('"level":"warn"').and.contain('"msg":"disconnected"');
    wireOf(watcher).resume();
  });
});
