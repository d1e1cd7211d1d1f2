/** What both namespaces do with a connection: answer verbs, take new tokens, count violations, close with a reason. */
import type { Socket } from "socket.io";
import type { Identity } from "../auth.ts";
import type { PartLog } from "../core/log.ts";
import type { Visit } from "../core/visits.ts";
import { CLOSES, type CloseReason, type ErrorCode, HubError } from "../protocol/codes.ts";
import { LIMITS } from "../protocol/limits.ts";
import type { Closing, RefreshAnswer, RefreshRequest, TokenExpiring, Welcome } from "../protocol/types.ts";
import { checkRequest } from "../protocol/validate.ts";
import type { VerbName } from "../protocol/verbs.ts";
import { compact } from "./compact.ts";
import { REFUSED } from "./decoder.ts";
import { JsonText } from "./encoder.ts";
import { Outbox, type Outboxes } from "./outbox.ts";

type Ack = (answer: unknown) => void;
/** A verb answers through `reply`, in the turn in which it takes effect. */
export type VerbHandler<C> = (
  client: C,
  request: never,
  reply: (data: unknown) => void,
) => Promise<void> | void;

/** The verbs that a namespace adds to `refresh`: one table for all of its clients. */
export type Verbs<C> = Partial<Record<VerbName, VerbHandler<C>>>;

/** What a namespace makes of a connection. */
export interface Client {
  /** A new token is taken, which may allow less. */
  narrow(identity: Identity): void;
  /** The connection has ended. */
  close(): void;
}

/** What all connections of a namespace have in common. */
export interface ConnectionOptions {
  namespace: "/" | "/trainer";
  door: Visit["door"];
  verbs: Verbs<never>;
  instanceId: string;
  /** As in `welcome`. */
  limits: Record<string, number>;
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
  /** Called once; `reason` is the hub's own, or what Socket.IO says. */
  onEnded: (connection: Connection, reason: string) => void;
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

/** There are thousands, mostly idle: nothing is kept for each that could be asked of its namespace. */
export class Connection implements Visit {
  readonly socket: Socket;
  readonly outbox: Outbox;
  readonly since = performance.now();
  readonly #options: ConnectionOptions;
  #client: Client | undefined;
  #identity: Identity;
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

  constructor(socket: Socket, identity: Identity, options: ConnectionOptions) {
    this.#options = options;
    this.socket = socket;
    this.outbox = new Outbox(socket.conn, options.outboxes, this);
    this.#identity = identity;
    // The only way in. `next` is never called, so that no event name, not even `error`, reaches an emitter.
    socket.use(([name, ...args]) => void this.#handle(name as string | symbol, args));
    socket.on("disconnect", (reason) => this.#ended(reason));
    compact(socket);
  }

  /** As of the newest token: read it when it is needed, never keep it over an `await`. */
  get identity(): Identity {
    return this.#identity;
  }

  get door(): Visit["door"] {
    return this.#options.door;
  }

  get clientId(): string {
    return this.socket.id;
  }

  get transport(): string {
    return this.socket.conn.transport.name;
  }

  /** Where it comes from, behind trusted proxies (server.ts). */
  get address(): string {
    return this.socket.conn.remoteAddress;
  }

  /** From now on the client is served, told of newer tokens and of the end. In the turn in which it connects. */
  serve(client: Client): void {
    this.#client = client;
  }

  #ended(reason: string): void {
    this.#options.onEnded(this, this.#reason ?? reason);
    this.outbox.close();
    this.#client?.close();
  }

  welcome(): void {
    const { instanceId, limits } = this.#options;
    const { tenantId, role, expiresAt } = this.#identity;
    const welcome: Welcome = {
      client_id: this.socket.id,
      instance_id: instanceId,
      tenant_id: tenantId,
      role,
      server_time: new Date().toISOString(),
      expires_at: new Date(expiresAt).toISOString(),
      limits,
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
    this.#client?.narrow(identity);
    const { role, expiresAt } = identity;
    reply({ role, expires_at: new Date(expiresAt).toISOString() } satisfies RefreshAnswer);
    this.watchToken(Date.now());
  }

  /** Too slow: nothing that is said reaches the client, and a close that waits for its answer would wait long. */
  slow(): void {
    this.#closed = true;
    this.#reason = "slow";
    const { conn } = this.socket;
    conn.close(true);
    (conn.transport as { socket?: { terminate?: () => void } }).socket?.terminate?.();
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
    if (this.#options.isStale(this.since)) return void this.socket.conn.close(true);
    const ack = typeof args.at(-1) === "function" ? (args.pop() as Ack) : undefined;
    const verb = name === REFUSED ? "" : String(name).slice(0, 64);
    this.#underWay++;
    const tell = this.#teller(verb, args[0]);
    try {
      if (this.#leaving) throw new HubError("draining");
      if (name === REFUSED) throw new HubError(args[0] as ErrorCode);
      const handler = this.#handlerOf(verb);
      if (!handler)
        throw new HubError("unknown_verb", `no verb ${JSON.stringify(verb)} on ${this.#options.namespace}`);
      if (!ack) throw new HubError("ack_required");
      if (args.length > 1) throw new HubError("invalid_request", "one argument and an acknowledgement");
      // Only `publish` must have an argument; the others may come without.
      const request = checkRequest<never>(verb as VerbName, args[0] ?? (verb === "publish" ? undefined : {}));
      await handler(this.#client as never, request, (data) => {
        ack(data instanceof JsonText ? new JsonText(`{"ok":true,"data":${data.text}}`) : { ok: true, data });
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

  #handlerOf(verb: string): VerbHandler<never> | undefined {
    if (verb === "refresh") return (_, request, reply) => this.#refresh(request, reply);
    const { verbs } = this.#options;
    return Object.hasOwn(verbs, verb) ? verbs[verb as VerbName] : undefined;
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
