/**
 * The pictures that the demo's jobs learn, drawn by program, so that the package ships no image files and every seed
 * is another picture. Coordinates: `u` to the right and `v` downwards, both 0 to 1.
 */

import type { Image } from "./image.ts";

export interface Picture extends Image {
  /** What it shows, for instance `sunset`. */
  scene: string;
}

type Colour = readonly [red: number, green: number, blue: number];
type Scene = (u: number, v: number) => Colour;

/** Samples per pixel and axis. Hard edges would alias, and a held-out pixel of an aliased edge cannot be guessed. */
const SUPERSAMPLING = 4;

/** A number in [0, 1) that depends on nothing but its arguments (the finalizer of MurmurHash3). */
function draw(seed: number, n: number): number {
  let h = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(n + 1, 0x85ebca6b)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}

function smooth(from: number, to: number, x: number): number {
  const t = Math.min(1, Math.max(0, (x - from) / (to - from)));
  return t * t * (3 - 2 * t);
}

/** Smooth noise in [0, 1), one hill per unit of `x`. */
function noise(seed: number, x: number): number {
  const cell = Math.floor(x);
  const left = draw(seed, cell);
  return left + (draw(seed, cell + 1) - left) * smooth(0, 1, x - cell);
}

/** A line of hills: two octaves of noise. */
function ridge(seed: number, x: number): number {
  return 0.7 * noise(seed, x) + 0.3 * noise(seed + 101, x * 2.3);
}

function rgb(hex: number): Colour {
  return [(hex >> 16) / 255, ((hex >> 8) & 255) / 255, (hex & 255) / 255];
}

