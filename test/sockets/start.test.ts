/** A hub that cannot start says why in one line, and leaves nothing running (the run would not end otherwise). */

import { once } from "node:events";
import { writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { createLog } from "../../src/log.ts";
import { startHub } from "../../src/server.ts";
import { tempFolder } from "../support/cleanup.ts";
import { SECRET } from "../support/hub.ts";
import { freePort } from "../support/ports.ts";
import { startRedis } from "../support/redis.ts";

const log = createLog({
  levels: { level: "silent", modules: {} },
  pretty: false,
  destination: { write() {} },
});

async function failure(env: Record<string, string>): Promise<Error> {
  const config = loadConfig({ PORT: "0", JWT_SECRET: SECRET, ...env });
  const error = await startHub(config, log).then(
    () => undefined,
    (reason: Error) => reason,
  );
  expect(error, "it started").to.be.instanceOf(Error);
  return error as Error;
}

describe("startHub", () => {
  it("a port that is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as AddressInfo;
    expect((await failure({ PORT: String(port) })).message).to.equal(
      `Port ${port} on 127.0.0.1 is taken; set PORT to another one.`,
    );
    other.close();
  });

  it("a Redis that is not there, without its password in the message", async () => {
    const port = await freePort();
    const error = await failure({ REDIS_URL: `redis://user:hidden@127.0.0.1:${port}` });
    expect(error.message).to.match(/^Redis at redis:\/\/127\.0\.0\.1:\d+ cannot be used: .+$/);
    expect(error.message).to.not.include("hidden");
  });

  it("a Redis that throws events away", async () => {
    const redis = await startRedis({ args: ["--maxmemory-policy", "allkeys-lru"] });
    const error = await failure({ REDIS_URL: redis.url });
    expect(error.message).to.include("maxmemory-policy is allkeys-lru").and.not.include("\n");
    await redis.stop();
  });

  it("a port that is taken, with Redis: every connection is closed again", async () => {
    const redis = await startRedis();
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    await failure({ REDIS_URL: redis.url, PORT: String((other.address() as AddressInfo).port) });
    other.close();
    await redis.stop();
  });

  it("a secret file that does not serve, before anything is opened", async () => {
    const folder = tempFolder("start");
    const path = join(folder.path, "secret");
    writeFileSync(path, "short\n", { mode: 0o600 });
    const error = await failure({ JWT_SECRET: "", TRAINWIRE_SECRET_FILE: path });
    expect(error).to.be.instanceOf(ConfigError);
    folder.remove();
  });
});
