/** One run: the systems are compiled, the measures asked one after the other, and what they have found is judged. */
import { missingRow, type Row, rowOf } from "./judge.ts";
import { commitOf, machineOf, versionsOf } from "./machine.ts";
import type { Bench, Measure } from "./measure.ts";
import { compilePrograms, type Programs } from "./programs.ts";
import type { BenchResult } from "./report.ts";
import type { System } from "./system.ts";
import { type ClientName, type ExternalPeer, externalPeer, peers, REFERENCES, trainwire } from "./systems.ts";

const ALTERNATIONS = 9;
const QUICK_ALTERNATIONS = 2;

export interface BenchOptions {
  measures: readonly Measure[];
  /** Small numbers, few rounds, and of the peers only the references and external ones. */
  quick: boolean;
  /** Default: 9, or 2 when quick. */
  alternations?: number;
  externals: readonly ExternalPeer[];
  /** What watches and publishes at Trainwire. Default: `trainwire`. */
  client?: ClientName;
  /** What is going on, a line each. */
  say(line: string): void;
}

export class BenchRun {
  readonly #options: BenchOptions;
  readonly #alternations: number;
  readonly #started = performance.now();
  readonly #setting = {
    date: new Date().toISOString(),
    commit: commitOf(),
    machine: machineOf(),
    versions: versionsOf(),
  };
  /** Ours first. */
  #systems: readonly System[] = [];
  /** Measure → what it has found. */
  readonly #rows = new Map<Measure, readonly Row[]>();
  readonly #failed: Array<{ measure: string; error: string }> = [];

  constructor(options: BenchOptions) {
    this.#options = options;
    this.#alternations = options.alternations ?? (options.quick ? QUICK_ALTERNATIONS : ALTERNATIONS);
  }

  /** A measure that fails does not end the run: its targets are void, and the result says why. */
  async run(): Promise<void> {
    const { measures, say } = this.#options;
    say("compiling");
    const programs = await compilePrograms();
    try {
      const bench = await this.#bench(programs);
      for (const measure of measures) await this.#measure(measure, bench);
    } finally {
      programs.remove();
    }
  }

  /** So far: what was not measured yet is void. */
  result(): BenchResult {
    const { measures, quick } = this.#options;
    return {
      ...this.#setting,
      quick,
      alternations: this.#alternations,
      seconds: Math.round((performance.now() - this.#started) / 1_000),
      systems: this.#systems.map(({ name, description, lacks }) => ({ name, description, lacks })),
      rows: measures.flatMap((measure) => this.#rows.get(measure) ?? this.#missing(measure)),
      failed: this.#failed,
    };
  }

  async #bench(programs: Programs): Promise<Bench> {
    const { quick, externals, client } = this.#options;
    const ours = trainwire(programs, client);
    const own = peers(programs).filter(({ name }) => !quick || REFERENCES.includes(name));
    const others = [...own, ...(await Promise.all(externals.map(externalPeer)))];
    this.#systems = [ours, ...others];
    return {
      ours,
      peers: others,
      references: REFERENCES,
      quick,
      alternations: this.#alternations,
      build: programs.build,
      say: () => {},
    };
  }

  async #measure(measure: Measure, bench: Bench): Promise<void> {
    const say = (line: string) => this.#options.say(`${measure.name}: ${line}`);
    const started = performance.now();
    const judged = { ours: bench.ours.name, references: bench.references };
    if (bench.quick && measure.notQuick !== undefined) {
      const reason = `left out of a quick run: ${measure.notQuick}`;
      this.#rows.set(
        measure,
        measure.targets.map((target) => missingRow(measure.name, target, reason, judged)),
      );
      say(reason);
      return;
    }
    try {
      const findings = await measure.run({ ...bench, say });
      const rows = measure.targets.map((target) => {
        const finding = findings.find(({ key }) => key === target.key);
        if (!finding) return missingRow(measure.name, target, "nothing was found", judged);
        return rowOf(measure.name, target, finding, judged);
      });
      this.#rows.set(measure, rows);
      say(`done in ${((performance.now() - started) / 1_000).toFixed(1)} s`);
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#failed.push({ measure: measure.name, error: text });
      say(`failed: ${text}`);
    }
  }

  #missing(measure: Measure): Row[] {
    const failed = this.#failed.some((each) => each.measure === measure.name);
    const reason = failed ? "the measure failed" : "no time was left";
    const judged = { ours: this.#systems[0]?.name ?? "trainwire", references: REFERENCES };
    return measure.targets.map((target) => missingRow(measure.name, target, reason, judged));
  }
}
