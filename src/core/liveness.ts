/**
 * Whether a job's trainer is there. Signs of life are events, heartbeats, and a trainer's socket that has announced the
 * job; the store keeps the time of the last one. Each change of state is compared and set with the state before, so that
 * it is told once, whichever instances notice it.
 */
import type { Identity } from "../auth.ts";
import type { JobName } from "../bus/bus.ts";
import { HubError } from "../protocol/codes.ts";
import type { HeartbeatAnswer, HeartbeatRequest, Liveness as State } from "../protocol/types.ts";
import type {} from "../store/registry.ts";
import type { Due, Store } from "../store/store.ts";
import { jobOf } from "./access.ts";
import { count, type Tally } from "./meter.ts";
import { hubEntry } from "./publish.ts";

export interface LivenessOptions {
  store: Store;
  /** ms without a sign of life. */
  staleMs: number;
  lostMs: number;
  /** Changes that this instance has told. */
  tally: Tally<State>;
  onError: (error: unknown, what: string) => void;
}

/** The field of the job, and the name of its deadline. */
export const LIVENESS = "liveness";
export const LIVENESS_FIELDS = [LIVENESS, "last_step_at"] as const;

/** A job that was judged while it gave a sign of life is judged again after this. */
const AGAIN_MS = 1_000;

export class Liveness {
  readonly #options: LivenessOptions;

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  /**
   * A trainer without a socket, or with news of it, is there.
   *
   * @throws HubError `job_not_found`.
   */
  async heartbeat(identity: Identity, request: HeartbeatRequest): Promise<HeartbeatAnswer> {
    const { job_id: jobId, last_step_at, expect_next_in } = request;
    const { store } = this.#options;
    const job = jobOf(identity, jobId);
    const [state] = await store.touch(job.tenantId, [
      {
        jobId,
        fresh: true,
        ...(last_step_at !== undefined && { lastStepAt: last_step_at }),
        ...(expect_next_in !== undefined && { expectMs: Math.round(expect_next_in * 1_000) }),
      },
    ]);
    if (state === undefined && !(await store.fields(job.tenantId, jobId, [])))
      throw new HubError("job_not_found");
    if (state === "stale" || state === "lost") await this.wake(job);
    return { job_id: jobId, server_time: new Date().toISOString() };
  }

  /** Judges a job's liveness now; answers in how many ms again. */
  async judge(
    tenantId: string,
    { jobId, silentMs = 0, expectMs, seenAt, fields }: Due,
  ): Promise<number | null> {
    const json = fields?.get(LIVENESS);
    if (!json) return null;
    const { staleMs, lostMs } = this.#options;
    const untilStale = Math.max(staleMs - silentMs, expectMs ?? Number.NEGATIVE_INFINITY);
    const untilLost = untilStale + lostMs - staleMs;
    const state: State = untilStale > 0 ? "live" : untilLost > 0 ? "stale" : "lost";
    const next = { live: untilStale, stale: untilLost, lost: lostMs }[state];
    if (JSON.stringify(state) !== json) {
      const seconds = Math.round(silentMs / 1_000);
      const reason = state === "live" ? "a sign of life" : `no sign of life for ${seconds} s`;
      const told = await this.#change({ tenantId, jobId }, json, state, { reason, seenAt, fields });
      // It has given a sign of life since.
      if (!told) return Math.min(next, AGAIN_MS);
    }
    return next;
  }

  /** A job that counts as stale or lost has given a sign of life. */
  async wake(job: JobName): Promise<void> {
    try {
      const fields = await this.#options.store.fields(job.tenantId, job.jobId, [...LIVENESS_FIELDS, "seen"]);
      const json = fields?.get(LIVENESS);
      if (!json || json === '"live"') return;
      const seenAt = Number(fields?.get("seen"));
      await this.#change(job, json, "live", { reason: "a sign of life", seenAt, fields });
    } catch (error) {
      // The next sign of life, or the deadline, comes.
      this.#options.onError(error, "waking a job failed");
    }
  }

  async #change(
    { tenantId, jobId }: JobName,
    before: string,
    liveness: State,
    { reason, seenAt, fields }: { reason: string; seenAt?: number | undefined; fields?: Due["fields"] },
  ): Promise<boolean> {
    const step = fields?.get("last_step_at");
    const entry = hubEntry("job_liveness", jobId, tenantId, {
      liveness,
      reason,
      ...(seenAt && { last_seen: new Date(seenAt).toISOString() }),
      ...(step && { last_step_at: JSON.parse(step) as string }),
    });
    const deadlines = liveness === "live" ? { deadlines: [[LIVENESS, this.#options.staleMs]] as const } : {};
    // Whatever wakes a job, another sign of life does not matter to it.
    const unseen = liveness === "live" ? [] : [["seen", String(seenAt)] as const];
    const { stored } = await this.#options.store.append({ tenantId, jobId }, [
      {
        ...entry,
        onlyIf: [[LIVENESS, before], ...unseen],
        patch: { ...entry.patch, set: [[LIVENESS, JSON.stringify(liveness)]], ...deadlines },
      },
    ]);
    const told = stored.some((one) => "seq" in one);
    if (told) count(this.#options.tally, liveness);
    return told;
  }
}
