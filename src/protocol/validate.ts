/** Compiled checks of requests, and one sentence of what is wrong. */
import { Compile, type Validator } from "typebox/compile";
import { HubError } from "./codes.ts";
import { VERBS, type VerbName } from "./verbs.ts";

const requests = new Map(
  Object.entries(VERBS).map(([verb, { request }]) => [verb as VerbName, Compile(request)]),
);

/** The first fault, as `data/loss must be number`. Never repeats the sender's values. */
export function describeFault(validator: Pick<Validator, "Errors">, value: unknown): string {
  const errors = [...validator.Errors(value)];
  // "schema is false" only repeats what additionalProperties says.
  const error = errors.find(({ keyword }) => keyword !== "boolean") ?? errors[0];
  if (!error) return "does not fit its schema";
  const where = error.instancePath.slice(1, 129);
  return `${where}${where ? " " : ""}${whatIsWrong(error)}`;
}

function whatIsWrong({ keyword, message, params }: ReturnType<Validator["Errors"]>[number]): string {
  const { additionalProperties, allowedValues } = params as {
    additionalProperties?: string[];
    allowedValues?: unknown[];
  };
  if (keyword === "enum" && allowedValues) return `must be one of ${allowedValues.join(", ")}`;
  if (keyword !== "additionalProperties" || !additionalProperties) return message;
  const names = additionalProperties.slice(0, 3).map((name) => name.slice(0, 64));
  return `${message}: ${JSON.stringify(names)}`;
}

/** @throws HubError `invalid_request`. */
export function checkRequest<R>(verb: VerbName, request: unknown): R {
  const validator = requests.get(verb);
  if (!validator?.Check(request)) {
    throw new HubError("invalid_request", validator ? describeFault(validator, request) : undefined);
  }
  return request as R;
}
