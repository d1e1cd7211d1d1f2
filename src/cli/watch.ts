/**
 * `trainwire watch`: a job in the terminal. Exit codes: 0 the job was completed (or `--once`), 1 there is no such job or
 * the hub refuses, 3 the job failed or was cancelled, 130 Ctrl-C.
 */
import { constants } from "node:os";
import { Command, Option } from "commander";
import { TrainwireClient } from "../../client/index.ts";
import { loadConfig } from "../config.ts";
import { type Access, access, hubUrl, jobId } from "./access.ts";
import { type Ending, Follower } from "./follower.ts";
import { Json, Lines, Live, Once, type Output } from "./outputs.ts";
import { harmless } from "./text.ts";

interface Options {
  tenant: string;
  url?: string;
  json?: boolean;
  once?: boolean;
  wait?: boolean;
}

/** For `--once`, which does not try forever. */
const ONCE_MS = 10_000;

export function watchCommand(): Command {
  return new Command("watch")
    .description("show a job live; without JOB the tenant's newest one, and then always the next")
    .argument("[job]", "id of the job", jobId)
    .option("--tenant <id>", "the tenant, when the token is signed here", "demo")
    .option("--url <url>", "the hub (default: TRAINWIRE_URL)", hubUrl)
    .option("--wait", "wait for JOB, up to an hour, when it does not exist yet")
    .option("--json", "one line of JSON for each event and gap, as delivered")
    .addOption(
      new Option("--once", "show how the job stands now, with --json its snapshot, and exit").conflicts(
        "wait",
      ),
    )
    .addHelpText(
      "after",
      "\nExit codes: 0 completed, 1 no such job or refused, 2 wrong usage, 3 failed or cancelled, 130 Ctrl-C.",
    )
    .action(watch);
}

async function watch(job: string | undefined, options: Options): Promise<void> {
  const { tenant, url, once = false, wait = false } = options;
  const hub = access(loadConfig(), { url, tenant, role: "watcher", subject: "trainwire-watch" });
  const output = outputFor(options, hub);
  const client = new TrainwireClient(hub.connection);
  let timer: NodeJS.Timeout | undefined;
  let follower: Follower | undefined;
  const ending = new Promise<Ending>((end) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => end({ code: 128 + constants.signals[signal] }));
    }
    // Whoever reads our output has seen enough.
    process.stdout.on("error", () => end({ code: 0 }));
    let trouble = "no answer from the hub";
    tellConnection(client, output, {
      trouble: (message) => {
        trouble = message;
      },
      refused: (error) => end({ error: hub.explain(error) }),
    });
    follower = new Follower(client, output, { job, tenant, once, wait, access: hub, end });
    follower.begin();
    if (once) timer = setTimeout(() => end({ error: new Error(trouble) }), ONCE_MS);
    client.connect();
  });
  const { code, error } = await ending;
  clearTimeout(timer);
  follower?.close();
  client.close();
  output.close();
  if (error) throw error;
  process.exitCode = code;
}

function outputFor({ json, once = false, tenant }: Options, { connection }: Access): Output {
  const { stdout } = process;
  if (json) return new Json(stdout, { once });
  if (once) return new Once(stdout);
  // A terminal that does not say its size has none to draw on.
  if (stdout.isTTY && stdout.columns > 0 && stdout.rows > 0)
    return new Live(stdout, { hub: connection.url, tenant, hint: "Ctrl-C ends" });
  return new Lines(stdout);
}

/** On the output, or where that has no place for it, on standard error: once when it begins and once when it is over. */
function tellConnection(
  client: TrainwireClient,
  output: Output,
  on: { trouble(message: string): void; refused(error: { code: string; message: string }): void },
): void {
  let isAway = false;
  const away = (message: string) => {
    on.trouble(message);
    if (!isAway && !output.connection) console.error(`trainwire: ${harmless(message)}`);
    isAway = true;
  };
  client.on("state", (state, previous) => {
    output.connection?.(state);
    if (state === "reconnecting" && previous === "connected")
      away("the connection to the hub is lost; reconnecting");
  });
  client.on("welcome", ({ instance_id }) => {
    output.connection?.("connected", instance_id);
    if (isAway && !output.connection) console.error("trainwire: connected");
    isAway = false;
  });
  client.on("error", (error) => {
    if (!error.temporary) return on.refused(error);
    output.connection?.(client.state, error.message);
    away(error.message);
  });
}
