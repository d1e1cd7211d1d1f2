/**
 * `npm run faults [-- --seed N --rows 1,5 --quick]`: every row of the fault suite with real processes, in an order
 * that the seed decides; one line each. Exits with 0 when all are as promised and within their budgets, with 1 when one
 * is not, and with 2 when it was asked for what there is not. `--quick` runs the short form of the tests, whose budgets
 * are printed and not judged.
 */
import { parseArgs } from "node:util";
import { buildHub, type HubBuild } from "../test/cluster/hub-process.ts";
import { Random } from "../test/cluster/random.ts";
import { ELSEWHERE, ROWS } from "../test/faults/rows.ts";
import {
  type Budget,
  figuresOf,
  LONG,
  measured,
  type Outcome,
  type Row,
  SHORT,
} from "../test/faults/scenario.ts";
import { ensure, REQUIREMENTS, searchPath } from "./requirements.ts";

/** Complaints that are printed; the kept history has all. */
const SHOWN = 10;

const colours = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
const [bold, dim, red, green] = [paint(1), paint(2), paint(31), paint(32)] as const;

interface Wishes {
  seed: number;
  rows: readonly Row[];
  quick: boolean;
}

/** @throws Error in one line, when the command line asks for what there is not. */
function wishes(): Wishes {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      rows: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error(`--seed ${values.seed}: not a whole number`);
  const numbers = values.rows?.split(",").map((text) => Number(text));
  const strange = numbers?.find((number) => !ROWS.some((row) => row.number === number));
  if (strange !== undefined) {
    throw new Error(`--rows ${values.rows}: the rows are ${ROWS.map(({ number }) => number).join(", ")}`);
  }
  const rows = ROWS.filter(({ number }) => numbers?.includes(number) ?? true);
  return { seed, rows: new Random(seed).shuffled(rows), quick: values.quick };
}

async function main({ seed, rows, quick }: Wishes): Promise<boolean> {
  const size = quick ? SHORT : LONG;
  const started = performance.now();
  ensure(REQUIREMENTS);
  process.env.PATH = searchPath();
  const count = rows.length === 1 ? "1 row" : `${rows.length} rows`;
  const load = `${size.hubs} hubs, ${size.perHub} watchers on each, ${size.perSecond} events a second`;
  console.log(`${bold("faults")}, seed ${bold(String(seed))}: ${count}, ${load}`);
  console.log(`${dim("times in ms: p50 / p99 / max")}\n`);
  transient("building the hub");
  let build: HubBuild | undefined;
  let failed = 0;
  try {
    build = await buildHub();
    for (const [i, row] of rows.entries()) {
      transient(`${number(row)}  (${i + 1} of ${rows.length}) ${row.fault}`);
      if (!(await judge(row, row.run({ build, seed, size }), quick))) failed++;
    }
  } finally {
    build?.remove();
  }
  if (rows.length === ROWS.length) tellElsewhere();
  const minutes = ((performance.now() - started) / 60_000).toFixed(1);
  const verdict = failed === 0 ? green("everything as promised") : red(`${failed} of ${rows.length} failed`);
  console.log(`\n${verdict}, seed ${seed}, ${minutes} minutes`);
  return failed === 0;
}

/** Prints the row's line, and below it what was wrong; answers whether nothing was. */
async function judge(row: Row, running: Promise<Outcome>, quick: boolean): Promise<boolean> {
  const started = performance.now();
  let outcome: Outcome;
  try {
    outcome = await running;
  } catch (error) {
    line(red("✘"), row, [`it could not be run: ${(error as Error).stack}`]);
    return false;
  }
  const { complaints, said, recovered, told } = outcome;
  const { budget } = row;
  const time = budget && measured(budget, outcome);
  const late = !quick && budget !== undefined && (time === undefined || time > budget.ms);
  const good = complaints.length === 0 && !late;
  line(good ? green("✔") : red("✘"), row, [
    ...said,
    ...figures("recovered", recovered, budget, late),
    ...figures("told", told, budget, late),
    dim(`${((performance.now() - started) / 1_000).toFixed(0)} s`),
  ]);
  for (const { rule, text } of complaints.slice(0, SHOWN)) console.log(`       ${red(rule)} ${text}`);
  if (complaints.length > SHOWN) console.log(`       and ${complaints.length - SHOWN} more`);
  if (late)
    console.log(
      `       ${red("late")} ${budget.of} ${budget.part} ${time ?? "never"}, not within ${budget.ms} ms`,
    );
  if (!good) console.log(`       history in ${outcome.keep()}`);
  return good;
}

function figures(
  name: Budget["of"],
  values: readonly number[],
  budget: Budget | undefined,
  late: boolean,
): string[] {
  const own = budget?.of === name ? budget : undefined;
  if (values.length === 0 && !own) return [];
  const text = `${name} ${figuresOf(values)}`;
  if (!own) return [text];
  const bound = `${own.part} ≤ ${own.ms}`;
  return [`${bold(text)} ${late ? red(bound) : dim(bound)}`];
}

function line(mark: string, row: Row, parts: readonly string[]): void {
  transient("");
  const all = [row.fault, ...parts];
  console.log(`${mark} ${bold(number(row))}  ${all.join(dim(" · "))}`);
}

/** What is under way, in the terminal's last line until the next one comes. */
function transient(text: string): void {
  if (!process.stdout.isTTY) return;
  const room = (process.stdout.columns || 80) - 1;
  process.stdout.write(`\r\u001b[K${text === "" ? "" : `… ${text}`.slice(0, room)}`);
}

function number(row: Row): string {
  return String(row.number).padStart(2);
}

function tellElsewhere(): void {
  console.log("\nnot in this command:");
  for (const { number, fault, why } of ELSEWHERE) {
    console.log(`  ${bold(String(number).padStart(2))}  ${fault} ${dim(`· ${why}`)}`);
  }
}

/** Asked for what there is not, or cannot be here. */
function refuse(error: unknown, code: number): never {
  console.error((error as Error).message);
  process.exit(code);
}

let asked: Wishes;
try {
  asked = wishes();
} catch (error) {
  refuse(error, 2);
}
try {
  process.exit((await main(asked)) ? 0 : 1);
} catch (error) {
  refuse(error, 1);
}
