/**
 * One training run without any I/O: a network learns a picture. The caller decides when the next step is made and who
 * hears of it, so that a run can be paused, throttled, stopped and tested.
 */

import { dataUrl, encodePng, type Image, psnr } from "./image.ts";
import { CoordinateNetwork, type NetworkState, randomSource } from "./network.ts";
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
  /** Highest learning rate, reached after the warm-up. Default 0.003. */
  learningRate?: number;
  /** Share of the pixels that are held out for validation. Default 0.1. */
  heldOut?: number;
  /** Random frequencies of the network. Default 48. */
  features?: number;
  /** Width of the hidden layers. Default 48. */
  hidden?: number;
  /** Number of hidden layers. Default 2. */
  layers?: number;
  /** Which of the picture's colours it learns: 0 red, 1 green, 2 blue. Default all three. */
  channels?: readonly number[];
}

/** A run at some step; `restore` goes on from it as if nothing had been. */
export interface TrainingState {
  stepsDone: number;
  pixelsSeen: number;
  smoothLoss: number;
  lowest: number;
  network: NetworkState;
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

const WARM_UP_STEPS = 300;
/** Where the learning rate ends, as a share of its peak. */
const FINAL_SHARE = 0.02;
const SMOOTHED_STEPS = 50;
const RGB = [0, 1, 2] as const;

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
  /** x and y of every pixel, -1 to 1. */
  readonly #coords: Float32Array;
  readonly #heldOutCoords: Float32Array;
  readonly #batchCoords: Float32Array;
  readonly #batchTargets: Float32Array;
  /** The training pixels in the order of this epoch. */
  readonly #order: Uint32Array;
  readonly #orderSeed: number;
  #stepsDone = 0;
  #pixelsSeen = 0;
  #smoothLoss = 0;
  #lowest = Number.POSITIVE_INFINITY;

  /** What the learning rate is multiplied by, for whoever wants to see what a wrong one does. */
  rateFactor = 1;

