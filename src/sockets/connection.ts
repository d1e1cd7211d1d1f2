/** What both namespaces do with a connection: answer verbs, take new tokens, count violations, close with a reason. */
import type { Socket } from "socket.io";
import type { Identity } from "../auth.ts";
import type { PartLog } from "../core/log.ts";
import { CLOSES, type CloseReason, type ErrorCode, HubError } from "../protocol/codes.ts";
import { LIMITS, wireName } from "../protocol/limits.ts";
import type { Closing, RefreshAnswer, RefreshRequest, TokenExpiring, Welcome } from "../protocol/types.ts";
import { checkRequest } from "../protocol/validate.ts";
import type { VerbName } from "../protocol/verbs.ts";
import { REFUSED } from "./decoder.ts";
import { Outbox, type Outboxes } from "./outbox.ts";

type Ack = (answer: unknown) => void;
/** A verb answers through `reply`, in the turn in which it takes effect. */
export type VerbHandler = (request: never, reply: (data: unknown) => void) => Promise<void> | void;

/** The verbs that a namespace adds to `refresh`. */
export type Verbs = Partial<Record<VerbName, VerbHandler>>;

export interface ConnectionOptions {
  socket: Socket;
  identity: Identity;
  namespace: "/" | "/trainer";
  outboxes: Outboxes;
  /** Throws the HubError of a token that does not verify, or whose role may not be here. */
  admit: (token: unknown) => Identity;
  /** How long before the token's end it is told, ms. */
  tokenWarningMs: number;
  /** How long after the token's end a new one is still taken, ms. */
  tokenGraceMs: number;
  /** Logs what nobody foresaw. */
  internal: (error: unknown, what: string) => HubError;
  log: PartLog;
  /** Whether what comes on a connection of before this moment is too late to be carried out (listener.ts). */
  isStale: (since: number) => boolean;
  onRefused: (code: ErrorCode) => void;
}

const VIOLATION_WINDOW_MS = 60_000;
/** Answers that tell of a bad request, not of a busy hub or of a lost race. */
export const VIOLATIONS: ReadonlySet<ErrorCode> = new Set([
  "malformed",
  "too_deep",
  "binary_not_supported",
  "message_too_large",
  "unknown_verb",
  "ack_required",
  "invalid_request",
  "batch_too_large",
]);

export class Connection {
  readonly socket: Socket;
  readonly outbox: Outbox;
  readonly #options: ConnectionOptions;
  readonly #since = performance.now();
  #identity: Identity;
  #verbs: Verbs = {};
  #onIdentity: (identity: Identity) => void = () => {};
  /** The end of a token that its client was told of, ms since 1970. */
  #warned: number | undefined;
  #violations = 0;
  #windowStart = 0;
  /** Verbs that are not answered yet. */
  #underWay = 0;
  #leaving = false;
  #closed = false;
  /** Why the hub has closed it. */
  #reason: CloseReason | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.socket = options.socket;
    this.outbox = new Outbox(options.socket.conn, options.outboxes, () => this.#cut());
    this.#identity = options.identity;
    // The only way in. `next` is never called, so that no event name, not even `error`, reaches an emitter.
    options.socket.use(([name, ...args]) => void this.#handle(name as string | symbol, args));
  }

  /** As of the newest token: read it when it is needed, never keep it over an `await`. */
  get identity(): Identity {
    return this.#identity;
  }

  /** Sets what the client may ask, in the turn in which it connects. `onIdentity` is called when a new token is taken. */
  serve(verbs: Verbs, onIdentity: (identity: Identity) => void = () => {}): void {
    this.#verbs = { ...verbs, refresh: (request, reply) => this.#refresh(request, reply) };
    this.#onIdentity = onIdentity;
  }

  welcome(instanceId: string, extra: Record<string, number>): void {
    const { tenantId, role, expiresAt } = this.#identity;
    const welcome: Welcome = {
      client_id: this.socket.id,
      instance_id: instanceId,
      tenant_id: tenantId,
      role,
      server_time: new Date().toISOString(),
      expires_at: new Date(expiresAt).toISOString(),
      limits: Object.fromEntries(
        Object.entries({ ...LIMITS, ...extra }).map(([name, limit]) => [wireName(name), limit]),
      ),
    };
    this.socket.emit("welcome", welcome);
    this.watchToken(Date.now());
  }

  /** Tells once that the token is about to end, and closes when its grace is over. */
  watchToken(now: number): void {
    const { expiresAt } = this.#identity;
    const { tokenWarningMs, tokenGraceMs } = this.#options;
    if (now >= expiresAt + tokenGraceMs) this.close("token_expired");
    else if (now >= expiresAt - tokenWarningMs && this.#warned !== expiresAt) {
      this.#warned = expiresAt;
      const expiring: TokenExpiring = { expires_at: new Date(expiresAt).toISOString() };
      this.socket.emit("token_expiring", expiring);
    }
  }

  #refresh({ token }: RefreshRequest, reply: (data: unknown) => void): void {
    // Its end is on its way: a token that was taken now would seem to have ended with it.
    if (this.#closed) throw new HubError("unavailable", "This connection is being closed.");
    const identity = this.#options.admit(token);
    const { subject, tenantId } = this.#identity;
    if (identity.subject !== subject || identity.tenantId !== tenantId) throw new HubError("token_mismatch");
    this.#identity = identity;
    // Before the answer: what the token no longer allows does not come after it.
    this.#onIdentity(identity);
    const { role, expiresAt } = identity;
    reply({ role, expires_at: new Date(expiresAt).toISOString() } satisfies RefreshAnswer);
    this.watchToken(Date.now());
  }

  /** Too slow: nothing that is said reaches the client, and a close that waits for its answer would wait long. */
  #cut(): void {
    this.#closed = true;
    this.#reason = "slow";
    const { conn } = this.socket;
    conn.close(true);
    (conn.transport as { socket?: { terminate?: () => void } }).socket?.terminate?.();
  }

