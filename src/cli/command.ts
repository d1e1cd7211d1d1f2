/**
 * `trainwire command`: tells a job's trainer to do something, and waits for what becomes of it. Exit codes: 0 it was
 * applied, 1 it was not (failed, expired, refused, no hub), 2 wrong usage, 130 Ctrl-C.
 */
import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import { Argument, Command, InvalidArgumentError } from "commander";
import { TrainwireClient, type TrainwireError } from "../../client/index.ts";
import { loadConfig } from "../config.ts";
import { COMMAND_ACTIONS } from "../protocol/forms.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { CommandAction, CommandUpdate, DeliveredEvent, JsonObject } from "../protocol/types.ts";
import { access, hubUrl, jobId } from "./access.ts";
import { describeCommand } from "./describe.ts";
import { clock } from "./figures.ts";
import { harmless, harmlessJson } from "./text.ts";

interface Options {
  args?: JsonObject;
  timeout: number;
  all?: boolean;
  tenant: string;
  url?: string;
  json?: boolean;
}

/** So long a hub may be away before it is given up. */
const PATIENCE_MS = 15_000;
const LEAST_SECONDS = 0.1;

export function commandCommand(): Command {
  return new Command("command")
    .description("tell a job's trainer to do something, and wait for its answer")
    .argument("<job>", "id of the job", jobId)
    .addArgument(
      new Argument("<action>", "what to do; a trainer says which of them it does").choices(COMMAND_ACTIONS),
    )
    .option("--args <json>", "what the trainer is to know, a JSON object of at most 4 KB", argsOf)
    .option("--timeout <seconds>", "how long the trainer has to come and answer", seconds, 30)
    .option("--all", "tell every trainer of the job (default: the newest with the lowest rank)")
    .option("--tenant <id>", "the tenant, when the token is signed here", "demo")
    .option("--url <url>", "the hub (default: TRAINWIRE_URL)", hubUrl)
    .option("--json", "print the command's events as delivered, and the answer, as lines of JSON")
    .addHelpText("after", HELP)
    .action(command);
}

const HELP = `
  trainwire command my-job pause
  trainwire command my-job sample --args '{"prompt": "a red fox"}' --timeout 120

A token that is signed here has the role operator; TRAINWIRE_TOKEN must have it, or admin.
Exit codes: 0 applied, 1 failed, expired, refused or no hub, 2 wrong usage, 130 Ctrl-C (it may still be carried out).`;

async function command(job: string, action: CommandAction, options: Options): Promise<void> {
  const { tenant, url, json = false, timeout, args, all } = options;
  const hub = access(loadConfig(), { url, tenant, role: "operator", subject: "trainwire-command" });
  const client = new TrainwireClient({ ...hub.connection, connectTimeoutMs: PATIENCE_MS });
  const interrupted = new Promise<number>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => resolve(128 + constants.signals[signal]));
    }
  });
  const order = new Order(client, {
    told: (update, event) => {
      if (!json) console.log(lineOf(update, event?.timestamp));
      else if (event) console.log(harmlessJson(event));
    },
    refused: (error) => hub.explain(error),
    patienceMs: PATIENCE_MS,
    hub: hub.connection.url,
  });
  const given = order
    .give(job, action, {
      timeoutMs: timeout * 1_000,
      ...(args && { args }),
      ...(all && { all }),
    })
    .then((outcome) => {
      if (json) console.log(harmlessJson(outcome.answer));
      if (outcome.error !== undefined) console.error(`trainwire: ${harmless(outcome.error)}`);
      return outcome.error === undefined ? 0 : 1;
    });
  try {
    process.exitCode = await Promise.race([given, interrupted]);
  } finally {
    given.catch(() => {}); // it was interrupted, and is closed now
    client.close();
  }
}

/** `14:25:31  applied: saved` */
function lineOf(update: CommandUpdate, timestamp = new Date().toISOString()): string {
  return `${clock(timestamp)}  ${harmless(describeCommand(update))}`;
}

/** What of the SDK's client is needed. */
export type Commander = Pick<TrainwireClient, "connect" | "on" | "subscribe" | "command">;

