/** `trainwire watch` takes ten deliveries a second, and has the whole curve all the same. */
import { expect } from "chai";
import { TrainwireClient } from "../../client/index.ts";
import { type Ending, Follower } from "../../src/cli/follower.ts";
import type { Output } from "../../src/cli/outputs.ts";
import { emptyView, withEvent, withGap, withLosses, withSnapshot } from "../../src/cli/view.ts";
import { progress, startTestHub, status, TENANT, type TestHub, until } from "../support/hub.ts";

describe("cli: the curve that watch draws", () => {
  let hub: TestHub;
  let client: TrainwireClient;
  let follower: Follower;
  beforeEach(async () => {
    hub = await startTestHub();
    client = new TrainwireClient({ url: hub.url, token: hub.token("watcher"), reconnectDelayMs: 2 });
  });
  afterEach(async () => {
    follower.close();
    client.close();
    await hub.close();
  });

  const steps = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => progress("run", { step: from + i, loss: from + i }));
  const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

  it("has every point once: from before, held back, and from while it was away", async () => {
    let view = emptyView({ state: "connecting", hub: hub.url }, TENANT);
    let deliveries = 0;
    let loads = 0;
    const output: Output = {
      history: 50,
      maxRate: 1,
      snapshot: (snapshot) => {
        view = withSnapshot(view, snapshot);
      },
      losses: (soFar) => {
        loads++;
        view = withLosses(view, soFar);
      },
      event: (event) => {
        if (event.type === "training_progress") deliveries++;
        view = withEvent(view, event);
      },
      gap: (gap) => {
        view = withGap(view, gap);
      },
      close() {},
    };
    await hub.publish([status("run", "running"), ...steps(1, 20)]);
    const connection = { url: hub.url, token: hub.token("watcher") };
    const ended = new Promise<Ending>((end) => {
      follower = new Follower(client, output, {
        job: "run",
        tenant: TENANT,
        once: false,
        wait: false,
        access: { connection, explain: ({ message }) => new Error(message) },
        end,
      });
    });
    follower.begin();
    client.connect();
    await until("it has what was before", () => view.losses.points.length === 20);
    await hub.publish(steps(21, 40));
    await hub.publish(status("run", "paused"));
    await until("and what was held back", () => view.status === "paused");
    expect(view.losses.points).to.deep.equal(upTo(60));

    const away = new Promise<void>((resolve) => {
      client.on("state", (_, previous) => previous === "connected" && resolve());
    });
    for (const socket of hub.io.of("/").sockets.values()) socket.conn.close();
    await away;
    await hub.publish(steps(61, 30));
    await until("it has what it has missed", () => view.losses.points.length >= 90);
    await hub.publish([...steps(91, 10), status("run", "completed")]);
    expect(await ended).to.deep.equal({ code: 0 });
    expect(view.losses.points).to.deep.equal(upTo(100));
    expect(deliveries).to.be.below(20);
    expect(loads).to.be.within(2, 4);
  });
});
