/** Requests to a hub's HTTP door, with a token of the tests unless told otherwise. */
import { expect } from "chai";
import type { Role } from "../../src/auth.ts";
import { type ErrorCode, REPLY_ERRORS } from "../../src/protocol/codes.ts";
import { TENANT, type TestHub, type TokenOptions, token } from "../support/hub.ts";

export const JOBS = `/api/v1/tenants/${TENANT}/training/jobs`;

export interface RequestOptions extends TokenOptions {
  /** Default: admin. `null`: no token. */
  role?: Role | null;
  method?: string;
  /** An object is sent as JSON. */
  body?: unknown;
  headers?: Record<string, string>;
}

export interface Reply {
  status: number;
  headers: Headers;
  text: string;
  /** The body; `undefined` when it is not JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests say by their assertions what is in it
  json: any;
}

export async function request(hub: TestHub, path: string, options: RequestOptions = {}): Promise<Reply> {
  const {
    role = "admin",
    body,
    headers = {},
    method = body === undefined ? "GET" : "POST",
    ...rest
  } = options;
  const reply = await fetch(`${hub.url}${path}`, {
    method,
    headers: { ...(role && { authorization: `Bearer ${token(role, rest)}` }), ...headers },
    ...(body !== undefined && {
      body: typeof body === "string" || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
    }),
  });
  const text = await reply.text();
  return { status: reply.status, headers: reply.headers, text, json: parsed(text) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A refusal has the status and the meaning of its code, and nothing else in the body. */
export function expectError(reply: Reply, code: ErrorCode): void {
  expect(reply.json?.error?.code, reply.text).to.equal(code);
  expect(reply.status).to.equal(REPLY_ERRORS[code].status);
  expect(reply.json).to.have.all.keys("ok", "error");
  expect(reply.json.ok).to.equal(false);
  expect(reply.json.error).to.have.all.keys("code", "message", "temporary");
  expect(reply.json.error.temporary).to.equal(REPLY_ERRORS[code].temporary);
  expect(reply.json.error.message).to.be.a("string").and.not.equal("");
}
