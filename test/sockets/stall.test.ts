import type { Socket as NetSocket } from "node:net";
import { expect } from "chai";
import { buildHub, type HubBuild, HubProcess } from "../cluster/hub-process.ts";
import { client, SECRET, TENANT, token, until } from "../support/hub.ts";

/** Of the hub: a client gives its connection up after the sum. */
const PING = { TRAINWIRE_PING_INTERVAL_MS: "1000", TRAINWIRE_PING_TIMEOUT_MS: "1000" };
const PATIENCE_MS = 2_000;

const step = (n: number) => ({ type: "training_progress", job_id: "job", data: { step: n } });

describe("a hub that stood still", function () {
  this.timeout(60_000);
  let build: HubBuild;
  let hub: HubProcess;

  before(async () => {
    build = await buildHub();
    hub = await HubProcess.create({ build, name: "hub", env: { JWT_SECRET: SECRET, ...PING } });
    await hub.start();
  });
  after(async () => {
    await hub?.stop();
    build?.remove();
  });

  /** Undefined while it does not answer: who connects in the moment in which it wakes may be cut with the others. */
  async function stepOf(): Promise<number | undefined> {
    const url = `${hub.url}/api/v1/tenants/${TENANT}/training/jobs/job`;
    try {
      const response = await fetch(url, { headers: { authorization: `Bearer ${token("watcher")}` } });
      const { job } = (await response.json()) as { job: { newest: Array<{ data: { step: number } }> } };
      return job.newest[0]?.data.step;
    } catch {
      return undefined;
    }
  }

  /** Sends a value to the stopped hub; resolves when all of it is on its way. */
  async function sendToStopped(trainer: ReturnType<typeof client>, value: number): Promise<void> {
    const { ws } = trainer.socket.io.engine.transport as unknown as { ws: { _socket: NetSocket } };
    trainer.socket.emit("publish", step(value), () => {});
    await until("it is sent", () => ws._socket.writableLength === 0 && ws._socket.bytesWritten > 0);
  }

  it("for longer than clients wait carries out nothing of what they had sent it", async () => {
    const trainer = client(hub.url, token("trainer"), "/trainer");
    await trainer.connected();
    await trainer.publish(step(1) as never);
    hub.pause();
    await sendToStopped(trainer, 2);
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS * 2));
    hub.resume();
    await trainer.next("disconnect");
    await until("it answers", async () => (await stepOf()) !== undefined);
    expect(await stepOf()).to.equal(1);
    const again = client(hub.url, token("trainer"), "/trainer");
    await again.connected();
    await again.publish(step(3) as never);
    expect(await stepOf()).to.equal(3);
    again.close();
  });

  it("for a shorter time goes on as if nothing had been", async () => {
    const trainer = client(hub.url, token("trainer"), "/trainer");
    await trainer.connected();
    hub.pause();
    await sendToStopped(trainer, 4);
    await new Promise((resolve) => setTimeout(resolve, 100));
    hub.resume();
    await until("it is there", async () => (await stepOf()) === 4);
    expect(trainer.all("disconnect")).to.deep.equal([]);
    trainer.close();
  });
});
