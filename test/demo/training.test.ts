import { expect } from "chai";
import { decode } from "fast-png";
import { dataUrl, encodePng, psnr } from "../../src/demo/image.ts";
import { CoordinateNetwork, randomSource } from "../../src/demo/network.ts";
import { drawPicture } from "../../src/demo/picture.ts";
import { Training } from "../../src/demo/training.ts";

/** Small enough that a hundred steps take a few hundredths of a second. */
const SMALL = { seed: 3, size: 24, totalSteps: 120, batch: 64, features: 12, hidden: 16 };

function finish(training: Training): number[] {
  const losses: number[] = [];
  while (!training.done) losses.push(training.step().loss);
  return losses;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).to.equal(b.length);
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

describe("drawPicture", () => {
  it("draws the same picture for the same seed, and another scene for the next", () => {
    expect(drawPicture(4, 16)).to.deep.equal(drawPicture(4, 16));
    const scenes = [0, 1, 2, 3, 4].map((seed) => drawPicture(seed, 16).scene);
    expect(new Set(scenes).size).to.equal(5);
    const again = drawPicture(5, 16);
    expect(again.scene).to.equal(scenes[0]);
    expect(largestDifference(again.pixels, drawPicture(0, 16).pixels)).to.be.above(0.1);
  });

  it("gives colours in [0, 1] with light and shade", () => {
    for (let seed = 0; seed < 10; seed++) {
      const { width, height, pixels } = drawPicture(seed, 32);
      expect([width, height, pixels.length]).to.deep.equal([32, 32, 32 * 32 * 3]);
      const rising = pixels.slice().sort();
      expect(rising[0]).to.be.at.least(0);
      expect(rising.at(-1)).to.be.at.most(1);
      expect(rising.at(-1)! - rising[0]!).to.be.above(0.6);
    }
  });
});

describe("encodePng", () => {
  it("makes a PNG that decodes to the picture, to within half a step of 63", () => {
    const picture = drawPicture(2);
    const decoded = decode(encodePng(picture));
    expect([decoded.width, decoded.height, decoded.channels, decoded.depth]).to.deep.equal([64, 64, 3, 8]);
    const pixels = Array.from(decoded.data, (byte) => byte / 255);
    expect(largestDifference(pixels, picture.pixels)).to.be.below(0.5 / 63 + 0.5 / 255 + 1e-6);
  });

  it("clips what lies outside [0, 1]", () => {
    const png = encodePng({ width: 1, height: 1, pixels: Float32Array.of(-2, 0, 7) });
    expect(Array.from(decode(png).data)).to.deep.equal([0, 0, 255]);
  });

  it("stands in a data URL as it is", () => {
    const png = encodePng(drawPicture(1, 8));
    const [head, body] = dataUrl(png).split(",");
    expect(head).to.equal("data:image/png;base64");
    expect(Uint8Array.from(Buffer.from(body!, "base64"))).to.deep.equal(Uint8Array.from(png));
  });
});

describe("psnr", () => {
  it("is 20 dB for an error of a tenth, and infinite for none", () => {
    expect(psnr(0.1 ** 2)).to.be.closeTo(20, 1e-9);
    expect(psnr(0)).to.equal(Number.POSITIVE_INFINITY);
  });
});