export interface OrderOptions {
  /** A state of the command; without an event where the hub's answer was here first. */
  told(update: CommandUpdate, event?: DeliveredEvent): void;
  /** A refusal as an error for people. */
  refused(error: TrainwireError): Error;
  /** So long the hub may take to let us in. */
  patienceMs: number;
  /** Its URL. */
  hub: string;
}

export interface Outcome {
  /** As the verb answers. */
  answer: object;
  /** Why it was not applied, one line; absent when it was. */
  error?: string;
}

const ENDS: ReadonlySet<CommandUpdate["state"]> = new Set(["applied", "failed", "expired"]);

/** One command: given when the job's feed is followed, so that no state of it is missed. */
export class Order {
  readonly #client: Commander;
  readonly #options: OrderOptions;
  readonly #id = randomUUID();
  /** Its last state was printed. */
  #over = false;

  constructor(client: Commander, options: OrderOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** @throws Error in one line when the hub does not let us in, or has no such job. */
  async give(
    job: string,
    action: CommandAction,
    options: { args?: JsonObject; timeoutMs: number; all?: boolean },
  ): Promise<Outcome> {
    await this.#follow(job);
    try {
      const answer = await this.#client.command(job, action, { ...options, commandId: this.#id });
      const { message, data } = answer;
      this.#told({
        command_id: this.#id,
        action,
        state: "applied",
        ...(message !== undefined && { message }),
        ...(data !== undefined && { data }),
      });
      return { answer: { ok: true, data: answer } };
    } catch (error) {
      const refusal = error as TrainwireError;
      const { code, message, temporary } = refusal;
      return { answer: { ok: false, error: { code, message, temporary } }, error: this.#why(refusal) };
    }
  }

  #follow(job: string): Promise<void> {
    const { patienceMs, hub, refused } = this.#options;
    return new Promise((resolve, reject) => {
      let trouble = "no answer";
      const timer = setTimeout(
        () => reject(new Error(`Given up after ${patienceMs / 1_000} s with ${hub}: ${trouble}`)),
        patienceMs,
      );
      const fail = (error: TrainwireError) => {
        if (error.temporary) trouble = error.message;
        else {
          clearTimeout(timer);
          reject(error.code === "job_not_found" ? new Error(`There is no job ${job}.`) : refused(error));
        }
      };
      this.#client.on("error", fail);
      this.#client.subscribe(
        { job_id: job, types: ["command_update"] },
        {
          event: (event) => this.#heard(event),
          live: () => {
            clearTimeout(timer);
            resolve();
          },
          error: fail,
        },
      );
      this.#client.connect();
    });
  }

  #heard(event: DeliveredEvent): void {
    if (event.type !== "command_update") return;
    const update = event.data as CommandUpdate;
    if (update.command_id === this.#id) this.#told(update, event);
  }

  #told(update: CommandUpdate, event?: DeliveredEvent): void {
    if (this.#over) return;
    this.#over = ENDS.has(update.state);
    this.#options.told(update, event);
  }

  /** An unsupported action's message says what the trainer does. */
  #why(error: TrainwireError): string {
    const { code, message } = error;
    const isToken = code === "unauthorized" || code === "forbidden";
    return isToken ? this.#options.refused(error).message : `${code}: ${message}`;
  }
}

function argsOf(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      if (Buffer.byteLength(JSON.stringify(value)) > LIMITS.commandBytes) {
        throw new InvalidArgumentError(`at most ${LIMITS.commandBytes} bytes are taken.`);
      }
      return value as JsonObject;
    }
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw error;
  }
  throw new InvalidArgumentError(`a JSON object is wanted, for instance '{"name": "best"}'.`);
}

function seconds(text: string): number {
  const value = Number(text);
  const most = LIMITS.commandTimeoutMs / 1_000;
  if (!(text.trim() !== "" && value >= LEAST_SECONDS && value <= most)) {
    throw new InvalidArgumentError(`a number of seconds from ${LEAST_SECONDS} to ${most} is wanted.`);
  }
  return value;
}
