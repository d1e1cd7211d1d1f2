/**
 * One job from its first stage to its end, told to a hub: stages, a product for each colour plane, checkpoints, and the
 * commands of operators. What belongs to the hub are the calls of `run`; the learning itself is in planes.ts.
 */
import type { Products, Run, Stages } from "../../client/index.ts";
import type { Checkpoint, CheckpointFile } from "./checkpoint.ts";
import type { Fate } from "./fate.ts";
import { psnr } from "./image.ts";
import { drawPicture } from "./picture.ts";
import { ColourPlanes, PLANES, type Plane, type PlaneStep, type PlanesValidation } from "./planes.ts";

/** Each with the job's percentage at which it ends. Products count from 20 to 80, as the hub counts them. */
const STAGES = { "loading picture": 10, preparing: 20, training: 80, evaluating: 90, saving: 100 };

/** Steps between two pauses. */
const STEPS_PER_TICK = 3;
/** Ticks between two events of a kind; 25 ticks are a second. */
const EVERY = { progress: 5, product: 10, validation: 125, sample: 250, checkpoint: 375 };
/** Ticks that stages take which have little to compute, so that people see them. */
const STAGE_TICKS = 40;
/** Where in its training a run meets its fate, as a share of its steps. */
const FATE_AT = { diverges: 0.45, dies: 0.55 };
/** Ticks with NaN before it is given up. */
const NAN_TICKS = 50;
/** In dB; a plane that comes out worse has failed. */
const GOOD_ENOUGH = 20;
const WEAK: Plane = "blue";

export interface SessionOptions {
  seed: number;
  fate: Fate;
  attempt: number;
  file: CheckpointFile;
  /** Of this job: it is taken up from there. */
  checkpoint?: Checkpoint | undefined;
  /** When it aborts, all is to end: `train` rejects, also out of a pause once the run has ended. */
  signal: AbortSignal;
  /** Rests until the next tick; `took` is how many ms the last one took. May reject when the signal aborts. */
  rest(took: number): Promise<unknown>;
  /** Ends the process without a word. */
  die(): void;
  /** Pixels; default 64. */
  size?: number;
  /** Default 13 500. */
  totalSteps?: number;
}

export class Session {
  readonly #run: Run;
  readonly #options: SessionOptions;
  readonly #stages: Stages;
  #products: Products | undefined;
  #planes: ColourPlanes | undefined;
  #ticks = 0;
  /** Ms of training, pauses left out. */
  #trained: number;
  #best = false;
  #nanTicks = 0;
  /** The last step whose loss was a number. */
  #lastGood = 0;

  constructor(run: Run, options: SessionOptions) {
    this.#run = run;
    this.#options = options;
    this.#stages = run.stages(STAGES);
    this.#trained = (options.checkpoint?.seconds ?? 0) * 1_000;
  }

