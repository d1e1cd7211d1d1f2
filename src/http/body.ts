/** Request bodies: bounded, shallow, JSON or NDJSON. */
import type { Context } from "koa";
import getRawBody from "raw-body";
import { HubError } from "../protocol/codes.ts";
import { parseJson } from "../protocol/json.ts";
import { LIMITS } from "../protocol/limits.ts";

/** `empty` stands for a body of nothing. @throws HubError `message_too_large`, `too_deep`, `malformed`. */
export async function readJson(ctx: Context, empty?: unknown): Promise<unknown> {
  const text = await readText(ctx);
  return empty !== undefined && text === "" ? empty : parseJson(text);
}

/** One event, an array, or one event a line (`application/x-ndjson`). */
export async function readEvents(ctx: Context): Promise<unknown> {
  const text = await readText(ctx);
  if (!ctx.is("application/x-ndjson", "application/jsonl")) return parseJson(text);
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length === 0) throw new HubError("malformed", "no events");
  return lines.map(parseLine);
}

/** A bad line refuses only itself: its error stands in its place. */
function parseLine(line: string): unknown {
  try {
    return parseJson(line);
  } catch (error) {
    if (error instanceof HubError) return error;
    throw error;
  }
}

async function readText(ctx: Context): Promise<string> {
  if (ctx.get("content-encoding") && ctx.get("content-encoding") !== "identity") {
    throw new HubError("malformed", "compressed bodies are not supported");
  }
  try {
    const length = ctx.request.length;
    const limit = LIMITS.messageBytes;
    return await getRawBody(ctx.req, { limit, encoding: "utf-8", ...(length !== undefined && { length }) });
  } catch (error) {
    if ((error as { type?: string }).type === "entity.too.large") throw new HubError("message_too_large");
    throw new HubError("malformed", "the body did not arrive whole");
  }
}
