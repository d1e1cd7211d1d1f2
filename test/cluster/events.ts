/** The events of the load: like a training's, and each one says of itself who sent it and what its bytes must be. */
import { crc32 } from "node:zlib";
import type { EventMap, EventType, PublishedEvent, TrainingProgress } from "../../src/protocol/types.ts";
import type { Mark } from "./history.ts";
import type { Random } from "./random.ts";

/** Quotes, escapes, line ends, two- to four-byte characters: what a wire may mangle. */
const WORDS = [
  "epoch",
  "é",
  "损失",
  "🚂",
  '"quoted"',
  "back\\slash",
  "line\nend",
  "\u2028",
  "{",
  "]",
  "\u0001",
  "0.1",
];

export function crcOf(data: unknown): number {
  return crc32(JSON.stringify(data));
}

/** Of 20 events 12 log lines, 5 samples, 2 validations, 1 status: logs flood, statuses are few. */
const MIX: readonly EventType[] = [
  ...Array<EventType>(12).fill("log"),
  ...Array<EventType>(5).fill("sample_generated"),
  ...Array<EventType>(2).fill("validation_result"),
  "training_status",
];

export function durableEvent(
  random: Random,
  jobId: string,
  mark: Omit<Mark, "crc">,
  type: EventType = random.pick(MIX),
): PublishedEvent & { metadata: Mark & { [key: string]: string | number } } {
  return marked(type, jobId, mark, DATA[type as keyof typeof DATA](random, mark.n));
}

/** A log line of so many characters. */
export function largeEvent(
  jobId: string,
  mark: Omit<Mark, "crc">,
  characters: number,
): ReturnType<typeof durableEvent> {
  return marked("log", jobId, mark, { message: "x".repeat(characters), line: mark.n });
}

function marked(
  type: EventType,
  jobId: string,
  mark: Omit<Mark, "crc">,
  data: EventMap[keyof typeof DATA],
): ReturnType<typeof durableEvent> {
  return { type, job_id: jobId, data, metadata: { ...mark, crc: crcOf(data) } };
}

const DATA = {
  log: (random: Random, n: number): EventMap["log"] => ({
    level: random.pick(["debug", "info", "warning", "error"]),
    message: words(random, 2, 12),
    line: n,
  }),
  sample_generated: (random: Random, n: number): EventMap["sample_generated"] => ({
    sample_id: `sample-${n}`,
    step: n,
    prompt: words(random, 1, 5),
    url: `https://samples.example.org/${n}.png`,
  }),
  validation_result: (random: Random, n: number): EventMap["validation_result"] => ({
    step: n,
    metrics: {
      "val/loss": random.next(),
      psnr: random.next() * 1e20,
      tiny: random.next() * 5e-300,
      none: "NaN",
    },
  }),
  training_status: (random: Random): EventMap["training_status"] => ({
    // From each of them any other is legal.
    status: random.pick(["running", "paused", "queued"]),
    message: words(random, 1, 4),
  }),
};

export function lastStatus(
  jobId: string,
  mark: Omit<Mark, "crc">,
): PublishedEvent & { metadata: Mark & { [key: string]: string | number } } {
  const data: EventMap["training_status"] = { status: "completed", end_reason: "finished" };
  return { type: "training_status", job_id: jobId, data, metadata: { ...mark, crc: crcOf(data) } };
}

/** Not every field every time: a watcher must end with the newest of each. */
export function progressData(random: Random, step: number, marker: string): TrainingProgress {
  const data: TrainingProgress = { step, loss: random.chance(0.01) ? "Infinity" : random.next() };
  if (step % 5 === 0) data.message = `${marker} ${step}`;
  if (step % 7 === 0) data.stage = `stage ${step}`;
  if (step % 3 === 0) data.metrics = { [random.pick(["psnr", "val/accuracy", "grad"])]: random.next() };
  return data;
}

function words(random: Random, low: number, high: number): string {
  return Array.from({ length: random.int(low, high) }, () => random.pick(WORDS)).join(" ");
}
