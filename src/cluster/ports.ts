/** Free ports on loopback for processes that must know theirs beforehand and keep it over restarts. */
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Below what systems give to outgoing connections, or any client could take it while its owner restarts. */
const LOWEST = 10_240;
const HIGHEST = 32_767;
const ATTEMPTS = 1_000;

const given = new Set<number>();

/** One that nobody listens on, not given before. Another process may still be faster: whoever cannot listen asks for the next. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(LOWEST, HIGHEST + 1);
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(port)) return port;
  }
  throw new Error(`No free port was found between ${LOWEST} and ${HIGHEST}.`);
}

/** Whether one may listen there on 127.0.0.1. @throws Error for what is not a matter of others, such as missing rights. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(false) : reject(error),
    );
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
