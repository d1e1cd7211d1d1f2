import { expect } from "chai";
import { randomId } from "../../client/asks.ts";
import type {
  CommandRequest,
  PresenceRequest,
  SeriesRequest,
  TrainwireClient,
  TrainwireError,
} from "../../client/index.ts";
import { ScriptedHub } from "./scripted-hub.ts";
import { heard, watch } from "./support.ts";

describe("client.command(jobId, action, options)", () => {
  let hub: ScriptedHub;
  let client: TrainwireClient;
  const errors: string[] = [];
  beforeEach(async () => {
    hub = await ScriptedHub.start();
    client = start();
    errors.length = 0;
  });
  afterEach(async () => {
    client.close();
    await hub.stop();
  });

  function start(options = {}): TrainwireClient {
    return watch(hub, options).on("error", ({ code }) => errors.push(code));
  }
  const refusal = (asked: Promise<unknown>) =>
    asked.then(
      () => expect.fail("answered"),
      (error: TrainwireError) => error,
    );
  const connected = async () => {
    if (client.state !== "connected") await heard(client, "state");
  };

  it("sends the command with an id and gives the trainer's answer", async () => {
    const args = { prompt: "a fox" };
    const answered = client.command("a", "sample", { args, timeoutMs: 5_000, all: true });
    const call = await hub.next<CommandRequest>("command");
    const { command_id, timeout_ms, ...rest } = call.request;
    expect(rest).to.deep.equal({ job_id: "a", action: "sample", args, all: true });
    expect(command_id).to.match(/^[0-9a-f]{32}$/);
    expect(timeout_ms).to.be.within(4_000, 5_000);
    const answer = { job_id: "a", command_id, state: "applied", data: { made: 3 } };
    call.answer(answer);
    expect(await answered).to.deep.equal(answer);
    client.command("a", "save", { commandId: "mine" }).catch(() => {});
    const second = await hub.next<CommandRequest>("command");
    expect(second.request.command_id).to.equal("mine");
    expect(second.request.timeout_ms).to.be.within(29_000, 30_000);
  });

  it("is rejected with the hub's code, for now or for good", async () => {
    for (const [code, temporary] of [
      ["command_failed", false],
      ["no_trainer", true],
    ] as const) {
      const asked = refusal(client.command("a", "stop"));
      (await hub.next("command")).refuse(code, temporary);
      expect(await asked).to.include({ code, temporary });
    }
    expect(errors).to.deep.equal([]);
  });

  it("waits longer than the time-out of other requests, and sends again with the same id when it was cut", async () => {
    client.close();
    client = start({ ackTimeoutMs: 20 });
    const answered = client.command("a", "save", { timeoutMs: 5_000 });
    const first = await hub.next<CommandRequest>("command");
    hub.cut();
    const second = await hub.next<CommandRequest>("command");
    expect(second.request.command_id).to.equal(first.request.command_id);
    expect(second.request.timeout_ms).to.be.at.most(first.request.timeout_ms ?? 0);
    await new Promise((resolve) => setTimeout(resolve, 40));
    second.answer({ job_id: "a", command_id: "c", state: "applied" });
    expect(await answered).to.deep.include({ state: "applied" });
    expect(hub.waiting("command")).to.equal(0);
  });

  it("waits for the connection, and is rejected when there is none in time", async () => {
    hub.admit = () => ({ code: "unavailable", message: "", temporary: true });
    hub.cut();
    client.close();
    client = start();
    expect(await refusal(client.command("a", "save", { timeoutMs: 100 }))).to.include({
      code: "disconnected",
      temporary: true,
      message: "Not connected, and the time is over.",
    });
    const later = client.command("a", "save");
    hub.admit = () => undefined;
    (await hub.next("command")).answer({ job_id: "a", command_id: "c", state: "applied" });
    await later;
    const cut = refusal(client.command("a", "save", { timeoutMs: 200 }));
    await hub.next("command");
    hub.admit = () => ({ code: "unavailable", message: "", temporary: true });
    hub.cut();
    expect((await cut).message).to.equal(
      "The connection was lost before command was answered, and the time is over.",
    );
  });

  it("is rejected when the client is closed, or the connection ends for good", async () => {
    const closed = refusal(client.command("a", "save"));
    await hub.next("command");
    client.close();
    expect((await closed).code).to.equal("closed");
    hub.admit = () => ({ code: "unauthorized", message: "", temporary: false });
    const refused = refusal(client.command("a", "save"));
    client.connect();
    expect((await refused).code).to.equal("unauthorized");
    // Before connect() it waits.
    const waiting = client.command("a", "save");
    hub.admit = () => undefined;
    client.connect();
    (await hub.next("command")).answer({ job_id: "a", command_id: "c", state: "applied" });
    await waiting;
  });

  it("gets a new token when the old one has ended", async () => {
    client.close();
    let made = 0;
    client = start({ getToken: () => `t${++made}` });
    const asked = client.command("a", "save");
    (await hub.next("command")).refuse("token_expired");
    (await hub.next("command")).answer({ job_id: "a", command_id: "c", state: "applied" });
    await asked;
    expect(made).to.equal(2);
  });

  it("refuses a time-out that the hub does not take", async () => {
    await connected();
    for (const timeoutMs of [99, 3_600_001, Number.NaN]) {
      expect((await refusal(client.command("a", "save", { timeoutMs }))).code).to.equal("invalid_request");
    }
    expect((await refusal(client.command("a", "save", { args: { big: 1n as never } }))).code).to.equal(
      "invalid_request",
    );
    expect(hub.waiting("command")).to.equal(0);
  });

  it("asks who watches, and for curves", async () => {
    const presence = client.presence("a");
    const who = await hub.next<PresenceRequest>("presence");
    expect(who.request).to.deep.equal({ job_id: "a" });
    who.answer({ job_id: "a", watchers: 2 });
    expect(await presence).to.deep.equal({ job_id: "a", watchers: 2 });
    const series = client.series("a", { metric: "loss", points: 10, timeoutMs: 5_000 });
    hub.cut();
    const curves = await hub.next<SeriesRequest>("series");
    expect(curves.request).to.deep.equal({ job_id: "a", metric: "loss", points: 10 });
    curves.answer({ job_id: "a", epoch: "e", seq: 3, series: [], dropped: 0 });
    expect((await series).seq).to.equal(3);
    const late = refusal(client.presence("a", { timeoutMs: 50 }));
    await hub.next("presence");
    expect((await late).code).to.equal("ack_timeout");
    const forbidden = refusal(client.series("b"));
    (await hub.next("series")).refuse("job_not_found");
    expect((await forbidden).code).to.equal("job_not_found");
  });

  it("makes ids that differ", () => {
    expect(new Set(Array.from({ length: 100 }, randomId)).size).to.equal(100);
  });
});
