import type { Socket } from "socket.io";
import {
  type AnnounceRequest,
  type PublishedEvent,
  type TrainerAnswer,
  type TrainerCommand,
  type TrainerOptions,
  type TrainwireError,
  TrainwireTrainer,
} from "../../client/index.ts";
import { until } from "../support/until.ts";
import { type Call, ScriptedHub, ScriptedStore } from "./scripted-hub.ts";
import { FAST } from "./support.ts";

/** A trainer on a scripted hub that stores everything. */
export class Bench {
  readonly hub: ScriptedHub;
  readonly trainer: TrainwireTrainer;
  readonly store = new ScriptedStore();
  readonly errors: TrainwireError[] = [];

  private constructor(hub: ScriptedHub, options: Partial<TrainerOptions>) {
    this.hub = hub;
    hub.on.publish = ({ request, answer }: Call<PublishedEvent[]>) => answer(this.store.publish(request));
    this.trainer = new TrainwireTrainer({
      url: hub.url,
      token: "t",
      ...FAST,
      flushIntervalMs: 1,
      progressIntervalMs: 0,
      heartbeatIntervalMs: 0,
      producer: "gpu-1",
      onError: (error) => this.errors.push(error),
      ...options,
    });
  }

  static async start(options: Partial<TrainerOptions> = {}): Promise<Bench> {
    return new Bench(await ScriptedHub.start(), options);
  }

  /** Requests of a verb so far. */
  asked<R = AnnounceRequest>(verb: string): R[] {
    return this.hub.calls.filter((call) => call.verb === verb).map(({ request }) => request);
  }

  /** What was announced of a job, newest last. */
  announced(job: string): AnnounceRequest[] {
    return this.asked("announce").filter(({ job_id }) => job_id === job);
  }

  /** Waits until a job is announced with exactly these commands. */
  async until(job: string, ...commands: string[]): Promise<void> {
    await until(() => this.announced(job).at(-1)?.commands?.join() === commands.join());
  }

  /** The trainer's socket, as the hub has it now. */
  get socket(): Socket {
    const socket = this.hub.calls.findLast(({ verb }) => verb === "connection")?.socket;
    if (!socket) throw new Error("The trainer has not connected.");
    return socket;
  }

  /** Sends a command and waits for the trainer's acknowledgement. */
  command(action: string, rest: Partial<TrainerCommand> = {}): Promise<TrainerAnswer> {
    const command = { job_id: "a", command_id: crypto.randomUUID(), action, timeout_ms: 5_000, ...rest };
    return this.socket.timeout(5_000).emitWithAck("command", command);
  }

  statuses(): string[] {
    return this.store.of("training_status").map(({ data }) => data.status);
  }

  async stop(): Promise<void> {
    await this.trainer.close({ timeoutMs: 0 });
    await this.hub.stop();
  }
}
