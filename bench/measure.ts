/** What is measured, and what comes of it. */
import type { HubBuild } from "../test/cluster/hub-process.ts";
import type { System } from "./system.ts";

/** A row of the table of targets. */
export interface Target {
  /** In results: `fanout`, `fanout_single`, `latency_p99`, … The first of a measure is the measure's own name. */
  readonly key: string;
  /** One line, with its unit: `hub CPU per delivery, bursts of 20, µs`. */
  readonly title: string;
  /** What the ratio ours / reference (or our own figure) is held against. */
  readonly target: number;
  /** Default: lower is better. */
  readonly higherIsBetter?: boolean;
  /** `ratio`: ours / reference. `absolute`: our own figure; then there is no reference. Default: `ratio`. */
  readonly kind?: "ratio" | "absolute";
}

/** What one alternation has found, by system. `undefined`: this system cannot do it. */
export type Round = Record<string, number | undefined>;

/** What was found for one target. */
export interface Finding {
  readonly key: string;
  readonly rounds: readonly Round[];
  /**
   * What a system comes to in these rounds together, where that is not the median of its figures: a percentile of all
   * their values. Asked thousands of times, also with a round more than once.
   */
  pooled?(rounds: readonly Round[], system: string): number | undefined;
  /** The generator, Redis or the machine was the limit, and so the figure says nothing; why. */
  readonly void?: string;
}

export interface Bench {
  readonly ours: System;
  readonly peers: readonly System[];
  /** Names of those the ratio is taken against: the faster of them in the median. */
  readonly references: readonly string[];
  /** Under a minute for all measures together: few rounds, small numbers. */
  readonly quick: boolean;
  /** At most: 9, or 2 when quick, or what `--rounds` says. A measure may take fewer: memory takes 5, slow takes 3. */
  readonly alternations: number;
  readonly build: HubBuild;
  /** The progress of a measure, one line. */
  say(line: string): void;
}

export interface Measure {
  readonly name: string;
  readonly targets: readonly Target[];
  /** Why it cannot be quick: it is then left out of a quick run, and its rows say this. Default: it can. */
  readonly notQuick?: string;
  /** Cleans up after itself, also when it throws. */
  run(bench: Bench): Promise<Finding[]>;
}
