/** Every verb of the two namespaces, with the schema of its request. */
import Type, { type TSchema } from "typebox";
import { ENVELOPE, EVENT_TYPES } from "./events.ts";
import { action, actions, closed, freeForm, id, opt, whole } from "./forms.ts";
import { LIMITS } from "./limits.ts";

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

const product = ENVELOPE.product;
const rank = ENVELOPE.rank;

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
  refresh: {
    namespace: ["/", "/trainer"],
    request: Type.Object({ token: Type.String({ maxLength: LIMITS.tokenLength }) }, closed),
  },
  presence: { namespace: ["/"], request: Type.Object({ job_id: id }, closed) },
  series: {
    namespace: ["/"],
    request: Type.Object(
      {
        job_id: id,
        metric: opt(Type.String({ minLength: 1, maxLength: 64 })),
        rank,
        product,
        from: opt(whole),
        to: opt(whole),
        points: opt(Type.Integer({ minimum: 1, maximum: LIMITS.seriesBuckets })),
      },
      closed,
    ),
  },
  command: {
    namespace: ["/"],
    request: Type.Object(
      {
        job_id: id,
        action,
        args: opt(freeForm),
        timeout_ms: opt(Type.Integer({ minimum: 100, maximum: LIMITS.commandTimeoutMs })),
        command_id: opt(id),
        all: opt(Type.Boolean()),
      },
      closed,
    ),
  },
  announce: {
    namespace: ["/trainer"],
    request: Type.Object(
      {
        job_id: id,
        commands: opt(actions),
        rank,
        trainer_id: opt(id),
      },
      closed,
    ),
  },
  /** The trainer no longer works on the job. */
  withdraw: { namespace: ["/trainer"], request: Type.Object({ job_id: id }, closed) },
  heartbeat: {
    namespace: ["/trainer"],
    request: Type.Object(
      {
        job_id: id,
        last_step_at: ENVELOPE.timestamp,
        expect_next_in: opt(Type.Number({ minimum: 0, maximum: LIMITS.expectSeconds })),
      },
      closed,
    ),
  },
  /** One event or up to 500. Events are checked one by one, so that a bad one refuses only itself. */
  publish: {
    namespace: ["/trainer"],
    request: Type.Union([Type.Object({}), Type.Array(Type.Unknown(), { minItems: 1 })]),
  },
} as const satisfies Record<string, Verb>;

export type VerbName = keyof typeof VERBS;

/** Events that the hub sends beside the types of events.ts. */
export const NOTICES = [
  "welcome",
  "gap",
  "position",
  "token_expiring",
  "draining",
  "closing",
  "refused",
  "command",
] as const;
