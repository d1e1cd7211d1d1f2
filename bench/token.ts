/** Tokens of the bench's clients. */
import { type Role, signToken } from "../src/auth.ts";

/** Hubs are started with it as JWT_SECRET. */
export const SECRET = "a secret that only the bench knows of";
export const TENANT = "bench";

/** Longer than any run. */
const TTL_SECONDS = 6 * 3_600;
const tokens = new Map<Role, string>();

export function benchToken(role: Role): string {
  const known = tokens.get(role);
  if (known !== undefined) return known;
  const token = signToken(SECRET, {
    subject: `bench-${role}`,
    tenantId: TENANT,
    role,
    ttlSeconds: TTL_SECONDS,
  });
  tokens.set(role, token);
  return token;
}
