/** Which job `watch` follows, and when that is over. */
import type { Subscription, TrainwireClient, TrainwireError } from "../../client/index.ts";
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type {
  DeliveredEvent,
  Gap,
  JobLiveness,
  JobStatus,
  Liveness,
  Snapshot,
  TrainingProgress,
  TrainingStatus,
} from "../protocol/types.ts";
import type { Access } from "./access.ts";
import type { Output } from "./outputs.ts";
import { lossSoFar } from "./series.ts";

/** How a command ends: an exit code, or an error whose message is one line. */
export type Ending = { code: number; error?: undefined } | { error: Error; code?: undefined };

export interface FollowOptions {
  /** Without it: the tenant's newest job, and when that has ended the next. */
  job: string | undefined;
  tenant: string;
  /** End when everything is shown. */
  once: boolean;
  /** The job need not exist yet. */
  wait: boolean;
  access: Access;
  end(ending: Ending): void;
}

/** A job without events for so long, whose trainer is not known to live, gives way to a newer one. */
const QUIET_MS = 10_000;
const LOOK_MS = 1_000;

export class Follower {
  readonly #client: TrainwireClient;
  readonly #output: Output;
  readonly #options: FollowOptions;
  /** The newest of the tenant. */
  #newest: string | undefined;
  #jobId: string | undefined;
  #subscription: Subscription<Snapshot> | undefined;
  #snapshot: Snapshot | undefined;
  /** Undefined: the job does not exist yet, or not any more. */
  #status: JobStatus | undefined;
  #liveness: Liveness | undefined;
  #existed = false;
  /** Of the last event; ms since 1970. */
  #heardAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #losses: Promise<void> | undefined;
  /** While the curve is loaded: up to where at least. */
  #lossesWanted = 0;

  constructor(client: TrainwireClient, output: Output, options: FollowOptions) {
    this.#client = client;
    this.#output = output;
    this.#options = options;
  }

  begin(): void {
    const { job, once, tenant } = this.#options;
    if (job !== undefined) {
      this.#follow(job);
      return;
    }
    this.#timer = setInterval(() => this.#goOn(), LOOK_MS);
    this.#client.subscribe(
      { types: ["job_created"] },
      {
        snapshot: ({ jobs }) => this.#created(jobs[0]?.job_id),
        event: ({ job_id }) => this.#created(job_id),
        live: () => {
          if (!once || this.#newest !== undefined) return;
          this.#fail(`There is no job in tenant ${this.#client.welcome?.tenant_id ?? tenant}.`);
        },
        error: (error) => this.#refused(error),
      },
    );
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #created(jobId: string | undefined): void {
    this.#newest = jobId ?? this.#newest;
    this.#goOn();
  }

  /** To the newest job, unless this one still goes on. */
  #goOn(): void {
    const { job, once } = this.#options;
    if (this.#client.state !== "connected") return;
    if (job !== undefined || this.#newest === undefined || this.#newest === this.#jobId) return;
    const isOver =
      this.#status === undefined ||
      TERMINAL_STATUSES.has(this.#status) ||
      (this.#liveness !== "live" && Date.now() - this.#heardAt > QUIET_MS);
    if (this.#jobId === undefined || (isOver && !once)) this.#follow(this.#newest);
  }

  #follow(jobId: string): void {
    this.#subscription?.close();
    this.#jobId = jobId;
    this.#snapshot = undefined;
    this.#status = undefined;
    this.#liveness = undefined;
    this.#existed = false;
    this.#heardAt = Date.now();
    this.#losses = undefined;
    this.#lossesWanted = 0;
    const { history, maxRate } = this.#output;
    this.#output.follow?.(jobId);
    // It waits in any case: a hub without Redis forgets its jobs when it restarts, and trainers bring them back.
    const request = {
      job_id: jobId,
      wait: true,
      history,
      ...(maxRate !== undefined && { max_rate: maxRate }),
    };
    this.#subscription = this.#client.subscribe(request, {
      snapshot: (snapshot) => this.#shown(snapshot),
      event: (event) => this.#happened(event),
      gap: (gap) => this.#missed(gap),
      live: () => void this.#live(),
      closing: ({ reason }) => {
        if (reason === "wait_expired") this.#gone();
      },
      error: (error) => this.#refused(error),
    });
  }

  #shown(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#status = snapshot.status;
    this.#liveness = snapshot.liveness;
    this.#existed = true;
    this.#output.snapshot(snapshot);
    this.#wantLosses(snapshot, snapshot.seq);
  }

  /** Loads the curve, at least up to a position. */
  #wantLosses({ tenant_id, job_id }: Pick<Snapshot, "tenant_id" | "job_id">, seq: number): void {
    if (!this.#output.losses) return;
    const isLoading = this.#lossesWanted > 0;
    this.#lossesWanted = Math.max(this.#lossesWanted, seq, 1);
    if (!isLoading) this.#losses = this.#loadLosses(tenant_id, job_id);
  }

  async #loadLosses(tenant: string, job: string): Promise<void> {
    // More may have become missing meanwhile.
    for (let isUpToDate = false, tries = 0; !isUpToDate && tries < 2; tries++) {
      const soFar = await lossSoFar(this.#options.access, tenant, job);
      if (this.#jobId !== job) return;
      if (soFar) this.#output.losses?.(soFar);
      isUpToDate = !soFar || soFar.seq >= this.#lossesWanted;
    }
    this.#lossesWanted = 0;
  }

  #happened(event: DeliveredEvent): void {
    this.#status ??= "pending";
    this.#heardAt = Date.now();
    this.#existed = true;
    const { epoch, seq } = this.#snapshot ?? {};
    const isInSnapshot = event.epoch === epoch && event.seq <= (seq ?? 0);
    if (!isInSnapshot) this.#changed(event);
    this.#output.event(event);
    // A newest value that was read: its points have not come.
    if (event.points?.length === 0 && (event.data as TrainingProgress).loss !== undefined) {
      this.#wantLosses({ tenant_id: event.tenant_id, job_id: this.#jobId as string }, event.seq);
    }
    if (this.#subscription?.state === "live") this.#check();
  }

  #changed({ type, data }: DeliveredEvent): void {
    if (type === "training_status" || type === "job_updated") {
      this.#status = (data as Partial<TrainingStatus>).status ?? this.#status;
    }
    if (type === "job_liveness") this.#liveness = (data as JobLiveness).liveness;
  }

  #missed(gap: Gap): void {
    this.#output.gap(gap);
    if (gap.epoch !== null) return;
    this.#status = undefined;
    this.#goOn();
  }

  async #live(): Promise<void> {
    const { job, once, wait, end } = this.#options;
    this.#heardAt = Date.now();
    if (!this.#existed && job !== undefined && !wait)
      this.#fail(`There is no job ${job}; --wait waits for it.`);
    else if (once && this.#status !== undefined) {
      await this.#losses;
      end({ code: 0 });
    } else this.#check();
  }

  #check(): void {
    const { job, end } = this.#options;
    if (this.#status === undefined || !TERMINAL_STATUSES.has(this.#status)) return;
    if (job === undefined) this.#goOn();
    else end({ code: this.#status === "completed" ? 0 : 3 });
  }

  #gone(): void {
    const { job } = this.#options;
    if (job !== undefined) {
      this.#fail(`There is still no job ${job}.`);
      return;
    }
    this.#subscription?.close();
    this.#jobId = undefined;
    this.#goOn();
  }

  #refused(error: TrainwireError): void {
    this.#options.end({ error: this.#options.access.explain(error) });
  }

  #fail(message: string): void {
    this.#options.end({ error: new Error(message) });
  }
}
