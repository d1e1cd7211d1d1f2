import type { Answer, AnswerError } from "../src/protocol/types.ts";

/** What a request is answered when the hub does not answer it. */
export function failure(
  code: string,
  message: string,
  temporary: boolean,
): { ok: false; error: AnswerError } {
  return { ok: false, error: { code, message, temporary } };
}

/** The hub's answer, or that it is none. */
export function checked<D>(answer: unknown): Answer<D> {
  if (isObject(answer)) {
    if (answer.ok === true && isObject(answer.data)) return answer as unknown as Answer<D>;
    if (answer.ok === false && isAnswerError(answer.error)) return answer as unknown as Answer<D>;
  }
  return failure("malformed_answer", "The hub's answer is neither `ok` with data nor an error.", true);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isAnswerError(value: unknown): value is AnswerError {
  return isObject(value) && typeof value.code === "string" && typeof value.message === "string";
}
