import {
  createHmac,
  createSign,
  generateKeyPairSync,
  type KeyObject,
  type KeyPairKeyObjectResult,
} from "node:crypto";
import { expect } from "chai";
import {
  type AuthOptions,
  atLeast,
  createAuth,
  type Identity,
  maySee,
  ROLES,
  type Role,
  readPublicKey,
  signToken,
} from "../src/auth.ts";
import { HubError } from "../src/protocol/codes.ts";
import { LIMITS } from "../src/protocol/limits.ts";

const SECRET = "0123456789abcdef0123456789abcdef";
const NOW = 1_800_000_000;
const CLAIMS = { sub: "me", tenant_id: "acme", role: "watcher", exp: NOW + 60 };

/** Parts are made here, not by jsonwebtoken: it would not sign half of what must be refused. */
function part(value: unknown): string {
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
}

function hs256(payload: unknown, header: object = {}, secret: string = SECRET): string {
  const text = `${part({ alg: "HS256", typ: "JWT", ...header })}.${part(payload)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

function signed(alg: "RS256" | "ES256", key: KeyObject, payload: unknown): string {
  const text = `${part({ alg, typ: "JWT" })}.${part(payload)}`;
  return `${text}.${createSign("sha256").update(text).sign({ key, dsaEncoding: "ieee-p1363" }, "base64url")}`;
}

function pem(pair: KeyPairKeyObjectResult): string {
  return pair.publicKey.export({ type: "spki", format: "pem" }).toString();
}

const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 });
const EC = generateKeyPairSync("ec", { namedCurve: "P-256" });

function verifier(options: AuthOptions = { secret: SECRET }) {
  return createAuth({ now: () => NOW * 1000, ...options });
}

/** The refusal of a token; fails when it is accepted or the error tells anything of the token. */
function refusal(token: unknown, options?: AuthOptions): HubError {
  let identity: Identity;
  try {
    identity = verifier(options).verify(token);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    expect(error.message).to.match(/^[A-Z][^\n]{5,200}\.$/);
    if (typeof token === "string" && token) expect(`${error.stack} ${error.cause}`).not.to.contain(token);
    return error;
  }
  throw new Error(`accepted: ${JSON.stringify(identity)}`);
}

describe("auth", () => {
  describe("accepts", () => {
    it("an HS256 token, as a frozen identity", () => {
      const token = hs256({ ...CLAIMS, jobs: ["run-1", "exp*", "*"], jti: "t1", iat: NOW, nbf: NOW });
      const identity = verifier().verify(token);
      expect(identity).to.deep.equal({
        subject: "me",
        tenantId: "acme",
        role: "watcher",
        jobs: ["run-1", "exp*", "*"],
        expiresAt: (NOW + 60) * 1000,
        tokenId: "t1",
      });
      expect(identity).to.be.frozen;
      expect(identity.jobs).to.be.frozen;
    });

    it("leaves out what the token does not say", () => {
      expect(verifier().verify(hs256(CLAIMS))).to.have.all.keys("subject", "tenantId", "role", "expiresAt");
    });

    it("RS256 by an RSA key and ES256 by a key on P-256", () => {
      const rsa = verifier({ publicKey: pem(RSA) }).verify(signed("RS256", RSA.privateKey, CLAIMS));
      const ec = verifier({ publicKey: pem(EC) }).verify(signed("ES256", EC.privateKey, CLAIMS));
      expect([rsa.subject, ec.subject]).to.deep.equal(["me", "me"]);
    });

    it("either algorithm when both keys are configured", () => {
      const both = verifier({ secret: SECRET, publicKey: pem(EC) });
      expect(both.verify(hs256(CLAIMS)).subject).to.equal("me");
      expect(both.verify(signed("ES256", EC.privateKey, CLAIMS)).subject).to.equal("me");
    });

    it("a token without `typ`", () => {
      expect(verifier().verify(hs256(CLAIMS, { typ: undefined })).subject).to.equal("me");
    });

    it("every role, and the longest of everything", () => {
      for (const role of ROLES) expect(verifier().verify(hs256({ ...CLAIMS, role })).role).to.equal(role);
      const longest = {
        ...CLAIMS,
        sub: "ü".repeat(256),
        tenant_id: "t".repeat(64),
        jobs: Array.from({ length: LIMITS.tokenJobs }, (_, index) => `job-${index}`),
      };
      expect(verifier().verify(hs256(longest)).jobs).to.have.length(LIMITS.tokenJobs);
    });

    it("the configured issuer and audience, also in a list", () => {
      const options = { secret: SECRET, issuer: "https://id.example", audience: "trainwire" };
      for (const aud of ["trainwire", ["other", "trainwire"]]) {
        const token = hs256({ ...CLAIMS, iss: "https://id.example", aud });
        expect(verifier(options).verify(token).subject).to.equal("me");
      }
    });

    it("a token until the millisecond it ends", () => {
      const token = hs256({ ...CLAIMS, exp: NOW + 0.5 });
      expect(verifier({ secret: SECRET, now: () => NOW * 1000 + 499 }).verify(token).expiresAt).to.equal(
        NOW * 1000 + 500,
      );
      expect(refusal(token, { secret: SECRET, now: () => NOW * 1000 + 500 }).code).to.equal("token_expired");
    });
  });

  describe("refuses with unauthorized", () => {
    const [head, body, signature] = hs256(CLAIMS).split(".") as [string, string, string];
    const noneHead = part({ alg: "none", typ: "JWT" });
    const secretOnly: AuthOptions = { secret: SECRET };
    const rsaOnly: AuthOptions = { publicKey: pem(RSA) };
    const both: AuthOptions = { secret: SECRET, publicKey: pem(RSA) };
    const issuer: AuthOptions = { secret: SECRET, issuer: "https://id.example" };
    const audience: AuthOptions = { secret: SECRET, audience: "trainwire" };
    const with_ = (claims: object) => hs256({ ...CLAIMS, ...claims });

    const hostile: Array<[name: string, token: unknown, says: string, options?: AuthOptions]> = [
      ["no token", undefined, "missing"],
      ["null", null, "missing"],
      ["an empty token", "", "missing"],
      ["a number", 5, "not a string"],
      ["an object", { token: hs256(CLAIMS) }, "not a string"],
      ["an array of one token", [hs256(CLAIMS)], "not a string"],
      ["an object that becomes a token", { toString: () => hs256(CLAIMS) }, "not a string"],
      ["a huge token", "x".repeat(LIMITS.tokenLength + 1), "longer than"],
      ["a good token that is too long", with_({ pad: "x".repeat(LIMITS.tokenLength) }), "longer than"],
      ["a word", "rubbish", "not a JWT"],
      ["two segments", `${head}.${body}`, "not a JWT"],
      ["four segments", `${head}.${body}.${signature}.${signature}`, "not a JWT"],
      ["empty segments", "..", "not a JWT"],
      ["a good token and a line break", `${hs256(CLAIMS)}\n`, "not a JWT"],
      ["a good token after `Bearer`", `Bearer ${hs256(CLAIMS)}`, "not a JWT"],
      ["unicode", `${head}.${body}.ünïcödé`, "not a JWT"],
      ["a NUL", `${head}.${body}.\u0000`, "not a JWT"],
      ["lone surrogates", "\ud800.\udc00.\ud800", "not a JWT"],
      ["a header that is no JSON", `${part("{")}.${body}.${signature}`, "not a JWT"],
      ["a header that is an array", `${part([])}.${body}.${signature}`, "not a JWT"],
      ["a header that is a string", `${part('"HS256"')}.${body}.${signature}`, "not a JWT"],
      ["a header that is null", `${part("null")}.${body}.${signature}`, "not a JWT"],
      ["no alg", hs256(CLAIMS, { alg: undefined }), "algorithm"],
      ["an alg that is no string", hs256(CLAIMS, { alg: ["HS256"] }), "algorithm"],
      ["alg `none` without signature", `${noneHead}.${body}.`, "algorithm"],
      ["alg `none` with a signature", `${noneHead}.${body}.${signature}`, "algorithm"],
      ["alg `None`", hs256(CLAIMS, { alg: "None" }), "algorithm"],
      ["alg `hs256`", hs256(CLAIMS, { alg: "hs256" }), "algorithm"],
      ["alg `__proto__`", hs256(CLAIMS, { alg: "__proto__" }), "algorithm"],
      ["alg HS512", hs256(CLAIMS, { alg: "HS512" }), "algorithm"],
      ["no signature", `${head}.${body}.`, "signature"],
      ["another signature", `${head}.${body}.${part("x".repeat(32))}`, "signature"],
      ["another payload", `${head}.${part({ ...CLAIMS, role: "admin" })}.${signature}`, "signature"],
      ["another secret", hs256(CLAIMS, {}, SECRET.replace("0", "1")), "signature"],
      ["an empty secret", hs256(CLAIMS, {}, ""), "signature"],
      [
        "HS256 signed with the public key, that one configured",
        hs256(CLAIMS, {}, pem(RSA)),
        "algorithm",
        rsaOnly,
      ],
      ["HS256 signed with the public key, both configured", hs256(CLAIMS, {}, pem(RSA)), "signature", both],
      [
        "RS256 when only a secret is configured",
        signed("RS256", RSA.privateKey, CLAIMS),
        "algorithm",
        secretOnly,
      ],
      ["ES256 when the key is RSA", signed("ES256", EC.privateKey, CLAIMS), "algorithm", rsaOnly],
      [
        "ES256 with a signature of RS256's length",
        signed("RS256", RSA.privateKey, CLAIMS).replace(/^[^.]+/, part({ alg: "ES256", typ: "JWT" })),
        "does not verify",
        { publicKey: pem(EC) },
      ],
      ["an unknown crit", hs256(CLAIMS, { crit: ["b64"], b64: true }), "crit"],
      ["an empty crit", hs256(CLAIMS, { crit: [] }), "crit"],
      ["a string payload", hs256('"text"'), "not an object"],
      ["a string payload without typ", hs256("text", { typ: undefined }), "not an object"],
      ["a payload that is no JSON", hs256("{"), "not a JWT"],
      ["an array payload", hs256([CLAIMS]), "not an object"],
      ["a number as payload", hs256("5"), "not an object"],
      ["a null payload", hs256("null"), "does not verify"],
      ["no exp", with_({ exp: undefined }), "no `exp`"],
      ["exp null", with_({ exp: null }), "`exp`"],
      ["exp as a string", with_({ exp: String(NOW + 60) }), "`exp`"],
      ["exp as an object", with_({ exp: {} }), "`exp`"],
      ["exp infinite", hs256(JSON.stringify(CLAIMS).replace(String(NOW + 60), "1e999")), "`exp`"],
      ["exp beyond what a date can show", with_({ exp: 8.64e12 + 1 }), "`exp`"],
      ["nbf in the future", with_({ nbf: NOW + 1 }), "not valid yet"],
      ["nbf as a string", with_({ nbf: String(NOW) }), "`nbf`"],
      ["nbf null", with_({ nbf: null }), "`nbf`"],
      ["iat as a string", with_({ iat: String(NOW) }), "`iat`"],
      [
        "iat infinite",
        hs256(JSON.stringify({ ...CLAIMS, iat: 0 }).replace('"iat":0', '"iat":1e999')),
        "`iat`",
      ],
      ["no sub", with_({ sub: undefined }), "`sub`"],
      ["an empty sub", with_({ sub: "" }), "`sub`"],
      ["a sub that is a number", with_({ sub: 5 }), "`sub`"],
      ["a sub that is too long", with_({ sub: "x".repeat(257) }), "`sub`"],
      ["a sub with a line break", with_({ sub: "me\nadmin" }), "`sub`"],
      ["a sub with a C1 control", with_({ sub: "me\u009b2J" }), "`sub`"],
      ["a sub with a line separator", with_({ sub: "me\u2028" }), "`sub`"],
      ["a sub with a lone surrogate", with_({ sub: "me\ud800" }), "`sub`"],
      ["no tenant_id", with_({ tenant_id: undefined }), "`tenant_id`"],
      ["an empty tenant_id", with_({ tenant_id: "" }), "`tenant_id`"],
      ["a tenant_id with a slash", with_({ tenant_id: "a/b" }), "`tenant_id`"],
      ["a tenant_id with braces", with_({ tenant_id: "{a}" }), "`tenant_id`"],
      ["a tenant_id with a line break", with_({ tenant_id: "acme\n" }), "`tenant_id`"],
      ["a tenant_id that is too long", with_({ tenant_id: "x".repeat(65) }), "`tenant_id`"],
      ["a tenant_id in an array", with_({ tenant_id: ["acme"] }), "`tenant_id`"],
      ["no role", with_({ role: undefined }), "`role`"],
      ["an unknown role", with_({ role: "root" }), "`role`"],
      ["a role in capitals", with_({ role: "Admin" }), "`role`"],
      ["a role in an array", with_({ role: ["admin"] }), "`role`"],
      ["a role from the prototype", with_({ role: "constructor" }), "`role`"],
      ["jobs as a string", with_({ jobs: "*" }), "`jobs`"],
      ["jobs null", with_({ jobs: null }), "`jobs`"],
      ["jobs as an object", with_({ jobs: { 0: "*", length: 1 } }), "`jobs`"],
      ["too many jobs", with_({ jobs: Array.from({ length: LIMITS.tokenJobs + 1 }, () => "a") }), "`jobs`"],
      ["a job that is no string", with_({ jobs: ["a", 5] }), "`jobs`"],
      ["an empty job", with_({ jobs: [""] }), "`jobs`"],
      ["a job with a slash", with_({ jobs: ["a/b"] }), "`jobs`"],
      ["a star in front", with_({ jobs: ["*a"] }), "`jobs`"],
      ["two stars", with_({ jobs: ["a**"] }), "`jobs`"],
      ["a job that is too long", with_({ jobs: ["x".repeat(65)] }), "`jobs`"],
      ["a jti that is no string", with_({ jti: 5 }), "`jti`"],
      ["no issuer", with_({}), "`iss`", issuer],
      ["the wrong issuer", with_({ iss: "https://id.example/" }), "`iss`", issuer],
      ["the issuer in an array", with_({ iss: ["https://id.example"] }), "`iss`", issuer],
      ["no audience", with_({}), "`aud`", audience],
      ["the wrong audience", with_({ aud: ["other"] }), "`aud`", audience],
    ];
    for (const [name, token, says, options] of hostile) {
      it(name, () => {
        const error = refusal(token, options);
        expect(error.code).to.equal("unauthorized");
        expect(error.message).to.contain(says);
      });
    }
  });

  describe("refuses with token_expired", () => {
    it("a token at and after its end", () => {
      for (const exp of [NOW, NOW - 1, 0, -5]) {
        expect(refusal(hs256({ ...CLAIMS, exp })).code).to.equal("token_expired");
      }
    });

    it("only when the signature verifies", () => {
      expect(refusal(hs256({ ...CLAIMS, exp: NOW - 1 }, {}, "x".repeat(32))).code).to.equal("unauthorized");
    });
  });

  it("keeps a payload's own `__proto__` out of the identity", () => {
    const text = JSON.stringify({ ...CLAIMS, role: undefined }).replace(
      "{",
      '{"__proto__":{"role":"admin"},',
    );
    expect(refusal(hs256(text)).message).to.contain("`role`");
  });

  describe("keys", () => {
    it("are wanted", () => {
      expect(() => createAuth({})).to.throw("neither a secret nor a public key");
    });

    it("refuses a secret under 32 bytes, and one that is a PEM key", () => {
      expect(() => createAuth({ secret: "" })).to.throw("0 bytes");
      expect(() => createAuth({ secret: SECRET.slice(1) })).to.throw("31 bytes");
      expect(() => createAuth({ secret: "ä".repeat(15) })).to.throw("30 bytes");
      expect(() => createAuth({ secret: pem(RSA) })).to.throw("not a secret");
      expect(() =>
        signToken("short", { subject: "me", tenantId: "t", role: "admin", ttlSeconds: 1 }),
      ).to.throw("5 bytes");
    });

    it("tells the algorithm by the type of the key", () => {
      expect(readPublicKey(pem(RSA)).algorithm).to.equal("RS256");
      expect(readPublicKey(pem(EC)).algorithm).to.equal("ES256");
    });

    const unfit: Array<[name: string, make: () => string, says: string]> = [
      [
        "an RSA key of 1024 bits",
        () => pem(generateKeyPairSync("rsa", { modulusLength: 1024 })),
        "1024 bits",
      ],
      ["an RSA-PSS key", () => pem(generateKeyPairSync("rsa-pss", { modulusLength: 2048 })), "rsa-pss"],
      ["a key on P-384", () => pem(generateKeyPairSync("ec", { namedCurve: "P-384" })), "secp384r1"],
      ["a key on secp256k1", () => pem(generateKeyPairSync("ec", { namedCurve: "secp256k1" })), "secp256k1"],
      ["an Ed25519 key", () => pem(generateKeyPairSync("ed25519") as KeyPairKeyObjectResult), "ed25519"],
      [
        "a private key",
        () => RSA.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
        "private key",
      ],
      ["text", () => "not a key", "PEM"],
      ["an empty text", () => "", "PEM"],
    ];
    for (const [name, make, says] of unfit) {
      it(`refuses ${name}`, () => {
        expect(() => createAuth({ publicKey: make() })).to.throw(Error, says);
      });
    }
  });

  describe("a token that it has verified before", () => {
    let now: number;
    const auth = (options: AuthOptions = {}) => createAuth({ secret: SECRET, now: () => now, ...options });
    const code = (work: () => unknown) => {
      try {
        work();
        return "accepted";
      } catch (error) {
        return (error as HubError).code;
      }
    };
    beforeEach(() => {
      now = NOW * 1000;
    });

    it("is the same identity, and no longer good when it ends", () => {
      const known = auth();
      const token = hs256({ ...CLAIMS, exp: NOW + 60.5 });
      const first = known.verify(token);
      now += 60_499;
      expect(known.verify(token)).to.equal(first);
      for (const ms of [1, 1, 10_000]) {
        now += ms;
        expect(code(() => known.verify(token))).to.equal("token_expired");
      }
    });

    it("is not good before its `nbf`, also when the clock is set back", () => {
      const known = auth();
      const token = hs256({ ...CLAIMS, nbf: NOW });
      now -= 1;
      expect(code(() => known.verify(token))).to.equal("unauthorized");
      now += 1;
      known.verify(token);
      now -= 1;
      expect(code(() => known.verify(token))).to.equal("unauthorized");
      now += 1;
      expect(code(() => known.verify(token))).to.equal("accepted");
    });

    it("is known by all of its text: no other with its claims, header or signature is", () => {
      const known = auth();
      const token = hs256(CLAIMS);
      known.verify(token);
      const [head, claims, signature] = token.split(".") as [string, string, string];
      const forged = part({ ...CLAIMS, role: "admin" });
      for (const other of [
        `${head}.${forged}.${signature}`,
        `${head}.${claims}.`,
        `${head}.${claims}.${signature.slice(0, -2)}AA`,
        `${part({ alg: "none" })}.${claims}.${signature}`,
        ` ${token}`,
      ]) {
        expect(code(() => known.verify(other))).to.equal("unauthorized");
      }
    });

    it("is not known to a verifier with other keys", () => {
      const token = hs256(CLAIMS);
      auth().verify(token);
      expect(code(() => auth({ secret: `${SECRET}!` }).verify(token))).to.equal("unauthorized");
    });

    it("is remembered only as long as there is room, and a bad one never", () => {
      const known = auth({ remembered: 2 });
      const [a, b, c] = ["a", "b", "c"].map((sub) => hs256({ ...CLAIMS, sub })) as [string, string, string];
      const [first, second] = [known.verify(a), known.verify(b)];
      expect(known.verify(a)).to.equal(first);
      known.verify(c);
      expect(known.verify(a), "used last").to.equal(first);
      expect(known.verify(b), "forgotten").to.not.equal(second);
      expect(known.verify(b)).to.deep.equal(second);
      const none = auth({ remembered: 0 });
      expect(none.verify(a)).to.not.equal(none.verify(a));
      const bad = hs256({ ...CLAIMS, role: "owner" });
      for (let i = 0; i < 3; i++) expect(code(() => known.verify(bad))).to.equal("unauthorized");
      expect(known.verify(b), "no room was taken").to.deep.equal(second);
    });
  });

  describe("signToken", () => {
    const request = { subject: "me", tenantId: "acme", role: "operator", ttlSeconds: 60 } as const;

    it("makes what verify accepts", () => {
      const options = { secret: SECRET, issuer: "https://id.example", audience: "trainwire" };
      const before = Math.floor(Date.now() / 1000);
      const identity = createAuth(options).verify(
        signToken(SECRET, { ...request, ...options, jobs: ["a", "b*"] }),
      );
      expect(identity).to.deep.include({
        subject: "me",
        tenantId: "acme",
        role: "operator",
        jobs: ["a", "b*"],
      });
      expect(identity.expiresAt).to.be.within((before + 60) * 1000, Date.now() + 60_000);
    });

    it("refuses what verify would refuse", () => {
      const bad: object[] = [
        { subject: "" },
        { tenantId: "a/b" },
        { role: "root" },
        { jobs: ["a b"] },
        { ttlSeconds: Number.NaN },
        { ttlSeconds: Number.POSITIVE_INFINITY },
        { jobs: Array.from({ length: LIMITS.tokenJobs }, () => "x".repeat(64)) },
      ];
      for (const wrong of bad) expect(() => signToken(SECRET, { ...request, ...wrong })).to.throw(HubError);
    });
  });

  describe("maySee", () => {
    const see = (jobs: readonly string[] | undefined, job: string) =>
      maySee({ subject: "me", tenantId: "t", role: "watcher", expiresAt: 0, ...(jobs && { jobs }) }, job);

    it("is true of every job without a list, and of none with an empty one", () => {
      expect(see(undefined, "run-1")).to.equal(true);
      expect(see([], "run-1")).to.equal(false);
    });

    it("compares ids whole and prefixes from the start", () => {
      expect(see(["run-1"], "run-1")).to.equal(true);
      expect(see(["run-1"], "run-10")).to.equal(false);
      expect(see(["other", "run*"], "run-10")).to.equal(true);
      expect(see(["run*"], "run")).to.equal(true);
      expect(see(["run*"], "my-run")).to.equal(false);
      expect(see(["r.n*"], "run-1")).to.equal(false);
      expect(see(["*"], "anything")).to.equal(true);
    });
  });

  it("orders watcher, operator and admin; trainer stands apart", () => {
    const enough = (role: Role) => ROLES.filter((needed) => atLeast(role, needed));
    expect(enough("watcher")).to.deep.equal(["watcher"]);
    expect(enough("operator")).to.deep.equal(["watcher", "operator"]);
    expect(enough("admin")).to.deep.equal(["watcher", "operator", "admin"]);
    expect(enough("trainer")).to.deep.equal(["trainer"]);
  });
});
