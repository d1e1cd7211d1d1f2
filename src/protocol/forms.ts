/** Forms that schemas of events and of requests have in common. */
import Type from "typebox";
import { ID_PATTERN } from "./limits.ts";
import type { CommandAction, JsonObject } from "./types.ts";

export const closed = { additionalProperties: false } as const;
export const opt = Type.Optional;
export const id = Type.String({ pattern: ID_PATTERN });
/** Names of products and hosts. */
export const label = Type.String({ pattern: "^[^\\x00-\\x1f]{1,128}$" });
export const whole = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const freeForm = Type.Unsafe<JsonObject>(Type.Object({}));

export const COMMAND_ACTIONS = [
  "pause",
  "resume",
  "stop",
  "save",
  "sample",
  "validate",
  "custom",
] as const satisfies readonly CommandAction[];
export const action = Type.Enum([...COMMAND_ACTIONS]);
export const actions = Type.Array(action, { maxItems: COMMAND_ACTIONS.length });
