import { expect } from "chai";
import { render } from "../../src/cli/screen.ts";
import { columns } from "../../src/cli/text.ts";
import { emptyView, type View, withEvent, withGap, withLosses, withSnapshot } from "../../src/cli/view.ts";
import type { DeliveredEvent, EventMap, EventType, Num, Snapshot } from "../../src/protocol/types.ts";

const CREATED = "2026-03-01T12:00:00.000Z";
const connection = { state: "connected", hub: "http://hub", note: "hub-a" } as const;
const paper = {
  width: 80,
  height: 23,
  now: Date.parse(CREATED) + 65_000,
  hint: "Ctrl-C ends",
  paint: (_style: string, text: string) => text,
};

let seq = 0;

function event<T extends EventType>(
  type: T,
  data: EventMap[T],
  fields: Partial<DeliveredEvent> = {},
): DeliveredEvent {
  const position = { feed: "job", epoch: "e1", seq: ++seq } as const;
  const times = { timestamp: CREATED, received_at: CREATED };
  return {
    ...position,
    ...times,
    type,
    tenant_id: "demo",
    job_id: "bert-7",
    data,
    ...fields,
  } as DeliveredEvent;
}

function snapshot(fields: Partial<Snapshot> = {}): Snapshot {
  return {
    job_id: "bert-7",
    tenant_id: "demo",
    epoch: "e1",
    seq: 0,
    created_at: CREATED,
    updated_at: CREATED,
    status: "running",
    attempt: 1,
    name: "Bert, again",
    kind: "mlm",
    latest: {},
    newest: [],
    counts: {},
    products: { completed: 0, failed: 0, progress: 0 },
    ...fields,
  };
}

function view(events: DeliveredEvent[], first: Partial<Snapshot> = {}): View {
  return events.reduce(withEvent, withSnapshot(emptyView(connection, "demo"), snapshot(first)));
}

/** The screen with the times of the log taken out: they are those of this machine's time zone. */
function screen(of: View, size: Partial<typeof paper> = {}): string[] {
  return render(of, { ...paper, ...size }).map((line) => line.replace(/^\d\d:\d\d:\d\d/, "hh:mm:ss"));
}

