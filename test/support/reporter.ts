import { writeFileSync } from "node:fs";
import Mocha from "mocha";

/** What `scripts/test.ts` adds up. */
export interface Counts {
  passed: number;
  failed: number;
  /** Skipped. */
  pending: number;
}

/** The spec reporter, which also writes its counts to the file named by the reporter option `output`. */
export default class CountingReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const output: unknown = options.reporterOptions?.output;
    if (typeof output !== "string") throw new Error("the reporter needs --reporter-option output=<file>");
    runner.once("end", () => {
      const { passes, failures, pending } = this.stats;
      const counts: Counts = { passed: passes, failed: failures, pending };
      writeFileSync(output, JSON.stringify(counts));
    });
  }
}
