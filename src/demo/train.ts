/**
 * The demo, and the project's example of a trainer: networks learn pictures, one after the other, and tell a hub how it
 * goes. What belongs to the hub are the calls of `trainer` and `run`; the learning itself is in training.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Run, type TrainerOptions, TrainwireTrainer } from "../../client/index.ts";
import { psnr } from "./image.ts";
import { machineLoad } from "./machine.ts";
import { Training } from "./training.ts";

/** Three minutes at a pace of 1. */
const STEPS = 4_500;
const STEPS_PER_SECOND = 25;
/** Steps between two events of a kind; between two of progress a fifth of a second passes. */
const EVERY = { progress: 5, validation: 125, sample: 250 };
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
  /** The hub has a new job. */
  onJob?: (jobId: string) => void;
}

/** Trains until the signal. Resolves when the last events were sent, or could not be sent in time. */
export async function trainPictures(options: DemoOptions): Promise<void> {
  const { signal, seed, pace, onJob, ...hub } = options;
  const trainer = new TrainwireTrainer(hub);
  try {
    for (let picture = seed; !signal.aborted; picture++) {
      const training = new Training({ seed: picture, totalSteps: STEPS });
      const run = startRun(trainer, training);
      void trainer.flush().then((stored) => stored && onJob?.(run.jobId));
      await trainPicture(run, training, { signal, pace });
      await sleep(PAUSE_MS / pace, undefined, { signal }).catch(() => {});
    }
  } finally {
    await trainer.close({ timeoutMs: LAST_WORDS_MS });
  }
}

function startRun(trainer: TrainwireTrainer, { config, trainingPixels, heldOutPixels }: Training): Run {
  const { scene, size, parameters } = config;
  const time = new Date().toISOString().replace(/\D/g, "");
  const run = trainer.run(`demo-${scene}-${time.slice(0, 8)}-${time.slice(8, 14)}`, {
    name: `Learning a picture: ${scene}`,
    kind: "coordinate-network",
    description: `A network of ${parameters} parameters learns the colour of every point of a ${size} by ${size} picture.`,
    tags: ["demo", scene],
  });
  run.status("running");
  run.log(`${parameters} parameters, ${trainingPixels.length} pixels to learn from`);
  run.log(`${heldOutPixels.length} pixels are held out for validation`);
  return run;
}

async function trainPicture(
  run: Run,
  training: Training,
  { signal, pace }: Pick<DemoOptions, "signal" | "pace">,
): Promise<void> {
  const over = new AbortController();
  void tellLoad(run, AbortSignal.any([signal, over.signal]));
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1_000;
  let finalLoss = Number.NaN;
  try {
    while (!training.done) {
      signal.throwIfAborted();
      const before = performance.now();
      finalLoss = learn(run, training, seconds);
      const took = performance.now() - before;
      // At least as long as the work took: this is never more than half of one core.
      await sleep(Math.max(1_000 / STEPS_PER_SECOND / pace - took, took), undefined, { signal });
    }
    const { mse, psnr } = training.validate();
    run.log(`Done: ${psnr.toFixed(2)} dB after ${seconds().toFixed(0)} s`);
    run.finish({ final_loss: finalLoss, duration_seconds: seconds(), metrics: { psnr, mse } });
  } catch (error) {
    if (signal.aborted) run.cancel("The demo was stopped.");
    else run.fail(error);
  } finally {
    over.abort();
  }
}

/** One step, and what there is to tell after it. Returns the smoothed loss. */
function learn(run: Run, training: Training, seconds: () => number): number {
  const { totalSteps, totalEpochs } = training;
  const { step, epoch, loss, smoothLoss, learningRate, gradientNorm } = training.step();
  if (step % EVERY.progress === 0) {
    run.progress({
      step,
      total_steps: totalSteps,
      epoch,
      total_epochs: totalEpochs,
      loss,
      smooth_loss: smoothLoss,
      learning_rate: learningRate,
      eta_seconds: (seconds() / step) * (totalSteps - step),
      metrics: { gradient_norm: gradientNorm, batch_psnr: psnr(loss) },
    });
  }
  if (step % EVERY.validation === 0) {
    const { mse, psnr, best } = training.validate();
    run.validation({ step, epoch, metrics: { psnr, mse }, best });
    run.log(`step ${step}: ${psnr.toFixed(2)} dB on the held-out pixels${best ? ", the best so far" : ""}`);
  }
  if (step % EVERY.sample === 0) {
    const { url, png, width, height } = training.sample();
    run.sample({ step, epoch, media_type: "image/png", size_bytes: png.length, url, width, height });
  }
  return smoothLoss;
}

async function tellLoad(run: Run, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const load = await machineLoad();
    if (!signal.aborted) run.stats(load);
    await sleep(STATS_MS, undefined, { signal }).catch(() => {});
  }
}
