/**
 * `npm test`: every check in order, then one last line "N passed, N failed". A mocha run counts its tests,
 * any other step counts as one. Only missing requirements stop the run early.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { processesLeft } from "../test/support/processes-left.ts";
import type { Counts } from "../test/support/reporter.ts";
import { ensure, MissingRequirements, REQUIREMENTS, searchPath } from "./requirements.ts";

/** A step that takes longer is ended and counts as failed. */
const STEP_LIMIT_MS = 20 * 60_000;

const root = fileURLToPath(new URL("..", import.meta.url));
/** One folder for this run: its path marks the run's processes, `tmp` in it is their temporary folder. */
const run = realpathSync(mkdtempSync(join(tmpdir(), "trainwire-")));
const temporary = join(run, "tmp");
mkdirSync(temporary);

const total: Counts = { passed: 0, failed: 0, pending: 0 };
let current: ChildProcess | undefined;
let interrupted = false;

const PASSED: Counts = { passed: 1, failed: 0, pending: 0 };
const FAILED: Counts = { passed: 0, failed: 1, pending: 0 };

async function main(): Promise<void> {
  if (!(await step("requirements", requirements))) return;
  await step("format and lint", () => npm("lint"));
  await step("types", () => npm("types"));
  await step("tests", () => mocha("test/**/*.test.ts", ["test/cluster/**", "test/faults/**"]));
  if (existsSync(join(root, "test/cluster"))) {
    await step("cluster tests", () => mocha("test/cluster/**/*.test.ts"));
  }
  await step("fault tests", () => mocha("test/faults/**/*.test.ts"));
  await step("nothing left behind", nothingLeft);
}

/** Runs one step and adds its counts; answers whether all of it passed. */
async function step(title: string, body: () => Counts | Promise<Counts>): Promise<boolean> {
  if (interrupted && body !== nothingLeft) return false;
  const started = Date.now();
  console.log(`\n=== ${title}`);
  let counts: Counts;
  try {
    counts = await body();
  } catch (error) {
    console.error(error instanceof MissingRequirements ? error.message : error);
    counts = FAILED;
  }
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.pending += counts.pending;
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`--- ${title}: ${counts.failed === 0 ? "passed" : "FAILED"}, ${seconds} s`);
  return counts.failed === 0;
}

function requirements(): Counts {
  for (const line of ensure(REQUIREMENTS)) console.log(line);
  return PASSED;
}

async function npm(script: string): Promise<Counts> {
  return (await execute("npm", ["run", "--silent", script])) ? PASSED : FAILED;
}

let mochaRuns = 0;

/** In a process of its own, with the settings that package.json has for mocha. */
async function mocha(files: string, ignored: readonly string[] = []): Promise<Counts> {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const nodeOptions: string[] = manifest.mocha["node-option"];
  const output = join(run, `counts-${++mochaRuns}.json`);
  const succeeded = await execute(process.execPath, [
    ...nodeOptions.map((option) => `--${option}`),
    fileURLToPath(import.meta.resolve("mocha/lib/cli/cli.js")),
    ...["--reporter", "./test/support/reporter.ts", "--reporter-option", `output=${output}`],
    ...["--forbid-only", files],
    ...ignored.flatMap((glob) => ["--ignore", glob]),
  ]);
  // A run that crashed has no counts; one that fails after its last test has counts without a failure.
  if (!existsSync(output)) {
    console.error("the run ended before its last test");
    return FAILED;
  }
  const counts: Counts = JSON.parse(readFileSync(output, "utf8"));
  return succeeded || counts.failed > 0 ? counts : { ...counts, failed: 1 };
}

/** Ends what it finds, after saying so. */
async function nothingLeft(): Promise<Counts> {
  const processes = await processesLeft(run);
  for (const { pid, command } of processes) {
    console.error(`process ${pid} is still there: ${command}`);
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      console.error(`process ${pid} has ended by now`);
    }
  }
  // Caches of tsx and, on newer versions of Node, npm.
  const files = readdirSync(temporary).filter((name) => !/^(tsx-\d+|node-compile-cache)$/.test(name));
  for (const name of files) console.error(`in the temporary folder: ${name}`);
  return processes.length + files.length === 0 ? PASSED : FAILED;
}

/** Runs a command with its output shown as it comes; answers whether it succeeded. */
function execute(command: string, args: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, PATH: searchPath(), TMPDIR: temporary },
    });
    current = child;
    const limit = setTimeout(() => {
      console.error(`not over after ${STEP_LIMIT_MS / 60_000} minutes`);
      child.kill("SIGKILL");
    }, STEP_LIMIT_MS);
    const over = (succeeded: boolean) => {
      clearTimeout(limit);
      current = undefined;
      resolve(succeeded);
    };
    child.once("error", (error) => {
      console.error(error.message);
      over(false);
    });
    child.once("exit", (code) => over(code === 0));
  });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    interrupted = true;
    current?.kill("SIGTERM");
  });
}

try {
  await main();
} finally {
  rmSync(run, { recursive: true, force: true, maxRetries: 3 });
}
if (interrupted && total.failed === 0) total.failed = 1;
if (total.pending > 0) console.log(`\n${total.pending} skipped`);
console.log(`\n${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;
