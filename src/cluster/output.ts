/** What a process writes, in a file: read for what it says of itself, shown when it has died, and never large. */
import { closeSync, openSync, readSync, statSync, truncateSync } from "node:fs";

const LARGEST_BYTES = 16_777_216;
/** As much of its end as is looked at. */
const END_BYTES = 65_536;
const LAST_LINES = 8;

export class Output {
  readonly path: string;
  /** Its size when it was opened last. */
  #opened = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** For a child's standard streams: appends, so that the file can be emptied under it. Whoever opens it closes it. */
  open(): number {
    this.#opened = this.size;
    return openSync(this.path, "a");
  }

  /** Bytes so far, 0 before the first. */
  get size(): number {
    return statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** What was written after so many bytes, its end if it is long. */
  since(bytes: number): string {
    const { size } = this;
    const from = Math.max(bytes > size ? 0 : bytes, size - END_BYTES);
    if (size <= from) return "";
    const file = openSync(this.path, "r");
    try {
      const buffer = Buffer.alloc(size - from);
      return buffer.toString("utf8", 0, readSync(file, buffer, 0, buffer.length, from));
    } finally {
      closeSync(file);
    }
  }

  /** What was written since it was opened last. */
  newest(): string {
    return this.since(this.#opened);
  }

  /** The last lines. */
  last(): string[] {
    return this.since(0).trimEnd().split("\n").filter(Boolean).slice(-LAST_LINES);
  }

  /** Empties it when it has become large. */
  trim(): void {
    if (this.size > LARGEST_BYTES) truncateSync(this.path);
  }
}
