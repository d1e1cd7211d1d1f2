/**
 * The demo, and the project's example of a trainer: networks learn pictures, one after the other, and tell a hub how it
 * goes. One job is in session.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Run, type TrainerOptions, TrainwireTrainer } from "../../client/index.ts";
import { type Checkpoint, CheckpointFile } from "./checkpoint.ts";
import { type Fate, fateOf } from "./fate.ts";
import { machineLoad } from "./machine.ts";
import { drawPicture } from "./picture.ts";
import { PLANES } from "./planes.ts";
import { Session } from "./session.ts";

/** 4 500 of them are three minutes at a pace of 1. */
const TICK_MS = 40;
const STATS_MS = 2_000;
const PAUSE_MS = 5_000;
/** What is not sent by then is dropped at the end: whoever presses Ctrl-C does not wait for a hub that is gone. */
const LAST_WORDS_MS = 1_000;

export interface DemoOptions extends Pick<TrainerOptions, "url" | "token" | "getToken" | "onError"> {
  /** Ends it; the job is cancelled. */
  signal: AbortSignal;
  /** Of the first picture; the next one's is one higher. An integer. */
  seed: number;
  /** Times as fast as usual, as far as half a core goes. */
  pace: number;
  /** Where the newest checkpoint is kept. If there is one of a job that has not ended, that goes on first. */
  checkpointFile: string;
  /** Ends the process without a word, when that is a run's fate; without it, such a run diverges. */
  die?: (() => void) | undefined;
  /** The hub has a new job, or a new attempt of one. */
  onJob?: (jobId: string) => void;
}

/** Trains until the signal. Resolves when the last events were sent, or could not be sent in time. */
export async function trainPictures(options: DemoOptions): Promise<void> {
  const { signal, seed, pace, checkpointFile, die, onJob, ...hub } = options;
  const file = new CheckpointFile(checkpointFile);
  const trainer = new TrainwireTrainer(hub);
  let checkpoint = file.read();
  try {
    for (let picture = checkpoint?.seed ?? seed; !signal.aborted; picture++) {
      const attempt = (checkpoint?.attempt ?? 0) + 1;
      const run = startRun(trainer, picture, checkpoint);
      void trainer.flush().then((stored) => stored && onJob?.(run.jobId));
      const fate = fateFor(picture, attempt, die);
      await trainPicture(run, { signal, pace, seed: picture, fate, attempt, file, checkpoint, die });
      file.remove();
      checkpoint = undefined;
      await sleep(PAUSE_MS / pace, undefined, { signal }).catch(() => {});
    }
  } finally {
    await trainer.close({ timeoutMs: LAST_WORDS_MS });
  }
}

/** Nobody dies twice. */
function fateFor(seed: number, attempt: number, die: (() => void) | undefined): Fate {
  const fate = fateOf(seed);
  if (fate !== "dies") return fate;
  if (attempt > 1) return "good";
  return die ? "dies" : "diverges";
}

function startRun(trainer: TrainwireTrainer, seed: number, before?: Checkpoint): Run {
  const { scene, width, height } = drawPicture(seed);
  const time = new Date().toISOString().replace(/\D/g, "");
  const jobId = before?.jobId ?? `demo-${scene}-${time.slice(0, 8)}-${time.slice(8, 14)}`;
  return trainer.run(jobId, {
    ...(before && { attempt: before.attempt + 1 }),
    name: `Learning a picture: ${scene}`,
    kind: "coordinate-network",
    description: `${PLANES.length} networks learn the colours of every point of a ${width} by ${height} picture, one each.`,
    tags: ["demo", scene],
  });
}

interface PictureOptions {
  signal: AbortSignal;
  pace: number;
  seed: number;
  fate: Fate;
  attempt: number;
  file: CheckpointFile;
  checkpoint: Checkpoint | undefined;
  die: (() => void) | undefined;
}

async function trainPicture(run: Run, options: PictureOptions): Promise<void> {
  const { signal, pace, die = () => {}, ...rest } = options;
  const over = new AbortController();
  void tellLoad(run, AbortSignal.any([signal, over.signal]));
  // Also ends a pause.
  const cancel = () => run.cancel("The demo was stopped.");
  signal.addEventListener("abort", cancel);
  const session = new Session(run, {
    ...rest,
    signal,
    die,
    // At least as long as the work took: this is never more than half of one core.
    rest: (took) => sleep(Math.max(TICK_MS / pace - took, took), undefined, { signal }),
  });
  try {
    await session.train();
  } catch (error) {
    if (!signal.aborted) run.fail(error);
  } finally {
    signal.removeEventListener("abort", cancel);
    over.abort();
  }
}

async function tellLoad(run: Run, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const load = await machineLoad();
    if (!signal.aborted) run.stats(load);
    await sleep(STATS_MS, undefined, { signal }).catch(() => {});
  }
}
