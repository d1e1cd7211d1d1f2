/** Images between the network's floats and the PNG that a browser shows. */

import { encode } from "fast-png";

export interface Image {
  width: number;
  height: number;
  /** Red, green and blue of each pixel in [0, 1], row by row from the top left. */
  pixels: Float32Array;
}

/**
 * Steps of brightness per channel. fast-png does not filter rows, so that the last bits of smooth skies are noise that
 * deflate cannot shrink: with 255 steps a sample of 64 by 64 pixels makes a URL of 16 KB, with 63 one of 11 KB. The
 * rounding costs 47 dB, which no demo's network comes near.
 */
const STEPS = 63;

/** An image as PNG, 8 bits per channel, rounded to `STEPS`. Values outside [0, 1] are clipped. */
export function encodePng({ width, height, pixels }: Image): Uint8Array {
  const data = Uint8ClampedArray.from(pixels, (value) => (Math.round(value * STEPS) / STEPS) * 255);
  return encode({ width, height, data, channels: 3, depth: 8 }, { zlib: { level: 9 } });
}

/** The PNG as an address that needs no server. A third longer than the bytes. */
export function dataUrl(png: Uint8Array): string {
  return `data:image/png;base64,${Buffer.from(png.buffer, png.byteOffset, png.byteLength).toString("base64")}`;
}

/** Peak signal-to-noise ratio in dB of values in [0, 1] with this mean squared error; `Infinity` if there is no error. */
export function psnr(meanSquaredError: number): number {
  return -10 * Math.log10(meanSquaredError);
}
