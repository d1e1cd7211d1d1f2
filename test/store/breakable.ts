import type { RedisLink } from "../../src/redis/link.ts";

/** In front of a script: its n-th call of Redis fails, where n is one more argument. */
const BREAKS = `
local fails_at, calls, whole = tonumber(table.remove(ARGV)), 0, redis
local redis = setmetatable({ call = function(...)
  calls = calls + 1
  if calls == fails_at then error('broken at call ' .. calls .. ': ' .. (...)) end
  return whole.call(...)
end }, { __index = whole })
`;

export interface Breakable {
  link: RedisLink;
  /** The next scripts fail at this call of theirs, counted from 1; at none with 0. */
  breakAt(call: number): void;
}

/** The same link, but the scripts that a store defines on it can be made to fail in the middle. */
export function breakable(link: RedisLink): Breakable {
  let failsAt = 0;
  const commands = new Proxy(link.commands, {
    get(target, name) {
      if (name === "defineCommand") {
        return (command: string, { lua }: { lua: string }) =>
          target.defineCommand(command, { lua: lua.replace("\n", BREAKS) });
      }
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      const extra = String(name).startsWith("trainwire_");
      return (...args: unknown[]) => value.apply(target, extra ? [...args, failsAt] : args);
    },
  });
  const same = {
    commands,
    get ready() {
      return link.ready;
    },
    get generation() {
      return link.generation;
    },
    close: () => link.close(),
  };
  return {
    link: same as unknown as RedisLink,
    breakAt(call) {
      failsAt = call;
    },
  };
}
