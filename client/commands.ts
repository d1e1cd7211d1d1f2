import type { CommandAction, TrainerAnswer, TrainerCommand } from "../src/protocol/types.ts";
import { isObject } from "./answer.ts";
import { clean } from "./clean.ts";
import { jsonBytes } from "./conflate.ts";
import { messageOf, TrainwireError } from "./errors.ts";
import { KEPT_LIMITS } from "./event-table.ts";

/** What a handler may return: nothing, a text (the answer's `message`) or an object (the answer's `data`). */
// biome-ignore lint/suspicious/noConfusingVoidType: a handler without a return is the usual one.
export type CommandResult = string | object | void;

/**
 * Carries out an operator's command. What it returns is the answer: nothing, a text as `message` (the first 1 024
 * characters), or an object as `data` (at most 4 KB of JSON; what is larger is left out and reported). What it throws is
 * answered `ok: false` with the error's message; the training goes on.
 */
export type CommandHandler = (command: TrainerCommand) => CommandResult | Promise<CommandResult>;

/** A handler for each action that the run carries out. */
export type CommandHandlers = { [A in CommandAction]?: CommandHandler };

/** Characters of an answer's text that the hub passes on. */
const MESSAGE = 1_024;
/** Ids of commands whose outcome is remembered. */
const REMEMBERED = 256;

/** The answers to commands: each id is carried out once, however often it comes. */
export class Outcomes {
  readonly #running = new Map<string, Promise<TrainerAnswer>>();
  /** Oldest first. */
  readonly #settled = new Map<string, TrainerAnswer>();

  /** `carryOut` does not reject. */
  async of(command: TrainerCommand, carryOut: () => Promise<TrainerAnswer>): Promise<TrainerAnswer> {
    const key = `${command.job_id} ${command.command_id}`;
    const known = this.#settled.get(key) ?? this.#running.get(key);
    if (known) return known;
    const running = carryOut();
    this.#running.set(key, running);
    const answer = await running;
    this.#running.delete(key);
    this.#settled.set(key, answer);
    for (const oldest of this.#settled.keys()) {
      if (this.#settled.size <= REMEMBERED) break;
      this.#settled.delete(oldest);
    }
    return answer;
  }
}

/** What a trainer's socket was sent as `command`, or that it is none. */
export function isCommand(value: unknown): value is TrainerCommand {
  return (
    isObject(value) &&
    typeof value.job_id === "string" &&
    typeof value.command_id === "string" &&
    typeof value.action === "string"
  );
}

/**
 * The answer of a command that was carried out. What cannot be sent is left out and reported: the command is done all the
 * same.
 */
export function done(results: readonly unknown[], report: (error: TrainwireError) => void): TrainerAnswer {
  const answer: TrainerAnswer = { ok: true };
  for (const result of results) {
    if (typeof result === "string") answer.message = result.slice(0, MESSAGE);
    else if (typeof result === "object" && result !== null) {
      try {
        const data = clean(result);
        if (!isObject(data)) throw new TypeError("it is neither text nor an object.");
        if (jsonBytes(data) > KEPT_LIMITS.commandBytes) {
          const message = `it is over ${KEPT_LIMITS.commandBytes} bytes.`;
          throw new TrainwireError("command_too_large", message);
        }
        answer.data = data as NonNullable<TrainerAnswer["data"]>;
      } catch (cause) {
        report(unsendable(cause));
      }
    }
  }
  return answer;
}

/** The answer of a command that was not carried out. */
export function failed(message: string): TrainerAnswer {
  return { ok: false, message: message.slice(0, MESSAGE) };
}

function unsendable(cause: unknown): TrainwireError {
  const isLarge = cause instanceof TrainwireError && cause.code.endsWith("too_large");
  const code = isLarge ? "command_too_large" : "handler_failed";
  const message = `What a command's handler returned cannot be sent: ${messageOf(cause)}`;
  return new TrainwireError(code, message, { cause });
}