describe("CoordinateNetwork", () => {
  // Sizes that are no multiples of the product kernel's tile, so that its edges are checked too.
  const tiny = { seed: 11, features: 3, hidden: 5, layers: 3, batch: 7 };
  const random = randomSource(5);
  const coords = Float32Array.from({ length: 14 }, () => 2 * random() - 1);
  const targets = Float32Array.from({ length: 21 }, () => random());

  it("has the gradients that finite differences give", () => {
    const network = new CoordinateNetwork(tiny);
    // Random biases: a unit whose sum is exactly 0 stands in the kink of ReLU, where there is no derivative.
    for (let i = 0; i < network.parameterCount; i++) network.parameters[i]! += random() - 0.5;
    // Twice, for the second pass must not add to the gradients of the first.
    network.backward(coords, targets);
    network.backward(coords, targets);
    const { parameters } = network;
    const gradients = network.gradients.slice();
    const epsilon = 1e-6;
    for (let i = 0; i < parameters.length; i++) {
      const value = parameters[i]!;
      parameters[i] = value + epsilon;
      const above = network.backward(coords, targets);
      parameters[i] = value - epsilon;
      const below = network.backward(coords, targets);
      parameters[i] = value;
      expect(gradients[i], `parameter ${i}`).to.be.closeTo((above - below) / (2 * epsilon), 1e-8);
    }
    expect(gradients.filter((gradient) => Math.abs(gradient) > 1e-5).length).to.be.above(
      parameters.length / 2,
    );
  });

  it("counts its parameters and measures its gradient", () => {
    const network = new CoordinateNetwork(tiny);
    expect(network.parameterCount).to.equal(6 * 5 + 5 + 2 * (5 * 5 + 5) + 5 * 3 + 3);
    network.backward(coords, targets);
    expect(network.gradientNorm).to.be.closeTo(Math.hypot(...network.gradients), 1e-12);
  });

  it("predicts each place alone as in a batch, and more places than fit in one", () => {
    const network = new CoordinateNetwork({ ...tiny, batch: 4 });
    const all = network.predict(coords);
    const alone = Array.from({ length: 7 }, (_, i) => [
      ...network.predict(coords.subarray(2 * i, 2 * i + 2)),
    ]);
    expect([...all]).to.deep.equal(alone.flat());
  });

  it("learns a small batch by heart", () => {
    const network = new CoordinateNetwork(tiny);
    const first = network.trainStep(coords, targets, 0.02);
    for (let i = 0; i < 500; i++) network.trainStep(coords, targets, 0.02);
    expect(network.backward(coords, targets)).to.be.below(first / 20);
  });

  it("refuses a batch that does not fit", () => {
    const network = new CoordinateNetwork({ ...tiny, batch: 6 });
    const sentence = "a batch has 1 to 6 places with 2 coordinates and 3 colours each";
    expect(() => network.trainStep(coords, targets, 0.01)).to.throw(RangeError, sentence);
    expect(() => network.backward(coords.subarray(0, 4), targets)).to.throw(RangeError, sentence);
    expect(() => network.backward(new Float32Array(), new Float32Array())).to.throw(RangeError, sentence);
  });
});

