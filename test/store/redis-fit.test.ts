/** A Redis that cannot serve is refused at the start, in one line that says why. */

import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { expect } from "chai";
import { Redis } from "ioredis";
import { RedisLink } from "../../src/redis/link.ts";
import { plainRedis } from "../support/hooks.ts";
import { freePort } from "../support/ports.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

async function refusal(url: string): Promise<string> {
  const states: string[] = [];
  const link = await RedisLink.open({ url, timeoutMs: 1_000, onState: (state) => states.push(state) }).catch(
    (error: Error) => error.message,
  );
  if (typeof link !== "string") {
    link.close();
    return expect.fail("it was accepted");
  }
  expect(link).to.not.include("\n");
  return link;
}

describe("Redis at the start", () => {
  let server: RedisServer;
  let admin: Redis;
  before(async () => {
    server = await startRedis();
    admin = new Redis(server.url);
  });
  after(async () => {
    admin.disconnect();
    await server.stop();
  });
  const as = (user: string, password = "secret") =>
    server.url.replace("redis://", `redis://${user}:${password}@`);

  it("is refused when it may evict keys", async () => {
    for (const policy of ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"]) {
      await admin.config("SET", "maxmemory-policy", policy);
      expect(await refusal(server.url)).to.equal(
        `Redis at ${server.url} cannot be used: its maxmemory-policy is ${policy}, which throws away events; set it to noeviction`,
      );
    }
    await admin.config("SET", "maxmemory-policy", "noeviction");
    const link = await RedisLink.open({ url: server.url, timeoutMs: 1_000 });
    expect(link.ready).to.equal(true);
    link.close();
  });

  it("is refused when the user may not run scripts", async () => {
    await admin.call("ACL", "SETUSER", "no-scripts", "on", ">secret", "~*", "&*", "+@all", "-@scripting");
    expect(await refusal(as("no-scripts"))).to.match(
      /^Redis at redis:\/\/127\.0\.0\.1:\d+ cannot be used: it does not run scripts \(NOPERM .*\)$/,
    );
  });

  it("is refused when the user may not publish", async () => {
    await admin.call("ACL", "SETUSER", "no-channels", "on", ">secret", "~*", "resetchannels", "+@all");
    expect(await refusal(as("no-channels"))).to.match(
      /^Redis at redis:\/\/127\.0\.0\.1:\d+ cannot be used: it does not publish \(NOPERM .*\)$/,
    );
  });

  it("is refused when the user is none, or the password wrong", async () => {
    await admin.call("ACL", "SETUSER", "somebody", "on", ">secret", "~*", "&*", "+@all");
    expect(await refusal(as("somebody", "wrong"))).to.match(/ cannot be used: WRONGPASS/);
    expect(await refusal(as("nobody"))).to.match(/ cannot be used: WRONGPASS/);
  });

  it("is refused when nothing listens, or something else does", async () => {
    const port = await freePort();
    expect(await refusal(`redis://user:secret@127.0.0.1:${port}`)).to.match(
      new RegExp(`^Redis at redis://127.0.0.1:${port} cannot be used: .*ECONNREFUSED`),
    );
    const started = Date.now();
    const silent = await listener(() => {});
    expect(await refusal(silent.url)).to.match(/ cannot be used: /);
    expect(Date.now() - started).to.be.below(5_000);
    await silent.close();
    const web = await listener((write) => write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    expect(await refusal(web.url)).to.match(/ cannot be used: /);
    await web.close();
  });

  it("is refused below version 7", async () => {
    for (const version of ["6.2.14", "5.0.7", "2.8.0"]) {
      const old = await listener(
        answers(`redis_version:${version}\r\nmaxmemory_policy:noeviction\r\nloading:0\r\n`),
      );
      expect(await refusal(old.url)).to.equal(
        `Redis at ${old.url} cannot be used: it is version ${version}, and 7.0 or newer is needed`,
      );
      await old.close();
    }
  });

  it("leaves no connection behind when it is refused", async () => {
    const old = await listener(answers("redis_version:6.0.0\r\n"));
    await refusal(old.url);
    await until(() => old.connections() === 0);
    await old.close();
  });
});

describe("the link to Redis", () => {
  it("tells once that it is lost, and once that it is back with its generation", async () => {
    const server = await startRedis();
    const states: string[] = [];
    const link = await RedisLink.open({
      ...{ url: server.url, timeoutMs: 1_000 },
      onState: (state, detail) => states.push(`${state} ${detail}`),
    });
    const first = link.generation;
    expect(states).to.deep.equal([]);
    await server.restart("SIGKILL");
    await until(() => link.ready);
    expect(link.generation)
      .to.match(/^[A-Za-z0-9_-]{12}$/)
      .and.not.equal(first);
    expect(states).to.deep.equal(["lost connection closed", `ready ${link.generation}`]);
    link.close();
    await server.stop();
  });

  it("has no generation while it is away", async () => {
    const { url } = await plainRedis();
    const link = await RedisLink.open({ url, timeoutMs: 1_000 });
    link.close();
    await until(() => !link.ready);
    expect(() => link.generation).to.throw("not connected");
  });
});

interface Listener {
  url: string;
  connections(): number;
  close(): Promise<void>;
}

/** Answers everything that it gets with what `answer` writes. */
async function listener(answer: (write: (text: string) => void, got: string) => void): Promise<Listener> {
  let open = 0;
  const server: Server = createServer((socket) => {
    open++;
    socket.on("error", () => {});
    socket.on("close", () => open--);
    socket.on("data", (piece) => answer((text) => socket.write(text), piece.toString()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => open,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** A server of few words: OK to everything, and its state to INFO. */
function answers(info: string) {
  return (write: (text: string) => void, got: string) => {
    for (const command of got.match(/\*\d+\r\n\$\d+\r\n\w+/g) ?? []) {
      write(/info$/i.test(command) ? `$${info.length}\r\n${info}\r\n` : "+OK\r\n");
    }
  };
}
