/** What trainers answer to a command, and what comes of it. */
import type { ErrorCode } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { CommandUpdate, TrainerAnswer } from "../protocol/types.ts";
import { bytesOf } from "./commands.ts";

const MESSAGE = 1_024;

/** What a trainer sends may be anything. */
export function checkAnswer(answer: unknown): TrainerAnswer | undefined {
  if (answer === undefined) return undefined;
  const { ok, message, data } = (
    typeof answer === "object" && answer !== null ? answer : {}
  ) as Partial<TrainerAnswer>;
  const isData = typeof data === "object" && data !== null && !Array.isArray(data);
  if (typeof ok !== "boolean")
    return { ok: false, message: "The trainer's answer is not {ok, message?, data?}." };
  if (isData && bytesOf(data) > LIMITS.commandBytes) {
    return { ok, message: `The trainer's data is over ${LIMITS.commandBytes} bytes, and is left out.` };
  }
  return {
    ok,
    ...(typeof message === "string" && { message: message.slice(0, MESSAGE) }),
    ...(isData && { data }),
  };
}

/** When all have answered: applied if each of them did it. */
export function outcomeOf(
  answers: Record<string, TrainerAnswer>,
): Pick<CommandUpdate, "state" | "code" | "message" | "data"> {
  const all = Object.entries(answers);
  const failed = all.filter(([, { ok }]) => !ok);
  const [first] = failed.length > 0 ? failed : all;
  const { message, data } = first?.[1] ?? {};
  const of = all.length > 1 && failed.length > 0 ? `${failed.length} of ${all.length} trainers: ` : "";
  const text = of || message !== undefined ? { message: `${of}${message ?? "failed"}` } : {};
  if (failed.length > 0) return { state: "failed", code: "command_failed" satisfies ErrorCode, ...text };
  return { state: "applied", ...text, ...(all.length === 1 && data && { data }) };
}