  /** The picture is drawn if it is not given. Throws `RangeError` if `heldOut` leaves no pixel on one of the two sides. */
  constructor(options: TrainingOptions = {}, picture?: Picture) {
    const { seed = 0, size = 64, totalSteps = 3000, batch = 256, learningRate = 0.003 } = options;
    const { heldOut: share = 0.1, features = 48, hidden = 48, layers = 2, channels = RGB } = options;
    this.totalSteps = totalSteps;
    this.picture = picture ?? drawPicture(seed, size);
    const random = randomSource(seed);
    const networkSeed = Math.floor(random() * 2 ** 32);
    const outputs = channels.length;
    this.network = new CoordinateNetwork({ seed: networkSeed, features, hidden, layers, outputs, batch });
    this.config = Object.freeze({
      scene: this.picture.scene,
      seed,
      size,
      totalSteps,
      batch,
      learningRate,
      heldOut: share,
      features,
      hidden,
      layers,
      channels,
      parameters: this.network.parameterCount,
    });

    const pixels = Uint32Array.from({ length: size * size }, (_, pixel) => pixel);
    shuffle(pixels, random);
    this.#orderSeed = Math.floor(random() * 2 ** 32);
    const heldOut = Math.round(pixels.length * share);
    if (!(heldOut >= 1 && heldOut < pixels.length)) {
      throw new RangeError("heldOut must leave pixels to learn and pixels to validate with");
    }
    this.heldOutPixels = pixels.slice(0, heldOut);
    this.trainingPixels = pixels.slice(heldOut);
    this.#order = this.trainingPixels.slice();
    this.#coords = new Float32Array(2 * pixels.length);
    for (let i = 0; i < this.#coords.length; i++) {
      const place = i % 2 === 0 ? (i / 2) % size : Math.floor(i / 2 / size);
      this.#coords[i] = ((place + 0.5) * 2) / size - 1;
    }
    this.#heldOutCoords = Float32Array.from({ length: 2 * heldOut }, (_, i) => {
      return this.#coords[2 * this.heldOutPixels[i >> 1]! + (i % 2)]!;
    });
    this.#batchCoords = new Float32Array(2 * batch);
    this.#batchTargets = new Float32Array(outputs * batch);
  }

  get stepsDone(): number {
    return this.#stepsDone;
  }

  get done(): boolean {
    return this.#stepsDone >= this.totalSteps;
  }

  /** Of the newest step. */
  get smoothLoss(): number {
    return this.#smoothLoss;
  }

  /** Passes over the training pixels so far, fractional. */
  get epoch(): number {
    return this.#pixelsSeen / this.trainingPixels.length;
  }

  /** Passes when all steps are done. */
  get totalEpochs(): number {
    return (this.totalSteps * this.config.batch) / this.trainingPixels.length;
  }

  /** Of the next step: a linear warm-up, then half a cosine down to 2 % of the peak. */
  get learningRate(): number {
    const warmUp = Math.min(WARM_UP_STEPS, this.totalSteps / 10);
    const next = Math.min(this.#stepsDone + 1, this.totalSteps);
    const peak = this.config.learningRate * this.rateFactor;
    if (next < warmUp) return (peak * next) / warmUp;
    const way = (next - warmUp) / (this.totalSteps - warmUp);
    const share = FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + Math.cos(Math.PI * way));
    return peak * share;
  }

  /** Learns one batch. Throws `RangeError` when all steps are done. */
  step(): StepResult {
    if (this.done) throw new RangeError(`all ${this.totalSteps} steps are done`);
    const { learningRate } = this;
    this.#nextBatch();
    const loss = this.network.trainStep(this.#batchCoords, this.#batchTargets, learningRate);
    this.#stepsDone++;
    // Begins as the plain average, so that the first values do not weigh on it for long.
    this.#smoothLoss += (loss - this.#smoothLoss) / Math.min(this.#stepsDone, SMOOTHED_STEPS);
    return {
      step: this.#stepsDone,
      epoch: this.epoch,
      loss,
      smoothLoss: this.#smoothLoss,
      learningRate,
      gradientNorm: this.network.gradientNorm,
    };
  }

  /** How well the network guesses the pixels that it never sees. */
  validate(): Validation {
    const guesses = this.network.predict(this.#heldOutCoords);
    const { channels } = this.config;
    let squares = 0;
    for (let i = 0, at = 0; i < this.heldOutPixels.length; i++) {
      for (const channel of channels) squares += (guesses[at++]! - this.#colour(i, channel)) ** 2;
    }
    const mse = squares / guesses.length;
    const best = mse < this.#lowest;
    if (best) this.#lowest = mse;
    return { mse, psnr: psnr(mse), best };
  }

  /** Writes the picture as the network has it now into pixels of three colours; leaves those that it does not learn. */
  paint(pixels: Float32Array): void {
    const { channels } = this.config;
    const guesses = this.network.predict(this.#coords);
    for (let place = 0, at = 0; at < guesses.length; place++) {
      for (const channel of channels) pixels[3 * place + channel] = guesses[at++]!;
    }
  }

  /** The whole picture as the network has it now; colours that it does not learn are black. */
  sample(): Sample {
    const { width, height } = this.picture;
    const pixels = new Float32Array(3 * width * height);
    this.paint(pixels);
    return sampleOf({ width, height, pixels });
  }

  /** A copy. */
  state(): TrainingState {
    return {
      stepsDone: this.#stepsDone,
      pixelsSeen: this.#pixelsSeen,
      smoothLoss: this.#smoothLoss,
      lowest: this.#lowest,
      network: this.network.state(),
    };
  }

  /** Of a run with the same options. Throws `RangeError` when its network had another size. */
  restore({ stepsDone, pixelsSeen, smoothLoss, lowest, network }: TrainingState): void {
    this.network.restore(network);
    this.#stepsDone = stepsDone;
    this.#pixelsSeen = pixelsSeen;
    this.#smoothLoss = smoothLoss;
    this.#lowest = lowest;
    const { length } = this.#order;
    if (pixelsSeen % length > 0) this.#shuffleFor(Math.floor(pixelsSeen / length));
  }

  /** Of the held-out pixel with this number among them. */
  #colour(heldOut: number, channel: number): number {
    return this.picture.pixels[3 * this.heldOutPixels[heldOut]! + channel]!;
  }

  /** The next pixels of this epoch's order; a new epoch is shuffled anew, in the middle of a batch if need be. */
  #nextBatch(): void {
    const order = this.#order;
    const { batch, channels } = this.config;
    for (let i = 0, target = 0; i < batch; i++) {
      const at = this.#pixelsSeen % order.length;
      if (at === 0) this.#shuffleFor(this.#pixelsSeen / order.length);
      this.#pixelsSeen++;
      const pixel = order[at]!;
      this.#batchCoords[2 * i] = this.#coords[2 * pixel]!;
      this.#batchCoords[2 * i + 1] = this.#coords[2 * pixel + 1]!;
      for (const channel of channels) {
        this.#batchTargets[target++] = this.picture.pixels[3 * pixel + channel]!;
      }
    }
  }

  /** An epoch's order hangs on nothing but the seed and the epoch's number, so that a checkpoint need not hold it. */
  #shuffleFor(epoch: number): void {
    this.#order.set(this.trainingPixels);
    shuffle(this.#order, randomSource(this.#orderSeed + epoch));
  }
}

/** An image as it is sent. */
export function sampleOf(image: Image): Sample {
  const png = encodePng(image);
  return { png, url: dataUrl(png), width: image.width, height: image.height };
}

/** Fisher-Yates. */
function shuffle(numbers: Uint32Array, random: () => number): void {
  for (let i = numbers.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const swapped = numbers[i]!;
    numbers[i] = numbers[j]!;
    numbers[j] = swapped;
  }
}
