/** The test's side of a laptop that sleeps, and what must hold for what it sees. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Complaint } from "../cluster/checker.ts";
import type { Told, View } from "../cluster/history.ts";
import { undoAtExit } from "../support/cleanup.ts";
import type { SleeperAnswer } from "./sleeper-program.ts";

const PROGRAM = fileURLToPath(new URL("sleeper-program.ts", import.meta.url));

export class Sleeper {
  readonly #child: ChildProcess;
  readonly #forget: () => void;

  constructor(options: { url: string; token: string; tenantId: string; jobs: readonly string[] }) {
    const { url, token, tenantId, jobs } = options;
    this.#child = fork(PROGRAM, [url, token, tenantId, ...jobs], { execArgv: ["--import", "tsx"] });
    this.#forget = undoAtExit(`process ${this.#child.pid} (sleeper)`, () => this.#child.kill("SIGKILL"));
  }

  /** What it has seen so far. */
  async look(): Promise<SleeperAnswer> {
    const answered = once(this.#child, "message");
    this.#child.send("look");
    const [answer] = await answered;
    return answer as SleeperAnswer;
  }

  sleep(): void {
    this.#child.kill("SIGSTOP");
  }

  wake(): void {
    this.#child.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
    this.#forget();
  }
}

export interface Seen {
  complaints: Complaint[];
  pages: number;
  /** Events in the largest page. */
  largest: number;
  /** Durable events that it was told to be without. */
  missed: number;
}

/** One job's view against all that was ever in its feed: each durable event once, in order, or told to be missing. */
export function judgeSleeper({ watcher, entries, until }: View, all: readonly Told[]): Seen {
  const complaints: Complaint[] = [];
  const complain = (rule: Complaint["rule"], text: string) =>
    complaints.push({ rule, text: `${watcher}: ${text}` });
  const bySeq = new Map(all.filter(({ durable }) => durable).map((told) => [told.seq, told]));
  const seen = new Set<number>();
  const told = new Set<number>();
  const tell = (from: number, to: number, stream?: string) => {
    for (const { seq, type } of bySeq.values()) {
      const concerned = stream === undefined || (stream === "log") === (type === "log");
      if (seq >= from && seq <= to && concerned) told.add(seq);
    }
  };
  let last = 0;
  let pages = 0;
  let largest = 0;
  for (const entry of entries) {
    if (entry.kind === "answer") {
      pages++;
      largest = Math.max(largest, entry.events);
      if (!entry.recovered && !entry.snapshot) complain("I1", "not recovered, and no snapshot");
      if (!entry.recovered || !entry.since) {
        tell(last + 1, entry.seq);
        last = entry.seq;
      }
    } else if (entry.kind === "gap") tell(entry.gap.from ?? 0, entry.gap.to ?? -1, entry.gap.stream);
    else if (entry.durable) {
      if (entry.seq <= last) complain("I3", `seq ${entry.seq} after ${last}`);
      if (entry.text !== bySeq.get(entry.seq)?.text) complain("bytes", `seq ${entry.seq} is another event`);
      last = entry.seq;
      seen.add(entry.seq);
    }
  }
  const lost = [...bySeq.keys()].filter((seq) => seq <= until && !seen.has(seq) && !told.has(seq));
  if (lost.length > 0) complain("I1", `${lost.length} events are missing without a word, first ${lost[0]}`);
  return { complaints, pages, largest, missed: [...told].filter((seq) => !seen.has(seq)).length };
}
