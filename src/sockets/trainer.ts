/** A trainer's connection: what it publishes, the jobs that it has announced, and the commands that reach it. */
import { type Identity, maySee } from "../auth.ts";
import type { Hub } from "../core/hub.ts";
import type { Announced } from "../core/trainers.ts";
import { Turns } from "../core/turns.ts";
import { HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type {
  AnnounceAnswer,
  AnnounceRequest,
  HeartbeatRequest,
  TrainerAnswer,
  TrainerCommand,
} from "../protocol/types.ts";
import type { Client, Connection, Verbs } from "./connection.ts";

export class Trainer implements Client {
  static readonly verbs: Verbs<Trainer> = {
    publish: async (trainer, events: unknown, reply) =>
      reply(await trainer.#hub.publish(trainer.#connection.identity, events)),
    announce: (trainer, request: AnnounceRequest, reply) =>
      trainer.#turns.take(request.job_id, async () => reply(await trainer.#announce(request))),
    withdraw: (trainer, { job_id }: { job_id: string }, reply) =>
      trainer.#turns.take(job_id, async () => {
        if (!trainer.#withdraw(job_id)) throw new HubError("not_announced");
        reply({ job_id });
      }),
    heartbeat: async (trainer, request: HeartbeatRequest, reply) =>
      reply(await trainer.#hub.liveness.heartbeat(trainer.#connection.identity, request)),
    ping: (_trainer, _request, reply) => reply({ server_time: new Date().toISOString(), positions: [] }),
  };

  readonly #connection: Pick<Connection, "socket" | "identity">;
  readonly #hub: Hub;
  readonly #announced = new Map<string, Announced>();
  /** An announcement of a job and its withdrawal keep their order. */
  readonly #turns = new Turns();
  /** Ends the waiting for each answer that is under way. */
  readonly #delivering = new Set<() => void>();
  #gone = false;

  constructor(connection: Pick<Connection, "socket" | "identity">, hub: Hub) {
    this.#connection = connection;
    this.#hub = hub;
  }

  /** The token is another one: jobs that it does not allow are no longer this trainer's. */
  narrow(identity: Identity): void {
    for (const jobId of [...this.#announced.keys()]) if (!maySee(identity, jobId)) this.#withdraw(jobId);
  }

  /** The connection has ended. */
  close(): void {
    this.#gone = true;
    this.#turns.close();
    for (const jobId of [...this.#announced.keys()]) this.#withdraw(jobId);
    for (const fail of [...this.#delivering]) fail();
  }

  async #announce(request: AnnounceRequest): Promise<AnnounceAnswer> {
    const { job_id } = request;
    // This one is among those under way.
    const taken = new Set([...this.#announced.keys(), ...this.#turns.keys]);
    if (taken.size > LIMITS.announcedJobs) throw new HubError("too_many_trainers");
    const { identity } = this.#connection;
    const announced = await this.#hub.trainers.announce(identity, request, (command) =>
      this.#deliver(command),
    );
    const before = this.#announced.get(job_id);
    if (before && before.trainerId !== announced.trainerId) before.withdraw();
    this.#announced.set(job_id, announced);
    const { trainerId } = announced;
    // Meanwhile the connection may have ended, or a token have come that allows less.
    if (this.#gone || !maySee(this.#connection.identity, job_id)) this.#withdraw(job_id);
    return { job_id, trainer_id: trainerId };
  }

  #withdraw(jobId: string): boolean {
    this.#announced.get(jobId)?.withdraw();
    return this.#announced.delete(jobId);
  }

  /** Not by Socket.IO's own time-out: its timer would outlive the connection. */
  #deliver(command: TrainerCommand): Promise<TrainerAnswer> {
    return new Promise((resolve, reject) => {
      const { socket } = this.#connection;
      const end = (finish: () => void) => {
        clearTimeout(timer);
        this.#delivering.delete(fail);
        finish();
      };
      const fail = () => end(() => reject(new Error("the trainer is gone, or does not answer")));
      const timer = setTimeout(fail, command.timeout_ms);
      this.#delivering.add(fail);
      if (this.#gone) return fail();
      socket.emit("command", command, (answer: TrainerAnswer) => end(() => resolve(answer)));
    });
  }
}
