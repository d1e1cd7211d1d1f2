/** Requests for a WebSocket that are refused: what no WebSocket client shows of the answer. */
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";

/** The headers of a good handshake. */
export const HANDSHAKE = {
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
};

export interface RefusedUpgrade {
  status: number;
  body: { ok: boolean; error: { code: string; message: string; temporary: boolean } };
  headers: IncomingHttpHeaders;
}

/** Asks for an upgrade and reads why it was refused. */
export function refusedUpgrade(url: string, headers: Record<string, string> = {}): Promise<RefusedUpgrade> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { headers: { ...HANDSHAKE, ...headers } });
    request.on("upgrade", (_, socket) => {
      socket.destroy();
      reject(new Error("the upgrade was taken"));
    });
    request.on("response", async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const body = JSON.parse(String(Buffer.concat(chunks))) as RefusedUpgrade["body"];
      resolve({ status: response.statusCode ?? 0, body, headers: response.headers });
    });
    request.on("error", reject);
    request.end();
  });
}
