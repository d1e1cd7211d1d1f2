/**
 * One training run without any I/O: a network learns a picture. The caller decides when the next step is made and who
 * hears of it, so that a run can be paused, throttled, stopped and tested.
 */

import { dataUrl, encodePng, psnr } from "./image.ts";
import { CoordinateNetwork, randomSource } from "./network.ts";
import { drawPicture, type Picture } from "./picture.ts";

export interface TrainingOptions {
  /** Same seed, same picture, same run. An integer. Default 0. */
  seed?: number;
  /** Width and height of the picture in pixels. Default 64. */
  size?: number;
  /** Default 3000. */
  totalSteps?: number;
  /** Pixels per step. Default 256. */
  batch?: number;
  /** Highest learning rate, reached after the warm-up. Default 0.005. */
  learningRate?: number;
  /** Share of the pixels that are held out for validation. Default 0.1. */
  heldOut?: number;
  /** Random frequencies of the network. Default 32. */
  features?: number;
  /** Width of the hidden layers. Default 48. */
  hidden?: number;
  /** Number of hidden layers. Default 2. */
  layers?: number;
}

export interface StepResult {
  /** Steps done, this one included. */
  step: number;
  /** Passes over the training pixels, fractional. */
  epoch: number;
  /** Mean squared error of the batch before the step. */
  loss: number;
  /** Moving average of `loss` over about 50 steps. */
  smoothLoss: number;
  learningRate: number;
  gradientNorm: number;
}

export interface Validation {
  /** Mean squared error on the held-out pixels. */
  mse: number;
  /** The same as peak signal-to-noise ratio in dB. */
  psnr: number;
  /** Whether no validation before was as good. */
  best: boolean;
}

export interface Sample {
  png: Uint8Array;
  /** `png` as a `data:` URL. */
  url: string;
  width: number;
  height: number;
}

const WARM_UP_STEPS = 100;
/** Where the learning rate ends, as a share of its peak. */
const FINAL_SHARE = 0.02;
const SMOOTHING = 0.96;

export class Training {
  readonly picture: Picture;
  readonly network: CoordinateNetwork;
  readonly totalSteps: number;
  /** Everything that was chosen, for a log line or a job's description. */
  readonly config: Readonly<Required<TrainingOptions> & { scene: string; parameters: number }>;
  /** Pixel numbers (row by row) that the network learns. */
  readonly trainingPixels: Uint32Array;
  /** Pixel numbers that it never sees. */
  readonly heldOutPixels: Uint32Array;
  readonly #random: () => number;
  readonly #coords: Float32Array;
  readonly #batchCoords: Float32Array;
  readonly #batchTargets: Float32Array;
  #step = 0;
  #next = 0;
  #smoothed = 0;
  #lowest = Number.POSITIVE_INFINITY;
}