describe("the screen of watch", () => {
  beforeEach(() => {
    seq = 0;
  });

  it("shows a job in training", () => {
    const training = view([
      event("training_progress", {
        step: 250,
        total_steps: 1_000,
        epoch: 2.5,
        total_epochs: 10,
        loss: 0.5,
        learning_rate: 0.001,
        eta_seconds: 135,
      }),
      event("training_progress", { loss: 0.05, smooth_loss: 0.06, metrics: { gradient_norm: 1.25 } }),
      event("validation_result", { step: 200, metrics: { psnr: 31.257, mse: 0.0008 }, best: true }),
      event("sample_generated", {
        step: 200,
        width: 64,
        height: 64,
        media_type: "image/png",
        size_bytes: 6_246,
      }),
      event("system_stats", { host: "box", cpu_percent: 37.6, cpu_count: 2, memory_used_bytes: 2 ** 30 }),
      event("log", { level: "info", message: "warm-up is over" }),
      event("log", { level: "warning", message: "slow disk", source: "stderr" }),
    ]);
    expect(screen(training)).to.deep.equal([
      "Bert, again                                                    ● running  1m 05s",
      "bert-7 · mlm · tenant demo",
      "",
      "██████████████▌░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░   25.0 %  ETA 2m 15s",
      "step 250/1,000   epoch 2.5/10   learning rate 0.001000",
      "",
      "loss        0.05000     █▁  smooth 0.06000",
      "validation  psnr 31.26 dB  ★ best  at step 200  mse 0.0008000",
      "metrics     gradient_norm 1.250",
      "samples     1  last: step 200  64×64  image/png  6.1 KiB",
      "machine     cpu 38 % of 2  memory 1.0 GiB  box",
      "",
      "hh:mm:ss  warm-up is over",
      "hh:mm:ss  [stderr] slow disk",
      "",
      "● connected to http://hub hub-a                                      Ctrl-C ends",
    ]);
  });

  it("fits every terminal, whatever the job writes", () => {
    const wide = "日本語🎉".repeat(40);
    const busy = view([
      event("job_updated", { name: wide, kind: wide }),
      event("training_progress", { step: 1, total_steps: 3, loss: 1e-7, stage: wide, message: wide }),
      event("validation_result", { metrics: Object.fromEntries(Array.from(wide, (_, i) => [`m${i}`, i])) }),
      event("job_liveness", { liveness: "stale", last_seen: CREATED }),
      event("checkpoint_saved", { name: wide, best: true }),
      ...Array.from({ length: 5 }, (_, part) =>
        event("training_progress", { step: 1 }, { product: wide + part }),
      ),
      event("product_completed", { message: wide, total: 9 }, { product: `${wide}1` }),
      event("command_update", { command_id: "c", action: "save", state: "failed", message: wide }),
      event("training_status", { status: "running", message: wide }),
      ...Array.from({ length: 30 }, () => event("log", { message: wide })),
    ]);
    for (const width of [1, 10, 20, 39, 80, 200]) {
      for (const height of [1, 2, 5, 9, 15, 23, 60]) {
        const lines = screen(busy, { width, height });
        expect(lines.length, `${width}×${height}`).to.be.at.most(height);
        for (const line of lines) expect(columns(line), `${width}×${height}: ${line}`).to.be.at.most(width);
      }
    }
  });

  it("gives a small terminal to what matters: no empty lines, title, bar and connection", () => {
    const small = view([
      event("training_progress", { step: 1, total_steps: 4, loss: 0.5 }),
      ...Array.from({ length: 9 }, (_, i) => event("log", { message: `line ${i}` })),
    ]);
    expect(screen(small, { width: 40, height: 8 })).to.deep.equal([
      "Bert, again            ● running  1m 05s",
      "bert-7 · mlm · tenant demo",
      "███████▊░░░░░░░░░░░░░░░░░░░░░░░   25.0 %",
      "step 1/4",
      "loss        0.5000      ▁",
      "hh:mm:ss  line 7",
      "hh:mm:ss  line 8",
      "● connected to http://hub h… Ctrl-C ends",
    ]);
  });

  it("lets nothing through that commands a terminal", () => {
    const evil = "\u001b]0;owned\u0007\u001b[2J\u009b31m\u0000\r\n\u202etxt";
    const hostile = [
      event("job_updated", { name: evil, kind: evil }),
      event("training_progress", { step: 1, stage: evil, message: evil, metrics: { "a\u009bb": 1 } }),
      event("validation_result", { metrics: { "c\u0085d": 2 }, message: evil }),
      event("sample_generated", { prompt: evil, media_type: evil }),
      event("system_stats", { host: "h\u009b2J", cpu_percent: 1 }),
      event("log", { message: evil, source: evil }),
      event("custom", { name: evil, data: { [evil]: evil } }),
      event("alert", { level: "error", title: evil }),
      event("job_updated", { products_total: 2 }),
      event("training_progress", { progress: 5 }, { product: evil }),
      event("product_completed", { message: evil }, { product: evil }),
      event("checkpoint_saved", { name: evil }),
      event("checkpoint_saved", { path: evil }),
      event("command_update", {
        command_id: "c",
        action: "custom",
        state: "failed",
        message: evil,
        requested_by: evil,
      }),
      event("job_liveness", { liveness: "stale", reason: evil }),
      event("training_status", { status: "failed", error: { message: evil, type: evil } }),
    ];
    const text = screen(view(hostile, { name: evil }), { height: 60 }).join("");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text).not.to.match(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
    expect(text).to.include("txt");
  });

  it("says how a job ended, and stops its clock", () => {
    const later = "2026-03-01T12:00:30.000Z";
    const failed = view([
      event("training_progress", { step: 1, total_steps: 2, eta_seconds: 9 }),
      event(
        "training_status",
        { status: "failed", error: { type: "OutOfMemory", message: "CUDA" } },
        { timestamp: later },
      ),
    ]);
    const lines = screen(failed);
    expect(lines[0]).to.match(/✗ failed {2}30s$/);
    expect(lines[2]).to.equal("OutOfMemory: CUDA");
    expect(lines.join()).not.to.include("ETA");
    const result = { duration_seconds: 90, final_loss: 0.01, metrics: { psnr: 30 } };
    const done = view([event("training_status", { status: "completed", result })]);
    expect(screen(done)[2]).to.equal("after 1m 30s  loss 0.01000  psnr 30 dB");
  });

  it("shows the state of the connection", () => {
    const away = view([]);
    const reconnecting = { state: "reconnecting", hub: "http://hub", note: "Cannot connect" } as const;
    expect(screen({ ...away, connection: reconnecting }).at(-1)).to.equal(
      "◌ reconnecting to http://hub … Cannot connect                        Ctrl-C ends",
    );
  });

  it("shows products and their parts, checkpoints, commands, attempt and liveness", () => {
    const products = { completed: 1, failed: 1, total: 3, progress: 60 };
    const counted = { completed: 0, failed: 1, total: 3, progress: 40 };
    const busy = view(
      [
        event("training_progress", {
          step: 4,
          total_steps: 8,
          progress: 61,
          stage: "training",
          stage_progress: 70,
        }),
        event("training_progress", { step: 1, total_steps: 2, loss: 0.25 }, { product: "green" }),
        event("training_progress", { progress: 100, loss: 0.5 }, { product: "red" }),
        event(
          "product_completed",
          { failed: true, message: "too dark" },
          { product: "blue", products: counted },
        ),
        event("product_completed", {}, { product: "red", products }),
        event("checkpoint_saved", { step: 1_500, size_bytes: 2_048, best: true }),
        event("command_update", {
          command_id: "c1",
          action: "pause",
          state: "requested",
          requested_by: "ann",
        }),
        event("command_update", { command_id: "c1", action: "pause", state: "delivered", targets: ["t"] }),
        event("command_update", { command_id: "c2", action: "save", state: "requested", requested_by: "bo" }),
        event("command_update", { command_id: "c1", action: "pause", state: "applied", message: "paused" }),
        event("command_update", {
          command_id: "c2",
          action: "save",
          state: "expired",
          code: "command_timeout",
        }),
        event("presence", { watchers: 3 }),
      ],
      { attempt: 2, liveness: "live", last_seen: CREATED, commands: ["pause", "save"] },
    );
    expect(screen({ ...busy, log: [] }, { height: 29 })).to.deep.equal([
      "Bert, again                                                    ● running  1m 05s",
      "bert-7 · mlm · tenant demo                                       attempt 2  live",
      "trainer live, but no step for 1m 05s",
      "",
      "███████████████████████████████████████████▎░░░░░░░░░░░░░░░░░░░░░░░░░░░   61.0 %",
      "stage training 70 %   step 4/8",
      "",
      "checkpoints 1  last: step 1,500  2.0 KiB  ★ best",
      "products    1/3 done  1 failed  60 %",
      "   green    ██████████░░░░░░░░░░  50 %  loss 0.2500",
      " ✓ red      ████████████████████ 100 %  loss 0.5000",
      " ✗ blue     ░░░░░░░░░░░░░░░░░░░░        too dark",
      "commands    save expired  command_timeout  by bo",
      "            pause applied  paused  by ann",
      "",
      "● connected to http://hub hub-a                         3 watching   Ctrl-C ends",
    ]);
    const small = screen({ ...busy, log: [] }, { width: 64, height: 15 });
    expect(small).to.include("products    1/3 done  1 failed  60 %  green 50 %  red ✓  blue ✗");
    expect(small[1]).to.match(/attempt 2 {2}live$/);
  });

  it("shows what a trainer takes before it is told anything, and which parts there is no room for", () => {
    const parts = Array.from({ length: 30 }, (_, part) =>
      event("training_progress", { progress: part }, { product: `fold ${part}` }),
    );
    const lines = screen(view(parts, { commands: ["pause", "stop"] }), { height: 23 });
    expect(lines).to.include("commands    pause, stop");
    expect(lines.some((line) => / … \d+ more$/.test(line))).to.equal(true);
    expect(lines.length).to.be.at.most(23);
  });

  it("says since when the trainer of a job is silent", () => {
    const silent = (liveness: "stale" | "lost", last_seen?: string) =>
      screen(
        view([event("training_progress", { step: 1, total_steps: 2, eta_seconds: 9 }, { received_at: "" })], {
          liveness,
          ...(last_seen !== undefined && { last_seen }),
        }),
        { width: 60, height: 15 },
      );
    expect(silent("stale", CREATED)[2]).to.equal("trainer stale: last sign of life 1m 05s ago");
    expect(silent("lost", CREATED)[2]).to.equal("trainer lost: last sign of life 1m 05s ago");
    expect(silent("lost", CREATED).join()).not.to.include("ETA");
    const ended = view([event("training_status", { status: "failed", end_reason: "killed" })], {
      liveness: "lost",
    });
    expect(screen(ended).slice(1, 4)).to.deep.equal(["bert-7 · mlm · tenant demo", "killed", ""]);
  });

  it("shows in the curve where the loss was no number", () => {
    const values: Array<number | "NaN" | "Infinity"> = [4, 2, 1, "Infinity", "NaN"];
    const lost = view(values.map((loss) => event("training_progress", { loss })));
    const styles: Array<[string, string]> = [];
    const paint = (style: string, text: string) => {
      styles.push([style, text]);
      return text;
    };
    expect(screen(lost, { paint })[3]).to.equal("loss        NaN         █▅▁××");
    expect(styles).to.deep.include.members([
      ["cyan", "█▅▁"],
      ["red", "××"],
    ]);
  });

  it("waits visibly for a job", () => {
    const waiting = emptyView(connection, "demo");
    expect(screen(waiting)).to.include("Waiting for a job …");
    expect(screen({ ...waiting, awaited: "bert-8" })).to.include("Waiting for bert-8 …");
  });
});

