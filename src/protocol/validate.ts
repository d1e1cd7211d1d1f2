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
  const where = error.instancePath.slice(1);
  const params = error.params as { additionalProperties?: string[] };
  const detail =
    error.keyword === "additionalProperties" && params.additionalProperties
      ? `: ${JSON.stringify(params.additionalProperties.slice(0, 3).map((name) => name.slice(0, 64)))}`
      : "";
  return `${where ? `${where.slice(0, 128)} ` : ""}${error.message}${detail}`;
}

/** @throws HubError `invalid_request`. */
export function checkRequest<R>(verb: VerbName, request: unknown): R {
  const validator = requests.get(verb);
  if (!validator?.Check(request)) {
    throw new HubError("invalid_request", validator ? describeFault(validator, request) : undefined);
  }
  return request as R;
}