  /** Resolves when the job has ended; rejects when the signal aborts. */
  async train(): Promise<void> {
    const run = this.#run;
    this.#listen();
    run.status("running", this.#resumption());
    const planes = await this.#prepare();
    if (!planes || !(await this.#learn(planes))) {
      if (run.shouldStop()) this.#stop();
      return;
    }
    const result = await this.#evaluate();
    if (result) this.#finish(planes, result);
    else this.#stop();
  }

  #resumption() {
    const { checkpoint } = this.#options;
    return checkpoint && { message: `Taken up from the checkpoint of attempt ${checkpoint.attempt}.` };
  }

  #listen(): void {
    const at = () => `after step ${this.#begun().stepsDone}`;
    this.#run.onCommand({
      pause: () => `paused ${at()}`,
      resume: () => `goes on ${at()}`,
      stop: () => "saves a checkpoint and stops",
      save: () => this.#save(),
      sample: () => {
        this.#sample();
        return `sampled ${at()}`;
      },
      validate: () => `${this.#validate().psnr.toFixed(2)} dB ${at()}`,
    });
  }

  /** What operators ask for before there is anything to do it with is refused, by the SDK's answer to an error. */
  #begun(): ColourPlanes {
    if (!this.#planes) throw new Error("The training has not begun yet.");
    return this.#planes;
  }

  async #prepare(): Promise<ColourPlanes | undefined> {
    const { seed, fate, size = 64, totalSteps, checkpoint } = this.#options;
    const run = this.#run;
    this.#stages.enter("loading picture");
    const picture = drawPicture(seed, size);
    if (!(await this.#wait())) return undefined;
    run.log(`loaded a picture of ${size} by ${size} pixels: ${picture.scene}`);

    this.#stages.enter("preparing");
    const planes = new ColourPlanes(
      {
        seed,
        size,
        ...(totalSteps !== undefined && { totalSteps }),
        ...(fate === "weak product" && { weak: WEAK }),
      },
      picture,
    );
    const { trainingPixels, heldOutPixels } = planes.trainings.red;
    run.log(
      `${PLANES.length} networks, one for each colour plane, with ${planes.parameters} parameters together`,
    );
    run.log(`${trainingPixels.length} pixels to learn from, ${heldOutPixels.length} held out for validation`);
    if (!(await this.#wait())) return undefined;
    if (checkpoint) {
      planes.restore(checkpoint.planes);
      run.log(`goes on after step ${planes.stepsDone}`);
    }
    this.#products = run.products(PLANES.length);
    this.#planes = planes;
    for (const plane of PLANES) if (planes.trainings[plane].done) this.#productDone(planes, plane);
    return planes;
  }

  /** So that people see a stage that has little to do. False when the job is to stop. */
  async #wait(): Promise<boolean> {
    for (let tick = 0; tick < STAGE_TICKS; tick++) {
      if (tick % EVERY.progress === 0) this.#stages.progress(tick / STAGE_TICKS);
      if (!(await this.#goesOn())) return false;
      await this.#options.rest(0);
    }
    return true;
  }

  /** Waits while the job is paused. False when it is to stop. */
  async #goesOn(): Promise<boolean> {
    await this.#run.whilePaused();
    this.#options.signal.throwIfAborted();
    return !this.#run.shouldStop();
  }

  /** False when the job has failed or is to stop. */
  async #learn(planes: ColourPlanes): Promise<boolean> {
    this.#stages.enter("training");
    if (!this.#options.checkpoint) this.#trySave();
    while (!planes.done) {
      if (!(await this.#goesOn())) return false;
      const before = performance.now();
      this.#meetFate(planes);
      for (let step = 0; step < STEPS_PER_TICK && !planes.done; step++) this.#told(planes, planes.step());
      this.#tick(planes);
      if (this.#nanTicks > NAN_TICKS) {
        this.#diverged();
        return false;
      }
      await this.#options.rest(performance.now() - before);
      this.#trained += performance.now() - before;
    }
    return true;
  }

  #meetFate(planes: ColourPlanes): void {
    const { fate, die } = this.#options;
    if (fate !== "diverges" && fate !== "dies") return;
    if (planes.stepsDone < FATE_AT[fate] * planes.totalSteps) return;
    if (fate === "diverges") planes.loseSchedule();
    else die();
  }

  #told(planes: ColourPlanes, { plane, done, step, epoch, ...rest }: PlaneStep): void {
    const training = planes.trainings[plane];
    if (done || this.#ticks % EVERY.product === 0) {
      this.#run.product(plane).progress({
        step,
        total_steps: training.totalSteps,
        epoch,
        loss: rest.loss,
        smooth_loss: rest.smoothLoss,
        learning_rate: rest.learningRate,
        progress: (100 * step) / training.totalSteps,
      });
    }
    if (done) this.#productDone(planes, plane);
  }

  #productDone(planes: ColourPlanes, plane: Plane): void {
    const { psnr: quality } = planes.trainings[plane].validate();
    const result = `${quality.toFixed(2)} dB`;
    if (quality >= GOOD_ENOUGH) {
      this.#products?.complete(plane, { message: result, duration_seconds: this.#seconds });
    } else this.#products?.fail(plane, `${result} on the held-out pixels, ${GOOD_ENOUGH} dB are wanted`);
  }

  get #seconds(): number {
    return this.#trained / 1_000;
  }

  /** What there is to tell after a tick. */
  #tick(planes: ColourPlanes): void {
    const tick = ++this.#ticks;
    const { loss, stepsDone } = planes;
    if (Number.isNaN(loss)) this.#nanTicks++;
    else this.#lastGood = stepsDone;
    if (tick % EVERY.progress === 0 || planes.done) this.#progress(planes);
    if (this.#nanTicks > 0) return; // nothing that is worth to be looked at or kept
    if (tick % EVERY.validation === 0) this.#validate();
    if (tick % EVERY.sample === 0) this.#sample();
    if (tick % EVERY.checkpoint === 0) this.#trySave();
  }

  #progress(planes: ColourPlanes): void {
    const { stepsDone, totalSteps, loss } = planes;
    const left = (this.#seconds / stepsDone) * (totalSteps - stepsDone);
    this.#stages.progress(stepsDone / totalSteps, {
      step: stepsDone,
      total_steps: totalSteps,
      epoch: planes.epoch,
      total_epochs: planes.totalEpochs,
      loss,
      smooth_loss: planes.smoothLoss,
      learning_rate: planes.learningRate,
      eta_seconds: left,
      metrics: { batch_psnr: psnr(loss) },
    });
  }

  #validate(): PlanesValidation {
    const planes = this.#begun();
    const result = planes.validate();
    this.#best = result.best;
    const { stepsDone: step, epoch } = planes;
    this.#run.validation({ step, epoch, metrics: metricsOf(result), best: result.best });
    return result;
  }

  #sample(): void {
    const planes = this.#begun();
    const { url, png, width, height } = planes.sample();
    this.#run.sample({
      step: planes.stepsDone,
      epoch: planes.epoch,
      media_type: "image/png",
      size_bytes: png.length,
      url,
      width,
      height,
    });
  }

  #save(): { step: number; path: string; size_bytes: number } {
    const planes = this.#begun();
    const { file, attempt, seed } = this.#options;
    const { stepsDone: step, epoch } = planes;
    const { jobId } = this.#run;
    const size_bytes = file.write({ jobId, attempt, seed, seconds: this.#seconds, planes: planes.state() });
    const saved = { step, path: file.path, size_bytes };
    this.#run.checkpoint({ ...saved, epoch, name: `step-${step}`, best: this.#best });
    return saved;
  }

  /** A full disk is no reason to end a training. */
  #trySave(): void {
    try {
      this.#save();
    } catch (error) {
      this.#run.log({ level: "warning", message: `No checkpoint: ${(error as Error).message}` });
    }
  }

  #diverged(): void {
    const run = this.#run;
    const message = `The loss is not a number any more since step ${this.#lastGood}: the learning rate rose without end.`;
    run.alert({ level: "error", title: "The loss is NaN", message });
    run.fail(Object.assign(new Error(message), { name: "DivergenceError" }));
  }

  #stop(): void {
    if (!this.#planes) {
      this.#run.cancel("Stopped before the training began.");
      return;
    }
    this.#trySave();
    this.#run.cancel(`Stopped after step ${this.#planes.stepsDone}.`);
  }

  /** Undefined when the job is to stop. */
  async #evaluate(): Promise<PlanesValidation | undefined> {
    this.#stages.enter("evaluating");
    if (!(await this.#wait())) return undefined;
    const result = this.#validate();
    this.#sample();
    return result;
  }

  #finish(planes: ColourPlanes, result: PlanesValidation): void {
    this.#stages.enter("saving");
    this.#trySave();
    const failed = this.#products?.failed ?? 0;
    const seconds = this.#seconds;
    this.#run.log(`Done: ${result.psnr.toFixed(2)} dB after ${seconds.toFixed(0)} s of training`);
    this.#run.finish({
      final_loss: planes.smoothLoss,
      duration_seconds: seconds,
      successful: PLANES.length - failed,
      failed,
      metrics: metricsOf(result),
    });
  }
}

function metricsOf({ psnr: quality, mse, planes: { red, green, blue } }: PlanesValidation) {
  return { psnr: quality, mse, psnr_red: red, psnr_green: green, psnr_blue: blue };
}
