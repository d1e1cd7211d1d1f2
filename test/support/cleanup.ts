/**
 * What the test process has to undo: ended here also when it crashes or is interrupted, and listed for the check
 * that a test has cleaned up after itself.
 */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const pending = new Map<() => void, string>();

/** Runs `undo` when this process exits, unless the returned function was called before. `undo` must be synchronous. */
export function undoAtExit(label: string, undo: () => void): () => void {
  pending.set(undo, label);
  return () => pending.delete(undo);
}

/** Labels of everything that is still to be undone. */
export function notUndone(): string[] {
  return [...pending.values()];
}

process.on("exit", () => {
  // Processes before the folders they were given.
  for (const undo of [...pending.keys()].reverse()) {
    try {
      undo();
    } catch (error) {
      console.error(error);
    }
  }
});

// A signal ends a Node process without its exit event. SIGINT is left to whoever else listens: they will exit.
const ending = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
for (const [signal, code] of Object.entries(ending)) {
  process.on(signal, () => {
    if (signal === "SIGINT" && process.listenerCount("SIGINT") > 1) return;
    process.exit(code);
  });
}

export interface TempFolder {
  readonly path: string;
  remove(): void;
}

/** A new, empty folder. Whoever makes it removes it. */
export function tempFolder(name: string): TempFolder {
  const path = realpathSync(mkdtempSync(join(tmpdir(), `trainwire-${name}-`)));
  const removePath = () => rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  const forget = undoAtExit(`folder ${path}`, removePath);
  return {
    path,
    remove() {
      removePath();
      forget();
    },
  };
}
