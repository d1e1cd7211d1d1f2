/**
 * Who a token speaks for. The only file that imports jsonwebtoken, which by itself accepts more than it should
 * (a token without `exp`, an unknown `crit`, a one-byte secret, a string as payload): every claim is checked here.
 */
import { createHash, createPublicKey, createSecretKey, type KeyObject } from "node:crypto";
import jwt from "jsonwebtoken";
import { HubError } from "./protocol/codes.ts";
import { ID_PATTERN, LIMITS } from "./protocol/limits.ts";

/** `watcher` < `operator` < `admin`; `trainer` stands apart: it publishes, and watches nothing. */
export const ROLES = ["watcher", "operator", "admin", "trainer"] as const;
export type Role = (typeof ROLES)[number];

/** What a verified token says; frozen. */
export interface Identity {
  /** `sub`: 1 to 256 characters, none of them a control character. */
  readonly subject: string;
  readonly tenantId: string;
  readonly role: Role;
  /** The allow-list: ids, `prefix*`, or `*`. Absent: every job of the tenant. Empty: none. */
  readonly jobs?: readonly string[];
  /** When the token ends, in ms since 1970. May lie further ahead than a timer reaches (2^31 ms). */
  readonly expiresAt: number;
  /** `jti`. */
  readonly tokenId?: string;
}

export interface AuthOptions {
  /** Verifies HS256; 32 bytes (UTF-8) or more. */
  secret?: string;
  /** Verifies RS256 (RSA, 2048 bits or more) or ES256 (EC on P-256), by the type of the key; PEM. */
  publicKey?: string;
  /** What `iss` must be; default: anything. */
  issuer?: string;
  /** What `aud` must be or contain; default: anything. */
  audience?: string;
  /** The clock, in ms since 1970; default `Date.now`. */
  now?: () => number;
  /** Good tokens that are known again without verifying their signature; default: 10 000, 0 for none. */
  remembered?: number;
}

export interface Auth {
  /**
   * Checks signature, time and claims.
   * Throws HubError `token_expired` for a good signature after `exp`, `unauthorized` for anything else; the message is
   * one sentence and holds nothing of the token, so it may be sent and logged.
   * The same token again is known by its hash: the same object is answered, and only its times are checked.
   */
  verify(token: unknown): Identity;
}

/** Bytes (UTF-8) that a secret must have: as many as the hash of HS256 (RFC 7518, 3.2). */
export const SECRET_BYTES = 32;

/** Some megabytes: an identity takes a few hundred bytes, the longest 7 KB. */
const REMEMBERED = 10_000;

const RSA_BITS = 2048;
const SUBJECT_LENGTH = 256;
/** The last second that a Date can show; `exp` beyond it would throw in `toISOString`. */
const LAST_SECOND = 8.64e12;

const ID = new RegExp(ID_PATTERN);
const JOB_ENTRY = /^(?:[A-Za-z0-9_.-]{1,64}|[A-Za-z0-9_.-]{0,64}\*)$/;
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u2028\u2029]/u;

/** The key that verifies HS256. Throws an Error whose message is one sentence without the secret. */
export function readSecret(secret: string): KeyObject {
  // A public key as HMAC secret would let everybody who can read it sign.
  if (secret.trimStart().startsWith("-----BEGIN")) {
    throw new Error("A PEM key is not a secret; public keys belong into JWT_PUBLIC_KEY.");
  }
  const bytes = Buffer.from(secret, "utf8");
  if (bytes.length < SECRET_BYTES) {
    throw new Error(`A secret of ${bytes.length} bytes is too short; ${SECRET_BYTES} or more are wanted.`);
  }
  return createSecretKey(bytes);
}

/**
 * The key of a PEM text and the one algorithm that it verifies.
 * Throws an Error whose message is one sentence: not PEM, a private key, or a type or size that does not serve.
 */
export function readPublicKey(pem: string): { algorithm: "RS256" | "ES256"; key: KeyObject } {
  if (pem.includes("PRIVATE KEY"))
    throw new Error("This is a private key; only its public half is wanted here.");
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    throw new Error("This is not a public key in PEM form.");
  }
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "rsa") {
    if (modulusLength >= RSA_BITS) return { algorithm: "RS256", key };
    throw new Error(`An RSA key of ${modulusLength} bits is too short; ${RSA_BITS} or more are wanted.`);
  }
  if (key.asymmetricKeyType === "ec" && namedCurve === "prime256v1") return { algorithm: "ES256", key };
  const found = namedCurve ? `An EC key on ${namedCurve}` : `A key of type ${key.asymmetricKeyType}`;
  throw new Error(`${found} does not serve; RSA (for RS256) or EC on P-256 (for ES256) is wanted.`);
}

