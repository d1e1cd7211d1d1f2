/** The terminal sends Ctrl-C to npm and to us, and npm passes its own on: what comes so soon is the same signal. */
export const SAME_SIGNAL_MS = 500;

/** Calls `end` with the first SIGINT or SIGTERM, and `again` with each later one but the first one's doubles. */
export function onEnd(end: (signal: NodeJS.Signals) => void, again: () => void): void {
  let first: { signal: NodeJS.Signals; at: number } | undefined;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, (signal) => {
      if (!first) {
        first = { signal, at: Date.now() };
        end(signal);
      } else if (signal !== first.signal || Date.now() - first.at > SAME_SIGNAL_MS) again();
    });
  }
}