  /** Why the hub has closed it, if it has. */
  get reason(): CloseReason | undefined {
    return this.#reason;
  }

  /** Whether verbs are under way. */
  get busy(): boolean {
    return this.#underWay > 0;
  }

  /** Takes no new verbs: another instance does. */
  leave(): void {
    this.#leaving = true;
  }

  /** Tells why the transport is about to be closed. */
  farewell(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reason = reason;
    const { code, reconnect, meaning } = CLOSES[reason];
    const closing: Closing = { reason, code, reconnect, message: meaning };
    this.socket.emit("closing", closing);
  }

  /** Tells why, then closes the transport: a client that may come back does so by itself. */
  close(reason: CloseReason): void {
    if (this.#closed) return;
    this.farewell(reason);
    this.socket.conn.close();
  }

  async #handle(name: string | symbol, args: unknown[]): Promise<void> {
    if (this.#options.isStale(this.#since)) return void this.socket.conn.close(true);
    const ack = typeof args.at(-1) === "function" ? (args.pop() as Ack) : undefined;
    const verb = name === REFUSED ? "" : String(name).slice(0, 64);
    this.#underWay++;
    const tell = this.#teller(verb, args[0]);
    try {
      if (this.#leaving) throw new HubError("draining");
      if (name === REFUSED) throw new HubError(args[0] as ErrorCode);
      const handler = Object.hasOwn(this.#verbs, verb) ? this.#verbs[verb as VerbName] : undefined;
      if (!handler)
        throw new HubError("unknown_verb", `no verb ${JSON.stringify(verb)} on ${this.#options.namespace}`);
      if (!ack) throw new HubError("ack_required");
      if (args.length > 1) throw new HubError("invalid_request", "one argument and an acknowledgement");
      // Only `publish` must have an argument; the others may come without.
      const request = checkRequest<never>(verb as VerbName, args[0] ?? (verb === "publish" ? undefined : {}));
      await handler(request, (data) => {
        ack({ ok: true, data });
        this.outbox.count();
        tell?.("ok");
      });
    } catch (error) {
      const code = this.#refuse(verb, error, ack);
      tell?.(code);
    } finally {
      this.#underWay--;
    }
  }

  /** What tells the log what was asked and what came of it. Payloads are nobody's business. */
  #teller(verb: string, request: unknown): ((result: "ok" | ErrorCode) => void) | undefined {
    const { log } = this.#options;
    if (!log.isLevelEnabled("debug")) return undefined;
    const startedAt = performance.now();
    const { job_id } = (typeof request === "object" && request !== null ? request : {}) as {
      job_id?: unknown;
    };
    const job = typeof job_id === "string" ? { job_id: job_id.slice(0, 128) } : {};
    return (result) => {
      const ms = Math.round(performance.now() - startedAt);
      log.debug({ client_id: this.socket.id, verb, ...job, result, ms }, "asked");
    };
  }

  #refuse(verb: string, error: unknown, ack: Ack | undefined): ErrorCode {
    const told = error instanceof HubError ? error : this.#options.internal(error, `${verb} failed`);
    this.#options.onRefused(told.code);
    if (ack) ack({ ok: false, error: told.toJSON() });
    else this.socket.emit("refused", { verb, error: told.toJSON() });
    this.outbox.count();
    if (VIOLATIONS.has(told.code)) this.#countViolation();
    return told.code;
  }

  #countViolation(): void {
    const now = Date.now();
    if (now - this.#windowStart > VIOLATION_WINDOW_MS) {
      this.#windowStart = now;
      this.#violations = 0;
    }
    if (++this.#violations > LIMITS.violations) this.close("too_many_violations");
  }
}
