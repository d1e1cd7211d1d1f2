/** Numbers as people read them. */
import type { Num } from "../protocol/types.ts";

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** `1,944` */
export function count(value: number): string {
  return GROUPED.format(value);
}

/** Four significant digits: `0.001234`, `31.25`, `5.200e-5`; NaN and infinities by name. */
export function number(value: Num): string {
  if (typeof value === "string" || value === 0) return String(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(3);
  if (Number.isInteger(value)) return String(value);
  return value.toPrecision(4);
}

/** `8s`, `1m 05s`, `2h 03m`, `3d 4h` */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3_600)}h ${two(Math.floor((whole % 3_600) / 60))}m`;
  return `${Math.floor(whole / 86_400)}d ${Math.floor((whole % 86_400) / 3_600)}h`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `812 B`, `6.1 KiB`, `23.5 GiB` */
export function bytes(value: number): string {
  let unit = 0;
  let amount = value;
  while (amount >= 999.5 && unit < UNITS.length - 1) {
    amount /= 1_024;
    unit++;
  }
  return `${unit === 0 || amount >= 100 ? amount.toFixed(0) : amount.toFixed(1)} ${UNITS[unit]}`;
}

/** The time of day on this machine's clock: `14:25:31`. */
export function clock(iso: string): string {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "--:--:--" : date.toTimeString().slice(0, 8);
}

const BARS = "▁▂▃▄▅▆▇█";

/** In a curve: a value that is no number, or infinite. */
export const NO_NUMBER = "×";

/**
 * One character a value, the lowest and the highest of them as low and as high as there is; `×` for what is no number.
 * Positive values are compared by their logarithms: a loss falls by powers of ten.
 */
export function sparkline(values: readonly number[]): string {
  const numbers = values.filter(Number.isFinite);
  const isPositive = numbers.every((value) => value > 0);
  const height = (value: number) => (isPositive ? Math.log(value) : value);
  const heights = numbers.map(height);
  const lowest = Math.min(...heights);
  const span = Math.max(...heights) - lowest;
  return values
    .map((value) => {
      if (!Number.isFinite(value)) return NO_NUMBER;
      return BARS[span > 0 ? Math.round(((height(value) - lowest) / span) * (BARS.length - 1)) : 0];
    })
    .join("");
}

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** The two parts of a bar of so many columns: done and to do. */
export function bar(share: number, room: number): [string, string] {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * room * 8);
  const done = "█".repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8];
  return [done, "░".repeat(room - done.length)];
}
