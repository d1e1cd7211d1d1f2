/** Where the metrics are: on the hub's port, or on one of their own and nowhere else. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { expectError, request } from "../http/request.ts";
import { startTestHub, type TestHub } from "../support/hub.ts";
import { scrape } from "./scrape.ts";

describe("metrics: port", () => {
  it("without one of their own they are on PORT, without a token, for pages of no origin", async () => {
    const hub = await startTestHub();
    try {
      await scrape(hub.url);
      const reply = await request(hub, "/metrics", {
        role: null,
        headers: { origin: "https://evil.example" },
      });
      expect(reply.status).to.equal(200);
      expect(reply.headers.get("access-control-allow-origin")).to.equal(null);
      expect(hub.metricsUrl).to.equal(undefined);
      expect((await request(hub, "/metrics", { role: null, method: "HEAD" })).status).to.equal(200);
    } finally {
      await hub.close();
    }
  });

  it("with one of their own they are there, and PORT has no such route", async () => {
    const hub = await startTestHub({ env: { TRAINWIRE_METRICS_PORT: "0" } });
    const own = { ...hub, url: hub.metricsUrl as string } as TestHub;
    try {
      expect((await scrape(own.url)).value('trainwire_instance_state{state="ready"}')).to.equal(1);
      expectError(await request(hub, "/metrics", { role: null }), "unknown_verb");
      for (const path of [
        "/",
        "/healthz",
        "/metrics/x",
        "/api/v1/status",
        "/socket.io/?EIO=4&transport=polling",
      ])
        expectError(await request(own, path), "unknown_verb");
      expectError(await request(own, "/metrics", { method: "POST" }), "unknown_verb");
      expect((await request(own, "/metrics?x=1", { method: "HEAD", role: null })).text).to.equal("");
    } finally {
      await hub.close();
    }
    const error = await fetch(`${own.url}/metrics`).catch((reason: unknown) => reason);
    expect(error, "closed with the hub").to.be.instanceOf(Error);
  });

  it("a port that is taken is one line, and ends the start", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    try {
      const error = await startTestHub({ env: { TRAINWIRE_METRICS_PORT: String(port) } }).catch(
        (reason: Error) => reason.message,
      );
      expect(error).to.equal(
        `Port ${port} on 127.0.0.1 is taken; set TRAINWIRE_METRICS_PORT to another one.`,
      );
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });

  it("two scrapes at once, and two hubs of one process, do not mix", async () => {
    const hubs = [await startTestHub(), await startTestHub()] as const;
    try {
      await hubs[0].publish({ type: "log", job_id: "run", data: { message: "a" } });
      const [first, second, other] = await Promise.all([
        scrape(hubs[0].url),
        scrape(hubs[0].url),
        scrape(hubs[1].url),
      ]);
      const accepted = 'trainwire_events_published_total{result="accepted"}';
      expect([first, second, other].map((scraped) => scraped.value(accepted))).to.deep.equal([1, 1, 0]);
    } finally {
      for (const hub of hubs) await hub.close();
    }
  });
});