describe("Training", () => {
  it("learns: the loss falls and the held-out pixels come out", function () {
    this.timeout(30_000);
    const training = new Training({ totalSteps: 400 });
    const before = training.validate();
    const losses = finish(training);
    const after = training.validate();
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value) / values.length;
    expect(mean(losses.slice(-20))).to.be.below(mean(losses.slice(0, 20)) / 15);
    expect(before.psnr).to.be.within(8, 14);
    expect(after.psnr).to.be.above(24);
    expect(after.psnr).to.equal(psnr(after.mse));
    expect([before.best, after.best, training.validate().best]).to.deep.equal([true, true, false]);
  });

  it("runs the same way for the same seed, and another way for another", () => {
    const [one, same, other] = [
      new Training(SMALL),
      new Training(SMALL),
      new Training({ ...SMALL, seed: 8 }),
    ];
    expect(one.picture.scene).to.equal(other.picture.scene);
    const losses = finish(one);
    expect(finish(same)).to.deep.equal(losses);
    expect(finish(other)).not.to.deep.equal(losses);
    expect(same.network.parameters).to.deep.equal(one.network.parameters);
    expect(same.sample()).to.deep.equal(one.sample());
  });

  it("runs the same way whether it is watched or not", () => {
    const alone = finish(new Training(SMALL));
    const watched = new Training(SMALL);
    const losses: number[] = [];
    while (!watched.done) {
      watched.validate();
      watched.sample();
      losses.push(watched.step().loss);
    }
    expect(losses).to.deep.equal(alone);
  });

  it("never learns from the held-out pixels", () => {
    const poisoned = new Training(SMALL);
    for (const pixel of poisoned.heldOutPixels)
      poisoned.picture.pixels.fill(Number.NaN, 3 * pixel, 3 * pixel + 3);
    expect(finish(poisoned)).to.deep.equal(finish(new Training(SMALL)));
    expect(poisoned.validate().psnr).to.be.NaN;
  });

  it("puts every pixel on one side, a tenth of them on the held-out one", () => {
    const { heldOutPixels, trainingPixels } = new Training(SMALL);
    expect(heldOutPixels.length).to.equal(58);
    const all = [...heldOutPixels, ...trainingPixels].sort((a, b) => a - b);
    expect(all).to.deep.equal(Array.from({ length: 24 * 24 }, (_, pixel) => pixel));
  });

  it("learns from every training pixel once per epoch", () => {
    const options = { ...SMALL, batch: 37, totalSteps: 14 };
    const { trainingPixels } = new Training(options);
    expect(trainingPixels.length).to.equal(options.batch * options.totalSteps);
    for (const pixel of trainingPixels.subarray(0, 20)) {
      const poisoned = new Training(options);
      poisoned.picture.pixels[3 * pixel] = Number.NaN;
      expect(finish(poisoned).some(Number.isNaN)).to.equal(true);
    }
  });

  it("takes the pixels in another order every epoch", () => {
    // Without learning, an epoch's losses differ from the next one's by their order alone.
    const training = new Training({ ...SMALL, batch: 37, totalSteps: 28, learningRate: 0 });
    const losses = finish(training);
    const [first, second] = [losses.slice(0, 14), losses.slice(14)];
    const sum = (values: number[]) => values.reduce((total, value) => total + value);
    expect(sum(first)).to.be.closeTo(sum(second), 1e-9);
    expect(largestDifference(first, second)).to.be.above(1e-4);
  });

  it("counts steps and epochs, and ends", () => {
    const training = new Training(SMALL);
    expect([training.stepsDone, training.epoch, training.done]).to.deep.equal([0, 0, false]);
    const { step, epoch, loss, smoothLoss } = training.step();
    expect(step).to.equal(1);
    expect(epoch).to.equal(64 / 518);
    expect(smoothLoss).to.equal(loss);
    finish(training);
    expect(training.stepsDone).to.equal(120);
    expect(training.epoch).to.equal(training.totalEpochs);
    expect(() => training.step()).to.throw(RangeError, "all 120 steps are done");
  });

  it("warms the learning rate up and cools it down along a cosine", () => {
    const training = new Training({ ...SMALL, learningRate: 0.01 });
    const rates: number[] = [];
    while (!training.done) {
      const announced = training.learningRate;
      rates.push(training.step().learningRate);
      expect(rates.at(-1)).to.equal(announced);
    }
    expect(rates[0]).to.be.closeTo(0.01 / 12, 1e-12);
    expect(Math.max(...rates))
      .to.equal(rates[11])
      .and.to.equal(0.01);
    expect(rates.at(-1)).to.be.closeTo(0.0002, 1e-12);
    expect(rates.slice(11)).to.deep.equal(rates.slice(11).sort((a, b) => b - a));
  });

  it("samples the whole picture as a small PNG", () => {
    const training = new Training({ totalSteps: 20 });
    finish(training);
    const { png, url, width, height } = training.sample();
    expect([width, height]).to.deep.equal([64, 64]);
    expect(url).to.equal(dataUrl(png));
    expect(url.length).to.be.below(12_000);
    const decoded = decode(png);
    expect([decoded.width, decoded.height]).to.deep.equal([64, 64]);
  });

  it("sums itself up", () => {
    const { config, network, picture } = new Training({ ...SMALL, layers: undefined });
    expect(config).to.deep.include({ ...SMALL, scene: "planet", heldOut: 0.1, layers: 2 });
    expect(config.parameters).to.equal(network.parameterCount);
    expect(config.scene).to.equal(picture.scene);
  });

  it("refuses a split without pixels on one side", () => {
    const sentence = "heldOut must leave pixels to learn and pixels to validate with";
    for (const heldOut of [0, 1, -1, Number.NaN]) {
      expect(() => new Training({ ...SMALL, heldOut })).to.throw(RangeError, sentence);
    }
  });
});