describe("the view of a job", () => {
  beforeEach(() => {
    seq = 0;
  });

  it("takes of older events only what the snapshot does not have: the log", () => {
    const older = [
      event("training_status", { status: "running" }),
      event("sample_generated", { step: 1 }),
      event("log", { message: "hello" }),
    ];
    const after = view(older, { seq: 3, status: "completed", counts: { sample_generated: 1 } });
    expect(after).to.include({ status: "completed", samples: 1 });
    expect(after.log.map(({ text }) => text)).to.deep.equal(["running", "hello"]);
  });

  it("is complete from the snapshot alone", () => {
    const { progress, ...rest } = {
      progress: event("training_progress", { step: 5, total_steps: 10 }),
      latest: { validation_result: event("validation_result", { metrics: { psnr: 20 } }) },
    };
    const first = view([], { ...rest, newest: [progress] } as Partial<Snapshot>);
    expect(first.parts.get("")).to.deep.equal({ step: 5, total_steps: 10 });
    expect(first.validation?.metrics).to.deep.equal({ psnr: 20 });
  });

  it("keeps log and curve when history was reset, and says so", () => {
    let now = view([event("log", { message: "before" }), event("training_progress", { loss: 1 })]);
    now = withGap(now, { type: "gap", feed: "job", epoch: "e2", seq: 9, reason: "reset" });
    now = withSnapshot(now, snapshot({ epoch: "e2", seq: 9 }));
    expect(now.log.map(({ text }) => text)).to.deep.equal([
      "before",
      "history was reset; this is how the job stands now",
    ]);
    expect(now.losses.points).to.deep.equal([1]);
    const gone = withGap(now, { type: "gap", feed: "job", epoch: null, seq: 0, reason: "reset" });
    expect(screen(gone)[0]).to.include("○ unknown");
  });

  it("merges progress by field, shows the job's own before its parts', and begins anew with an attempt", () => {
    let now = view([
      event("training_progress", { step: 1, loss: 3 }, { rank: 2 }),
      event("training_progress", { epoch: 1 }, { rank: 2 }),
    ]);
    expect(now.shown).to.equal("rank 2");
    expect(now.parts.get("rank 2")).to.deep.equal({ step: 1, loss: 3, epoch: 1 });
    now = withEvent(now, event("training_progress", { step: 7 }, { rank: 0 }));
    now = withEvent(now, event("training_progress", { step: 9 }, { product: "x" }));
    expect([now.shown, now.parts.get("")]).to.deep.equal(["", { step: 7 }]);
    now = withEvent(now, event("training_progress", { loss: 1 }, { attempt: 2 }));
    now = withEvent(now, event("training_progress", { step: 8 }, { attempt: 1 }));
    expect(now.parts.get("")).to.deep.equal({ loss: 1 });
    expect(now.losses.points).to.deep.equal([1]);
  });

  it("begins anew with an attempt whatever its first event is, and counts products as the hub does", () => {
    const products = { completed: 2, failed: 0, total: 5, progress: 44 };
    let now = view([
      event("training_progress", { step: 1, loss: 3 }),
      event("product_completed", { total: 5 }, { product: "x", products }),
    ]);
    expect(now.products).to.deep.equal(products);
    now = withEvent(now, event("training_status", { status: "running" }, { attempt: 2 }));
    expect(now).to.deep.include({ attempt: 2, products: { completed: 0, failed: 0, total: 5, progress: 0 } });
    expect([now.parts.size, now.results.size, now.losses.points.length]).to.deep.equal([0, 0, 0]);
    now = withEvent(now, event("product_completed", {}, { product: "x", attempt: 1 }));
    expect(now.products.completed).to.equal(0);
    now = withEvent(now, event("product_completed", {}, { product: "x" }));
    expect(now.products.completed).to.equal(1);
    now = withEvent(now, event("job_updated", { products_total: 4, commands: ["stop"] }));
    expect(now.products).to.deep.equal({ completed: 1, failed: 0, total: 4, progress: 20 });
    expect(now.takes).to.deep.equal(["stop"]);
  });

  it("knows from older events what became of products and commands", () => {
    const older = [
      event("product_completed", { failed: true }, { product: "x" }),
      event("command_update", { command_id: "c", action: "save", state: "applied" }),
      event("command_update", { command_id: "c", action: "save", state: "requested", requested_by: "ann" }),
    ];
    const products = { completed: 0, failed: 1, total: 2, progress: 50 };
    const now = view(older, { seq: 3, products });
    expect([...now.results]).to.deep.equal([["product x", { failed: true }]]);
    expect(now.commands.map(({ state }) => state)).to.deep.equal(["applied"]);
    expect(now.products).to.deep.equal(products);
  });

  it("takes the trainer's own events for signs of life, and no others", () => {
    const received_at = "2026-03-01T12:05:00.000Z";
    const first = { liveness: "live", last_seen: CREATED } as const;
    const alive = view([event("log", { message: "x" }, { received_at })], first);
    expect(alive.lastSeen).to.equal(received_at);
    const update = { command_id: "c", action: "save", state: "requested" } as const;
    const asked = view([event("command_update", update, { received_at })], first);
    expect(asked.lastSeen).to.equal(CREATED);
  });

  it("replaces a log line that says so", () => {
    const now = view([
      event("log", { message: "10 %" }),
      event("log", { message: "20 %", replaces_last: true }),
    ]);
    expect(now.log.map(({ text }) => text)).to.deep.equal(["20 %"]);
  });

  it("begins with the first event of a job that was awaited", () => {
    const now = withEvent(emptyView(connection, "demo"), event("job_created", { name: "New" }));
    expect(now).to.include({ jobId: "bert-7", name: "New", status: "pending", createdAt: CREATED });
  });

  describe("the curve of the loss", () => {
    const point = (at: number, loss: Num) => ({ seq: at, step: at, timestamp: CREATED, metrics: { loss } });
    const soFar = (at: number, values: number[], fields: object = {}) => ({
      epoch: "e1",
      seq: at,
      attempt: 1,
      values,
      ...fields,
    });

    it("has what was before it came", () => {
      const now = withEvent(withLosses(view([]), soFar(0, [4, 2])), event("training_progress", { loss: 1 }));
      expect(now.losses.points).to.deep.equal([4, 2, 1]);
    });

    it("has the points that were held back, not the merged value", () => {
      const at = seq;
      const points = [point(at + 1, 3), point(at + 2, "NaN"), point(at + 3, 2)];
      const step = withEvent(view([]), event("training_progress", { loss: 2, stage: "s" }, { points }));
      expect(step.losses.points).to.deep.equal([3, Number.NaN, 2]);
      const none = withEvent(step, event("training_progress", { loss: 2, stage: "t" }, { points: [] }));
      expect(none.losses.points).to.deep.equal([3, Number.NaN, 2]);
    });

    it("has each point once, whatever came live while it was loaded, and again when it is loaded again", () => {
      seq = 0;
      let now = view([event("training_progress", { loss: 9 }), event("training_progress", { loss: 8 })]);
      now = withLosses(now, soFar(1, [10, 9]));
      expect(now.losses.points).to.deep.equal([10, 9, 8]);
      const points = [point(2, 8), point(3, 7), point(4, 6)];
      now = withEvent(now, event("training_progress", { loss: 6 }, { seq: 4, points }));
      expect(now.losses.points).to.deep.equal([10, 9, 8, 7, 6]);
      now = withLosses(now, soFar(3, [10, 9, 8.5, 8, 7]));
      expect(now.losses.points).to.deep.equal([10, 9, 8.5, 8, 7, 6]);
    });

    it("is not that of another history, or of an attempt that is over", () => {
      let now = view([event("training_progress", { loss: 9 }, { attempt: 2 })]);
      now = withLosses(now, soFar(99, [1], { epoch: "e0", attempt: 2 }));
      now = withLosses(now, soFar(99, [1]));
      expect(now.losses.points).to.deep.equal([9]);
      now = withEvent(now, event("training_progress", { loss: 5 }, { epoch: "e2", seq: 1 }));
      expect(now.losses.points).to.deep.equal([9, 5]);
    });
  });
});
