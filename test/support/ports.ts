import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Redis Cluster's bus listens this far above the port of the clients. */
export const CLUSTER_BUS_OFFSET = 10_000;

/**
 * Below the ports that Linux (32768 and up) and macOS (49152 and up) give to outgoing connections: a port from
 * there could be taken by any client while its server restarts. Above the ports that browsers refuse (10080).
 */
const LOWEST = 10_240;
const HIGHEST = 32_767;

const given = new Set<number>();

/**
 * A loopback port that nobody listens on, and that this process has not given before. Another process may still take it first:
 * who can let the kernel choose (port 0) does that, who cannot tries again with the next one.
 *
 * @param offsets further ports that must be free, as distances from the one returned
 */
export async function freePort(offsets: readonly number[] = []): Promise<number> {
  for (let attempt = 0; attempt < 1_000; attempt++) {
    const port = randomInt(LOWEST, HIGHEST - Math.max(0, ...offsets) + 1);
    const ports = [port, ...offsets.map((offset) => port + offset)];
    if (ports.some((each) => given.has(each))) continue;
    for (const each of ports) given.add(each);
    if ((await Promise.all(ports.map(isFree))).every(Boolean)) return port;
  }
  throw new Error(`no free port found between ${LOWEST} and ${HIGHEST}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