/**
 * Makes the verifier. Keys become KeyObjects once (12 µs a verification, against 315 µs for a string), and each has
 * its own single algorithm. Throws an Error, one sentence, when no key is given or one does not serve.
 */
export function createAuth(options: AuthOptions): Auth {
  const { issuer, audience, now = Date.now } = options;
  const keys = new Map<string, KeyObject>();
  if (options.secret !== undefined) keys.set("HS256", readSecret(options.secret));
  if (options.publicKey !== undefined) {
    const { algorithm, key } = readPublicKey(options.publicKey);
    keys.set(algorithm, key);
  }
  if (keys.size === 0)
    throw new Error("No key to verify tokens with: neither a secret nor a public key is given.");
  const algorithms = [...keys.keys()].join(" or ");
  const known = new KnownTokens(options.remembered ?? REMEMBERED);

  const verified = (token: string, clockTimestamp: number): Verified => {
    const header = headerOf(token);
    if (Object.hasOwn(header, "crit"))
      refuse("The token's header has `crit`; this hub knows no such extension.");
    const key = typeof header.alg === "string" ? keys.get(header.alg) : undefined;
    if (!key) refuse(`The token's algorithm is not ${algorithms}.`);
    let payload: unknown;
    try {
      payload = jwt.verify(token, key, {
        algorithms: [header.alg as jwt.Algorithm],
        clockTimestamp,
        ...(issuer !== undefined && { issuer }),
        ...(audience !== undefined && { audience }),
      });
    } catch (error) {
      throw refusal(error);
    }
    const identity = identify(payload);
    // `identify` has found them to be times.
    const { exp, nbf = Number.NEGATIVE_INFINITY } = payload as { exp: number; nbf?: number };
    return { identity, exp, nbf };
  };

  return Object.freeze({
    verify(token: unknown): Identity {
      const text = textOf(token);
      const seconds = now() / 1000;
      const hash = known.hash(text);
      let found = known.get(hash);
      if (!found) {
        found = verified(text, seconds);
        known.add(hash, found);
      } else if (seconds >= found.exp) {
        known.delete(hash);
        throw new HubError("token_expired");
        // The clock may have been set back.
      } else if (seconds < found.nbf) throw new HubError("unauthorized", NOT_YET);
      return found.identity;
    },
  });
}

interface Verified {
  readonly identity: Identity;
  /** Seconds since 1970, as the token says. */
  readonly exp: number;
  readonly nbf: number;
}

/** Tokens whose signature and claims are good, by their SHA-256; the least recently used is forgotten. */
class KnownTokens {
  readonly #max: number;
  /** Least recently used first. */
  readonly #tokens = new Map<string, Verified>();

  constructor(max: number) {
    this.#max = max;
  }

  hash(token: string): string {
    return createHash("sha256").update(token).digest("base64");
  }

  get(hash: string): Verified | undefined {
    const found = this.#tokens.get(hash);
    if (found) {
      this.#tokens.delete(hash);
      this.#tokens.set(hash, found);
    }
    return found;
  }

