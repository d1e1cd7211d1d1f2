/** A server that may have lost acknowledged events shows: a new epoch, and never a number twice under an old one. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { Redis } from "ioredis";
import { HubError } from "../../src/protocol/codes.ts";
import type { Cursor } from "../../src/protocol/types.ts";
import type { RedisLink } from "../../src/redis/link.ts";
import { plainRedis } from "../support/hooks.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";
import {
  ALL,
  created,
  dataset,
  FEED,
  log,
  progress,
  readAll,
  status,
  TENANT,
  TENANT_FEED,
  told,
  withId,
  withN,
} from "./entries.ts";
import { openRedis, type RedisSubject } from "./subject.ts";

let subject: RedisSubject;
const append = async (...texts: string[]) =>
  (
    await subject.store.append(
      FEED,
      texts.map((text) => withId(text)),
      created(),
    )
  ).position as Cursor;
const since = (cursor: Cursor, feed: { tenantId: string; jobId?: string } = FEED) =>
  subject.store.read(feed, { ...ALL, epoch: cursor.epoch, after: cursor.seq });

describe("store: Redis, another generation", () => {
  let generation: string;
  beforeEach(async () => {
    generation = "first";
    subject = await openRedis(await plainRedis(), {
      wrap: (link) =>
        ({
          commands: link.commands,
          close: () => link.close(),
          get ready() {
            return link.ready;
          },
          get generation() {
            return generation;
          },
        }) as unknown as RedisLink,
    });
  });
  afterEach(() => subject.close());

  it("makes a new epoch with the next event, on both feeds; the log and its numbers go on", async () => {
    const first = await append("a", "b");
    const tenant = (await subject.store.append(TENANT_FEED, [dataset("a")])).position as Cursor;
    generation = "second";
    const second = await append("c");
    expect(second.seq).to.equal(first.seq + 1);
    expect(second.epoch).to.not.equal(first.epoch);
    expect((await since(first)).reset).to.equal(true);
    expect((await readAll(subject.store)).logged.map(({ seq }) => seq)).to.deep.equal([1, 2, 3, 4]);
    expect((await since(tenant, TENANT_FEED)).reset).to.equal(false);
    await subject.store.append(FEED, [status("running")], created());
    expect((await since(tenant, TENANT_FEED)).reset).to.equal(true);
    const third = await append("d");
    expect(third).to.deep.equal({ epoch: second.epoch, seq: 6 });
    const { logged } = await readAll(subject.store, TENANT_FEED);
    expect(logged.map(({ seq, job }) => [seq, job?.position.epoch])).to.deep.equal([
      [1, first.epoch],
      [2, undefined],
      [3, second.epoch],
    ]);
  });

  it("changes nothing by duplicates and refusals alone", async () => {
    const first = await append("a", "b");
    generation = "second";
    expect(await append("a", "b")).to.deep.equal(first);
    expect((await since({ epoch: first.epoch, seq: 1 })).logged).to.have.length(2);
    const mixed = await append("b", "c");
    expect(mixed.seq).to.equal(4);
    expect(mixed.epoch).to.not.equal(first.epoch);
  });

  it("makes a new epoch of the tenant's feed when progress is flushed", async () => {
    await subject.store.append(FEED, [progress({ step: 1 })], created());
    const before = await readAll(subject.store, TENANT_FEED);
    generation = "second";
    await subject.store.flushTenant(TENANT);
    const after = await readAll(subject.store, TENANT_FEED);
    expect([after.seq, after.epoch === before.epoch]).to.deep.equal([before.seq + 1, false]);
  });
});

describe("store: Redis, a server that goes and comes", function () {
  this.timeout(60_000);
  let server: RedisServer;

  async function open(...args: string[]): Promise<void> {
    server = await startRedis({ args });
    subject = await openRedis(server);
  }
  afterEach(async () => {
    await subject.close();
    await server.stop();
  });
  const back = () => until(() => subject.store.ready);

  it("from an older copy: no number of the old epoch is used for another event", async () => {
    await open("--dbfilename", "dump.rdb");
    const copied = await append("a", "b");
    await subject.raw.save();
    copyFileSync(join(server.folder, "dump.rdb"), join(server.folder, "copy.rdb"));
    const acknowledged = await append("c", "d", "e");
    await subject.store.append(FEED, [withN(7, {}, status("running"))], created());
    await server.kill("SIGKILL");
    copyFileSync(join(server.folder, "copy.rdb"), join(server.folder, "dump.rdb"));
    await server.start();
    await back();
    // Nothing has been appended yet: what was lost shows as a cursor above the head.
    expect((await since(acknowledged)).reset).to.equal(true);
    expect((await since(copied)).reset).to.equal(false);
    const next = await append("x", "y", "z");
    expect(next.epoch).to.not.equal(copied.epoch);
    for (const cursor of [copied, acknowledged]) expect((await since(cursor)).reset).to.equal(true);
    expect(
      told((await subject.store.append(FEED, [withId("a"), withId("c"), withN(7)], created())).stored),
    ).to.deep.equal([...["=2", 7, 8]]);
  });

  it("with its data but without a promise: the epoch is another", async () => {
    await open("--save", "3600 1");
    const first = await append("a", "b");
    await server.restart("SIGTERM");
    await back();
    expect((await readAll(subject.store)).seq).to.equal(3);
    const second = await append("c");
    expect([second.seq, second.epoch === first.epoch]).to.deep.equal([4, false]);
  });

  it("empty: every cursor is refused, and the job is a new one", async () => {
    await open();
    const first = await append("a", "b");
    await server.restart("SIGKILL");
    await back();
    expect(await since(first)).to.include({ reset: true, epoch: null });
    const second = await append("a");
    expect([second.seq, second.epoch === first.epoch]).to.deep.equal([2, false]);
    expect((await since(first)).reset).to.equal(true);
  });

  it("emptied while it runs: every cursor is refused", async () => {
    await open();
    const first = await append("a", "b");
    await subject.raw.flushall();
    expect((await since(first)).reset).to.equal(true);
    await append("a", "b", "c", "d");
    expect((await since(first)).reset).to.equal(true);
  });

  it("that writes each command to disk before it answers: the epoch stays, and so does every event", async () => {
    await open("--appendonly", "yes", "--appendfsync", "always");
    const first = await append("a", "b");
    for (const signal of ["SIGKILL", "SIGTERM", "SIGKILL"] as const) {
      await server.restart(signal);
      await back();
      expect((await since(first)).reset).to.equal(false);
      await append(`after ${signal} ${Math.random()}`);
    }
    expect(await append("a")).to.deep.equal({ epoch: first.epoch, seq: 2 });
    const page = await readAll(subject.store);
    expect(page).to.include({ epoch: first.epoch, seq: 6 });
    expect(page.logged.map(({ seq }) => seq)).to.deep.equal([1, 2, 3, 4, 5, 6]);
  });

  it("that writes to disk once a second: the epoch is another", async () => {
    await open("--appendonly", "yes", "--appendfsync", "everysec");
    const first = await append("a");
    await server.restart("SIGTERM");
    await back();
    const second = await append("b");
    expect([second.seq, second.epoch === first.epoch]).to.deep.equal([3, false]);
  });

  it("that was replaced by its replica and comes back: what the replica had missed is told to be lost", async () => {
    const always = ["--appendonly", "yes", "--appendfsync", "always"];
    for (const more of [[], always]) {
      const args = ["--repl-diskless-sync-delay", "0", ...more];
      if (more.length > 0) {
        await subject.close();
        await server.stop();
      }
      await open(...args);
      const replica = await startRedis({ args });
      const other = new Redis(replica.url);
      const kept = await append("a", "b");
      await other.replicaof("127.0.0.1", String(server.port));
      await until(async () => (await other.dbsize()) === (await subject.raw.dbsize()));
      await other.replicaof("NO", "ONE");
      const lost = await append("c", "d");
      expect(lost.epoch).to.equal(kept.epoch);
      await subject.raw.replicaof("127.0.0.1", String(replica.port));
      await until(async () => (await subject.raw.info("replication")).includes("master_link_status:up"));
      const refused = await subject.store.append(FEED, [log()], created()).catch((error: unknown) => error);
      expect(refused).to.be.instanceOf(HubError).and.to.include({ code: "unavailable" });
      expect((await since(lost).catch(() => undefined))?.reset ?? true).to.equal(true);
      await subject.raw.replicaof("NO", "ONE");
      let next: Cursor | undefined;
      await until(async () => {
        next = await append("x", "y", "z").catch(() => undefined);
        return next !== undefined;
      });
      expect(next?.epoch).to.not.equal(kept.epoch);
      for (const cursor of [kept, lost]) expect((await since(cursor)).reset).to.equal(true);
      other.disconnect();
      await replica.stop();
    }
  });

  it("emptied while it runs: all hubs agree on its new name, and no epoch goes to and fro between them", async () => {
    await open();
    const { store, link } = await subject.second();
    const before = link.generation;
    await subject.raw.flushall();
    const third = await subject.second();
    expect(third.link.generation).to.not.equal(before);
    const links = [subject.link, link, third.link];
    await until(() => links.every((one) => one.ready && one.generation === third.link.generation));
    const epochs = new Set<string | undefined>();
    for (const one of [subject.store, store, third.store, subject.store, store]) {
      epochs.add((await one.append(FEED, [log()], created())).position?.epoch);
    }
    expect(epochs.size).to.equal(1);
  });

  it("all connections are told apart from the tests' own", async () => {
    await open();
    const admin = new Redis(server.url);
    const names = ((await admin.client("LIST")) as string).match(/name=trainwire-\w+/g);
    expect(names?.sort()).to.deep.equal(["name=trainwire-commands", "name=trainwire-subscriber"]);
    admin.disconnect();
  });
});
