/** The scripts: which files of lua/ each is made of, and when the server refuses it. */
import { readFileSync } from "node:fs";
import type { Scripts } from "../redis/scripts.ts";

const text = (names: readonly string[]) =>
  names.map((name) => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), "utf8")).join("\n");
/** Refused before its first step when the server has no room, or may not write. */
const writing = (...names: string[]) => `#!lua\n${text(names)}`;
/** Only makes room, or what it is for cannot wait for room. */
const always = (...names: string[]) => `#!lua flags=allow-oom\n${text(names)}`;
const reading = (...names: string[]) => `#!lua flags=no-writes\n${text(names)}`;

export const STORE_SCRIPTS = {
  append: writing("common", "job-rules", "entry", "append"),
  flush: writing("common", "flush"),
  touch: writing("common", "touch"),
  defer: writing("common", "defer"),
  fold: writing("fold"),
  shorten: always("shorten"),
  forget: always("forget"),
  read: reading("read"),
  job: reading("job"),
  heads: reading("heads"),
  fields: reading("fields"),
  due: reading("due"),
  tail: reading("tail"),
};

export const REGISTRY_SCRIPTS = {
  registry_beat: always("registry-beat"),
  registry_condemn: always("registry-condemn"),
  registry_share: writing("registry-share"),
  registry_unshare: always("registry-share"),
  registry_turn: writing("registry-turn"),
  registry_told: always("registry-told"),
  registry_announce: writing("registry-announce"),
  registry_withdraw: always("registry-withdraw"),
  registry_lease: always("registry-lease"),
};

export type StoreScripts = Pick<Scripts<keyof typeof STORE_SCRIPTS>, "run" | "call">;
