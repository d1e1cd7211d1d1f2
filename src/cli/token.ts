/** `trainwire token`: signs a token with the hub's secret and prints it alone. */
import { existsSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { ROLES, type Role, signToken } from "../auth.ts";
import { type Config, loadConfig } from "../config.ts";
import { localSecret } from "../secret.ts";

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400 };

export function tokenCommand(): Command {
  return new Command("token")
    .description("print a token, signed with JWT_SECRET or with the local secret that `serve` has made")
    .requiredOption("--tenant <id>", "tenant_id")
    .addOption(new Option("--role <role>", "what it may do").choices(ROLES).makeOptionMandatory())
    .requiredOption("--sub <name>", "whom it names")
    .option("--job <id...>", "only these jobs (ids or prefix*)")
    .option("--ttl <time>", "how long it is good for: 90s, 15m, 1h, 7d", seconds, 3_600)
    .action(
      ({
        tenant,
        role,
        sub,
        job,
        ttl,
      }: {
        tenant: string;
        role: Role;
        sub: string;
        job?: string[];
        ttl: number;
      }) => {
        console.log(
          localToken(loadConfig(), {
            tenantId: tenant,
            role,
            subject: sub,
            ttlSeconds: ttl,
            ...(job && { jobs: job }),
          }),
        );
      },
    );
}

/**
 * A token that the hub of this folder's settings accepts.
 * Throws an Error, one sentence, when there is no key to sign with.
 */
export function localToken(
  config: Config,
  request: { subject: string; tenantId: string; role: Role; jobs?: string[]; ttlSeconds: number },
): string {
  const { jwtSecret, jwtPublicKey, jwtIssuer, jwtAudience, secretFile } = config;
  if (jwtSecret === undefined && jwtPublicKey !== undefined) {
    throw new Error(
      "JWT_PUBLIC_KEY can only verify; sign tokens where its private key is, and pass one as TRAINWIRE_TOKEN.",
    );
  }
  if (jwtSecret === undefined && !existsSync(secretFile)) {
    // Making it is for the hub: in a wrong folder, a new secret would only be refused later.
    throw new Error(
      `There is no secret file ${secretFile} here: run this in the folder of the hub, or set JWT_SECRET or TRAINWIRE_TOKEN.`,
    );
  }
  return signToken(jwtSecret ?? localSecret(secretFile), {
    ...request,
    ...(jwtIssuer !== undefined && { issuer: jwtIssuer }),
    ...(jwtAudience !== undefined && { audience: jwtAudience }),
  });
}

function seconds(text: string): number {
  const [, amount, unit] = /^(\d{1,9})([smhd]?)$/.exec(text) ?? [];
  const total = Number(amount) * (UNITS[unit || "s"] as number);
  if (!amount || total < 1) throw new InvalidArgumentError("a time is written like 90s, 15m, 1h or 7d");
  return total;
}
