/** Which browser origins may connect. CORS does not cover WebSocket, so every door asks here. */
import type { IncomingHttpHeaders } from "node:http";

/** No Origin: not a browser. The page's own host may always; others by the list, `*` for all. */
export function originAllowed(headers: IncomingHttpHeaders, allowed: readonly string[]): boolean {
  const { origin, host } = headers;
  if (origin === undefined || allowed.includes("*") || allowed.includes(origin)) return true;
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}