  add(hash: string, verified: Verified): void {
    this.#tokens.set(hash, verified);
    if (this.#tokens.size > this.#max) this.delete(this.#tokens.keys().next().value as string);
  }

  delete(hash: string): void {
    this.#tokens.delete(hash);
  }
}

export interface TokenRequest {
  subject: string;
  tenantId: string;
  role: Role;
  /** The allow-list; default: every job of the tenant. */
  jobs?: readonly string[];
  /** Life in seconds, counted from now. */
  ttlSeconds: number;
  issuer?: string;
  audience?: string;
}

/**
 * Signs a token (HS256) for the CLI and for tests.
 * Throws HubError `unauthorized` for a claim that `verify` would refuse, and an Error for a secret that does not serve.
 */
export function signToken(secret: string, request: TokenRequest): string {
  const key = readSecret(secret);
  const issuedAt = Math.floor(Date.now() / 1000);
  const payload = {
    sub: request.subject,
    tenant_id: request.tenantId,
    role: request.role,
    ...(request.jobs !== undefined && { jobs: request.jobs }),
    ...(request.issuer !== undefined && { iss: request.issuer }),
    ...(request.audience !== undefined && { aud: request.audience }),
    iat: issuedAt,
    exp: issuedAt + request.ttlSeconds,
  };
  identify(payload);
  const token = jwt.sign(payload, key, { algorithm: "HS256" });
  if (token.length > LIMITS.tokenLength)
    refuse(`The token would be longer than ${LIMITS.tokenLength} characters.`);
  return token;
}

/** Whether the identity's allow-list has the job. The tenant is compared by whoever looks the job up. */
export function maySee(identity: Identity, jobId: string): boolean {
  return (
    identity.jobs?.some((entry) =>
      entry.endsWith("*") ? jobId.startsWith(entry.slice(0, -1)) : entry === jobId,
    ) ?? true
  );
}

/** Whether a role has what `needed` may do. `trainer` is only enough for `trainer`, and no other role is. */
export function atLeast(role: Role, needed: Role): boolean {
  if (role === "trainer" || needed === "trainer") return role === needed;
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

function textOf(token: unknown): string {
  if (token === undefined || token === null || token === "") refuse("The token is missing.");
  if (typeof token !== "string") refuse("The token is not a string.");
  if (token.length > LIMITS.tokenLength) refuse(`The token is longer than ${LIMITS.tokenLength} characters.`);
  return token;
}

function headerOf(token: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = jwt.decode(token, { complete: true })?.header;
  } catch {
    // A payload that is not JSON; answered below.
  }
  if (!isRecord(header)) refuse("The token is not a JWT.");
  return header;
}

/** Checks every claim that the hub reads. Signature and time are verified before. */
function identify(payload: unknown): Identity {
  if (!isRecord(payload)) refuse("The token's payload is not an object.");
  const { sub, tenant_id, role, jobs, exp, nbf, iat, jti } = payload;
  if (exp === undefined) refuse("The token has no `exp`; tokens without an end are not accepted.");
  for (const [name, time] of Object.entries({ exp, nbf, iat })) {
    if (time !== undefined && !isSecond(time))
      refuse(`The token's \`${name}\` is not a time in seconds since 1970.`);
  }
  if (!isName(sub))
    refuse(`The token's \`sub\` is not a text of 1 to ${SUBJECT_LENGTH} printable characters.`);
  if (typeof tenant_id !== "string" || !ID.test(tenant_id))
    refuse(`The token's \`tenant_id\` does not match ${ID_PATTERN}.`);
  if (!isRole(role)) refuse(`The token's \`role\` is not one of ${ROLES.join(", ")}.`);
  if (jobs !== undefined && !isAllowList(jobs)) {
    refuse(
      `The token's \`jobs\` is not a list of at most ${LIMITS.tokenJobs} job ids, each whole or as \`prefix*\`.`,
    );
  }
  if (jti !== undefined && !isName(jti))
    refuse("The token's `jti` is not a text of 1 to 256 printable characters.");
  return Object.freeze({
    subject: sub,
    tenantId: tenant_id,
    role,
    ...(jobs !== undefined && { jobs: Object.freeze([...jobs]) }),
    expiresAt: Math.floor((exp as number) * 1000),
    ...(jti !== undefined && { tokenId: jti }),
  });
}

/** Our sentence for an error of jsonwebtoken; its own texts may quote the payload. */
function refusal(error: unknown): HubError {
  if (error instanceof jwt.TokenExpiredError) return new HubError("token_expired");
  if (error instanceof jwt.NotBeforeError) return new HubError("unauthorized", NOT_YET);
  const text = error instanceof Error ? error.message : "";
  const [, sentence = "The token does not verify."] =
    REFUSALS.find(([start]) => text.startsWith(start)) ?? [];
  return new HubError("unauthorized", sentence);
}

const NOT_YET = "The token is not valid yet (`nbf`).";

const REFUSALS: ReadonlyArray<readonly [start: string, sentence: string]> = [
  ["invalid signature", "The token's signature does not verify."],
  ["jwt signature is required", "The token has no signature."],
  ["invalid exp value", "The token's `exp` is not a time in seconds since 1970."],
  ["invalid nbf value", "The token's `nbf` is not a time in seconds since 1970."],
  ["jwt audience invalid", "The token's `aud` is not the audience that this hub wants."],
  ["jwt issuer invalid", "The token's `iss` is not the issuer that this hub wants."],
];

function refuse(message: string): never {
  throw new HubError("unauthorized", message);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSecond(value: unknown): boolean {
  return typeof value === "number" && Math.abs(value) <= LAST_SECOND;
}

function isName(value: unknown): value is string {
  return (
    typeof value === "string" &&
    value.length > 0 &&
    value.length <= SUBJECT_LENGTH &&
    !UNPRINTABLE.test(value)
  );
}

function isRole(value: unknown): value is Role {
  return ROLES.some((role) => role === value);
}

function isAllowList(value: unknown): value is string[] {
  return (
    Array.isArray(value) &&
    value.length <= LIMITS.tokenJobs &&
    value.every((entry) => typeof entry === "string" && JOB_ENTRY.test(entry))
  );
}
