import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type Config, ConfigError, isLoopback, loadConfig } from "../src/config.ts";
import { SETTINGS, type Setting } from "../src/settings.ts";

type Env = Record<string, string | undefined>;

const SECRET = "0123456789abcdef0123456789abcdef";
const EC = generateKeyPairSync("ec", { namedCurve: "P-256" });
const PEM = EC.publicKey.export({ type: "spki", format: "pem" }).toString();
const PRIVATE_PEM = EC.privateKey.export({ type: "pkcs8", format: "pem" }).toString();

function faultsOf(env: Env): string[] {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

describe("config", () => {
  it("gives the documented defaults for an empty environment", () => {
    const { instanceId, ...config } = loadConfig({});
    expect(instanceId).to.match(/^hub-[a-z0-9]{6}$/);
    expect(config).to.deep.equal({
      port: 3000,
      host: "127.0.0.1",
      redisUrl: undefined,
      jwtSecret: undefined,
      jwtPublicKey: undefined,
      jwtIssuer: undefined,
      jwtAudience: undefined,
      corsOrigins: [],
      logLevels: { level: "info", modules: {} },
      keyPrefix: "trainwire",
      secretFile: ".trainwire/jwt-secret",
      maxEvents: 5_000,
      maxLogLines: 5_000,
      maxFeedBytes: 16 * 1024 * 1024,
      maxPoints: 16_384,
      maxReplays: 256,
      maxJobs: 10_000,
      ttlFinished: 86_400,
      ttlSilent: 604_800,
      staleMs: 60_000,
      lostMs: 900_000,
      presenceIntervalMs: 1_000,
      instanceTimeoutMs: 3_000,
      tokenWarningMs: 60_000,
      tokenGraceMs: 25_000,
      checkIntervalMs: 2_000,
      releaseMs: 10_000,
      positionIntervalMs: 10_000,
      pingIntervalMs: 10_000,
      pingTimeoutMs: 8_000,
      connectTimeoutMs: 10_000,
      maxConnections: 15_000,
      holdBytes: 262_144,
      slowBytes: 1_048_576,
      flushMs: 20,
      probeIntervalMs: 1_000,
      metricsPort: undefined,
      trustedProxies: [],
      drainMs: 10_000,
      shutdownMs: 10_000,
      redisTimeoutMs: 5_000,
      url: "http://127.0.0.1:3000",
      token: undefined,
    });
  });

  it("refuses settings that contradict each other", () => {
    const env = { TRAINWIRE_STALE_MS: "5000", TRAINWIRE_LOST_MS: "5000" };
    expect(faultsOf(env)).to.deep.equal([
      "TRAINWIRE_LOST_MS (5000) must be more than TRAINWIRE_STALE_MS (5000): a job is stale before it is lost.",
    ]);
  });

  it("refuses a port of the metrics' own that is the hub's, but not 0 for both", () => {
    expect(faultsOf({ PORT: "3000", TRAINWIRE_METRICS_PORT: "3000" })).to.deep.equal([
      "TRAINWIRE_METRICS_PORT (3000) is PORT; without it, /metrics is on PORT anyway.",
    ]);
    expect(faultsOf({ PORT: "0", TRAINWIRE_METRICS_PORT: "0" })).to.deep.equal([]);
  });

  it("is one flat frozen object", () => {
    const config = loadConfig({ CORS_ORIGINS: "https://a.example" });
    expect(config).to.be.frozen;
    expect(config.corsOrigins).to.be.frozen;
    const nested = Object.entries(config).filter(
      ([, value]) => typeof value === "object" && !Array.isArray(value),
    );
    expect(nested.map(([key]) => key)).to.deep.equal(["logLevels"]);
    expect(config.logLevels).to.be.frozen;
    expect(config.logLevels.modules).to.be.frozen;
  });

  it("is typed from the table", () => {
    const config: Config = loadConfig({});
    const port: number = config.port;
    const id: string = config.instanceId;
    const origins: readonly string[] = config.corsOrigins;
    const redis: string | undefined = config.redisUrl;
    // @ts-expect-error without a default it may be undefined
    const url: string = config.redisUrl;
    // @ts-expect-error no such setting
    expect(config.nothing).to.equal(undefined);
    expect([port, id, origins, redis, url]).to.have.length(5);
  });

  it("has one row a setting: unique names, one sentence, bounds that hold the default", () => {
    const rows: readonly Setting[] = SETTINGS;
    expect(new Set(rows.map((row) => row.env)).size).to.equal(rows.length);
    expect(new Set(rows.map((row) => row.key)).size).to.equal(rows.length);
    for (const row of rows) {
      expect(row.about, row.env).to.match(/^[A-Z].*\.$/);
      expect(row.env).to.match(/^[A-Z][A-Z_]+$/);
      if (row.kind !== "integer") continue;
      if (row.default === undefined) continue;
      expect(Number(row.default), row.env).to.be.within(row.min ?? Number.NaN, row.max ?? Number.NaN);
    }
  });

  const given: Array<[env: string, text: string, key: keyof Config, value: unknown]> = [
    ["PORT", "0", "port", 0],
    ["PORT", " 8080 ", "port", 8080],
    ["HOST", "::1", "host", "::1"],
    ["HOST", "localhost", "host", "localhost"],
    ["REDIS_URL", "redis://127.0.0.1:6379/2", "redisUrl", "redis://127.0.0.1:6379/2"],
    ["REDIS_URL", "rediss://u:p@cache.example", "redisUrl", "rediss://u:p@cache.example"],
    ["JWT_SECRET", SECRET, "jwtSecret", SECRET],
    ["JWT_SECRET", `${SECRET} `, "jwtSecret", `${SECRET} `],
    ["JWT_SECRET", "ä".repeat(16), "jwtSecret", "ä".repeat(16)],
    ["JWT_PUBLIC_KEY", PEM, "jwtPublicKey", PEM.trim()],
    ["JWT_PUBLIC_KEY", PEM.replaceAll("\n", "\\n"), "jwtPublicKey", PEM],
    ["JWT_ISSUER", "https://id.example/", "jwtIssuer", "https://id.example/"],
    ["JWT_AUDIENCE", "trainwire", "jwtAudience", "trainwire"],
    ["CORS_ORIGINS", "*", "corsOrigins", ["*"]],
    [
      "CORS_ORIGINS",
      "https://A.example:443/, http://localhost:5173,",
      "corsOrigins",
      ["https://a.example", "http://localhost:5173"],
    ],
    ["CORS_ORIGINS", "capacitor://localhost", "corsOrigins", ["capacitor://localhost"]],
    ["LOG_LEVEL", "silent", "logLevels", { level: "silent", modules: {} }],
    ["LOG_LEVEL", "WARN", "logLevels", { level: "warn", modules: {} }],
    ["LOG_LEVEL", "sockets=debug", "logLevels", { level: "info", modules: { sockets: "debug" } }],
    [
      "LOG_LEVEL",
      " redis = Trace,warn , sockets=debug,",
      "logLevels",
      { level: "warn", modules: { sockets: "debug", redis: "trace" } },
    ],
    [
      "TRAINWIRE_TRUSTED_PROXIES",
      "127.0.0.1, 10.0.0.0/8,::1,fd00::/8, 127.0.0.1,0.0.0.0/0",
      "trustedProxies",
      ["127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "0.0.0.0/0"],
    ],
    ["TRAINWIRE_INSTANCE_ID", "h1", "instanceId", "h1"],
    ["TRAINWIRE_KEY_PREFIX", "test:a-1", "keyPrefix", "test:a-1"],
    ["TRAINWIRE_SECRET_FILE", "secret", "secretFile", "secret"],
    ["TRAINWIRE_URL", "https://hub.example/base/", "url", "https://hub.example/base"],
    ["TRAINWIRE_TOKEN", "a.b.c", "token", "a.b.c"],
  ];
  for (const [env, text, key, value] of given) {
    it(`reads ${env}=${JSON.stringify(text.slice(0, 25))}`, () => {
      expect(loadConfig({ [env]: text })[key]).to.deep.equal(value);
    });
  }

  for (const row of SETTINGS.filter((setting) => setting.kind === "integer")) {
    it(`holds ${row.env} to its bounds, ${row.min} and ${row.max}`, () => {
      const { env, key, min, max } = row;
      // The two that depend on each other.
      const others = { TRAINWIRE_STALE_MS: "100", TRAINWIRE_LOST_MS: "604800000" };
      expect(loadConfig({ ...others, [env]: String(min) })[key]).to.equal(min);
      expect(loadConfig({ ...others, [env]: String(max) })[key]).to.equal(max);
      for (const text of [
        String(min - 1),
        String(max + 1),
        "1.5",
        "1e3",
        "0x10",
        "-1",
        "many",
        "NaN",
        "10ms",
      ]) {
        const [fault, ...more] = faultsOf({ [env]: text });
        expect(fault, text)
          .to.contain(`${env} is ${JSON.stringify(text)}`)
          .and.contain(`from ${min} to ${max}`);
        expect(more).to.deep.equal([]);
      }
    });
  }

  it("takes an empty value for one that is not set", () => {
    const blank = Object.fromEntries(SETTINGS.map((setting) => [setting.env, " "]));
    const { instanceId: _, ...config } = loadConfig(blank);
    const { instanceId: __, ...defaults } = loadConfig({});
    expect(config).to.deep.equal(defaults);
  });

  it("derives the URL of the CLI from PORT", () => {
    expect(loadConfig({ PORT: "4000" }).url).to.equal("http://127.0.0.1:4000");
  });

  describe("JWT_PUBLIC_KEY as a path", () => {
    let directory: string;
    before(() => {
      directory = mkdtempSync(join(tmpdir(), "trainwire-config-"));
    });
    after(() => rmSync(directory, { recursive: true }));

    it("reads the file", () => {
      const path = join(directory, "key.pem");
      writeFileSync(path, PEM);
      expect(loadConfig({ JWT_PUBLIC_KEY: path }).jwtPublicKey).to.equal(PEM);
    });

    it("is a fault when the file is missing, or holds no key", () => {
      const path = join(directory, "empty.pem");
      writeFileSync(path, "nothing");
      expect(faultsOf({ JWT_PUBLIC_KEY: path })).to.deep.equal([
        "JWT_PUBLIC_KEY: this is not a public key in PEM form.",
      ]);
      const [fault] = faultsOf({ JWT_PUBLIC_KEY: join(directory, "none.pem") });
      expect(fault).to.contain("JWT_PUBLIC_KEY").and.contain("ENOENT");
    });
  });

  const refused: Array<[env: string, text: string, wanted: string]> = [
    ["HOST", "[::1]", "without brackets"],
    ["HOST", "300.1.1.1", "an IP address"],
    ["HOST", "http://localhost", "a host name"],
    ["REDIS_URL", "localhost:6379", "redis://"],
    ["REDIS_URL", "http://localhost", "rediss://"],
    ["REDIS_URL", "redis://", "redis://"],
    ["REDIS_URL", "redis://localhost/db", "number"],
    ["JWT_SECRET", "x".repeat(31), "31 bytes"],
    ["JWT_SECRET", PEM, "JWT_PUBLIC_KEY"],
    ["JWT_PUBLIC_KEY", PRIVATE_PEM, "private key"],
    ["JWT_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM"],
    ["CORS_ORIGINS", "https://a.example/path", "without path"],
    ["CORS_ORIGINS", "a.example", "scheme://host"],
    ["CORS_ORIGINS", "*,https://a.example", '"*" cannot be'],
    ["CORS_ORIGINS", "https://*.example", "scheme://host"],
    ["CORS_ORIGINS", "null", "scheme://host"],
    ["CORS_ORIGINS", "one,https://a.example,two", '"one" and "two"'],
    ["LOG_LEVEL", "verbose", '"verbose" is no level; one of trace, debug, info, warn, error, fatal, silent'],
    ["LOG_LEVEL", "info,sockets=loud", '"loud" is no level'],
    ["LOG_LEVEL", "sockets=", '"" is no level'],
    ["LOG_LEVEL", "door=debug", '"door" is no module; one of hub, sockets, feeds, redis, http, cluster'],
    ["LOG_LEVEL", "constructor=debug", '"constructor" is no module'],
    ["LOG_LEVEL", "sockets=debug=info", '"debug=info" is no level'],
    ["LOG_LEVEL", "sockets=debug,sockets=info", "one level is wanted for sockets, not two"],
    ["LOG_LEVEL", "warn,info", "one level is wanted for all"],
    ["TRAINWIRE_TRUSTED_PROXIES", "nginx", '"nginx" cannot be'],
    ["TRAINWIRE_TRUSTED_PROXIES", "10.0.0.0/33,::/129,10.0.0.1", '"10.0.0.0/33" and "::/129" cannot be'],
    ["TRAINWIRE_TRUSTED_PROXIES", "10.0.0.0/", '"10.0.0.0/" cannot be'],
    ["TRAINWIRE_TRUSTED_PROXIES", "10.0.0.0/8/8", '"10.0.0.0/8/8" cannot be'],
    ["TRAINWIRE_TRUSTED_PROXIES", "10.0.0/8", '"10.0.0/8" cannot be'],
    ["TRAINWIRE_TRUSTED_PROXIES", "fe80::1%eth0", '"fe80::1%eth0" cannot be'],
    ["TRAINWIRE_INSTANCE_ID", "a.b", "{1,32}"],
    ["TRAINWIRE_INSTANCE_ID", "x".repeat(33), "{1,32}"],
    ["TRAINWIRE_KEY_PREFIX", "{a}", "{1,64}"],
    ["TRAINWIRE_KEY_PREFIX", "x".repeat(65), "{1,64}"],
    ["TRAINWIRE_URL", "127.0.0.1:3000", "http://"],
    ["TRAINWIRE_URL", "ws://127.0.0.1", "http://"],
    ["TRAINWIRE_URL", "http://127.0.0.1/?a=1", "without query"],
  ];
  for (const [env, text, wanted] of refused) {
    it(`refuses ${env}=${JSON.stringify(text.slice(0, 25))}`, () => {
      const faults = faultsOf({ [env]: text });
      expect(faults).to.have.length(1);
      expect(faults[0])
        .to.match(new RegExp(`^${env}\\b.*\\.$`))
        .and.contain(wanted);
      const { secret } = SETTINGS.find((setting) => setting.env === env) as Setting;
      if (!secret) expect(faults[0]).to.contain(JSON.stringify(text));
    });
  }

  it("never shows the value of a secret", () => {
    const hidden = "hunter2";
    for (const { env, secret } of SETTINGS as readonly Setting[]) {
      if (secret) expect(faultsOf({ [env]: hidden }).join(), env).not.to.contain(hidden);
    }
    expect(faultsOf({ REDIS_URL: `redis://u:${hidden}@host/x` })[0]).not.to.contain(hidden);
  });

  it("shows control characters escaped and long values shortened", () => {
    expect(faultsOf({ LOG_LEVEL: "a\n\u001b[2Jb" })[0]).to.contain("a\\n\\u001b[2Jb");
    expect(faultsOf({ LOG_LEVEL: "x".repeat(5_000) })[0]).to.have.length.below(300);
  });

  it("reports all faults at once, one a line of the message", () => {
    const env = {
      PORT: "x",
      HOST: "0.0.0.0",
      LOG_LEVEL: "loud",
      TRAINWIRE_MAX_JOB: "1",
      TRAINWIRE_MAX_JOBS: "0",
    };
    const faults = faultsOf(env);
    for (const name of Object.keys(env))
      expect(faults.filter((fault) => fault.startsWith(name))).not.to.be.empty;
    expect(faults).to.have.length(5);
    expect(() => loadConfig(env)).to.throw(ConfigError, faults.join("\n"));
  });

  const unknown: Array<[env: string, hint: string]> = [
    ["TRAINWIRE_MAX_JOB", "did you mean TRAINWIRE_MAX_JOBS?"],
    ["TRAINWIRE_RELEASE", "did you mean TRAINWIRE_RELEASE_MS?"],
    ["TRAINWIRE_PORT", "did you mean PORT?"],
    ["TRAINWIRE_REDIS_URL", "did you mean REDIS_URL?"],
    ["TRAINWIRE_SOMETHING_ELSE_ENTIRELY", "README.md"],
  ];
  for (const [env, hint] of unknown) {
    it(`refuses the unknown name ${env}`, () => {
      const faults = faultsOf({ [env]: "hunter2" });
      expect(faults).to.have.length(1);
      expect(faults[0]).to.contain(`${env} is not a setting`).and.contain(hint).and.not.contain("hunter2");
    });
  }

  it("leaves other names alone", () => {
    expect(faultsOf({ PATH: "/bin", PORTS: "x", MY_TRAINWIRE_X: "1" })).to.deep.equal([]);
  });

  describe("a host that other machines reach", () => {
    for (const host of ["0.0.0.0", "::", "192.168.1.5", "hub.example"]) {
      it(`${host} needs a key`, () => {
        const [fault, ...more] = faultsOf({ HOST: host });
        expect(fault).to.contain("JWT_SECRET").and.contain("JWT_PUBLIC_KEY");
        expect(more).to.deep.equal([]);
        expect(faultsOf({ HOST: host, JWT_SECRET: SECRET })).to.deep.equal([]);
        expect(faultsOf({ HOST: host, JWT_PUBLIC_KEY: PEM })).to.deep.equal([]);
        expect(faultsOf({ HOST: host, JWT_SECRET: SECRET, JWT_PUBLIC_KEY: PEM })).to.deep.equal([]);
      });
    }

    it("is told from a loopback one", () => {
      for (const host of ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"]) {
        expect(isLoopback(host), host).to.equal(true);
      }
      for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example", "localhost.example"]) {
        expect(isLoopback(host), host).to.equal(false);
      }
    });
  });
});
