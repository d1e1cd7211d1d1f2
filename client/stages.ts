import type { TrainingProgress } from "../src/protocol/types.ts";
import { TrainwireError } from "./errors.ts";

/** Each stage's name → the job's percentage (0 to 100) at which it ends. They follow each other by this number. */
export type StageTable = Readonly<Record<string, number>>;

interface Stage {
  name: string;
  begin: number;
  end: number;
}

/** Made within the trainer's try: what it throws is reported. */
type Publish = (build: () => TrainingProgress) => void;

/**
 * The stages of a job on a scale of 0 to 100; made by `Run.stages`. Publishes `training_progress` with `stage`,
 * `stage_progress` (per cent of the stage) and `progress` (per cent of the job). What is wrong is reported by the
 * trainer's `onError`, never thrown.
 */
export class Stages {
  readonly #publish: Publish;
  readonly #table: readonly Stage[] = [];
  #present: Stage | undefined;
  /** A message stays until the next one: that of the stage before must not stand beside this one. */
  #spoke = false;

  /** Use `Run.stages`. */
  constructor(table: StageTable, publish: Publish) {
    this.#publish = publish;
    try {
      this.#table = read(table);
    } catch (cause) {
      publish(() => {
        throw cause;
      });
    }
  }

  /** The stage that was entered last. */
  get stage(): string | undefined {
    return this.#present?.name;
  }

  /** A stage begins: the job stands where the stage before it ends. Stages may be left out, or entered again. */
  enter(name: string, message?: string): void {
    this.#publish(() => {
      const stage = this.#table.find((each) => each.name === name);
      if (!stage) {
        const names = this.#table.map((each) => `"${each.name}"`).join(", ");
        throw new TrainwireError("invalid_event", `No stage "${name}" in the table: ${names}.`);
      }
      this.#present = stage;
      return this.#progress(stage, 0, message ?? (this.#spoke ? "" : undefined));
    });
  }

  /**
   * How far the present stage is.
   *
   * @param fraction 0 to 1; what is outside is taken as the nearer end.
   * @param fields what else is to be told at the same time, for instance `{epoch, loss}`.
   */
  progress(
    fraction: number,
    fields: Omit<TrainingProgress, "stage" | "stage_progress" | "progress"> = {},
  ): void {
    this.#publish(() => {
      if (!this.#present) throw new TrainwireError("invalid_event", "No stage has been entered.");
      if (typeof fraction !== "number" || Number.isNaN(fraction)) {
        throw new TrainwireError("invalid_event", "A stage's progress is a number from 0 to 1.");
      }
      const { message, ...rest } = fields;
      const told = this.#progress(this.#present, Math.min(Math.max(fraction, 0), 1), message);
      return { ...rest, ...told };
    });
  }

  #progress({ name, begin, end }: Stage, fraction: number, message: string | undefined): TrainingProgress {
    if (message !== undefined) this.#spoke = message !== "";
    return {
      stage: name,
      stage_progress: hundredths(fraction * 100),
      progress: hundredths(begin + (end - begin) * fraction),
      ...(message !== undefined && { message }),
    };
  }
}

function read(table: StageTable): Stage[] {
  const ends = Object.entries(table);
  if (ends.length === 0) throw new TrainwireError("invalid_event", "The table of stages is empty.");
  for (const [name, end] of ends) {
    if (!(typeof end === "number" && end >= 0 && end <= 100)) {
      throw new TrainwireError("invalid_event", `Stage "${name}" ends at a percentage from 0 to 100.`);
    }
  }
  // Not by the order of the keys: JavaScript puts names that look like numbers first.
  ends.sort(([, a], [, b]) => a - b);
  return ends.map(([name, end], index) => ({ name, begin: ends[index - 1]?.[1] ?? 0, end }));
}

function hundredths(value: number): number {
  return Math.round(value * 100) / 100;
}
