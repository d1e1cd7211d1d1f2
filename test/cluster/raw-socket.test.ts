import { expect } from "chai";
import { line, lines, startTestHub, TENANT, type TestHub, token, until } from "../support/hub.ts";
import { TcpProxy } from "../support/proxy.ts";
import { Texts } from "./history.ts";
import { rawSocket } from "./raw-socket.ts";
import { plainSocket } from "./socket.ts";
import { Watcher } from "./watcher.ts";

const JOB = "run";

describe("the raw socket of the load", () => {
  let hub: TestHub;
  let proxy: TcpProxy | undefined;
  let watchers: Watcher[];

  beforeEach(() => {
    watchers = [];
  });
  afterEach(async () => {
    for (const each of watchers) each.close();
    await proxy?.close();
    proxy = undefined;
    await hub.close();
  });

  function watcher(open = rawSocket("127.0.0.5"), url = hub.url): Watcher {
    const options = { name: "one", token: token("watcher"), tenantId: TENANT, jobId: JOB, polling: false };
    const made = new Watcher({ ...options, url, open, texts: new Texts() });
    watchers.push(made);
    return made;
  }

  const texts = ({ views }: Watcher) =>
    views.flatMap(({ entries }) => entries.flatMap((entry) => (entry.kind === "event" ? [entry.text] : [])));

  it("brings a watcher what socket.io-client brings, byte by byte", async () => {
    hub = await startTestHub();
    const [raw, plain] = [watcher(), watcher(plainSocket)];
    await hub.publish([line(JOB, "é 损失 🚂"), ...lines(JOB, 3)]);
    await Promise.all([raw.join(3), plain.join(3)]);
    await hub.publish(line(JOB, '\u2028 and "quotes"'));
    await until("all have it", () => [raw, plain].every((each) => texts(each).length === 4));
    expect(texts(raw)).to.deep.equal(texts(plain));
    expect(raw.instance).to.equal(hub.hub.instanceId);
    expect(raw.faults).to.deep.equal([]);
    expect((await raw.ping())[0]).to.include({ job_id: JOB });
  });

  it("comes back by itself, and goes on where it was", async () => {
    hub = await startTestHub();
    proxy = await TcpProxy.open({ port: Number(new URL(hub.url).port) });
    await hub.publish(line(JOB));
    const raw = watcher(rawSocket(), `http://127.0.0.1:${proxy.port}`);
    await raw.join();
    proxy.cut();
    await until("it has noticed", () => !raw.connected);
    await hub.publish(lines(JOB, 5));
    await until("it has all", () => texts(raw).length === 5);
    expect(raw.reconnects).to.equal(1);
    await raw.leave();
    raw.close();
    await until("it has gone", () => proxy?.connections === 0);
  });

  it("gives up a connection on which nobody pings it", async () => {
    hub = await startTestHub({
      env: { TRAINWIRE_PING_INTERVAL_MS: "100", TRAINWIRE_PING_TIMEOUT_MS: "100" },
    });
    proxy = await TcpProxy.open({ port: Number(new URL(hub.url).port) });
    const raw = watcher(rawSocket(), `http://127.0.0.1:${proxy.port}`);
    await until("it is connected", () => raw.connected);
    proxy.swallow();
    await until("it has noticed", () => !raw.connected);
  });

  it("says when it is refused for good", async () => {
    hub = await startTestHub();
    const made = new Watcher({
      ...{
        name: "one",
        url: hub.url,
        token: "no token",
        tenantId: TENANT,
        polling: false,
        open: rawSocket(),
      },
      texts: new Texts(),
    });
    watchers.push(made);
    await until("it is refused", () => made.faults.length > 0);
    expect(made.faults[0]).to.match(/^not connected: /);
  });
});
