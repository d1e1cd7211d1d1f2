/** The newest checkpoint of the job that is in training, in a file: it outlives the process. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { deserialize, serialize } from "node:v8";
import type { PlanesState } from "./planes.ts";

export interface Checkpoint {
  jobId: string;
  /** Which run of the job has written it, from 1. */
  attempt: number;
  seed: number;
  /** Seconds of training before it. */
  seconds: number;
  planes: PlanesState;
}

export class CheckpointFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Replaces what was there, in one step: whoever dies in the middle leaves the one before. Returns its bytes. */
  write(checkpoint: Checkpoint): number {
    const bytes = serialize(checkpoint);
    const draft = `${this.path}.new`;
    writeFileSync(draft, bytes);
    renameSync(draft, this.path);
    return bytes.length;
  }

  /** Undefined when there is none, or none that can be read. */
  read(): Checkpoint | undefined {
    try {
      return deserialize(readFileSync(this.path)) as Checkpoint;
    } catch {
      return undefined;
    }
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }
}
