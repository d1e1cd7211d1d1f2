/** Every verb of the two namespaces, with the schema of its request. */
import Type, { type TSchema } from "typebox";
import { EVENT_TYPES } from "./events.ts";
import { ID_PATTERN, LIMITS } from "./limits.ts";

const closed = { additionalProperties: false } as const;
const opt = Type.Optional;
const id = Type.String({ pattern: ID_PATTERN });
const feed = Type.Union([id, Type.Literal("*")]);
const position = Type.Object(
  {
    epoch: Type.String({ minLength: 1, maxLength: 64 }),
    seq: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  },
  closed,
);
/** The beginning of a feed, whatever its epoch is. */
const start = Type.Object({ epoch: Type.Literal(""), seq: Type.Literal(0) }, closed);
const cursor = Type.Union([position, start]);

interface Verb {
  namespace: readonly ("/" | "/trainer")[];
  request: TSchema;
}

export const VERBS = {
  subscribe: {
    namespace: ["/"],
    request: Type.Object(
      {
        job_id: opt(feed),
        types: opt(Type.Array(Type.Enum([...EVENT_TYPES]), { minItems: 1, maxItems: EVENT_TYPES.length })),
        since: opt(
          Type.Union([cursor, Type.Record(id, cursor, { maxProperties: LIMITS.allJobs, ...closed })]),
        ),
        history: opt(Type.Integer({ minimum: 0, maximum: LIMITS.history })),
        max_rate: opt(Type.Number({ minimum: 0.1, maximum: 60 })),
        wait: opt(Type.Union([Type.Boolean(), Type.Number({ minimum: 1, maximum: LIMITS.waitSeconds })])),
        next: opt(Type.String({ maxLength: 64 })),
      },
      closed,
    ),
  },
  unsubscribe: { namespace: ["/"], request: Type.Object({ job_id: opt(feed) }, closed) },
  ping: { namespace: ["/", "/trainer"], request: Type.Object({}, closed) },
  /** One event or up to 500. Events are checked one by one, so that a bad one refuses only itself. */
  publish: {
    namespace: ["/trainer"],
    request: Type.Union([Type.Object({}), Type.Array(Type.Unknown(), { minItems: 1 })]),
  },
} as const satisfies Record<string, Verb>;

export type VerbName = keyof typeof VERBS;

/** Events that the hub sends beside the types of events.ts. */
export const NOTICES = ["welcome", "gap", "position", "closing", "refused"] as const;
