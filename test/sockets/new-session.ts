/** First requests of Engine.IO sessions, without a client. */
import { expect } from "chai";
import { expectError, request } from "../http/request.ts";
import type { TestHub } from "../support/hub.ts";
import { refusedUpgrade } from "../support/upgrade.ts";

export const POLLING = "/socket.io/?EIO=4&transport=polling";
export const WEBSOCKET = "/socket.io/?EIO=4&transport=websocket";

/** A new session is refused alike on both transports, in a way that lets a load balancer try the next hub. */
export async function expectNoRoom(hub: TestHub, code: "too_many_connections" | "draining"): Promise<void> {
  const polled = await request(hub, POLLING, { role: null });
  expectError(polled, code);
  expect(polled.headers.get("retry-after")).to.equal("1");
  const { status, body, headers } = await refusedUpgrade(`${hub.url}${WEBSOCKET}`);
  expect({ status, body }).to.deep.equal({ status: 503, body: polled.json });
  expect(headers).to.include({ "retry-after": "1", connection: "close" });
}
