/**
 * `npm run load`: three hubs behind nginx by `trainwire cluster`, thousands of watchers, and one fault after the other.
 * Exit codes: 0 nothing was found, 1 something was, 2 the load generator was the limit: the run says nothing.
 */
import { rmSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { type LoadOptions, type LoadResult, LoadRun } from "../test/load/run.ts";

/** Only against hanging. */
const LIMIT_MS = 12 * 60_000;
/** Complaints that are shown; the kept history has all. */
const SHOWN = 20;

interface Options extends Omit<LoadOptions, "say"> {
  json?: boolean;
}

const program = new Command("load")
  .description("Runs a cluster under load, with faults, and judges what everybody has seen.")
  .option("--watchers <n>", "raw WebSocket watchers", whole, 3_000)
  .option("--clients <n>", "clients with socket.io-client; a third stays with polling", whole, 100)
  .option("--jobs <n>", "jobs that train", whole, 60)
  .option("--rate <n>", "events a second of each job, half of them durable", whole, 2)
  .option("--seconds <n>", "load without a fault, in each round", whole, 10)
  .option("--seed <n>", "repeats the choices of a run", whole, Date.now() % 1_000_000)
  .option("--json", "one object on standard output; what is going on then goes to standard error")
  .action(load);

async function load({ json = false, ...options }: Options): Promise<void> {
  const started = Date.now();
  const say = (line: string) => {
    const text = `${((Date.now() - started) / 1_000).toFixed(1).padStart(6)}  ${line}`;
    if (json) console.error(text);
    else console.log(text);
  };
  say(`seed ${options.seed}: ${options.watchers} watchers, ${options.clients} clients, ${options.jobs} jobs`);
  const run = new LoadRun({ ...options, say });
  const limit = setTimeout(() => {
    console.error(`Not over after ${LIMIT_MS / 60_000} minutes; histories may be in ${run.keptIn}.`);
    process.exit(1);
  }, LIMIT_MS);
  try {
    const result = await run.run();
    if (json) console.log(JSON.stringify(result, null, 2));
    conclude(result, say);
    if (result.kept === undefined) rmSync(run.keptIn, { recursive: true, force: true });
  } finally {
    clearTimeout(limit);
    await run.close();
  }
}

function conclude(
  { complaints, kept, seconds, seed, ...result }: LoadResult,
  say: (line: string) => void,
): void {
  for (const { rule, text } of complaints.slice(0, SHOWN)) say(`${rule}: ${text}`);
  for (const reason of result.void) say(`the load generator was the limit: ${reason}`);
  if (complaints.length > 0) {
    process.exitCode = 1;
    say(`${complaints.length} complaints with --seed ${seed}, history in ${kept}`);
  } else if (result.void.length > 0) {
    process.exitCode = 2;
    say("VOID: nothing was found, but the run says nothing about the hubs");
  } else say(`nothing was found; ${seconds} s, seed ${seed}`);
}

function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("a whole number is wanted.");
  return Number(text);
}

await program.parseAsync();
// What may still be open belongs to nobody any more.
process.exit();