function mix(a: Colour, b: Colour, t: number): Colour {
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

/** The colour at `t` of stops in rising order. */
function gradient(stops: ReadonlyArray<readonly [at: number, colour: Colour]>, t: number): Colour {
  let [before, colour] = stops[0] as readonly [number, Colour];
  for (const [at, next] of stops) {
    if (t <= at) return at === before ? next : mix(colour, next, (t - before) / (at - before));
    before = at;
    colour = next;
  }
  return colour;
}

/** A bell of height 1 around 0. */
function glow(distance: number, radius: number): number {
  return Math.exp(-((distance / radius) ** 2));
}

/** Brightness of a sky with soft stars, at most one per cell of a grid of `cells`. */
function stars(seed: number, u: number, v: number, cells: number): number {
  const column = Math.floor(u * cells);
  const row = Math.floor(v * cells);
  const n = row * cells + column;
  if (draw(seed + 7, n) > 0.3) return 0;
  const x = (column + 0.3 + 0.4 * draw(seed + 8, n)) / cells;
  const y = (row + 0.3 + 0.4 * draw(seed + 9, n)) / cells;
  return (0.5 + 0.5 * draw(seed + 10, n)) * glow(Math.hypot(u - x, v - y), 0.016);
}

/** The sun goes down behind an island; the sea mirrors it. */
function sunset(seed: number): Scene {
  const horizon = 0.58;
  const sunX = 0.3 + 0.4 * draw(seed, 1);
  const sunY = horizon - 0.1 - 0.06 * draw(seed, 2);
  const stops = [
    [0, rgb(0x221c52)],
    [0.35, rgb(0x6d2f7c)],
    [0.65, rgb(0xd9506a)],
    [0.85, rgb(0xff9a56)],
    [1, rgb(0xffd98a)],
  ] as const;
  const above: Scene = (u, v) => {
    const distance = Math.hypot(u - sunX, v - sunY);
    let colour = gradient(stops, v / horizon);
    colour = mix(colour, rgb(0xffe9a8), 0.7 * glow(distance, 0.2));
    colour = mix(colour, rgb(0xfff8dc), 1 - smooth(0.088, 0.096, distance));
    const far = horizon - 0.16 * ridge(seed, u * 3.5);
    if (v > far) colour = rgb(0x7a3868);
    const near = horizon - 0.3 * smooth(0.16, 0.5, Math.abs(u - sunX)) * ridge(seed + 5, u * 4);
    return v > near ? rgb(0x38204f) : colour;
  };
  return (u, v) => {
    if (v <= horizon) return above(u, v);
    const depth = (v - horizon) / (1 - horizon);
    const ripple = Math.sin(60 * depth ** 0.7 + 2 * Math.sin(9 * u));
    const mirrored = above(u + 0.03 * depth * ripple, horizon - 0.85 * (v - horizon));
    const sea = mix(mirrored, rgb(0x241a52), 0.25 + 0.45 * depth);
    const path = glow(u - sunX, 0.05 + 0.1 * depth) * (0.45 + 0.4 * ripple);
    return mix(sea, rgb(0xffe2a0), path);
  };
}

/** Northern lights over snowy mountains. */
function aurora(seed: number): Scene {
  const phase = 6 * draw(seed, 1);
  const curtain = (u: number, v: number, at: number, bend: number): number => {
    const foot = at + bend * Math.sin(5 * u + phase) + 0.04 * Math.sin(13 * u + 2 * phase);
    const height = foot - v;
    const rays = 0.65 + 0.35 * Math.sin(34 * u + 6 * Math.sin(4 * u + phase));
    return height < 0 ? glow(height, 0.03) * rays : Math.exp(-height / 0.17) * rays;
  };
  return (u, v) => {
    let colour = mix(rgb(0x070b26), rgb(0x16435c), smooth(0, 0.8, v));
    colour = mix(colour, rgb(0xffffff), stars(seed, u, v, 9));
    colour = mix(colour, rgb(0x9a4fd0), 0.65 * curtain(u, v + 0.13, 0.42, 0.1));
    colour = mix(colour, rgb(0x52f2a0), 0.9 * curtain(u, v, 0.46, 0.1));
    const far = 0.84 - 0.32 * ridge(seed, u * 4.5);
    if (v > far) {
      const snow = 1 - smooth(0.03, 0.1, v - far + 0.04 * Math.sin(50 * u));
      colour = mix(rgb(0x274a6b), rgb(0xd8f0f2), snow);
    }
    const near = 0.93 - 0.14 * ridge(seed + 3, u * 6) - 0.02 * Math.abs(Math.sin(28 * u));
    return v > near ? rgb(0x0a1c2c) : colour;
  };
}

/** A hot-air balloon over green hills. */
function balloon(seed: number): Scene {
  const x = 0.36 + 0.28 * draw(seed, 1);
  const y = 0.34;
  const cloths = [rgb(0xe8423f), rgb(0xffc53d), rgb(0x2f7fd6), rgb(0xfff4dc)] as const;
  const first = Math.floor(4 * draw(seed, 2));
  const cloud = (u: number, v: number, at: number, height: number): number => {
    const puffs = [-0.09, -0.03, 0.04, 0.1].map((dx, i) =>
      Math.hypot(u - at - dx, 1.3 * (v - height + (i % 2 ? 0.025 : 0))),
    );
    return 1 - smooth(0.035, 0.075, Math.min(...puffs));
  };
  const land: Scene = (u, v) => {
    let colour = mix(rgb(0x3d93dc), rgb(0xd3f0fb), smooth(0, 0.75, v));
    colour = mix(colour, rgb(0xffffff), 0.9 * cloud(u, v, 0.15 + 0.1 * draw(seed, 3), 0.16));
    colour = mix(colour, rgb(0xffffff), 0.8 * cloud(u, v, 0.8 + 0.1 * draw(seed, 4), 0.46));
    for (const [n, tint] of [rgb(0x7fb7a4), rgb(0x6cb04e), rgb(0x3f8a3c)].entries()) {
      const top = 0.72 + 0.1 * n - 0.14 * noise(seed + n, u * 2.2 + n);
      if (v > top) colour = mix(mix(tint, rgb(0xf4f3a0), 0.3), tint, smooth(0, 0.12, v - top));
    }
    return colour;
  };
  return (u, v) => {
    const below = v - y;
    const radius = 0.215;
    // A ball whose lower half tapers to the mouth.
    const half =
      below < 0.06 ? Math.sqrt(Math.max(0, radius ** 2 - below ** 2)) : 0.207 - 0.82 * (below - 0.06);
    const across = (u - x) / half;
    if (below > -radius && below < 0.25 && Math.abs(across) < 1) {
      const gore = Math.floor((Math.asin(across) / Math.PI + 0.5) * 7);
      const cloth = cloths[(first + gore) % 4] as Colour;
      const light = 1.06 - 0.4 * smooth(-0.6, 1, across) - 0.12 * smooth(-0.1, 0.25, below);
      return [cloth[0] * light, cloth[1] * light, cloth[2] * light];
    }
    if (below > 0.3 && below < 0.36 && Math.abs(u - x) < 0.042) return rgb(0x6b4226);
    if (below >= 0.25 && below <= 0.3 && Math.abs(Math.abs(u - x) - 0.04) < 0.008) return rgb(0x5a4636);
    return land(u, v);
  };
}

/** A planet with rings. */
function planet(seed: number): Scene {
  const x = 0.44 + 0.12 * draw(seed, 1);
  const y = 0.44 + 0.1 * draw(seed, 2);
  const tilt = -0.5 + 0.3 * draw(seed, 3);
  const radius = 0.23;
  const bands = [
    [0, rgb(0xb5673f)],
    [0.3, rgb(0xf0c48a)],
    [0.5, rgb(0xd9855a)],
    [0.7, rgb(0xf7e0b5)],
    [1, rgb(0x9c5a4a)],
  ] as const;
  const space: Scene = (u, v) => {
    const cloud = noise(seed, 3 * u + 2 * v) * noise(seed + 1, 3 * v - 1.5 * u + 9);
    let colour = mix(rgb(0x0b0a24), rgb(0x4a2380), Math.min(1, 1.5 * cloud));
    colour = mix(colour, rgb(0x1d6c8c), 0.6 * glow(Math.hypot(u - 0.9, v - 0.1), 0.4));
    return mix(colour, rgb(0xffffff), stars(seed, u, v, 8));
  };
  return (u, v) => {
    const dx = (u - x) * Math.cos(tilt) + (v - y) * Math.sin(tilt);
    const dy = (v - y) * Math.cos(tilt) - (u - x) * Math.sin(tilt);
    const distance = Math.hypot(dx, dy);
    const orbit = Math.hypot(dx, dy / 0.28);
    let colour = space(u, v);
    if (distance < radius) {
      const latitude = Math.asin(dy / radius) / Math.PI + 0.5 + 0.025 * Math.sin(12 * dx);
      const light = 0.25 + 0.85 * smooth(-0.2, 0.17, 0.12 - (u - x) - 0.6 * (v - y));
      const [r, g, b] = gradient(bands, latitude);
      colour = [r * light, g * light, b * light];
    }
    const ring = smooth(0.29, 0.3, orbit) * (1 - smooth(0.45, 0.46, orbit));
    const gap = 1 - 0.8 * glow(orbit - 0.375, 0.014);
    const behind = distance < radius && dy < 0;
    return behind
      ? colour
      : mix(colour, mix(rgb(0xe9d3a6), rgb(0x9a7f86), smooth(0.3, 0.45, orbit)), 0.9 * ring * gap);
  };
}

/** A sailing boat on a summer's sea, a lighthouse behind it. */
function regatta(seed: number): Scene {
  const horizon = 0.6;
  const boat = 0.3 + 0.14 * draw(seed, 1);
  const tower = 0.8 + 0.06 * draw(seed, 2);
  const sail = [rgb(0xf26b4e), rgb(0xf2b134), rgb(0xe0558f)][Math.floor(3 * draw(seed, 3))] as Colour;
  const shore: Scene = (u, v) => {
    let colour = mix(rgb(0x2f9fd0), rgb(0xfff0cf), smooth(0, horizon, v));
    colour = mix(
      colour,
      rgb(0xffffff),
      0.7 * glow((v - 0.2 - 0.04 * noise(seed, 3 * u)) / noise(seed + 1, 4 * u), 0.05),
    );
    const rock =
      horizon -
      0.14 * Math.sqrt(Math.max(0, 1 - ((u - tower - 0.04) / 0.24) ** 2)) * (0.7 + 0.3 * ridge(seed, 9 * u));
    const side = Math.abs(u - tower) - 0.035 - 0.05 * (v - 0.2);
    if (v > 0.24 && side < 0) colour = Math.floor((v - 0.24) / 0.075) % 2 ? rgb(0xfaf6ee) : rgb(0xd43d3d);
    if (v > 0.18 && v <= 0.24 && Math.abs(u - tower) < 0.028) colour = rgb(0xffe873);
    if (v > 0.13 && v <= 0.18 && Math.abs(u - tower) < 0.9 * (v - 0.13)) colour = rgb(0x3a3f52);
    return v > rock ? mix(rgb(0x6f7a5a), rgb(0x4a4a4a), smooth(0, 0.12, v - rock)) : colour;
  };
  const ship = (u: number, v: number): Colour | undefined => {
    const keel = Math.abs(u - boat) - 0.17 + 0.9 * (v - 0.68);
    if (v > 0.68 && v < 0.75 && keel < 0) return v < 0.695 ? rgb(0xfff6e6) : rgb(0x5b2d25);
    const down = (v - 0.16) / 0.49;
    if (down < 0 || down > 1) return undefined;
    if (u > boat + 0.012 && u < boat + 0.012 + 0.19 * down) return mix(sail, rgb(0xffffff), 0.25 * down);
    if (u < boat - 0.012 && u > boat - 0.012 - 0.14 * Math.max(0, down - 0.15)) return rgb(0xfffaf0);
    return v < 0.69 && Math.abs(u - boat) < 0.009 ? rgb(0x5b4030) : undefined;
  };
  return (u, v) => {
    const hull = ship(u, v);
    if (hull) return hull;
    if (v <= horizon) return shore(u, v);
    const depth = (v - horizon) / (1 - horizon);
    const wave = Math.sin(40 * depth ** 0.75 + 3 * Math.sin(7 * u + seed));
    const water = mix(rgb(0x5fc3cf), rgb(0x0f4f86), smooth(0, 0.9, depth));
    const mirrored = ship(u + 0.02 * wave, 1.42 - v);
    const sea = mirrored ? mix(water, mirrored, 0.35) : water;
    return mix(sea, rgb(0xe9fbff), 0.22 * Math.max(0, wave) * (0.4 + 0.6 * depth));
  };
}

const SCENES = { sunset, aurora, balloon, planet, regatta };

/** Draws the picture of `seed` (an integer). Neighbouring seeds show different scenes; `size` is in pixels. */
export function drawPicture(seed: number, size = 64): Picture {
  const names = Object.keys(SCENES) as Array<keyof typeof SCENES>;
  const name = names[(seed >>> 0) % names.length] as keyof typeof SCENES;
  const scene = SCENES[name](seed >>> 0);
  const pixels = new Float32Array(size * size * 3);
  const fine = size * SUPERSAMPLING;
  for (let y = 0; y < fine; y++) {
    for (let x = 0; x < fine; x++) {
      const colour = scene((x + 0.5) / fine, (y + 0.5) / fine);
      const at = 3 * (Math.floor(y / SUPERSAMPLING) * size + Math.floor(x / SUPERSAMPLING));
      for (const [channel, value] of colour.entries()) {
        pixels[at + channel]! += Math.min(1, Math.max(0, value)) / SUPERSAMPLING ** 2;
      }
    }
  }
  return { scene: name, width: size, height: size, pixels };
}
