/**
 * `npm run bench`: Trainwire beside its peers, in one run. Exit codes: 0 everything was measured, be targets met or not;
 * 1 a measure failed, or time was over.
 */
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import { BenchRun } from "../bench/bench.ts";
import type { Measure } from "../bench/measure.ts";
import { MEASURES } from "../bench/measures.ts";
import { footOf, summaryOf, tableOf } from "../bench/report.ts";
import { writeResults } from "../bench/results.ts";
import { CLIENTS, type ClientName, type ExternalPeer, REFERENCES } from "../bench/systems.ts";

/** Only against hanging. */
const LIMIT_MS = 30 * 60_000;
const QUICK_LIMIT_MS = 4 * 60_000;
const RESULTS = fileURLToPath(new URL("../bench/results", import.meta.url));
const NAMES = MEASURES.map(({ name }) => name).join(", ");

interface Options {
  quick?: boolean;
  json?: boolean;
  rounds?: number;
  client: ClientName;
  peer: string[];
  driver: string[];
  results: string;
}

const program = new Command("bench")
  .description("Measures Trainwire beside its peers, in alternation, and holds it against its targets.")
  .argument("[measures...]", `which: ${NAMES}; default: all of them`, measureNamed, [])
  .option("--quick", "a minute: small numbers, few rounds, the references only; without slow and scale")
  .option("--json", "the last line is one object, a key for each target; progress goes to standard error")
  .option("--rounds <n>", "alternations; default: 9, or 2 with --quick", whole)
  .addOption(
    new Option(
      "--client <driver>",
      "what speaks with Trainwire: raw WebSockets, socket.io-client, or its SDK",
    )
      .choices(CLIENTS)
      .default(CLIENTS[0]),
  )
  .option(
    "--peer <name=command>",
    "a further peer: a command that serves on PORT, with REDIS_URL",
    collected,
    [],
  )
  .option("--driver <path>", "how that peer is spoken with: a module that exports a Driver", collected, [])
  .option("--results <folder>", "where results and their page are kept", RESULTS)
  .action(bench);

async function bench(measures: Measure[], options: Options): Promise<void> {
  const { quick = false, json = false, rounds, client, results } = options;
  const started = performance.now();
  const say = (line: string) => {
    const text = `${((performance.now() - started) / 1_000).toFixed(1).padStart(6)}  ${line}`;
    if (json) console.error(text);
    else console.log(text);
  };
  const run = new BenchRun({
    measures: measures.length > 0 ? MEASURES.filter((each) => measures.includes(each)) : MEASURES,
    quick,
    ...(rounds !== undefined && { alternations: rounds }),
    externals: externalsOf(options),
    client,
    say,
  });
  const conclude = () => {
    const result = run.result();
    const { page } = writeResults(result, REFERENCES, results);
    for (const line of ["", ...tableOf(result), "", ...footOf(result), "", `plots: ${page}`]) {
      if (json) console.error(line);
      else console.log(line);
    }
    if (json) console.log(JSON.stringify(summaryOf(result)));
    if (result.failed.length > 0) process.exitCode = 1;
  };
  const limit = setTimeout(
    () => {
      say("not over in time: this is what there is");
      conclude();
      process.exit(1);
    },
    quick ? QUICK_LIMIT_MS : LIMIT_MS,
  );
  await run.run();
  clearTimeout(limit);
  conclude();
}

function externalsOf({ peer, driver }: Options): ExternalPeer[] {
  if (peer.length !== driver.length) program.error("error: each --peer needs its --driver.");
  return peer.map((text, i) => {
    const at = text.indexOf("=");
    if (at < 1) program.error(`error: --peer wants name=command, not '${text}'.`);
    return { name: text.slice(0, at), command: text.slice(at + 1), driver: driver[i] as string };
  });
}

function measureNamed(name: string, before: Measure[]): Measure[] {
  const measure = MEASURES.find((each) => each.name === name);
  if (!measure) throw new InvalidArgumentError(`it is one of: ${NAMES}.`);
  return [...before, measure];
}

function collected(value: string, before: string[]): string[] {
  return [...before, value];
}

function whole(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new InvalidArgumentError("a whole number from 1 to 999 is wanted.");
  return Number(text);
}

await program.parseAsync();
// What may still be open belongs to nobody any more.
process.exit();
