/** What the load's parent asks of its generators, and what they answer. JSON goes between them. */
import type { Complaint } from "../cluster/checker.ts";
import type { SentNewest } from "./verdict.ts";

/** Who trains and watches. Tenants use the same names of jobs. */
export interface LoadTenant {
  tenantId: string;
  /** In every event. */
  marker: string;
  jobs: readonly string[];
  /** Of a watcher. */
  token: string;
}

export interface Crowd {
  url: string;
  tenants: readonly LoadTenant[];
  /** Raw WebSocket watchers, and clients with socket.io-client, of all generators together. */
  raw: number;
  clients: number;
  /** This generator takes every `of`-th, beginning with this one. */
  part: number;
  of: number;
  /** New connections a second, of this generator. */
  perSecond: number;
}

export interface Judgement {
  complaints: Complaint[];
  /** Folder of the views that were complained about. */
  kept?: string;
}

/** What happened to the watchers since the last `mark`. */
export interface Recoveries {
  /** ms until the first durable event that was stored after the mark, of those who lost their connection or their hub. */
  affected: number[];
  /** Of all others. */
  others: number[];
  /** Names of those who are not connected, or have got nothing yet. */
  waiting: string[];
  /** ms from each loss of a connection since the mark until its watcher had caught up. */
  outages: number[];
  /** Watchers that have lost their connection. */
  lost: number;
}

export interface GeneratorFigures {
  watchers: number;
  connected: number;
  deliveries: number;
  reconnects: number;
  /** Of the event loop since the last time that this was asked. ms. */
  lag: { p99: number; max: number };
  /** How long after the hub took an event it was here, since the last time that this was asked: p50, p99, max. ms. */
  delays: number[];
  memoryBytes: number;
}

export interface Orders {
  /** Resolves when everybody is there. */
  join: { request: Crowd; answer: number };
  /** The moment of a fault, ms since 1970. */
  mark: { request: { at: number }; answer: null };
  /** Whose hub was hit; `all` when everybody's. */
  recoveries: { request: { victims: readonly string[] | "all" }; answer: Recoveries };
  figures: { request: null; answer: GeneratorFigures };
  /** Waits until everybody has everything that is stored now; answers who has not within the limit. */
  settle: { request: { limitMs: number }; answer: string[] };
  /** By tenant and job: what progress must be in the end. */
  judge: { request: { newest: SentNewest; keepIn: string }; answer: Judgement };
  /** All at once, as closed tabs; their histories are forgotten. */
  leave: { request: null; answer: null };
}
