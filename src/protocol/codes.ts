/**
 * The two tables of errors: what a refused request is answered, and why a connection is closed.
 * PROTOCOL.md prints both; a test compares them.
 */

interface ReplyError {
  /** HTTP status of the same error on the HTTP door. */
  status: number;
  /** Whether the same request may succeed later, unchanged. */
  temporary: boolean;
  meaning: string;
}

export const REPLY_ERRORS = {
  malformed: {
    status: 400,
    temporary: false,
    meaning: "Not JSON (a bare NaN, for instance), or not the shape of a request.",
  },
  too_deep: { status: 400, temporary: false, meaning: "Objects and arrays nested deeper than the limit." },
  binary_not_supported: {
    status: 400,
    temporary: false,
    meaning: "Binary attachments; samples travel by URL.",
  },
  message_too_large: { status: 413, temporary: false, meaning: "The whole message is over the limit." },
  unknown_verb: {
    status: 404,
    temporary: false,
    meaning: "No such verb on this namespace, or no such route.",
  },
  ack_required: {
    status: 400,
    temporary: false,
    meaning: "The verb was sent without an acknowledgement function; nothing was done.",
  },
  invalid_request: {
    status: 400,
    temporary: false,
    meaning: "A field of the request is missing, unknown or of the wrong form.",
  },
  invalid_cursor: { status: 400, temporary: false, meaning: "`next` does not belong to this subscription." },
  unauthorized: { status: 401, temporary: false, meaning: "No token, or one that does not verify." },
  token_expired: { status: 401, temporary: false, meaning: "The token has ended; get a new one." },
  forbidden: { status: 403, temporary: false, meaning: "The token's role or tenant does not allow this." },
  origin_not_allowed: {
    status: 403,
    temporary: false,
    meaning: "The browser's origin is not in CORS_ORIGINS.",
  },
  too_many_connections: {
    status: 503,
    temporary: true,
    meaning: "The instance has as many connections as it may (refused at the handshake).",
  },
  already_connected: {
    status: 409,
    temporary: false,
    meaning: "This connection has joined the namespace already.",
  },
  job_not_found: { status: 404, temporary: false, meaning: "No such job, or none that this token may see." },
  not_subscribed: { status: 404, temporary: false, meaning: "This connection has no such subscription." },
  too_many_subscriptions: {
    status: 429,
    temporary: false,
    meaning: "The connection holds as many subscriptions as it may.",
  },
  unknown_type: { status: 400, temporary: false, meaning: "No such event type." },
  forbidden_type: { status: 403, temporary: false, meaning: "An event type that only the hub makes." },
  invalid_event: {
    status: 400,
    temporary: false,
    meaning: "A field of the event is missing, unknown or of the wrong form.",
  },
  event_too_large: {
    status: 413,
    temporary: false,
    meaning: "One event, or its metadata, is over the limit.",
  },
  batch_too_large: { status: 413, temporary: false, meaning: "More events in one call than the limit." },
  job_exists: { status: 409, temporary: false, meaning: "`job_created` for a job that is there." },
  too_many_jobs: { status: 429, temporary: true, meaning: "The tenant has as many jobs as it may." },
  too_many_producers: { status: 429, temporary: false, meaning: "The job has as many producers as it may." },
  too_many_keys: {
    status: 429,
    temporary: false,
    meaning: "The job has as many ranks, products and hosts as it may.",
  },
  too_many_metrics: {
    status: 429,
    temporary: false,
    meaning: "The rank or product has reported as many different metrics as it may in one attempt.",
  },
  producer_fenced: {
    status: 409,
    temporary: false,
    meaning: "A newer incarnation of this producer has published.",
  },
  invalid_transition: {
    status: 409,
    temporary: false,
    meaning:
      "The job's status cannot become this one now; only a higher `attempt` brings back a job that has ended.",
  },
  invalid_total: {
    status: 400,
    temporary: false,
    meaning: "More would be done than the total says.",
  },
  no_trainer: {
    status: 503,
    temporary: true,
    meaning:
      "No trainer that takes commands has announced the job, or none came back before the command's time-out.",
  },
  unsupported_command: {
    status: 409,
    temporary: false,
    meaning: "The job's trainer does not do this.",
  },
  job_ended: { status: 409, temporary: false, meaning: "The job has ended: nobody carries out a command." },
  command_failed: { status: 422, temporary: false, meaning: "The trainer has answered that it could not." },
  command_timeout: {
    status: 408,
    temporary: false,
    meaning: "The trainer got the command and did not answer in time; whether it was carried out is unknown.",
  },
  command_too_large: {
    status: 413,
    temporary: false,
    meaning: "A command's `args`, or its answer, is over the limit.",
  },
  too_many_commands: {
    status: 429,
    temporary: true,
    meaning: "As many commands to this job are under way as may be.",
  },
  too_many_trainers: {
    status: 429,
    temporary: false,
    meaning: "The job has as many trainers, or the connection as many jobs, as may be announced.",
  },
  not_announced: { status: 404, temporary: false, meaning: "This connection has not announced the job." },
  token_mismatch: {
    status: 403,
    temporary: false,
    meaning:
      "The new token is another subject's or tenant's, or its role may not be here; the old one stays.",
  },
  conflict: {
    status: 503,
    temporary: true,
    meaning: "The job has changed meanwhile.",
  },
  storage_full: { status: 507, temporary: true, meaning: "The store has no room; nothing was stored." },
  unavailable: {
    status: 503,
    temporary: true,
    meaning:
      "The store cannot be reached. Send again with the same `id` or `n`: what was stored is not stored twice.",
  },
  draining: {
    status: 503,
    temporary: true,
    meaning:
      "The instance is about to end and takes no new sessions, or this connection is about to be closed. Another instance takes it.",
  },
  internal: { status: 500, temporary: true, meaning: "A fault of the hub; it is in its log." },
} as const satisfies Record<string, ReplyError>;

export type ErrorCode = keyof typeof REPLY_ERRORS;

interface Close {
  code: number;
  /** Whether the client should connect again by itself. */
  reconnect: boolean;
  meaning: string;
}

/** 4000-4499: connect again. 4500-4999: do not. */
export const CLOSES = {
  shutdown: { code: 4000, reconnect: true, meaning: "The instance ends." },
  token_expired: { code: 4001, reconnect: true, meaning: "The token has ended; connect with a new one." },
  slow: {
    code: 4002,
    reconnect: true,
    meaning:
      "The client reads more slowly than its events come. The transport is closed without `closing`, which could not arrive.",
  },
  too_many_violations: { code: 4501, reconnect: false, meaning: "Too many bad requests." },
} as const satisfies Record<string, Close>;

export type CloseReason = keyof typeof CLOSES;

/** The error of every refused request: shown to the sender as it is. Anything else that is thrown is answered `internal`. */
export class HubError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string = REPLY_ERRORS[code].meaning, options?: ErrorOptions) {
    super(message, options);
    this.name = "HubError";
    this.code = code;
  }
  get status(): number {
    return REPLY_ERRORS[this.code].status;
  }
  get temporary(): boolean {
    return REPLY_ERRORS[this.code].temporary;
  }
  /** The `error` of an answer. */
  toJSON(): { code: ErrorCode; message: string; temporary: boolean } {
    return { code: this.code, message: this.message, temporary: this.temporary };
  }
}
