/**
 * `trainwire emit`: one event from the command line, or NDJSON from standard input. Exit codes: 0 everything is stored,
 * 1 something was refused or the hub cannot be reached, 2 wrong usage, 130 Ctrl-C.
 */
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { Command, InvalidArgumentError } from "commander";
import { loadConfig } from "../config.ts";
import { LIMITS } from "../protocol/limits.ts";
import { access, hubUrl, jobId } from "./access.ts";
import { count } from "./figures.ts";
import { CALL_BYTES, type Line, Publisher } from "./publisher.ts";
import { harmless, harmlessJson } from "./text.ts";

interface Options {
  job?: string;
  tenant: string;
  url?: string;
  json?: boolean;
}

export function emitCommand(): Command {
  const command = new Command("emit");
  return command
    .description("publish one event, or NDJSON from standard input: lines of {type, data, job_id?, …}")
    .argument("[type]", "event type, for instance training_progress; without it, standard input is read")
    .argument("[data]", "the event's data, in JSON (default: {})", dataOf)
    .option("--job <id>", "job of the events that do not name one themselves", jobId)
    .option("--tenant <id>", "the tenant, when the token is signed here", "demo")
    .option("--url <url>", "the hub (default: TRAINWIRE_URL)", hubUrl)
    .option("--json", "print the hub's answer to each call, refusals with the line of the input")
    .addHelpText("after", HELP)
    .action(async (type: string | undefined, data: object | undefined, options: Options) => {
      if (type !== undefined) await emit(only({ type, data: data ?? {} }), options, () => "");
      else if (process.stdin.isTTY) {
        command.error("error: give an event's type and data, or NDJSON on standard input");
      } else await emit(createInterface({ input: process.stdin }), options, (line) => `line ${line}: `);
    });
}

const HELP = `
  trainwire emit --job my-job training_progress '{"step": 1, "loss": 0.5}'
  trainwire emit --job my-job < events.ndjson

Events are sent again until they are stored or refused, and stored once. What is refused is named on standard error.
Exit codes: 0 everything is stored, 1 something is not, 2 wrong usage, 130 Ctrl-C.`;

async function* only(event: object): AsyncGenerator<string> {
  yield JSON.stringify(event);
}

async function emit(
  input: AsyncIterable<string>,
  options: Options,
  place: (line: number) => string,
): Promise<void> {
  const { tenant, url, json } = options;
  const totals = { stored: 0, duplicates: 0, refused: 0 };
  const refuse = (number: number, { code, message }: { code: string; message: string }) => {
    totals.refused++;
    console.error(`trainwire: ${place(number)}${code}: ${harmless(message)}`);
  };
  const hub = access(loadConfig(), { url, tenant, role: "trainer", subject: "trainwire-emit" });
  const publisher = new Publisher(hub, {
    trouble: (message) => console.error(`trainwire: ${harmless(message)}; trying again`),
    refused: (line, error) => refuse(line.number, error),
    answered(answer, lines) {
      totals.stored += answer.accepted;
      totals.duplicates += answer.duplicates;
      if (!json) return;
      const refused = answer.refused.map((refusal) => ({ ...refusal, line: lines[refusal.index]?.number }));
      console.log(harmlessJson({ ...answer, refused }));
    },
  });
  try {
    for await (const call of calls(events(input, options.job, refuse))) await publisher.publish(call);
  } finally {
    publisher.close();
  }
  if (!json) {
    const { stored, duplicates, refused } = totals;
    console.log(`${count(stored)} stored, ${count(duplicates)} duplicates, ${count(refused)} refused`);
  }
  if (totals.refused > 0) process.exitCode = 1;
}

/** One event a line, with the job and an id of its own. */
async function* events(
  input: AsyncIterable<string>,
  job: string | undefined,
  refuse: (line: number, error: { code: string; message: string }) => void,
): AsyncGenerator<Line> {
  const run = randomBytes(8).toString("hex");
  let number = 0;
  for await (const text of input) {
    number++;
    if (text.trim() === "") continue;
    const event = parse(text);
    if (!event) {
      refuse(number, { code: "malformed", message: "not a JSON object" });
      continue;
    }
    if (job !== undefined) event.job_id ??= job;
    if (event.producer === undefined) event.id ??= `emit-${run}-${number}`;
    const bytes = Buffer.byteLength(JSON.stringify(event));
    if (bytes <= CALL_BYTES) yield { number, event, bytes };
    else refuse(number, { code: "event_too_large", message: `${count(bytes)} bytes` });
  }
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch {
    // Told to whoever wrote the line.
  }
  return undefined;
}

/** What has been read by the time the caller comes for more, within the limits of one call. */
async function* calls(lines: AsyncGenerator<Line>): AsyncGenerator<Line[]> {
  let call: Line[] = [];
  let bytes = 0;
  let next = lines.next();
  for (;;) {
    const got = await (call.length === 0 ? next : ifAny(next));
    if (got && !got.done && call.length < LIMITS.batchEvents && bytes + got.value.bytes <= CALL_BYTES) {
      call.push(got.value);
      bytes += got.value.bytes;
      next = lines.next();
      continue;
    }
    if (call.length > 0) yield call;
    if (got?.done) return;
    call = [];
    bytes = 0;
  }
}

/** Undefined when it is not there within this turn of the event loop. */
function ifAny<T>(next: Promise<T>): Promise<T | undefined> {
  return Promise.race([next, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))]);
}

function dataOf(text: string): object {
  const data = parse(text);
  if (!data) throw new InvalidArgumentError(`a JSON object is wanted, for instance '{"status": "running"}'.`);
  return data;
}
