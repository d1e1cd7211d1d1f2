/** How the commands that talk to a hub reach it: its URL, and a token that is given or signed here. */
import { InvalidArgumentError } from "commander";
import type { ConnectionOptions } from "../../client/index.ts";
import type { Role } from "../auth.ts";
import type { Config } from "../config.ts";
import { ID_PATTERN } from "../protocol/limits.ts";
import { localToken } from "./token.ts";

/** Of a token that is signed here. When it ends, the SDK asks for the next one. */
const TTL_SECONDS = 43_200;

export interface AccessRequest {
  /** Default: TRAINWIRE_URL. */
  url?: string | undefined;
  /** Of a token that is signed here; one that is given has its own. */
  tenant: string;
  role: Role;
  /** `sub` of such a token. */
  subject: string;
}

export interface Access {
  /** For the SDK. */
  connection: Pick<ConnectionOptions, "token" | "getToken"> & { url: string };
  /** A refusal as one line for whoever typed the command, with what to do about it. */
  explain(refusal: { code: string; message: string }): Error;
}

/** @throws Error in one line, when there is neither a token nor a key to sign one with. */
export function access(config: Config, { url = config.url, tenant, role, subject }: AccessRequest): Access {
  const { token, jwtSecret, secretFile } = config;
  const sign = () => localToken(config, { subject, tenantId: tenant, role, ttlSeconds: TTL_SECONDS });
  if (token === undefined) sign(); // what is missing shows now, not at the first connect
  const source = token
    ? "It is TRAINWIRE_TOKEN's"
    : `It was signed with ${jwtSecret ? "JWT_SECRET" : secretFile}`;
  return {
    connection: token === undefined ? { url, getToken: sign } : { url, token },
    explain({ code, message }) {
      const hint = code === "unauthorized" ? ` ${source}: is that the key of the hub at ${url}?` : "";
      return new Error(`${message}${hint}`);
    },
  };
}

/** Parses `--url` as TRAINWIRE_URL is parsed. */
export function hubUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) {
    throw new InvalidArgumentError("an http:// or https:// URL without query is wanted.");
  }
  return url.href.replace(/\/+$/, "");
}

/** Parses the id of a job. */
export function jobId(text: string): string {
  if (!new RegExp(ID_PATTERN).test(text)) throw new InvalidArgumentError(`an id matches ${ID_PATTERN}.`);
  return text;
}
