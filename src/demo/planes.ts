/**
 * The work of one job without any I/O: three networks side by side, one for each colour plane of a picture. They take turns,
 * a step each, until each has made its own.
 */
import { psnr } from "./image.ts";
import { drawPicture, type Picture } from "./picture.ts";
import { type Sample, type StepResult, sampleOf, Training, type TrainingState } from "./training.ts";

export const PLANES = ["red", "green", "blue"] as const;
export type Plane = (typeof PLANES)[number];

/**
 * Of 18 steps: about what the eye sees of each colour (0.30, 0.59 and 0.11 in ITU-R BT.601). So chosen that a third of all
 * steps is made when the first plane is done, and two thirds with the second.
 */
const SHARES: Readonly<Record<Plane, number>> = { red: 5, green: 11, blue: 2 };
const ALL_SHARES = 18;

/** Small networks: a step of one takes 0.7 ms, so 75 steps a second are 5 % of a core. */
const NETWORK = { features: 24, hidden: 32, batch: 128, learningRate: 0.004 };
/** Times the learning rate: so slow that the network does not get anywhere in its steps. */
const WEAK_RATE = 0.0003;
/** Steps in which the learning rate doubles when its schedule has lost its end. */
const DOUBLING_STEPS = 3;

export interface PlanesOptions {
  /** Same seed, same picture, same run. An integer. */
  seed: number;
  /** Width and height of the picture in pixels. Default 64. */
  size?: number;
  /** Of all planes together, a multiple of 18. Default 13 500. */
  totalSteps?: number;
  /** A plane that hardly learns. */
  weak?: Plane;
}

export interface PlanesState {
  planes: Record<Plane, TrainingState>;
  losses: Record<Plane, number>;
  lowest: number;
}

export interface PlanesValidation {
  /** Mean squared error on the held-out pixels, of all planes. */
  mse: number;
  /** The same in dB. */
  psnr: number;
  /** Whether no validation before was as good. */
  best: boolean;
  /** Of each plane, in dB. */
  planes: Record<Plane, number>;
}

export interface PlaneStep extends StepResult {
  plane: Plane;
  /** It was this plane's last one. */
  done: boolean;
}

export class ColourPlanes {
  readonly picture: Picture;
  readonly totalSteps: number;
  readonly trainings: Readonly<Record<Plane, Training>>;
  #turn = 0;
  #lowest = Number.POSITIVE_INFINITY;
  #losses: Record<Plane, number> = { red: 0, green: 0, blue: 0 };
  /** Steps since the schedule has lost its end. */
  #runaway: number | undefined;

  constructor(
    { seed, size = 64, totalSteps = 13_500, weak }: PlanesOptions,
    picture = drawPicture(seed, size),
  ) {
    this.picture = picture;
    this.totalSteps = totalSteps;
    this.trainings = perPlane((plane) => {
      const steps = (totalSteps / ALL_SHARES) * SHARES[plane];
      const channels = [PLANES.indexOf(plane)];
      const training = new Training({ ...NETWORK, seed, size, totalSteps: steps, channels }, picture);
      if (plane === weak) training.rateFactor = WEAK_RATE;
      return training;
    });
  }

  get stepsDone(): number {
    return this.#sum((training) => training.stepsDone);
  }

  get done(): boolean {
    return PLANES.every((plane) => this.trainings[plane].done);
  }

  /** Planes that have steps to make. */
  get active(): Plane[] {
    return PLANES.filter((plane) => !this.trainings[plane].done);
  }

  /** Passes over the training pixels so far, as the mean of the planes. */
  get epoch(): number {
    return this.#sum((training) => training.epoch) / PLANES.length;
  }

  get totalEpochs(): number {
    return this.#sum((training) => training.totalEpochs) / PLANES.length;
  }

  get parameters(): number {
    return this.#sum((training) => training.config.parameters);
  }

  /** Mean of the planes' newest losses. */
  get loss(): number {
    return PLANES.reduce((sum, plane) => sum + this.#losses[plane], 0) / PLANES.length;
  }

  get smoothLoss(): number {
    return this.#sum((training) => training.smoothLoss) / PLANES.length;
  }

  /** The highest of the planes that are still in training. */
  get learningRate(): number {
    return Math.max(0, ...this.active.map((plane) => this.trainings[plane].learningRate));
  }

  /** The next plane's step. Throws `RangeError` when all steps are done. */
  step(): PlaneStep {
    const { active } = this;
    const plane = active[this.#turn++ % Math.max(1, active.length)];
    if (plane === undefined) throw new RangeError(`all ${this.totalSteps} steps are done`);
    const training = this.trainings[plane];
    if (this.#runaway !== undefined) {
      training.rateFactor = 2 ** (this.#runaway++ / DOUBLING_STEPS / active.length);
    }
    const result = training.step();
    this.#losses[plane] = result.loss;
    return { ...result, plane, done: training.done };
  }

  /** From now on the learning rate doubles again and again: a mistake in its schedule. */
  loseSchedule(): void {
    this.#runaway ??= 0;
  }

  validate(): PlanesValidation {
    const each = perPlane((plane) => this.trainings[plane].validate());
    const mse = PLANES.reduce((sum, plane) => sum + each[plane].mse, 0) / PLANES.length;
    const best = mse < this.#lowest;
    if (best) this.#lowest = mse;
    return { mse, psnr: psnr(mse), best, planes: perPlane((plane) => each[plane].psnr) };
  }

  /** The whole picture, put together from the planes as they are now. */
  sample(): Sample {
    const { width, height } = this.picture;
    const pixels = new Float32Array(3 * width * height);
    for (const plane of PLANES) this.trainings[plane].paint(pixels);
    return sampleOf({ width, height, pixels });
  }

  /** A copy. */
  state(): PlanesState {
    return {
      planes: perPlane((plane) => this.trainings[plane].state()),
      losses: { ...this.#losses },
      lowest: this.#lowest,
    };
  }

  /** Of a job with the same options. Throws `RangeError` when its networks had another size. */
  restore({ planes, losses, lowest }: PlanesState): void {
    for (const plane of PLANES) this.trainings[plane].restore(planes[plane]);
    this.#losses = { ...losses };
    this.#lowest = lowest;
  }

  #sum(figure: (training: Training) => number): number {
    return PLANES.reduce((sum, plane) => sum + figure(this.trainings[plane]), 0);
  }
}

function perPlane<T>(make: (plane: Plane) => T): Record<Plane, T> {
  return { red: make("red"), green: make("green"), blue: make("blue") };
}
